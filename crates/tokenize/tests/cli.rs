//! The binary: results, exit codes, messages, and what is left behind.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use entromask_artifact::{Kind, Manifest};
use entromask_tokenize::Config;
use serde_json::Value;

struct Bench {
    folder: tempfile::TempDir,
}

/// How a run ended.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        let text: Vec<String> =
            (0..60).map(|n| format!("Document {n} says: {}", "so be it. ".repeat(n))).collect();
        bench.write("corpus.txt", text.join("\n\n").as_bytes());
        bench.write("config.toml", bench.config("corpus.txt").as_bytes());
        bench
    }

    fn config(&self, file: &str) -> String {
        format!(
            "files = ['{}']\ntokenizer = '{}'\nseq_len = 32\nshard_rows = 16\nvalid_fraction = 0.1\n",
            self.path(file).display(),
            support::tokenizer("byte_bpe").display()
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, out: &str, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("entromask-tokenize"));
        command
            .args(["--config".as_ref(), self.path("config.toml").as_os_str()])
            .args(["--out".as_ref(), self.path(out).as_os_str()])
            .args(if args.iter().any(|arg| arg.starts_with("--min-free-disk")) {
                &[][..]
            } else {
                &["--min-free-disk", "0"]
            })
            .args(args)
            .current_dir(self.folder.path());
        command
    }

    fn run(&self, out: &str, args: &[&str]) -> Outcome {
        let output = self.command(out, args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn manifest(&self, out: &str) -> Manifest {
        Manifest::load(&self.path(out), Kind::Tokens).unwrap()
    }

    /// A run that must fail with `code` and say `words`, and leave no artifact behind.
    fn refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let Outcome { code: found, stderr, .. } = self.run("refused", args);
        assert_eq!(found, code, "{args:?}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{words:?} in {stderr}");
        if self.path("refused").exists() {
            assert_eq!(support::files(&self.path("refused")), [".lock"], "{args:?}");
        }
    }
}

fn parts(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = support::files(folder).into_iter().filter(|name| name.ends_with(".parquet"));
    names.map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap())).collect()
}

#[test]
fn a_run_makes_an_artifact_and_shows_a_row() {
    let bench = Bench::new();
    let done = bench.run("out", &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stdout.contains("tokenized") && done.stdout.contains("<s>") && done.stdout.contains("tokens/s")
    );
    let manifest = bench.manifest("out");
    manifest.verify(&bench.path("out")).unwrap();
    assert!(manifest.parts("part").count() > 3 && manifest.parts("valid").count() > 0);
    assert!(manifest.output("tokenizer.json").is_some());
    assert_eq!(manifest.config["seq_len"], 32);
    assert_eq!(manifest.stats["special"]["mask"], 4);
    assert_eq!(
        manifest.cost.tokens,
        manifest.stats["tokens"].as_u64().unwrap() + manifest.stats["valid_tokens"].as_u64().unwrap()
    );
    let again = bench.run("out", &["--json"]);
    let report: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!((again.code, &report["up_to_date"]), (0, &Value::Bool(true)));
    assert_eq!(report["stats"], manifest.stats);
}

