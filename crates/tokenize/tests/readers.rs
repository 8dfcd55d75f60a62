//! The same documents in every layout and compression give the same rows; filters and splits do what they say.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, BinaryArray, DictionaryArray, NullArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use entromask_tokenize::{Config, Corpus, Documents, Format, Source};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression};
use parquet::file::properties::WriterProperties;

const DOCUMENTS: [&str; 4] = [
    "A first paragraph.\nIts \"second\" one – with ünïcode.",
    "Short.",
    "中文 and 🙂.",
    "The last document, on one line.",
];

fn write(path: &Path, bytes: &[u8]) -> PathBuf {
    std::fs::write(path, bytes).unwrap();
    path.into()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Two members, as `cat a.gz b.gz` makes.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let member = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    [member(first), member(second)].concat()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    [zstd::encode_all(first, 3).unwrap(), zstd::encode_all(second, 3).unwrap()].concat()
}

fn jsonl() -> Vec<u8> {
    let line = |text| serde_json::json!({"id": 1, "body": text, "tags": ["x"]}).to_string() + "\n";
    DOCUMENTS.map(line).concat().into_bytes()
}

fn parquet(column: ArrayRef, compression: Compression) -> Vec<u8> {
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["id"; column.len()]));
    let columns = [("id", ids, false), ("body", column, true)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn strings() -> ArrayRef {
    Arc::new(StringArray::from(DOCUMENTS.to_vec()))
}

fn binary() -> ArrayRef {
    Arc::new(BinaryArray::from_iter_values(DOCUMENTS))
}

fn categories() -> ArrayRef {
    Arc::new(DOCUMENTS.into_iter().collect::<DictionaryArray<Int32Type>>())
}

#[test]
fn every_layout_and_compression_gives_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let text = DOCUMENTS.join("\n\n").into_bytes();
    let table = parquet(strings(), Compression::UNCOMPRESSED);
    let brotli = Compression::BROTLI(BrotliLevel::default());
    let files = [
        ("a.txt", Format::Text, text.clone()),
        ("b.txt.gz", Format::Text, gzip(&text)),
        ("c.txt.zst", Format::Text, zstd(&text)),
        ("no-extension", Format::Text, gzip(&text)),
        ("a.jsonl", Format::Jsonl, jsonl()),
        ("b.jsonl.gz", Format::Jsonl, gzip(&jsonl())),
        ("c.jsonl.zst", Format::Jsonl, zstd(&jsonl())),
        ("a.parquet", Format::Parquet, table.clone()),
        ("b.parquet.gz", Format::Parquet, gzip(&table)),
        ("c.parquet.zst", Format::Parquet, zstd(&table)),
        ("snappy.parquet", Format::Parquet, parquet(strings(), Compression::SNAPPY)),
        ("brotli.parquet", Format::Parquet, parquet(strings(), brotli)),
        ("bytes.parquet", Format::Parquet, parquet(binary(), Compression::LZ4_RAW)),
        ("categories.parquet", Format::Parquet, parquet(categories(), Compression::UNCOMPRESSED)),
    ];
    let mut expected = None;
    for (name, format, bytes) in files {
        let file = write(&folder.path().join(name), &bytes);
        let config = Config {
            format: Some(format),
            field: "body".into(),
            column: "body".into(),
            ..support::config(&[file])
        };
        let out = folder.path().join("out").join(name);
        let report = support::tokenize(&config, &out).unwrap();
        assert_eq!(report.stats.docs, 4, "{name}");
        let rows = support::rows(&out, "part");
        assert_eq!(expected.get_or_insert_with(|| rows.clone()), &rows, "{name}");
    }
}

/// pyarrow makes a column of nulls of texts that are all missing, which a part of a corpus may have.
#[test]
fn a_column_of_nothing_has_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, column| write(&folder.path().join(name), &parquet(column, Compression::SNAPPY));
    let files = [of("a.parquet", Arc::new(NullArray::new(3))), of("b.parquet", strings())];
    let config = Config { format: Some(Format::Parquet), column: "body".into(), ..support::config(&files) };
    assert_eq!(support::tokenize(&config, &folder.path().join("out")).unwrap().stats.docs, 4);
}

