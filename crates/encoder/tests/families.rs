//! Every family gives what `transformers` gives; `tests/parity/export_encoders.py` wrote the fixtures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use entromask_encoder::{
    Batch, Buffers, CpuEncoder, CpuMaskedLm, EncoderConfig, Family, Filling, MaskedLm, Pooling, Sentence,
    SequenceClassifier, Wanted,
};
use entromask_kernels::Products;
use safetensors::SafeTensors;

/// Largest difference that the order of f32 sums explains; for entropies in nats.
const TOLERANCE: f32 = 1e-4;

#[test]
fn hidden_states_logits_and_entropies_are_those_of_transformers() {
    for case in cases() {
        let device = Device::flex();
        let (model, config) = MaskedLm::from_pretrained(&case, &device).expect("loads");
        Reference::read(&case, &config, &device).compare_masked_lm(&model);
    }
}

#[test]
fn what_is_saved_computes_the_same_and_is_differentiable() {
    for case in cases() {
        let copy = tempfile::tempdir().expect("a folder");
        let (model, config) = MaskedLm::from_pretrained(&case, &Device::flex()).expect("loads");
        model.save_pretrained(&config.with_dropout(0.0), copy.path(), &[]).expect("saves");
        let device = Device::flex().autodiff();
        let (model, config) = MaskedLm::from_pretrained(copy.path(), &device).expect("loads again");
        Reference::read(&case, &config, &device).compare_masked_lm(&model);
    }
}

#[test]
fn chosen_positions_equal_those_of_the_full_pass() {
    for case in cases() {
        let device = Device::flex();
        let (model, config) = MaskedLm::from_pretrained(&case, &device).expect("loads");
        let reference = Reference::read(&case, &config, &device);
        let [rows, length] = reference.batch.dims();
        // Positions out of order, near the ends of windows, and repeated; row 2 has one token.
        let positions = [[13, 0, 7, 3], [8, 1, 1, 5], [0, 0, 0, 0]];
        let chosen =
            model.encoder.forward_at(&reference.batch, &Tensor::<2, Int>::from_ints(positions, &device));
        let flat: Vec<i32> =
            (0..rows).flat_map(|row| positions[row].map(|p| p + (row * length) as i32)).collect();
        let full =
            model.hidden_at(model.hidden(&reference.batch), Tensor::from_ints(flat.as_slice(), &device));
        let far = (chosen.reshape(full.dims()) - full).abs().max().into_scalar::<f32>();
        assert!(far < 1e-5, "{}: {far}", case.display());
    }
}

#[test]
fn states_are_the_same_however_rows_are_filled_up() {
    for case in cases() {
        let device = Device::flex();
        let (model, config) = MaskedLm::from_pretrained(&case, &device).expect("loads");
        let rows = Reference::read(&case, &config, &device).rows();
        // The last token of the first row, the last two of the next, and so on.
        let from = |(row, ids): (usize, &Vec<u32>)| ids.len().saturating_sub(row + 1);
        let starts: Vec<usize> = rows.iter().enumerate().map(from).collect();
        let positions =
            rows.iter().zip(&starts).map(|(ids, &start)| (start as u16..ids.len() as u16).collect());
        let positions: Vec<Vec<u16>> = positions.collect();
        let wanted =
            |row: usize| Wanted { input_ids: &rows[row], token_type_ids: &[], positions: &positions[row] };
        let wanted: Vec<Wanted<'_>> = (0..rows.len()).map(wanted).collect();
        let width = config.embedding_size();
        let expected = rows
            .iter()
            .zip(&starts)
            .map(|(ids, &start)| plain_states(&model, &config, ids).split_off(start * width));
        let expected = expected.collect::<Vec<_>>().concat();
        for filling in [Filling::tight(config.filling_id()), Filling::roomy(config.filling_id())] {
            let (last, layers) = model.states_at_depths(&wanted, &[config.depths()], filling, &device);
            for states in [model.states_at(&wanted, filling, &device), last, layers[0].clone()] {
                let found = model.transform(states).try_into_vec_as::<f32>().expect("f32");
                assert_near(&found, &expected, &case);
            }
        }
    }
}

