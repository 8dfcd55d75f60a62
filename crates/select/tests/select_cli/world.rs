//! A folder with a tokens artifact of three parts and the entropies of its tokens.

use std::path::{Path, PathBuf};

use anyhow::Result;
use assert_cmd::Command;
use entromask_artifact::{Cost, Input, Kind, Manifest, OutputSpec, Recipe, Workbench, tool};
use entromask_tables::{Entropies, Masks, Ragged, TokenColumns, Tokens};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const PARTS: u64 = 3;
pub const ROWS: u64 = 20;

/// The vocabulary: special tokens, then punctuation, numbers and words in turn.
const SPECIAL: [(&str, u32); 5] =
    [("[PAD]", 0), ("[UNK]", 100), ("[CLS]", 101), ("[SEP]", 102), ("[MASK]", 103)];

pub struct World {
    folder: TempDir,
}

impl World {
    pub fn new() -> Result<Self> {
        let world = Self { folder: tempfile::tempdir()? };
        let tokens = make_tokens(&world.path("tokens"), "first")?;
        make_entropies(&world.path("entropy"), &world.path("tokens"), &tokens, |_, word| Some(word / 10.0))?;
        Ok(world)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Another scoring of the same tokens, from row and word.
    pub fn score(&self, name: &str, score: fn(u64, f32) -> Option<f32>) -> Result<()> {
        let tokens = Manifest::load(&self.path("tokens"), Kind::Tokens)?;
        make_entropies(&self.path(name), &self.path("tokens"), &tokens, score)
    }

    pub fn select(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = self.bare(out);
        command.arg("--entropy").arg(self.path("entropy")).args(arguments);
        command
    }

    /// Without entropies.
    pub fn bare(&self, out: &str) -> Command {
        let mut command = Command::cargo_bin("entromask-select").expect("the binary is built");
        command.arg("--tokens").arg(self.path("tokens")).arg("--out").arg(self.path(out));
        command
    }

    /// File name and bytes of all masks in `out`.
    pub fn bytes(&self, out: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let (dir, manifest) = (self.path(out), self.manifest(out)?);
        manifest.verify(&dir)?;
        let read = |file: &String| Ok((file.clone(), std::fs::read(dir.join(file))?));
        manifest.outputs.iter().map(|output| read(&output.file)).collect()
    }

    pub fn manifest(&self, out: &str) -> Result<Manifest> {
        Manifest::load(&self.path(out), Kind::Masks)
    }

    /// The report of the masks in `out`.
    pub fn report(&self, out: &str) -> Result<Value> {
        Ok(self.manifest(out)?.stats["report"].clone())
    }

    /// The masks of one epoch, part by part.
    pub fn masks(&self, out: &str, epoch: u16) -> Result<Vec<Masks>> {
        let manifest = self.manifest(out)?;
        let prefix = format!("epoch-{epoch:03}");
        manifest.parts(&prefix).map(|part| Masks::read(&self.path(out).join(&part.file))).collect()
    }
}

pub fn make_tokens(out: &Path, name: &str) -> Result<Manifest> {
    let recipe = Recipe { kind: Kind::Tokens, config: json!({"name": name}), inputs: vec![] };
    let bench = Workbench::open(out, recipe, tool("test", "0", &[]))?;
    let mut outputs = Vec::new();
    for part in 0..PARTS {
        let rows = part * ROWS..(part + 1) * ROWS;
        let length = |row: u64| 10 + (row % 30) as u32;
        let ids = |row| [vec![101], (200..200 + length(row)).collect(), vec![102]].concat();
        let words = |row| [vec![None], (0..length(row) as u16).map(Some).collect(), vec![None]].concat();
        let tokens = Tokens {
            row: rows.clone().collect(),
            doc: rows.clone().collect(),
            text: rows.clone().map(|_| String::new()).collect(),
            input_ids: Ragged::from_rows(rows.clone().map(ids)),
            word: Ragged::from_rows(rows.clone().map(words)),
            begin: Ragged::from_rows(rows.clone().map(ids)),
            end: Ragged::from_rows(rows.map(ids)),
        };
        let file = bench.part_name("part", part as usize);
        bench.write(&file, |path| tokens.write(path, &bench.footer()))?;
        outputs.push(OutputSpec::part(file, ROWS));
    }
    bench.write_bytes("tokenizer.json", tokenizer().to_string().as_bytes())?;
    outputs.push(OutputSpec::file("tokenizer.json"));
    let special = json!({"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103});
    let stats = json!({"rows": PARTS * ROWS, "maskable": 1000, "vocab_size": 1000, "special": special});
    bench.publish(outputs, stats, Cost::default())
}

/// Every tenth id from 200 on is punctuation, the next one a number.
fn tokenizer() -> Value {
    let name = |id: u32| match id % 10 {
        0 => char::from_u32(0x2200 + id).map(String::from).unwrap_or_default(),
        1 => id.to_string(),
        _ => format!("w{}", "x".repeat(id as usize)),
    };
    let mut vocab: serde_json::Map<String, Value> = (200..240).map(|id: u32| (name(id), json!(id))).collect();
    vocab.extend(SPECIAL.map(|(name, id)| (name.to_string(), json!(id))));
    json!({"version": "1.0", "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": vocab}})
}

/// `score` makes the entropies from the row and the word; the surprisal is 10 less the entropy,
/// and the margin falls with it.
pub fn make_entropies(
    out: &Path,
    of: &Path,
    tokens: &Manifest,
    score: fn(u64, f32) -> Option<f32>,
) -> Result<()> {
    make_entropies_as(json!({}), out, of, tokens, score)
}

/// [`make_entropies`] with a scoring configuration.
pub fn make_entropies_as(
    config: Value,
    out: &Path,
    of: &Path,
    tokens: &Manifest,
    score: fn(u64, f32) -> Option<f32>,
) -> Result<()> {
    let inputs = vec![Input::artifact("tokens", tokens, of)];
    let recipe = Recipe { kind: Kind::Entropy, config, inputs };
    let bench = Workbench::open(out, recipe, tool("test", "0", &[]))?;
    let mut outputs = Vec::new();
    for (index, part) in tokens.parts("part").enumerate() {
        let columns = TokenColumns { word: true, ..TokenColumns::default() };
        let tokens = Tokens::read(&of.join(&part.file), columns)?;
        let scores = |of: &dyn Fn(f32) -> f32| {
            Ragged::from_rows(tokens.word.iter().zip(&tokens.row).map(|(words, &row)| {
                let nats = |word: &Option<u16>| word.and_then(|word| score(row, f32::from(word))).map(of);
                words.iter().map(nats).collect::<Vec<_>>()
            }))
        };
        let entropies = Entropies {
            row: tokens.row.clone(),
            entropy: scores(&|nats| nats),
            surprisal: scores(&|nats| 10.0 - nats),
            measures: [("margin".to_owned(), scores(&|nats| (-nats).exp()))].into(),
        };
        let file = bench.part_name("part", index);
        bench.write(&file, |path| entropies.write(path, &bench.footer()))?;
        outputs.push(OutputSpec::part(file, ROWS));
    }
    bench.publish(outputs, Value::Null, Cost::default()).map(drop)
}
