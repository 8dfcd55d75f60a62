//! Checkpoints: exact round trips, names of other origin, and what is said about damaged ones.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use entromask_encoder::{
    Batch, EncoderConfig, Family, MaskedLm, ModernBertConfig, SequenceClassifier, pretrained_files,
};
use entromask_fault::{Class, Fault};
use entromask_kernels::Products;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

#[test]
fn saving_what_was_loaded_gives_the_same_bytes() {
    let (first, second) = (saved(), tempfile::tempdir().expect("a folder"));
    let (model, config) = load(first.path()).expect("loads");
    model.save_pretrained(&config, second.path(), &[("key".to_owned(), "k".to_owned())]).expect("saves");
    for file in ["config.json", "model.safetensors"] {
        let read = |dir: &Path| fs_err::read(dir.join(file)).expect("reads");
        assert!(read(first.path()) == read(second.path()), "{file} differs");
    }
}

#[test]
fn the_tied_decoder_is_not_stored_and_metadata_is() {
    let dir = saved();
    let bytes = fs_err::read(dir.path().join("model.safetensors")).expect("reads");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a header");
    assert!(metadata.info("cls.predictions.decoder.weight").is_none());
    assert!(metadata.info("cls.predictions.bias").is_some());
    let pairs = metadata.metadata().clone().expect("metadata");
    assert_eq!((pairs["format"].as_str(), pairs["key"].as_str()), ("pt", "k"));
}

#[test]
fn old_and_bare_names_load() {
    let dir = saved();
    let (expected, _) = load(dir.path()).expect("loads");
    edit(dir.path(), |tensors| {
        let rename = |name: &String| {
            let name = name
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta");
            name.trim_start_matches("bert.").to_owned()
        };
        *tensors = tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
    });
    let (found, _) = load(dir.path()).expect("loads");
    assert_eq!(
        format!("{}", found.decoder().0.sub(expected.decoder().0).abs().sum().into_scalar::<f32>()),
        "0"
    );
    assert_eq!(found.num_params(), expected.num_params());
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let dir = saved();
    edit(dir.path(), |tensors| drop(tensors.remove("bert.encoder.layer.0.output.dense.weight")));
    refused(
        dir.path(),
        &["model.safetensors", "bert.encoder.layer.0.output.dense.weight", "missing", "[8, 12]"],
    );
    assert!(MaskedLm::check(dir.path()).is_err(), "names are known before the weights are read");
}

#[test]
fn a_value_of_another_type_is_named_with_its_key() {
    let dir = saved();
    edit_config(dir.path(), "hidden_act", 1e30.into());
    refused(dir.path(), &["config.json", "hidden_act"]);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let dir = saved();
    edit(dir.path(), |tensors| {
        tensors.insert("bert.embeddings.word_embeddings.weight".to_owned(), (vec![2, 8], vec![0.0; 16]));
    });
    refused(dir.path(), &["bert.embeddings.word_embeddings.weight", "[2, 8]", "[30, 8]"]);
}

/// What a plan asks before hours of work: as much as names and shapes tell, and no more.
#[test]
fn shapes_are_looked_at_before_weights_are_read() {
    let dir = saved();
    MaskedLm::check(dir.path()).expect("it is whole");
    edit_config(dir.path(), "intermediate_size", 16.into());
    let error = MaskedLm::check(dir.path()).expect_err("refused").to_string();
    assert!(
        error.contains("bert.encoder.layer.0.intermediate.dense.weight has shape [12, 8], expected [16, 8]"),
        "{error}"
    );
    let dir = saved();
    edit_config(dir.path(), "tie_word_embeddings", false.into());
    assert!(
        MaskedLm::check(dir.path()).expect_err("refused").to_string().contains("decoder.weight is missing")
    );
}

