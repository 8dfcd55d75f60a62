//! New models from checkpoints: whole ones, chosen layers, fresh heads, and what cannot be handed on.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use entromask_encoder::{Batch, EncoderConfig, Family, Inheritance, MaskedLm};
use entromask_fault::{Class, class_of};

const ROWS: [&[u32]; 2] = [&[2, 7, 31, 8, 44, 3], &[2, 9, 3]];

fn shape(layers: usize) -> EncoderConfig {
    EncoderConfig {
        vocab_size: 60,
        hidden_size: 16,
        num_hidden_layers: layers,
        num_attention_heads: 2,
        intermediate_size: 24,
        max_position_embeddings: 12,
        initializer_range: 0.3,
        ..EncoderConfig::default()
    }
}

fn saved(config: &EncoderConfig) -> (tempfile::TempDir, MaskedLm) {
    let (dir, model) = (tempfile::tempdir().expect("a folder"), MaskedLm::init(config, 1, &Device::flex()));
    model.save_pretrained(config, dir.path(), &[]).expect("saves");
    (dir, model)
}

fn from(dir: &Path, config: &EncoderConfig, inherit: &Inheritance) -> anyhow::Result<MaskedLm> {
    MaskedLm::init_from(dir, config, inherit, 9, &Device::flex())
}

fn layers(chosen: &[usize]) -> Inheritance {
    Inheritance { layers: Some(chosen.to_vec()), fresh_head: false }
}

fn logits(model: &MaskedLm) -> Vec<f32> {
    let hidden = model.hidden(&Batch::from_rows(&ROWS, 0, &Device::flex()));
    model.logits(hidden.reshape([12, 16])).try_into_vec_as().expect("f32")
}

