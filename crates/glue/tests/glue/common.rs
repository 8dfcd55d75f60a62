//! A tiny model and handmade tasks in a temporary folder.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use burn::tensor::Device;
use entromask_artifact::{Cost, Kind, OutputSpec, Recipe, Workbench, tool};
use entromask_encoder::{EncoderConfig, MaskedLm};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Words of the tiny model, after the special tokens.
const WORDS: [&str; 11] = ["good", "bad", "film", "a", "the", "is", "one", "two", "three", "cat", "dog"];

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The temporary folder with `model/` and `data/`.
pub struct World {
    folder: TempDir,
}

impl World {
    /// A world whose SST-2 is decided by one word: "good" or "bad".
    pub fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        world.write_model("model", 1);
        world.write_separable("train.tsv", 64);
        world.write_separable("dev.tsv", 20);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("can be made");
        std::fs::write(path, text).expect("can be written");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The bytes of a file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The stage on SST-2 with one seed and a recipe that suits the tiny model; artifact in `out`.
    pub fn stage(&self, out: &str, set: &[&str]) -> Command {
        let mut command = Command::cargo_bin("entromask-glue").expect("the binary is built");
        command.current_dir(self.folder.path()).args(arguments(out, set));
        command
    }

    /// Writes a model with the weights of `seed` to the folder `name`.
    pub fn write_model(&self, name: &str, seed: u64) {
        let config = EncoderConfig {
            vocab_size: SPECIAL.len() + WORDS.len(),
            hidden_size: 16,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 32,
            max_position_embeddings: 16,
            initializer_range: 0.2,
            ..EncoderConfig::default()
        };
        let dir = self.path(name);
        std::fs::create_dir_all(&dir).expect("can be made");
        let model = MaskedLm::init(&config, seed, &Device::flex());
        model.save_pretrained(&config, &dir, &[]).expect("can be written");
        self.write(&format!("{name}/tokenizer.json"), &tokenizer().to_string());
    }

    /// Makes an artifact of the folder `name`.
    pub fn publish_model(&self, name: &str) {
        let recipe = Recipe { kind: Kind::Model, config: json!({}), inputs: Vec::new() };
        // A stage leaves its lock; a model without one is somebody's.
        self.write(&format!("{name}/.lock"), "");
        let bench = Workbench::open(&self.path(name), recipe, tool("handmade", "0", &[])).expect("opens");
        let files = ["config.json", "model.safetensors", "tokenizer.json"].map(OutputSpec::file).to_vec();
        bench.publish(files, json!({}), Cost::default()).expect("publishes");
    }

    /// Writes rows of the task to `file`.
    pub fn write_separable(&self, file: &str, rows: usize) {
        let row = |index: usize| {
            let (word, label) = [("good", 1), ("bad", 0)][index % 2];
            let filler = ["a", "the", "one", "two", "three"][index % 5];
            format!("{filler} {} {word} \t{label}\n", ["film is", "dog", "cat is the"][index % 3])
        };
        let rows: String = (0..rows).map(row).collect();
        self.write(&format!("data/SST-2/{file}"), &format!("sentence\tlabel\n{rows}"));
    }
}

/// The arguments of [`World::stage`].
pub fn arguments(out: &str, set: &[&str]) -> Vec<String> {
    let common = ["--model", "model", "--out", out].map(String::from);
    let usual = ["data=data", "tasks=['SST-2']", "seeds=1", "recipe.lr=2e-2", "recipe.epochs=6"];
    let set = usual.iter().chain(set).flat_map(|set| ["--set".to_string(), (*set).to_string()]);
    common.into_iter().chain(set).collect()
}

/// Standard error of a run that must end with `code`.
pub fn complaint(mut command: Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// Standard output of a run that must succeed.
pub fn stdout(mut command: Command) -> String {
    let output = command.assert().success().get_output().clone();
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The names of the files in a folder, hidden ones excepted, in order.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("is a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

/// Splits at spaces, one id a word; `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`.
fn tokenizer() -> Value {
    let special = SPECIAL.iter().enumerate().map(|(id, content)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    let vocab: serde_json::Map<_, _> =
        SPECIAL.iter().chain(&WORDS).enumerate().map(|(id, word)| ((*word).to_string(), json!(id))).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]},
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    })
}

/// What a file of JSON says.
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}