#[test]
fn the_cpu_path_gives_the_same_states() {
    for case in cases() {
        let (model, config) = MaskedLm::from_pretrained(&case, &Device::flex()).expect("loads");
        let rows = Reference::read(&case, &config, &Device::flex()).rows();
        let cpu = CpuMaskedLm::new(model.clone(), &config);
        let mut buffers = Buffers::default();
        // All positions in one batch; then some of one row alone, in the memory of the first call.
        let all: Vec<Vec<u16>> = rows.iter().map(|ids| (0..ids.len() as u16).collect()).collect();
        let wanted = |row: usize, positions| Wanted { input_ids: &rows[row], token_type_ids: &[], positions };
        let batch: Vec<Wanted<'_>> = (0..rows.len()).map(|row| wanted(row, all[row].as_slice())).collect();
        let states = cpu.states(&batch, &mut buffers);
        let expected: Vec<f32> = rows.iter().flat_map(|ids| plain_states(&model, &config, ids)).collect();
        assert_near(&states, &expected, &case);
        let width = config.embedding_size();
        let some = cpu.states(&[wanted(0, &[13, 0, 7])], &mut buffers);
        let of_all = [13, 0, 7].iter().flat_map(|&p: &usize| &states[p * width..(p + 1) * width]);
        assert!(some.iter().eq(of_all), "{}: neighbours change no bit", case.display());
    }
}

/// Each row several times with other tokens hidden, as scoring reads them.
#[test]
fn tokens_that_rows_have_in_common_change_no_bit() {
    let cases = cases();
    let in_types = |case| [Products::AsTensors, Products::Bf16].map(|products| (case, products));
    for (case, products) in cases.iter().flat_map(in_types) {
        let (model, config) = MaskedLm::from_pretrained(case, &Device::flex()).expect("loads");
        let rows = Reference::read(case, &config, &Device::flex()).rows();
        let cpu = CpuMaskedLm::new(model.with_products(products), &config);
        let hidden = rows.iter().flat_map(|ids| (0..8).map(move |fold| hide(ids, fold, 3)));
        let (hidden, positions): (Vec<_>, Vec<_>) = hidden.filter(|(_, places)| !places.is_empty()).unzip();
        let wanted: Vec<_> = hidden.iter().zip(&positions).map(|(ids, at)| wanted(ids, at)).collect();
        let projected = cpu.project(&wanted).expect("most tokens are in many of the rows");
        let mut buffers = Buffers::default();
        for rows in wanted.chunks(3) {
            let expected = cpu.states(rows, &mut buffers);
            let found = cpu.states_from(Some(&projected), rows, &mut buffers);
            assert!(!found.is_empty() && found == expected, "{} {products:?}", case.display());
        }
        assert!(
            cpu.project(&wanted[..1]).is_none() || config.model_type == Family::ModernBert,
            "each place is once"
        );
    }
}

/// `ids` with `mask` at each eighth place from number `fold` on, and these places.
fn hide(ids: &[u32], fold: usize, mask: u32) -> (Vec<u32>, Vec<u16>) {
    let (mut ids, places): (_, Vec<_>) = (ids.to_vec(), (fold..ids.len()).step_by(8).collect());
    for &place in &places {
        ids[place] = mask;
    }
    (ids, places.into_iter().map(|place| place as u16).collect())
}

fn wanted<'a>(input_ids: &'a [u32], positions: &'a [u16]) -> Wanted<'a> {
    Wanted { input_ids, token_type_ids: &[], positions }
}

