//! A handmade corpus and a tiny model with random weights.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use burn::tensor::Device;
use entromask_artifact::{Cost, Kind, Manifest, OutputSpec, Recipe, Workbench, tool};
use entromask_encoder::{EncoderConfig, MaskedLm};
use entromask_random::{below, keyed};
use entromask_tables::{Entropies, Ragged, Tokens};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Tokens of the corpus and of the model; 0 to 4 are special, 4 is the mask.
pub const VOCAB: usize = 50;

/// Rows of the two parts of the corpus.
pub const PARTS: [usize; 2] = [9, 5];

/// A folder with `tokens` and `model`, where the tests make their artifacts.
pub struct World {
    pub dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::with_parts(&PARTS)
    }

    /// A world whose corpus has parts of so many rows.
    pub fn with_parts(parts: &[usize]) -> Self {
        let world = Self { dir: tempfile::tempdir().expect("a folder") };
        write_parts(&world.path("tokens"), VOCAB, parts);
        write_model(&world.path("model"), VOCAB);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A corpus of many parts.
    pub fn of_parts(parts: &[usize]) -> Self {
        let world = Self { dir: tempfile::tempdir().expect("a folder") };
        write_parts(&world.path("tokens"), VOCAB, parts);
        write_model(&world.path("model"), VOCAB);
        world
    }

    /// The binary, about to score into `out` with further arguments.
    pub fn score(&self, out: &str, more: &[&str]) -> Command {
        let mut command = self.command();
        command.arg("--tokens").arg(self.path("tokens")).arg("--model").arg(self.path("model"));
        command.arg("--out").arg(self.path(out)).args(more);
        command
    }

    /// The binary in the test's folder, so that nothing is written elsewhere.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entromask-score"));
        command.current_dir(self.dir.path());
        command
    }

    /// Scores that a run made, part after part.
    pub fn scores(&self, out: &str) -> Vec<Entropies> {
        let dir = self.path(out);
        let manifest = self.manifest(out);
        manifest.parts("part").map(|part| Entropies::read(&dir.join(&part.file)).expect("reads")).collect()
    }

    /// Makes the model an artifact.
    pub fn publish_model(&self) {
        let recipe = Recipe { kind: Kind::Model, config: json!({}), inputs: vec![] };
        // A stage leaves its lock; a model without one is somebody's.
        fs_err::write(self.path("model/.lock"), "").expect("writes");
        let bench = Workbench::open(&self.path("model"), recipe, tool("handmade", "0", &[])).expect("opens");
        let files = ["config.json", "model.safetensors", "tokenizer.json"].map(OutputSpec::file).to_vec();
        bench.publish(files, json!({}), Cost::default()).expect("publishes");
    }

    /// Fills a tensor of the model with a value.
    pub fn overwrite_tensor(&self, name: &str, value: f32) {
        let file = self.path("model").join("model.safetensors");
        let mut bytes = fs_err::read(&file).expect("reads");
        let start = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..start]).expect("JSON");
        let offset = |n: usize| start + header[name]["data_offsets"][n].as_u64().expect("a tensor") as usize;
        let range = offset(0)..offset(1);
        bytes[range].chunks_mut(4).for_each(|word| word.copy_from_slice(&value.to_le_bytes()));
        fs_err::write(file, bytes).expect("writes");
    }

    /// Changes a JSON file.
    pub fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let bytes = fs_err::read(self.path(file)).expect("reads");
        let mut value = serde_json::from_slice(&bytes).expect("JSON");
        edit(&mut value);
        fs_err::write(self.path(file), value.to_string()).expect("writes");
    }

    /// Turns a bit of the file's byte `at`, counted from the end.
    pub fn damage(&self, file: &str, at: usize) {
        let mut bytes = fs_err::read(self.path(file)).expect("reads");
        let place = bytes.len() - at;
        bytes[place] ^= 1;
        fs_err::write(self.path(file), bytes).expect("writes");
    }

    pub fn manifest(&self, out: &str) -> Manifest {
        Manifest::load(&self.path(out), Kind::Entropy).expect("a manifest")
    }
}

/// Two parts of rows between 3 and 16 tokens, many of length 16; one row has special tokens only.
pub fn write_tokens(dir: &Path, vocab_size: usize) {
    write_parts(dir, vocab_size, &PARTS);
}

/// Such rows in parts of these sizes.
pub fn write_parts(dir: &Path, vocab_size: usize, parts: &[usize]) {
    let recipe = Recipe { kind: Kind::Tokens, config: json!({"seq_len": 16}), inputs: vec![] };
    let bench = Workbench::open(dir, recipe, tool("handmade", "0", &[])).expect("opens");
    let mut outputs = Vec::new();
    for (index, &rows) in parts.iter().enumerate() {
        let file = bench.part_name("part", index);
        let first = parts[..index].iter().sum::<usize>();
        bench.write(&file, |path| part(first..first + rows).write(path, &bench.footer())).expect("writes");
        outputs.push(OutputSpec::part(file, rows as u64));
    }
    bench.write_bytes("tokenizer.json", &tokenizer("token")).expect("writes");
    outputs.push(OutputSpec::file("tokenizer.json"));
    let special = json!({"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4});
    bench
        .publish(outputs, json!({"vocab_size": vocab_size, "special": special}), Cost::default())
        .expect("publishes");
}

pub fn write_model(dir: &Path, vocab_size: usize) {
    write_model_without_tokenizer(dir, vocab_size, 16);
    fs_err::write(dir.join("tokenizer.json"), tokenizer("token")).expect("writes");
}

/// A model that reads rows of up to `positions` tokens.
pub fn write_model_without_tokenizer(dir: &Path, vocab_size: usize, positions: usize) {
    let config = EncoderConfig {
        vocab_size,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 24,
        max_position_embeddings: positions,
        // Far from uniform predictions.
        initializer_range: 0.5,
        ..EncoderConfig::default()
    };
    fs_err::create_dir_all(dir).expect("a folder");
    MaskedLm::init(&config, 1, &Device::flex()).save_pretrained(&config, dir, &[]).expect("saves");
}

pub fn tokenizer(prefix: &str) -> Vec<u8> {
    let vocab: serde_json::Map<_, _> = (0..VOCAB).map(|id| (format!("{prefix}{id}"), json!(id))).collect();
    json!({"model": {"type": "WordPiece", "vocab": vocab}}).to_string().into_bytes()
}

fn part(numbers: std::ops::Range<usize>) -> Tokens {
    let ids = numbers.clone().map(row).collect::<Vec<_>>();
    let word = ids.iter().map(|ids| {
        ids.iter().enumerate().map(|(s, &id)| (id > 4).then_some(s as u16 / 2)).collect::<Vec<_>>()
    });
    let zeros = || Ragged::from_rows(ids.iter().map(|ids| vec![0; ids.len()]));
    Tokens {
        row: numbers.clone().map(|number| number as u64).collect(),
        doc: numbers.clone().map(|_| 0).collect(),
        text: numbers.map(|number| format!("row {number}")).collect(),
        word: Ragged::from_rows(word),
        begin: zeros(),
        end: zeros(),
        input_ids: Ragged::from_rows(ids),
    }
}

/// [CLS], up to 14 words, [SEP].
fn row(number: usize) -> Vec<u32> {
    let words = match number {
        4 => 0,
        number if number % 2 == 0 => 14,
        number => number % 13 + 1,
    };
    let mut rng = keyed(1, "corpus", number as u64, 0);
    let mut ids = vec![2];
    ids.extend((0..words).map(|_| 5 + below(VOCAB - 5, &mut rng) as u32));
    ids.push(3);
    ids
}