/// Its dense layer has the name that a masked-LM head's has.
#[test]
fn a_modernbert_that_classifies_predicts_no_tokens() {
    let modernbert = Some(ModernBertConfig::default());
    let config = EncoderConfig { model_type: Family::ModernBert, modernbert, type_vocab_size: 0, ..config() };
    let dir = tempfile::tempdir().expect("a folder");
    let device = Device::flex();
    MaskedLm::init(&config, 1, &device).save_pretrained(&config, dir.path(), &[]).expect("saves");
    MaskedLm::check(dir.path()).expect("predicts tokens");
    load(dir.path()).expect("predicts tokens");
    let model = SequenceClassifier::init_from_encoder(dir.path(), &config, 2, 0, &device).expect("loads");
    model.save_pretrained(&config, dir.path(), &[]).expect("saves");
    refused(dir.path(), &["no masked-LM head", "ModernBertForMaskedLM"]);
    assert!(MaskedLm::check(dir.path()).is_err());
}

#[test]
fn names_behind_those_of_training_loops_load() {
    for wrapper in ["model.", "state_dict.model.", "model_state_dict.module."] {
        let dir = saved();
        edit(dir.path(), |tensors| {
            *tensors =
                tensors.iter().map(|(name, tensor)| (format!("{wrapper}{name}"), tensor.clone())).collect();
        });
        load(dir.path()).unwrap_or_else(|error| panic!("{wrapper}: {error}"));
    }
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY] {
        let dir = saved();
        edit(dir.path(), |tensors| tensors.get_mut("cls.predictions.bias").expect("there").1[4] = bad);
        refused(dir.path(), &["cls.predictions.bias", "at 4", "diverged"]);
    }
    let dir = saved();
    edit(dir.path(), |tensors| tensors.get_mut("cls.predictions.bias").expect("there").1[4] = -f32::INFINITY);
    refused(dir.path(), &["cls.predictions.bias holds -inf at 4, which bars the token", "store -10000"]);
}

#[test]
fn pointers_of_git_lfs_are_named() {
    for name in ["tokenizer.json", "model.safetensors", "pytorch_model.bin"] {
        let dir = saved();
        if name == "pytorch_model.bin" {
            fs_err::remove_file(dir.path().join("model.safetensors")).expect("removes");
        }
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
        fs_err::write(dir.path().join(name), pointer).expect("writes");
        let error = pretrained_files(dir.path(), "").expect_err("refused").to_string();
        assert!(error.contains(&format!("{name}: a pointer of Git LFS")), "{error}");
        assert!(error.contains("git lfs pull"), "{error}");
        if name != "tokenizer.json" {
            refused(dir.path(), &[name, "git lfs pull"]);
        }
    }
}

#[test]
fn a_checkpoint_without_a_head_is_refused_with_the_remedy() {
    let dir = saved();
    edit(dir.path(), |tensors| tensors.retain(|name, _| !name.starts_with("cls.")));
    refused(dir.path(), &["no masked-LM head", "BertForMaskedLM", "--set init.fresh_head=true"]);
    SequenceClassifier::init_from_encoder(dir.path(), &config(), 2, 0, &Device::flex())
        .expect("an encoder is enough here");
}

#[test]
fn a_redundant_decoder_is_tied_and_another_one_is_used() {
    let dir = saved();
    edit(dir.path(), |tensors| {
        let words = tensors["bert.embeddings.word_embeddings.weight"].clone();
        tensors.insert("cls.predictions.decoder.weight".to_owned(), words);
    });
    assert!(load(dir.path()).expect("loads").1.tie_word_embeddings);
    edit(dir.path(), |tensors| tensors.get_mut("cls.predictions.decoder.weight").expect("there").1[0] += 1.0);
    let (model, config) = load(dir.path()).expect("loads");
    assert!(!config.tie_word_embeddings);
    let change: f32 = (model.decoder().0 - model.encoder.word_embeddings()).sum().into_scalar();
    assert!((change - 1.0).abs() < 1e-5, "{change}");
}