#[test]
fn json_lines_are_text_only_if_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder.path().join("a.jsonl.gz"), &gzip(&jsonl()));
    let config = support::config(&[file]);
    let out = folder.path().join("out");
    let error = support::tokenize(&config, &out).unwrap_err();
    assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
    for words in ["a.jsonl.gz: its lines are JSON objects", r#"`format = "jsonl"`"#, r#"`field = "body"`"#] {
        assert!(error.to_string().contains(words), "{error}");
    }
    let text = Config { format: Some(Format::Text), ..config };
    assert_eq!(support::tokenize(&text, &out).unwrap().stats.docs, 1);
}

#[test]
fn odd_lines_of_json_are_documents_too() {
    let folder = tempfile::tempdir().unwrap();
    let lines =
        concat!(r#"{"text": "half \ud800 a pair"}"#, "\n", r#"{"text": null}"#, "\n", r#"{"text": "whole"}"#);
    let file = write(&folder.path().join("a.jsonl"), lines.as_bytes());
    let config = Config { format: Some(Format::Jsonl), ..support::config(&[file]) };
    let out = folder.path().join("out");
    let report = support::tokenize(&config, &out).unwrap();
    assert_eq!((report.stats.documents_read, report.stats.docs), (3, 2));
    assert!(report.stats.replaced_invalid_utf8 > 0);
    let text = &support::rows(&out, "part")[0].text;
    assert!(text[0].starts_with("half \u{fffd}") && text[0].ends_with(" a pair") && text[1] == "whole");
}

#[test]
fn the_bytes_of_a_file_count_while_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<_> = (0..1000).map(|n| format!("Document {n}. ").repeat(200)).collect();
    let table = parquet(Arc::new(StringArray::from(texts.clone())), Compression::UNCOMPRESSED);
    let text = texts.join("\n\n").into_bytes();
    let files = [
        ("a.txt", Format::Text, text),
        ("a.parquet", Format::Parquet, table.clone()),
        ("a.parquet.gz", Format::Parquet, gzip(&table)),
    ];
    for (name, format, bytes) in files {
        let file = write(&folder.path().join(name), &bytes);
        let config = Config { format: Some(format), column: "body".into(), ..support::config(&[file]) };
        let (corpus, source) = (Corpus::find(&config).unwrap(), Source::default());
        let share = || source.bytes.load(Ordering::Relaxed) as f64 / bytes.len() as f64;
        let mut shares = Vec::new();
        let mut note = |_| {
            shares.push(share());
            Ok(())
        };
        corpus.read(&source, &mut note).unwrap();
        assert!((0.4..0.6).contains(&shares[500]), "{name}: {}", shares[500]);
        assert!((share() - 1.0).abs() < f64::EPSILON, "{name}: {}", share());
    }
}

#[test]
fn documents_are_those_of_all_files_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let files =
        ["2.txt", "1.txt"].map(|name| write(&folder.path().join(name), format!("file {name}").as_bytes()));
    let texts = |files: &[PathBuf]| {
        let out = tempfile::tempdir().unwrap();
        support::tokenize(&support::config(files), out.path()).unwrap();
        support::rows(out.path(), "part")[0].text.clone()
    };
    assert_eq!(texts(&files), ["file 2.txt", "file 1.txt"]);
    assert_eq!(texts(&[folder.path().join("*.txt")]), ["file 1.txt", "file 2.txt"]);
}

#[test]
fn a_file_may_be_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["1.txt", "2.txt"].map(|name| write(&folder.path().join(name), b"one\n\ntwo\n\n\nthree\n"));
    let config = Config { tokenizer: support::tokenizer("wordpiece"), ..support::config(&files) };
    let docs = |config: &Config, out| support::tokenize(config, &folder.path().join(out)).unwrap().stats.docs;
    assert_eq!(docs(&config, "paragraphs"), 6);
    assert_eq!(docs(&Config { documents: Documents::File, ..config }, "files"), 2);
    assert_eq!(support::rows(&folder.path().join("files"), "part")[0].text[1], "one\n\ntwo\n\n\nthree");
}

#[test]
fn duplicates_are_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder.path().join("a.txt"), "the same\n\n".repeat(5).as_bytes());
    let config = support::config(&[file]);
    let all = support::tokenize(&config, &folder.path().join("all")).unwrap();
    let once =
        support::tokenize(&Config { deduplicate: true, ..config }, &folder.path().join("once")).unwrap();
    assert_eq!((all.stats.docs, all.stats.rows, all.stats.skipped.duplicate), (5, 5, 0));
    assert_eq!((once.stats.docs, once.stats.rows, once.stats.skipped.duplicate), (1, 1, 4));
}