/// How far that is, depends on the weights: tensors whose products are bf16, those of attention too, are the measure.
#[test]
fn the_cpu_path_in_bf16_is_as_far_off_as_tensors_are() {
    for case in cases() {
        let (model, config) = MaskedLm::from_pretrained(&case, &Device::flex()).expect("loads");
        let rows = Reference::read(&case, &config, &Device::flex()).rows();
        let rounding = model.clone().with_products(Products::Bf16);
        let all: Vec<Vec<u16>> = rows.iter().map(|ids| (0..ids.len() as u16).collect()).collect();
        let wanted = |row: usize| Wanted { input_ids: &rows[row], token_type_ids: &[], positions: &all[row] };
        let batch: Vec<Wanted<'_>> = (0..rows.len()).map(wanted).collect();
        let states =
            |model: MaskedLm| CpuMaskedLm::new(model, &config).states(&batch, &mut Buffers::default());
        let tensors: Vec<f32> = rows.iter().flat_map(|ids| plain_states(&rounding, &config, ids)).collect();
        let exact = states(model);
        let off =
            |found: &[f32]| exact.iter().zip(found).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        let (off, allowed) = (off(&states(rounding)), 2.0 * off(&tensors));
        assert!(off > 0.0 && off < allowed, "{}: {off}, {allowed} allowed", case.display());
    }
}

#[test]
fn what_the_cpu_path_pools_is_what_classifiers_read() {
    for case in cases() {
        let device = Device::flex();
        let config = EncoderConfig::from_pretrained(&case).expect("reads");
        let reference = Reference::read(&case, &config, &device);
        let (rows, types) = (reference.rows(), reference.token_types());
        let sentence = |row: usize| Sentence { input_ids: &rows[row], token_type_ids: &types[row] };
        let sentences: Vec<Sentence<'_>> = (0..rows.len()).map(sentence).collect();
        for pooling in [Pooling::Cls, Pooling::Mean] {
            let probe =
                SequenceClassifier::init_probe(&case, &config, 2, pooling, 1, &device).expect("loads");
            let expected = probe.features(&reference.batch).try_into_vec_as::<f32>().expect("f32");
            let cpu = CpuEncoder::new(&probe.encoder, &config);
            let found = cpu.pooled(&sentences, pooling, &mut Buffers::default());
            assert_eq!(found.len(), expected.len());
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let near = (found - expected).abs() < TOLERANCE;
                assert!(near, "{} {pooling:?} {index}: {found} {expected}", case.display());
            }
            let alone = cpu.pooled(&sentences[1..2], pooling, &mut Buffers::default());
            let width = config.hidden_size;
            assert_eq!(alone, found[width..2 * width], "{}: neighbours change no bit", case.display());
        }
    }
}

#[test]
fn classifier_logits_are_those_of_transformers() {
    for case in cases() {
        let device = Device::flex();
        let (model, config) = SequenceClassifier::from_pretrained(&case, &device).expect("loads");
        let reference = Reference::read(&case, &config, &device);
        reference.compare("labels", model.logits(&reference.batch));
    }
}

#[test]
fn saved_tensors_have_the_names_and_shapes_of_transformers() {
    for case in cases().into_iter().filter(|case| case.join("model.safetensors").exists()) {
        let name = case.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if ["bert-old-names", "electra-square"].contains(&name) {
            continue; // stored under other names on purpose
        }
        let copy = tempfile::tempdir().expect("a folder");
        let (model, config) = MaskedLm::from_pretrained(&case, &Device::flex()).expect("loads");
        model.save_pretrained(&config, copy.path(), &[]).expect("saves");
        let (theirs, ours) = (shapes(&case), shapes(copy.path()));
        assert!(ours.len() > 20);
        for (tensor, shape) in &ours {
            assert_eq!(theirs.get(tensor), Some(shape), "{name}: {tensor}");
        }
        let ours_alone = |tensor: &String| !ours.contains_key(tensor) && !of_a_classifier(tensor);
        let lacking: Vec<_> = theirs.keys().filter(|tensor| ours_alone(tensor)).collect();
        // A second name of the decoder's bias.
        assert!(lacking.iter().all(|tensor| tensor.ends_with("decoder.bias")), "{name}: {lacking:?}");
    }
}

/// What the decoder sees at each token, by tensors: `[tokens, embedding_size]`.
fn plain_states(model: &MaskedLm, config: &EncoderConfig, ids: &[u32]) -> Vec<f32> {
    let hidden = model.hidden(&Batch::from_rows(&[ids], config.filling_id(), &Device::flex()));
    let [_, tokens, width] = hidden.dims();
    model.transform(hidden.reshape([tokens, width])).try_into_vec_as().expect("f32")
}