fn states(model: &MaskedLm) -> Vec<Vec<f32>> {
    let states = model.encoder.forward_layers(&Batch::from_rows(&ROWS[..1], 0, &Device::flex()));
    states.into_iter().map(|state| state.try_into_vec_as().expect("f32")).collect()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[test]
fn a_whole_checkpoint_computes_the_same_with_another_dropout_and_fewer_positions() {
    let (dir, model) = saved(&shape(3));
    let config = EncoderConfig { max_position_embeddings: 8, ..shape(3).with_dropout(0.0) };
    let copy = from(dir.path(), &config, &Inheritance::default()).expect("alike");
    assert_eq!(logits(&copy), logits(&model));
}

/// Ids that no token has only fill a vocabulary up.
#[test]
fn the_first_tokens_of_a_longer_vocabulary_have_the_logits_that_they_had() {
    let modern = EncoderConfig { model_type: Family::ModernBert, type_vocab_size: 0, ..shape(2) };
    let untied = EncoderConfig { tie_word_embeddings: false, ..shape(2) };
    for config in [shape(2), untied, modern] {
        let (dir, model) = saved(&config);
        let (short, read) =
            MaskedLm::from_pretrained_first(dir.path(), 50, &Device::flex()).expect("knows more");
        assert_eq!(read.vocab_size, 50);
        let all = logits(&model);
        let first: Vec<f32> = all.chunks(60).flat_map(|row| row[..50].to_vec()).collect();
        assert!(close(&logits(&short), &first), "{:?}", config.model_type);
        let student = from(dir.path(), &read, &Inheritance::default()).expect("knows more");
        assert_eq!(logits(&student), logits(&short));
        MaskedLm::from_pretrained_first(dir.path(), 61, &Device::flex()).expect_err("knows fewer");
    }
}

#[test]
fn more_positions_than_the_file_has_are_no_panic() {
    let (dir, _) = saved(&shape(2));
    let claimed = EncoderConfig { max_position_embeddings: 500, ..shape(2) };
    let file = dir.path().join("config.json");
    let text = fs_err::read_to_string(&file).expect("reads");
    let text = text.replace("\"max_position_embeddings\": 12", "\"max_position_embeddings\": 500");
    fs_err::write(&file, text).expect("writes");
    let error = from(dir.path(), &claimed, &Inheritance::default()).expect_err("there are twelve");
    assert_eq!(class_of(error.as_ref()), Class::Input);
    assert!(error.to_string().contains("expected [500, 16]"), "{error}");
}

#[test]
fn chosen_layers_do_what_they_did() {
    let (dir, model) = saved(&shape(4));
    let student = from(dir.path(), &shape(2), &layers(&[0, 1])).expect("fits");
    assert_eq!(states(&student), states(&model)[..3], "the first layers see what they saw");
    let again = from(dir.path(), &shape(3), &layers(&[0, 0, 3])).expect("fits");
    assert_eq!(states(&again)[1], states(&model)[1]);
    assert_ne!(states(&again)[2], states(&model)[2]);
}

/// DistilBERT has no segments; the first one's embedding is in its positions.
#[test]
fn a_distilbert_with_all_layers_computes_what_bert_computes() {
    let (dir, model) = saved(&shape(2));
    let student = EncoderConfig { model_type: Family::DistilBert, type_vocab_size: 0, ..shape(2) };
    let student = from(dir.path(), &student, &layers(&[0, 1])).expect("fits");
    assert!(close(&logits(&student), &logits(&model)));
}

#[test]
fn each_family_hands_its_layers_on() {
    let segmentless = EncoderConfig { type_vocab_size: 0, ..shape(4) };
    for config in [
        EncoderConfig { model_type: Family::MegatronBert, ..shape(4) },
        EncoderConfig { model_type: Family::Roberta, ..shape(4) },
        EncoderConfig { model_type: Family::DistilBert, ..segmentless.clone() },
        EncoderConfig { model_type: Family::Electra, embedding_size: Some(8), ..shape(4) },
        EncoderConfig { model_type: Family::ModernBert, ..segmentless },
    ] {
        let (dir, model) = saved(&config);
        let two = EncoderConfig { num_hidden_layers: 2, ..config.clone() };
        let student = from(dir.path(), &two, &layers(&[0, 1])).expect("fits");
        assert!(close(&states(&student)[1], &states(&model)[1]), "{:?}", config.model_type);
        let whole = from(dir.path(), &config, &Inheritance::default()).expect("fits");
        assert_eq!(states(&whole), states(&model), "{:?}", config.model_type);
    }
    // Which of a ModernBERT's layers see the whole row, and that the first one does not normalise, follows from the depth.
    let modern = EncoderConfig { model_type: Family::ModernBert, type_vocab_size: 0, ..shape(4) };
    let (dir, model) = saved(&modern);
    for chosen in [[0, 3], [1, 2], [2, 0]] {
        let two = EncoderConfig { num_hidden_layers: 2, ..modern.clone() };
        refused(from(dir.path(), &two, &layers(&chosen)), "would compute something else");
    }
    let four =
        from(dir.path(), &modern, &layers(&[0, 2, 1, 3])).expect("layers of one kind may change places");
    assert_eq!(states(&four)[1], states(&model)[1]);
    assert_ne!(states(&four)[2], states(&model)[2]);
    let albert = EncoderConfig { model_type: Family::Albert, embedding_size: Some(8), ..shape(4) };
    let (dir, model) = saved(&albert);
    let whole = from(dir.path(), &albert, &Inheritance::default()).expect("fits");
    assert_eq!(states(&whole), states(&model));
    refused(from(dir.path(), &albert, &layers(&[0, 1, 2, 3])), "share their weights");
}

#[test]
fn a_checkpoint_without_a_head_gets_a_fresh_one_if_asked() {
    let (dir, model) = saved(&shape(2));
    let file = dir.path().join("model.safetensors");
    let bytes = fs_err::read(&file).expect("reads");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let body = tensors.iter().filter(|(name, _)| !name.starts_with("cls."));
    fs_err::write(&file, safetensors::serialize(body, None).expect("serializes")).expect("writes");
    let error = from(dir.path(), &shape(2), &Inheritance::default()).expect_err("no head");
    assert_eq!(class_of(error.as_ref()), Class::Input);
    let fresh = Inheritance { fresh_head: true, ..Inheritance::default() };
    let student = from(dir.path(), &shape(2), &fresh).expect("a fresh head");
    assert_eq!(states(&student), states(&model));
    let drawn = MaskedLm::init(&shape(2), 9, &Device::flex());
    let hidden = || Tensor::<2>::ones([1, 16], &Device::flex());
    let read = |model: &MaskedLm| model.transform(hidden()).try_into_vec_as::<f32>().expect("f32");
    assert_eq!(read(&student), read(&drawn), "drawn from the seed");
}

#[test]
fn what_does_not_fit_is_named() {
    let (dir, _) = saved(&shape(3));
    let whole = Inheritance::default();
    let cases = [
        (EncoderConfig { hidden_size: 8, ..shape(3) }, &whole, "hidden_size is 16, the new model's is 8"),
        (EncoderConfig { intermediate_size: 32, ..shape(3) }, &whole, "intermediate_size"),
        (EncoderConfig { vocab_size: 61, ..shape(3) }, &whole, "vocab_size"),
        (EncoderConfig { max_position_embeddings: 13, ..shape(3) }, &whole, "max_position_embeddings"),
        (EncoderConfig { model_type: Family::Roberta, ..shape(3) }, &whole, "Bert cannot hand"),
        (shape(2), &whole, "3 layers, the new model 2"),
        (shape(2), &layers(&[0]), "1 layers are chosen for a model of 2"),
        (shape(2), &layers(&[0, 3]), "layer 3 is chosen, but its layers are 0 to 2"),
    ];
    for (config, inherit, named) in cases {
        refused(from(dir.path(), &config, inherit), named);
    }
}

fn refused(result: anyhow::Result<MaskedLm>, named: &str) {
    let error = result.expect_err(named);
    assert_eq!(class_of(error.as_ref()), Class::Usage, "{error}");
    assert!(error.to_string().contains(named), "{error} does not name {named}");
}