/// As `save_model` of `safetensors` leaves them, which keeps the first name of several for one tensor.
#[test]
fn tied_embeddings_may_be_stored_as_the_decoder() {
    for (family, words, decoder) in [
        (Family::Roberta, "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
        (Family::XlmRoberta, "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
        (Family::ModernBert, "model.embeddings.tok_embeddings.weight", "decoder.weight"),
    ] {
        let (dir, device) = (tempfile::tempdir().expect("a folder"), Device::flex());
        let config = EncoderConfig { model_type: family, ..config() };
        let expected = MaskedLm::init(&config, 1, &device);
        expected.save_pretrained(&config, dir.path(), &[]).expect("saves");
        edit(dir.path(), |tensors| {
            let tensor = tensors.remove(words).expect("there");
            tensors.insert(decoder.to_owned(), tensor);
        });
        let (found, _) = load(dir.path()).expect("loads");
        assert!(!found.has_own_decoder(), "{family}");
        let off = (found.encoder.word_embeddings() - expected.decoder().0).abs().max().into_scalar::<f32>();
        assert!(off.abs() < f32::EPSILON, "{family}");
        SequenceClassifier::init_from_encoder(dir.path(), &config, 2, 0, &device).expect("an encoder");
        edit_config(dir.path(), "tie_word_embeddings", false.into());
        refused(dir.path(), &[words, "is missing"]);
    }
}

#[test]
fn an_index_names_the_files() {
    let dir = saved();
    fs_err::rename(dir.path().join("model.safetensors"), dir.path().join("model-1.safetensors"))
        .expect("moves");
    let index = dir.path().join("model.safetensors.index.json");
    fs_err::write(&index, r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}}"#)
        .expect("writes");
    load(dir.path()).expect("loads");
    let names: Vec<_> = pretrained_files(dir.path(), "")
        .expect("lists")
        .iter()
        .map(|path| path.file_name().expect("a name").to_owned())
        .collect();
    assert_eq!(names, ["config.json", "model.safetensors.index.json", "model-1.safetensors"]);
    for (text, word) in [
        (r#"{"weight_map": {"a": "../../etc/passwd"}}"#, "outside"),
        (r#"{"weight_map": {"a": "model-2.safetensors"}}"#, "model-2.safetensors"),
        ("{}", "weight_map"),
        ("[", "index"),
    ] {
        fs_err::write(&index, text).expect("writes");
        refused(dir.path(), &[word]);
    }
    fs_err::remove_file(&index).expect("removes");
    fs_err::create_dir(&index).expect("makes");
    refused(dir.path(), &["model.safetensors.index.json"]);
}

#[test]
fn what_is_missing_from_several_files_is_not_laid_on_one() {
    let (dir, rest) = (saved(), saved());
    let in_rest = "cls.predictions.bias";
    edit(dir.path(), |tensors| {
        tensors.retain(|name, _| name != in_rest && name != "cls.predictions.transform.dense.bias");
    });
    edit(rest.path(), |tensors| tensors.retain(|name, _| name == in_rest));
    for (from, name) in [(&dir, "model-1.safetensors"), (&rest, "model-2.safetensors")] {
        fs_err::rename(from.path().join("model.safetensors"), dir.path().join(name)).expect("moves");
    }
    let index = dir.path().join("model.safetensors.index.json");
    let map = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    fs_err::write(&index, map).expect("writes");
    let error = load(dir.path()).expect_err("refused").to_string();
    assert!(!error.contains("model-1") && error.contains("dense.bias is missing"), "{error}");
    fs_err::remove_file(dir.path().join("model-2.safetensors")).expect("removes");
    refused(dir.path(), &["model-2.safetensors: no such file, but", "names it; fetch the rest"]);
}

/// `transformers` takes the last one, whatever the index says.
#[test]
fn a_tensor_in_two_files_is_refused() {
    let dir = saved();
    for name in ["model-1.safetensors", "model-2.safetensors"] {
        fs_err::copy(dir.path().join("model.safetensors"), dir.path().join(name)).expect("copies");
    }
    fs_err::remove_file(dir.path().join("model.safetensors")).expect("removes");
    let map = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    fs_err::write(dir.path().join("model.safetensors.index.json"), map).expect("writes");
    refused(dir.path(), &["model-2.safetensors: tensor ", "model-1.safetensors too"]);
}

#[test]
fn names_behind_a_wrapper_are_found() {
    let (dir, plain) = (saved(), saved());
    for wrapper in ["module.", "_orig_mod.", "state_dict.", "state_dict.module.", "model."] {
        let path = dir.path().join("model.safetensors");
        fs_err::copy(plain.path().join("model.safetensors"), path).expect("copies");
        edit(dir.path(), |tensors| {
            let wrapped = std::mem::take(tensors).into_iter();
            *tensors = wrapped.map(|(name, tensor)| (format!("{wrapper}{name}"), tensor)).collect();
        });
        let (found, _) = load(dir.path()).expect("loads");
        let (expected, _) = load(plain.path()).expect("loads");
        let off = (found.decoder().0 - expected.decoder().0).abs().max().into_scalar::<f32>();
        assert!(off.abs() < f32::EPSILON, "{wrapper}");
    }
}

#[test]
fn layers_that_the_config_does_not_name_are_refused() {
    let dir = saved();
    edit(dir.path(), |tensors| {
        let layer = tensors["bert.encoder.layer.0.output.dense.bias"].clone();
        tensors.insert("bert.encoder.layer.2.output.dense.bias".to_owned(), layer.clone());
        tensors.insert("bert.encoder.layer.1.output.dense.bias".to_owned(), layer);
    });
    refused(
        dir.path(),
        &["tensor bert.encoder.layer.1.output.dense.bias is of layer 1", "num_hidden_layers = 1"],
    );
}

/// Before memory is taken for them.
#[test]
fn sizes_that_the_weights_do_not_have_are_refused() {
    for (key, size, words) in [
        (
            "vocab_size",
            1_000_000_000_000_u64,
            ["word_embeddings.weight has shape [30, 8]", "[1000000000000, 8]"],
        ),
        ("num_hidden_layers", 3, ["layer.1.attention.self.query.weight is missing", "num_hidden_layers = 3"]),
        ("num_hidden_layers", 1 << 40, ["num_hidden_layers 1099511627776", "correct this file"]),
    ] {
        let dir = saved();
        edit_config(dir.path(), key, size.into());
        refused(dir.path(), &words);
        assert!(SequenceClassifier::from_pretrained(dir.path(), &Device::flex()).is_err());
    }
}

#[test]
fn remedies_fit_what_is_wrong_with_a_config() {
    for (key, value, words) in [
        ("position_embedding_type", "relative_key".into(), ["is not supported", "without this"]),
        ("num_attention_heads", 3.into(), ["num_attention_heads 3", "correct this file"]),
        ("hidden_act", "sine".into(), ["sine", "correct this file"]),
        ("model_type", "t5".into(), ["t5", "one of the families bert"]),
        ("max_position_embeddings", 0.into(), ["max_position_embeddings is 0", "correct this file"]),
    ] {
        let dir = saved();
        edit_config(dir.path(), key, value);
        refused(dir.path(), &words);
    }
}

#[test]
fn a_pickle_that_is_none_is_refused() {
    let dir = saved();
    fs_err::remove_file(dir.path().join("model.safetensors")).expect("removes");
    // A pickle that would call os.system.
    let call: &[u8] = b"cos\nsystem\n(S'touch executed'\ntR.";
    for bytes in [b"".as_slice(), b"PK\x03\x04", &[0x80; 64], call] {
        fs_err::write(dir.path().join("pytorch_model.bin"), bytes).expect("writes");
        refused(dir.path(), &["pytorch_model.bin"]);
    }
    assert!(!Path::new("executed").exists());
}

#[test]
fn unknown_models_and_missing_files_are_refused() {
    let dir = saved();
    fs_err::write(dir.path().join("config.json"), r#"{"model_type": "t5"}"#).expect("writes");
    refused(dir.path(), &["config.json", "t5", "bert"]);
    fs_err::write(dir.path().join("config.json"), "{").expect("writes");
    refused(dir.path(), &["config.json"]);
    let dir = saved();
    fs_err::remove_file(dir.path().join("model.safetensors")).expect("removes");
    refused(dir.path(), &["model.safetensors", "save_pretrained"]);
    refused(Path::new("no/such/folder"), &["config.json"]);
}

#[test]
fn a_classifier_round_trips() {
    let (dir, copy) = (saved(), tempfile::tempdir().expect("a folder"));
    let device = Device::flex();
    let config = config();
    let model = SequenceClassifier::init_from_encoder(dir.path(), &config, 3, 7, &device).expect("loads");
    model.save_pretrained(&config, copy.path(), &[]).expect("saves");
    let first = fs_err::read(copy.path().join("model.safetensors")).expect("reads");
    let (model, config) = SequenceClassifier::from_pretrained(copy.path(), &device).expect("loads");
    model.save_pretrained(&config, copy.path(), &[]).expect("saves");
    assert!(first == fs_err::read(copy.path().join("model.safetensors")).expect("reads"));
    let json = fs_err::read_to_string(copy.path().join("config.json")).expect("reads");
    assert!(json.contains("LABEL_2") && json.contains("BertForSequenceClassification"), "{json}");
}

fn config() -> EncoderConfig {
    EncoderConfig {
        vocab_size: 30,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 12,
        max_position_embeddings: 6,
        ..EncoderConfig::default()
    }
}

fn saved() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let model = MaskedLm::init(&config(), 1, &Device::flex());
    model.save_pretrained(&config(), dir.path(), &[("key".to_owned(), "k".to_owned())]).expect("saves");
    dir
}

fn load(dir: &Path) -> anyhow::Result<(MaskedLm, EncoderConfig)> {
    MaskedLm::from_pretrained(dir, &Device::flex())
}

fn refused(dir: &Path, words: &[&str]) {
    let error = load(dir).expect_err("refused");
    let fault = error.downcast_ref::<Fault>().expect("a fault");
    assert_eq!(fault.class(), Class::Input);
    for word in words {
        assert!(fault.to_string().contains(word), "{word:?} is not in: {fault}");
    }
}

fn edit_config(dir: &Path, key: &str, value: serde_json::Value) {
    let path = dir.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs_err::read(&path).expect("reads")).expect("JSON");
    config[key] = value;
    fs_err::write(path, config.to_string()).expect("writes");
}

fn edit(dir: &Path, change: impl FnOnce(&mut Tensors)) {
    let path = dir.join("model.safetensors");
    let mut tensors = read(&fs_err::read(&path).expect("reads"));
    change(&mut tensors);
    let bytes: BTreeMap<_, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(name, (shape, _))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).expect("a tensor"))
    });
    fs_err::write(&path, safetensors::serialize(views, None).expect("serializes")).expect("writes");
}

fn read(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).expect("reads");
    let values = |data: &[u8]| data.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
    file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(view.data())))).collect()
}

/// Bodies multiply in bf16 where they are trained so; what it rounds shows, and is no more than its eight bits.
#[test]
fn a_classifier_multiplies_in_the_type_that_it_is_given() {
    // A GPU's path is taken on the CPU where derivatives are asked for.
    let (dir, device) = (saved(), Device::flex().autodiff());
    let config = config().with_dropout(0.0);
    let model = SequenceClassifier::init_from_encoder(dir.path(), &config, 2, 0, &device).expect("loads");
    let batch = Batch::from_rows(&[[2, 7, 9, 3]], 0, &device);
    let features = |products| model.clone().with_products(products).features(&batch);
    let [exact, rounded] = [Products::AsTensors, Products::Bf16]
        .map(|products| features(products).try_into_vec_as::<f32>().expect("f32"));
    let largest = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let most = exact.iter().zip(&rounded).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(most > 0.0 && most < 0.03 * largest, "{most} of {largest}");
}