fn assert_near(found: &[f32], expected: &[f32], case: &Path) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < TOLERANCE, "{} {index}: {found} {expected}", case.display());
    }
}

/// The fixtures, one folder each.
fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families");
    let mut cases: Vec<PathBuf> =
        fs_err::read_dir(dir).expect("lists").map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    assert!(cases.len() >= 15);
    cases
}

struct Reference {
    name: String,
    bytes: Vec<u8>,
    batch: Batch,
}

impl Reference {
    fn read(case: &Path, config: &EncoderConfig, device: &Device) -> Self {
        let bytes = fs_err::read(case.join("reference.safetensors")).expect("reads");
        let mut batch = Batch::from_rows(&real(&bytes, "input_ids"), config.filling_id(), device);
        if config.type_vocab_size > 0 {
            batch = batch.with_token_types(&real(&bytes, "token_type_ids"));
        }
        Self { name: case.display().to_string(), bytes, batch }
    }

    /// The rows without padding.
    fn rows(&self) -> Vec<Vec<u32>> {
        real(&self.bytes, "input_ids")
    }

    /// The segments of the rows' tokens, where the model has any.
    fn token_types(&self) -> Vec<Vec<u32>> {
        match self.batch.token_type_ids {
            Some(_) => real(&self.bytes, "token_type_ids"),
            None => vec![Vec::new(); self.rows().len()],
        }
    }

    fn compare_masked_lm(&self, model: &MaskedLm) {
        let hidden = model.hidden(&self.batch);
        self.compare("hidden", hidden.clone());
        let [batch_size, seq_length, width] = hidden.dims();
        let logits = model.logits(hidden.reshape([batch_size * seq_length, width]));
        self.compare("logits", logits.clone());
        let log_q = log_softmax(logits, 1);
        self.compare("entropy", (log_q.clone().exp() * log_q).sum_dim(1).neg());
    }

    /// Compares with the stored tensor, at real tokens where there is one value a token: what a model computes at
    /// padding means nothing.
    fn compare<const D: usize>(&self, name: &str, found: Tensor<D>) {
        let (_, mask) = ints(&self.bytes, "attention_mask");
        let expected = floats(&self.bytes, name);
        let found = found.try_into_vec_as::<f32>().expect("f32");
        assert_eq!(found.len(), expected.len(), "{} {name}", self.name);
        let per_token = expected.len() / mask.len();
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let real = per_token == 0 || mask[index / per_token] == 1;
            let near = (found - expected).abs() < TOLERANCE;
            assert!(!real || near, "{} {name}[{index}]: {found} is not {expected}", self.name);
        }
    }
}

/// A tensor of integers without what stands at padding.
fn real(bytes: &[u8], name: &str) -> Vec<Vec<u32>> {
    let ((shape, ids), (_, mask)) = (ints(bytes, name), ints(bytes, "attention_mask"));
    let rows = ids.chunks_exact(shape[1]).zip(mask.chunks_exact(shape[1]));
    let real = |(ids, mask): (&[i32], &[i32])| -> Vec<u32> {
        ids.iter().zip(mask).filter(|(_, mask)| **mask == 1).map(|(&id, _)| id as u32).collect()
    };
    rows.map(real).collect()
}

fn of_a_classifier(tensor: &str) -> bool {
    ["classifier", "pooler", "pre_classifier"].iter().any(|part| tensor.contains(part))
}

fn shapes(dir: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = fs_err::read(dir.join("model.safetensors")).expect("reads");
    let file = SafeTensors::deserialize(&bytes).expect("reads");
    file.tensors().into_iter().map(|(name, tensor)| (name, tensor.shape().to_vec())).collect()
}

fn ints(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<i32>) {
    let file = SafeTensors::deserialize(bytes).expect("reads");
    let tensor = file.tensor(name).expect("there");
    let values = tensor.data().as_chunks().0.iter().map(|&word| i32::from_le_bytes(word)).collect();
    (tensor.shape().to_vec(), values)
}

fn floats(bytes: &[u8], name: &str) -> Vec<f32> {
    let file = SafeTensors::deserialize(bytes).expect("reads");
    let data = file.tensor(name).expect("there").data();
    data.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
}