#[test]
fn what_is_held_out_and_what_is_not_make_up_the_corpus() {
    let folder = tempfile::tempdir().unwrap();
    let text: Vec<String> = (0..200).map(|n| format!("document number {n}")).collect();
    let file = write(&folder.path().join("a.txt"), text.join("\n\n").as_bytes());
    let config = Config { valid_fraction: 0.2, shard_rows: Some(50), ..support::config(&[file]) };
    let out = folder.path().join("out");
    let report = support::tokenize(&config, &out).unwrap();
    let mut found = Vec::new();
    for prefix in ["part", "valid"] {
        let parts = support::rows(&out, prefix);
        let numbers: Vec<u64> = parts.iter().flat_map(|part| part.row.clone()).collect();
        assert_eq!(
            numbers,
            (0..numbers.len() as u64).collect::<Vec<_>>(),
            "rows are numbered within a split"
        );
        assert!(parts.iter().rev().skip(1).all(|part| part.rows() == 50));
        found.extend(parts.into_iter().flat_map(|part| part.doc.into_iter().zip(part.text)));
    }
    found.sort();
    assert_eq!(found, (0..200).zip(text).collect::<Vec<_>>());
    // 200 draws at 20 %: mean 40, standard deviation 5.7.
    assert!((15..70).contains(&report.stats.valid_docs), "{}", report.stats.valid_docs);
    assert_eq!(report.stats.docs + report.stats.valid_docs, 200);
}

#[test]
fn replaced_bytes_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder.path().join("a.txt"), b"good \xff bad \xfe\n\nfine");
    let report = support::tokenize(&support::config(&[file]), &folder.path().join("out")).unwrap();
    assert_eq!(report.stats.replaced_invalid_utf8, 2);
}

#[test]
fn documents_without_a_token_make_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder.path().join("a.txt"), "\u{200b}\n\nword".as_bytes());
    let config = Config { tokenizer: support::tokenizer("wordpiece"), ..support::config(&[file]) };
    let report = support::tokenize(&config, &folder.path().join("out")).unwrap();
    assert_eq!((report.stats.docs, report.stats.rows, report.stats.skipped.empty), (1, 1, 1));
}

#[test]
fn the_tokenizer_is_kept_with_its_special_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder.path().join("a.txt"), b"word");
    for family in support::FAMILIES {
        let config =
            Config { tokenizer: support::tokenizer(family), ..support::config(std::slice::from_ref(&file)) };
        let out = folder.path().join(family);
        let report = support::tokenize(&config, &out).unwrap();
        let again = entromask_tokenize::TextEncoder::load(&out).unwrap();
        assert_eq!(again.special(), &report.stats.special, "{family}");
        assert_eq!(again.vocab_size(), report.stats.vocab_size);
        // The copy is used like the original.
        let copied =
            support::tokenize(&Config { tokenizer: out.clone(), ..config }, &folder.path().join("again"));
        assert_eq!(copied.unwrap().stats, report.stats);
        assert_eq!(support::rows(&out, "part"), support::rows(&folder.path().join("again"), "part"));
    }
}

#[test]
fn a_file_that_breaks_off_is_an_input_error() {
    let folder = tempfile::tempdir().unwrap();
    let text = DOCUMENTS.join("\n\n").repeat(50).into_bytes();
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2 + 3].to_vec();
    let files = [
        ("a.txt.gz", Format::Text, half(gzip(&text))),
        ("a.txt.zst", Format::Text, half(zstd(&text))),
        ("a.parquet", Format::Parquet, half(parquet(strings(), Compression::SNAPPY))),
    ];
    for (name, format, bytes) in files {
        let file = write(&folder.path().join(name), &bytes);
        let out = folder.path().join("out").join(name);
        let error = support::tokenize(&Config { format: Some(format), ..support::config(&[file]) }, &out)
            .unwrap_err();
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3, "{error:#}");
        assert!(format!("{error:#}").contains(name) && format!("{error:#}").contains("damaged"), "{error:#}");
        assert_eq!(support::files(&out), [".lock"], "nothing is left behind");
    }
    assert!(File::open(folder.path().join("a.parquet")).is_ok(), "inputs are left alone");
}