#[test]
fn a_small_corpus_is_reported_in_few_words_with_what_is_doubtful() {
    let bench = Bench::new();
    bench.write("corpus.txt", "so be it. ".repeat(500).as_bytes());
    let done = bench.run("out", &["--set", "seq_len=2048"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains(" 1 doc\n"), "{}", done.stdout);
    let row = done.stdout.lines().find(|line| line.starts_with("  row ")).unwrap();
    assert!(row.ends_with(" …") && row.chars().count() < 320, "{row}");
    for words in ["no validation rows: 1 document at valid_fraction = 0.1", "a blank line ends one"] {
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
}

#[test]
fn a_text_that_the_vocabulary_cannot_express_is_doubted() {
    let bench = Bench::new();
    let tokenizer = format!("tokenizer={}", support::tokenizer("wordpiece").display());
    let text = "😀 or 🦀, all unknown. ".repeat(10) + "\n\n" + &"and words that are known. ".repeat(300);
    for (text, percent) in [(text.as_str(), "1.1 %"), (&text[text.find("\n\n").unwrap()..], "")] {
        bench.write("corpus.txt", text.as_bytes());
        let done = bench.run("out", &["--set", &tokenizer, "--set", "valid_fraction=0"]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        let unknown = if percent.is_empty() { 0 } else { 20 };
        assert_eq!(bench.manifest("out").stats["unknown"], unknown);
        let doubt = format!("{percent} of the tokens are unknown to the tokenizer");
        assert_eq!(done.stderr.contains(&doubt), unknown > 0, "{}", done.stderr);
        assert_eq!(done.stdout.contains("20 tokens unknown"), unknown > 0, "{}", done.stdout);
    }
}

#[test]
fn threads_and_batches_do_not_change_a_byte() {
    let bench = Bench::new();
    assert_eq!(bench.run("one", &["--threads", "1"]).code, 0);
    assert_eq!(bench.run("three", &["--threads", "3", "--set", "run.batch_bytes=100"]).code, 0);
    assert_eq!(parts(&bench.path("one")), parts(&bench.path("three")));
    assert_eq!(bench.manifest("one").content, bench.manifest("three").content);
}

#[test]
fn a_dry_run_says_what_changed_and_does_nothing() {
    let bench = Bench::new();
    let first = bench.run("out", &["--dry-run"]);
    assert!(first.stdout.contains("there is none yet"), "{}", first.stdout);
    assert!(!bench.path("out").exists());
    bench.run("out", &[]);
    assert!(bench.run("out", &["--dry-run"]).stdout.contains("up to date"));
    let faster = bench.run("out", &["--dry-run", "--set", "run.batch_bytes=9"]);
    assert!(faster.stdout.contains("up to date"), "{}", faster.stdout);
    let longer = bench.run("out", &["--dry-run", "--set", "seq_len=64"]);
    assert!(longer.stdout.contains("seq_len: 32 -> 64"), "{}", longer.stdout);
    bench.write("corpus.txt", b"another text");
    assert!(bench.run("out", &["--dry-run"]).stdout.contains("corpus"));
}

#[test]
fn a_killed_run_takes_its_finished_parts_over() {
    let bench = Bench::new();
    bench.run("out", &[]);
    let (before, manifest) = (parts(&bench.path("out")), bench.manifest("out"));
    // As if killed after some parts: no manifest, some parts missing, a half-written one beside.
    std::fs::remove_file(bench.path("out/manifest.json")).unwrap();
    let (kept, gone) = (&before[1].0, [&before[0].0, &before[2].0]);
    for name in gone {
        std::fs::remove_file(bench.path("out").join(name)).unwrap();
    }
    bench.write("out/.tmp-part", b"half");
    let modified = || std::fs::metadata(bench.path("out").join(kept)).unwrap().modified().unwrap();
    let stamp = modified();
    assert_eq!(bench.run("out", &[]).code, 0);
    assert_eq!(modified(), stamp, "a finished part is not written again");
    assert_eq!(parts(&bench.path("out")), before);
    assert_eq!(bench.manifest("out").content, manifest.content);
    assert!(!bench.path("out/.tmp-part").exists());
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_run_cleanly_and_the_next_one_resumes() {
    let bench = Bench::new();
    let text: Vec<String> =
        (0..300).map(|n| format!("Document {n}: {}", "so be it. ".repeat(n % 50))).collect();
    bench.write("corpus.txt", text.join("\n\n").as_bytes());
    let args = ["--set", "shard_rows=6", "--set", "run.batch_bytes=1000"];
    assert_eq!(bench.run("whole", &args).code, 0);
    let whole = parts(&bench.path("whole"));
    for signal in ["INT", "TERM"] {
        let out = bench.path(signal);
        let mut child = bench.command(signal, &args).stderr(Stdio::piped()).spawn().expect("starts");
        while !out.exists() || support::files(&out).len() < 8 {
            assert!(child.try_wait().unwrap().is_none(), "ended before its third part");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{stderr}");
        assert!(stderr.contains("run the same command again"), "{stderr}");
        let left = support::files(&out);
        let is_kept = |name: &String| {
            [".lock", ".digest-", ".elapsed-"].iter().any(|start| name.starts_with(start))
                || name.ends_with(".parquet")
        };
        assert!(left.iter().all(is_kept), "{left:?}");
        let finished = parts(&out);
        assert!(finished.len() < whole.len() && finished.iter().all(|part| whole.contains(part)), "{signal}");
        let again = bench.run(signal, &[&args[..], &["--json"]].concat());
        let report: serde_json::Value = serde_json::from_str(&again.stdout).expect("a report");
        assert!(report["resumed_tokens"].as_u64() > Some(0), "{}", again.stdout);
        assert_eq!(parts(&out), whole, "{signal}");
        assert_eq!(bench.manifest(signal).content, bench.manifest("whole").content);
    }
}

#[cfg(unix)]
#[test]
fn nohup_keeps_a_run_alive_when_its_terminal_goes() {
    let bench = Bench::new();
    let text: Vec<String> =
        (0..300).map(|n| format!("Document {n}: {}", "so be it. ".repeat(n % 50))).collect();
    bench.write("corpus.txt", text.join("\n\n").as_bytes());
    let args = ["--set", "shard_rows=6", "--set", "run.batch_bytes=1000"];
    for (keeper, code) in [(&["nohup"][..], 0), (&["env", "--default-signal=HUP"], 130)] {
        let (out, stage) = (bench.path(keeper[0]), bench.command(keeper[0], &args));
        let mut command = Command::new(keeper[0]);
        command.args(&keeper[1..]).arg(stage.get_program()).args(stage.get_args());
        command.current_dir(stage.get_current_dir().expect("the bench's folder"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        while !out.exists() || support::files(&out).len() < 8 {
            assert!(child.try_wait().unwrap().is_none(), "ended before its third part");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{keeper:?}");
    }
}

#[test]
fn bad_configurations_are_usage_errors() {
    let bench = Bench::new();
    bench.refused(&["--set", "sequence_length=128"], 2, &["sequence_length", "config.toml"]);
    bench.refused(&["--set", "run.threads=2"], 2, &["threads"]);
    bench.refused(&["--set", "seq_len=4"], 2, &["seq_len = 4"]);
    bench.refused(&["--set", "format=csv"], 2, &["csv"]);
    bench.refused(&["--set", "files=[]"], 2, &["files"]);
    bench.refused(&["--no-such-flag"], 2, &["--no-such-flag"]);
    bench.refused(&["--device", "cuda:0"], 2, &["no use for --device"]);
    bench.refused(&["--threads", "100000"], 2, &["--threads 100000", "give 1 to 1024"]);
    bench.refused(&["--dtype", "f16"], 2, &["f16", "bf16"]);
    bench.refused(&["--pending", "file"], 2, &["--dry-run"]);
    for free in ["nan", "-5", "inf"] {
        bench.refused(&[&format!("--min-free-disk={free}")], 2, &["--min-free-disk", "give a number of GiB"]);
    }
    let mut learn = Command::new(assert_cmd::cargo::cargo_bin!("entromask-tokenize"));
    let output = learn.args(["vocabulary", "--size", "300", "--dry-run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no use for --dry-run"));
}

#[test]
fn an_error_is_seen_whatever_the_logs_are_filtered_by() {
    let bench = Bench::new();
    let mut command = bench.command("refused", &["--set", "seq_len=4"]);
    let output = command.env("RUST_LOG", "another=debug").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("seq_len = 4"));
}

#[test]
fn the_template_for_own_text_names_every_key_with_a_value_that_is_taken() {
    let template =
        std::fs::read_to_string(support::workspace("pipelines/corpus/own-text.toml.example")).unwrap();
    // Keys behind a comment sign are those that are followed by an equals sign, and the table's head.
    let is_key = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let open = |line: &str| match line.strip_prefix("# ") {
        Some(key) if is_key(key) => key.to_owned(),
        _ => line.to_owned(),
    };
    let text = template.lines().map(open).collect::<Vec<_>>().join("\n");
    let (config, table) = (toml::from_str::<Config>(&text).unwrap(), text.parse::<toml::Table>().unwrap());
    config.validate().unwrap();
    let Value::Object(all) = serde_json::to_value(&config).unwrap() else { panic!("a table") };
    let missing: Vec<_> = all.keys().filter(|key| !table.contains_key(*key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn missing_and_empty_inputs_are_input_errors() {
    let bench = Bench::new();
    bench.refused(&["--set", "files=['none.txt']"], 3, &["none.txt: no such file", "check `files`"]);
    bench.refused(&["--set", "files=['none-*.txt']"], 3, &["none-*.txt", "no file matches"]);
    bench.refused(&["--set", "tokenizer=none"], 3, &["none: no such file", "check `tokenizer`"]);
    bench.write("empty.txt", b"\n\n \n");
    bench.refused(
        &["--set", "files=['empty.txt']"],
        3,
        &["empty.txt", "no training rows: 0 documents read", "no text"],
    );
    bench.refused(
        &["--set", "min_chars=100000"],
        3,
        &["no training rows: 60 documents read, 60 documents too short", "loosen `min_chars`"],
    );
    bench.refused(&["--set", "format=jsonl"], 3, &["corpus.txt:1", "not JSON"]);
    bench.refused(&["--set", "format=parquet"], 3, &["corpus.txt", "damaged"]);
    bench.refused(
        &["--set", "valid_fraction=0.999999"],
        3,
        &["no training rows: 60 documents read, 60 held out", "lower `valid_fraction`, which is 0.999999"],
    );
    bench.refused(
        &["--set", "train_fraction=1e-9", "--set", "valid_fraction=0.0"],
        3,
        &["no training rows", "60 documents left out", "raise `train_fraction`, which is 0.000000001"],
    );
    bench.refused(&["--set", "min_row_tokens=31"], 2, &["min_row_tokens = 31", "at most 30: special tokens"]);
    bench.write("lines.jsonl", b"{\"text\": \"a\"}\n{\"body\": \"b\"}\n");
    bench.refused(
        &["--set", "files=['lines.jsonl']", "--set", "format=jsonl"],
        3,
        &["lines.jsonl:2", "`text`", "body"],
    );
}

/// It would be read as text by the next run.
#[test]
fn what_lies_in_the_output_folder_is_no_input() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("out")).unwrap();
    bench.write("out/part.txt", b"made by an earlier run");
    for how in [&[][..], &["--dry-run"]] {
        let Outcome { code, stderr, .. } =
            bench.run("out", &[&["--set", "files=['**/*.txt']"], how].concat());
        assert!(
            code == 2 && stderr.contains("out/part.txt") && stderr.contains("within the output"),
            "{stderr}"
        );
    }
}

#[test]
fn invalid_utf8_fails_if_asked() {
    let bench = Bench::new();
    bench.write("corpus.txt", b"fine\n\nnot \xff fine\n");
    bench.refused(&["--set", "invalid_utf8=fail"], 3, &["corpus.txt:3", "invalid UTF-8", "replace"]);
    assert_eq!(bench.run("out", &["--set", "valid_fraction=0"]).code, 0);
    assert_eq!(bench.manifest("out").stats["replaced_invalid_utf8"], 1);
}

#[test]
fn a_tokenizer_without_a_mask_token_is_refused() {
    let bench = Bench::new();
    let text = std::fs::read_to_string(support::tokenizer("byte_bpe").join("tokenizer.json")).unwrap();
    bench.write("tokenizer.json", text.replace("<mask>", "<other>").as_bytes());
    bench.refused(
        &["--set", "tokenizer=tokenizer.json"],
        3,
        &["tokenizer.json", "no mask token", "mask_token"],
    );
    bench.write("tokenizer.json", b"{}");
    bench.refused(&["--set", "tokenizer=tokenizer.json"], 3, &["tokenizer.json", "not a tokenizer"]);
}

#[test]
fn a_mask_token_of_another_name_is_found_in_the_configuration() {
    let bench = Bench::new();
    let text = std::fs::read_to_string(support::tokenizer("byte_bpe").join("tokenizer.json")).unwrap();
    bench.write("tokenizer.json", text.replace("<mask>", "<other>").as_bytes());
    bench.write("tokenizer_config.json", br#"{"mask_token": {"content": "<other>", "lstrip": true}}"#);
    assert_eq!(bench.run("out", &["--set", "tokenizer=tokenizer.json"]).code, 0);
    let copy = std::fs::read_to_string(bench.path("out/tokenizer_config.json")).unwrap();
    assert!(copy.contains("<other>"), "{copy}");
}

#[test]
fn a_full_disk_stops_the_run_before_it_starts() {
    let bench = Bench::new();
    bench.refused(&["--min-free-disk", "1000000000"], 1, &["GiB free", "--min-free-disk"]);
}

#[test]
fn an_output_folder_that_cannot_be_written_is_a_usage_error() {
    let bench = Bench::new();
    bench.write("file", b"");
    let done = bench.run("file/below", &[]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("choose another --out"), "{}", done.stderr);
}
