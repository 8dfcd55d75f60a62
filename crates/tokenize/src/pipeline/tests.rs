//! What a run that was killed leaves is as good as what a later one makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use entromask_artifact::{Kind, Recipe, tool};
use entromask_tables::{TokenColumns, Tokens};
use fs_err as fs;
use serde_json::Value;

use super::*;

/// Documents of all lengths, some without a token, some twice, one in pieces, one of them in the middle of a word.
fn corpus(folder: &Path) -> PathBuf {
    let text = |n: usize| match n % 10 {
        3 => "\u{200b}".to_string(),
        7 => "twice".into(),
        _ => format!("Document {n}: {}", "so be it. ".repeat(n * n % 47)),
    };
    let mut texts: Vec<String> = (0..120).map(text).collect();
    texts[60] = "all of this is one. ".repeat(crate::MAX_DOCUMENT_BYTES / 15);
    let lines: Vec<String> = texts.iter().map(|text| serde_json::json!({"text": text}).to_string()).collect();
    let file = folder.join("corpus.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    file
}

struct Bench {
    folder: tempfile::TempDir,
    config: Config,
    encoder: TextEncoder,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            files: vec![corpus(folder.path()).display().to_string()],
            format: Some(crate::Format::Jsonl),
            seq_len: 96,
            shard_rows: Some(1500),
            valid_fraction: 0.3,
            ..Config::default()
        };
        change(&mut config);
        let tokenizers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tokenizers");
        let encoder = TextEncoder::load(&tokenizers.join("bert-base-uncased")).unwrap();
        Self { folder, config, encoder }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Runs up to where only the manifest is missing.
    fn run(&self) -> Made {
        let recipe = Recipe { kind: Kind::Tokens, config: Value::Null, inputs: vec![] };
        let bench = Workbench::open(&self.out(), recipe, tool("test", "0", &[])).unwrap();
        let corpus = Corpus::find(&self.config).unwrap();
        let guard = DiskGuard { min_free_bytes: 0 };
        let (config, encoder) = (&self.config, &self.encoder);
        Pipeline { config, corpus: &corpus, encoder, bench: &bench, guard }.run().unwrap()
    }

    /// Names and bytes of parts and of what is noted of them.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = fs::read_dir(self.out()).unwrap().map(|entry| entry.unwrap().path());
        let is_kept = |path: &PathBuf| path.to_string_lossy().contains(".parquet");
        paths.filter(is_kept).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    fn tokens(&self, file: &str) -> u64 {
        let tokens = Tokens::read(&self.out().join(file), TokenColumns::default()).unwrap();
        (0..tokens.rows()).map(|row| tokens.input_ids.len_of(row) as u64).sum()
    }

    /// Runs after each part as if an earlier run had been killed before it.
    fn check_every_part(&self) {
        let whole = self.run();
        let files = self.files();
        let parts: BTreeMap<&str, u64> =
            whole.parts.iter().map(|part| (part.file.as_str(), self.tokens(&part.file))).collect();
        assert!(parts.len() > 3, "{parts:?}");
        for &killed in parts.keys() {
            fs::remove_file(self.out().join(killed)).unwrap();
            let again = self.run();
            assert_eq!(told(&again), told(&whole), "{killed}");
            assert!(self.files() == files, "{killed}");
            let is_kept = |file: &str| file < killed || file[..4] != killed[..4];
            let kept = parts.iter().filter(|(file, _)| is_kept(file)).map(|(_, tokens)| tokens);
            assert_eq!(again.resumed_tokens, kept.sum::<u64>(), "{killed}");
        }
        assert_eq!(self.run().resumed_tokens, whole.counts.tokens + whole.counts.valid_tokens);
    }
}

/// Counts, and the parts with their rows.
fn told(made: &Made) -> (Counts, String) {
    (made.counts.clone(), format!("{:?}", made.parts))
}

#[test]
fn a_run_goes_on_behind_any_part() {
    Bench::new(|_| {}).check_every_part();
}

#[test]
fn a_run_goes_on_within_documents_that_share_rows() {
    let share = |config: &mut Config| {
        config.max_documents_per_row = 0;
        config.min_row_tokens = 40;
        config.deduplicate = true;
    };
    Bench::new(share).check_every_part();
}

#[test]
fn parts_without_a_note_of_where_they_end_are_made_again_to_the_byte() {
    let bench = Bench::new(|_| {});
    let whole = bench.run();
    let files = bench.files();
    for note in files.keys().filter(|path| path.to_string_lossy().contains("digest")) {
        let mut seal: Value = serde_json::from_slice(&fs::read(note).unwrap()).unwrap();
        seal["facts"] = Value::Null;
        fs::write(note, seal.to_string()).unwrap();
    }
    let again = bench.run();
    assert_eq!((again.resumed_tokens, told(&again)), (0, told(&whole)));
}
