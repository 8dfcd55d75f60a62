//! The stage end to end on a handmade corpus.

use std::path::Path;

use crate::world::{PARTS, VOCAB, World};
use entromask_artifact::{Kind, Manifest};
use entromask_encoder::{Batch, MaskedLm};
use entromask_kernels::head_entropy_reference;
use entromask_score::{Config, passes};
use entromask_tables::{Entropies, TokenColumns, Tokens};

#[test]
fn exactly_the_maskable_tokens_are_scored() {
    let world = World::new();
    world.score("out", &[]).assert().success();
    let (tokens, scores) = (tokens(&world), world.scores("out"));
    assert_eq!(scores.iter().map(Entropies::rows).collect::<Vec<_>>(), PARTS);
    for (tokens, scores) in tokens.iter().zip(&scores) {
        assert_eq!(tokens.row, scores.row);
        for (word, (entropy, surprisal)) in
            tokens.word.iter().zip(scores.entropy.iter().zip(scores.surprisal.iter()))
        {
            let maskable: Vec<bool> = word.iter().map(Option::is_some).collect();
            assert_eq!(entropy.iter().map(Option::is_some).collect::<Vec<_>>(), maskable);
            assert_eq!(surprisal.iter().map(Option::is_some).collect::<Vec<_>>(), maskable);
            assert!(entropy.iter().flatten().all(|&value| (0.0..=(VOCAB as f32).ln()).contains(&value)));
        }
    }
}

#[test]
fn the_manifest_sums_up_the_scores() {
    let world = World::new();
    world.score("out", &[]).assert().success();
    let manifest = world.manifest("out");
    let values: Vec<f32> =
        world.scores("out").iter().flat_map(|part| part.entropy.values.clone()).flatten().collect();
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
    assert_eq!(manifest.stats["scored"], values.len());
    assert!((manifest.stats["mean_entropy"].as_f64().expect("a number") - mean).abs() < 1e-9);
    assert!(manifest.cost.flops > 0.0 && manifest.cost.seconds > 0.0);
    assert_eq!((manifest.cost.device.as_str(), manifest.kind), ("cpu", Kind::Entropy));
    // Seven passes over rows of at least seven words, fewer over shorter ones.
    let passes = |word: &[Option<u16>]| word.iter().flatten().count().min(7) * word.len();
    let expected: usize =
        tokens(&world).iter().flat_map(|part| part.word.iter().map(passes).collect::<Vec<_>>()).sum();
    assert_eq!(manifest.cost.tokens, expected as u64);
}

#[test]
fn masking_each_token_is_the_plain_definition() {
    let world = World::new();
    world.score("out", &["--set", "conditioning=mask-each"]).assert().success();
    let device = entromask_device::open("cpu", "f32").expect("opens");
    let (model, _) = MaskedLm::from_pretrained(&world.path("model"), &device).expect("loads");
    let (part, scores) = (&tokens(&world)[0], &world.scores("out")[0]);
    let (row, position) = (2, 5);
    let mut ids = part.input_ids.row(row).to_vec();
    let target = ids[position];
    ids[position] = 4;
    let hidden = model.hidden(&Batch::from_rows(&[ids], 0, &device));
    let state = hidden.slice([0..1, position..position + 1]).reshape([1, 16]);
    let (weight, bias) = model.decoder();
    let target = burn::tensor::Tensor::from_ints([target as i32], &device);
    let (entropy, surprisal) = head_entropy_reference(model.transform(state), weight, bias, target);
    close(scores.entropy.row(row)[position], Some(entropy.into_scalar()));
    close(scores.surprisal.row(row)[position], Some(surprisal.into_scalar()));
}

#[test]
fn as_many_folds_as_positions_is_masking_each() {
    let world = World::new();
    world.score("folds", &["--set", "folds=16"]).assert().success();
    world.score("each", &["--set", "conditioning=mask-each"]).assert().success();
    for (folds, each) in world.scores("folds").iter().zip(&world.scores("each")) {
        folds.entropy.values.iter().zip(&each.entropy.values).for_each(|(&a, &b)| close(a, b));
        folds.surprisal.values.iter().zip(&each.surprisal.values).for_each(|(&a, &b)| close(a, b));
    }
}

#[test]
fn conditionings_differ() {
    let world = World::new();
    let mean = |out: &str, more: &[&str]| {
        world.score(out, more).assert().success();
        world.manifest(out).stats["mean_entropy"].as_f64().expect("a number")
    };
    let means = [
        mean("kfold", &[]),
        mean("each", &["--set", "conditioning=mask-each"]),
        mean("unmasked", &["--set", "conditioning=unmasked"]),
        mean("words", &["--set", "whole_word=true"]),
    ];
    for (index, mean) in means.iter().enumerate() {
        assert!(means[..index].iter().all(|other| (mean - other).abs() > 1e-6), "{means:?}");
    }
}

#[test]
fn neither_threads_nor_batches_change_a_byte() {
    let world = World::new();
    world.score("usual", &[]).assert().success();
    let one_row = ["--threads", "1", "--set", "run.batch_tokens=1"];
    let other = ["--threads", "3", "--set", "run.batch_tokens=50"];
    for (out, more) in [("one", one_row), ("other", other)] {
        world.score(out, &more).assert().success();
        let (usual, found) = (world.manifest("usual"), world.manifest(out));
        assert_eq!(usual.key, found.key);
        assert_eq!(usual.content, found.content, "{out}");
    }
}

#[test]
fn a_deleted_part_is_made_again_with_the_same_bytes() {
    let world = World::new();
    world.score("out", &[]).assert().success();
    let before = world.manifest("out");
    let files: Vec<String> = before.outputs.iter().map(|output| output.file.clone()).collect();
    let kept = modified(&world, &files[0]);
    fs_err::remove_file(world.path("out").join(&files[1])).expect("removes");
    fs_err::remove_file(world.path("out").join("manifest.json")).expect("removes");
    world.score("out", &[]).assert().success();
    assert_eq!(world.manifest("out").content, before.content);
    assert_eq!(world.manifest("out").stats, before.stats);
    assert_eq!(modified(&world, &files[0]), kept, "the part that was there is kept");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_work_within_a_part_and_the_next_run_resumes() {
    use std::process::{Command, Stdio};

    // The last part is long: the signal comes while it is scored.
    let world = World::with_parts(&[9, 5, 8_000]);
    world.score("whole", &[]).assert().success();
    let whole = world.manifest("whole");
    for signal in ["INT", "TERM"] {
        let path = |name: &str| world.path(signal).join(name);
        let mut arguments = world.score(signal, &[]);
        let mut child = Command::new(arguments.get_program())
            .args(arguments.get_args())
            .current_dir(world.path(""))
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        while !path(&whole.outputs[1].file).exists() {
            assert!(child.try_wait().expect("a child").is_none(), "ended before its second part");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().expect("kill");
        assert_eq!(child.wait().expect("a child").code(), Some(130), "{signal}");
        let entries = fs_err::read_dir(world.path(signal)).expect("a folder").flatten();
        let mut left: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        left.retain(|name| ![".elapsed-", ".digest-", ".draft-"].iter().any(|start| name.starts_with(start)));
        left.sort();
        assert_eq!(left, [".lock", &whole.outputs[0].file, &whole.outputs[1].file], "{signal}");
        arguments.assert().success();
        assert_eq!(world.manifest(signal).content, whole.content, "{signal}");
        assert_eq!(world.manifest(signal).stats, whole.stats);
    }
}

#[cfg(unix)]
#[test]
fn what_was_scored_of_a_part_is_kept_at_a_signal() {
    use std::process::Command;

    // Nine chunks.
    let world = World::with_parts(&[12_000]);
    let options = ["--set", "conditioning=mask-each", "--threads", "1", "-q"];
    let begun = std::time::Instant::now();
    world.score("whole", &options).assert().success();
    let whole = world.manifest("whole");
    let draft = world.path("some").join(format!(".draft-{}", whole.outputs[0].file));
    // How far it comes in a time depends on what else the machine does.
    let mut patience = begun.elapsed() / 2;
    for _ in 0..12 {
        let arguments = world.score("some", &options);
        let mut child = Command::new(arguments.get_program())
            .args(arguments.get_args())
            .current_dir(world.path(""))
            .spawn()
            .expect("starts");
        std::thread::sleep(patience);
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
        if child.wait().expect("a child").success() {
            fs_err::remove_dir_all(world.path("some")).expect("removes");
            patience = patience * 2 / 3;
        } else if draft.exists() {
            break;
        } else {
            patience = patience * 3 / 2;
        }
    }
    let kept = Entropies::read(&draft).expect("is kept");
    let scored = |scores: &Entropies| scores.entropy.values.iter().flatten().count();
    assert!(scored(&kept) > 0 && scored(&kept) < scored(&world.scores("whole")[0]));
    world.score("some", &options).assert().success();
    assert_eq!(world.manifest("some").content, whole.content);
    assert!(!draft.exists());
}

#[test]
fn a_second_run_and_a_dry_run_find_nothing_to_do() {
    let world = World::new();
    let planned = world.score("out", &["--dry-run"]).assert().success();
    assert!(String::from_utf8_lossy(&planned.get_output().stdout).contains("will run"));
    assert!(!world.path("out").exists(), "a dry run writes nothing");
    world.score("out", &[]).assert().success();
    for more in [vec![], vec!["--dry-run"], vec!["--set", "run.batch_tokens=7"], vec!["--threads", "1"]] {
        let done = world.score("out", &more).assert().success();
        assert!(String::from_utf8_lossy(&done.get_output().stdout).contains("up to date"), "{more:?}");
    }
    let changed = world.score("out", &["--dry-run", "--set", "seed=2"]).assert().success();
    assert!(String::from_utf8_lossy(&changed.get_output().stdout).contains("seed: 1 -> 2"));
}

/// What was released must not be scored anew.
#[test]
fn the_default_has_the_key_of_format_1() {
    let (world, golden) =
        (World::new(), Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/format-1"));
    let mut command = world.command();
    command.arg("--tokens").arg(golden.join("tokens")).arg("--model").arg(golden.join("model"));
    command.arg("--out").arg(world.path("out")).assert().success();
    let released = Manifest::load(&golden.join("entropy"), Kind::Entropy).expect("a manifest");
    assert_eq!(world.manifest("out").key, released.key);
    let names =
        |manifest: &Manifest| manifest.outputs.iter().map(|output| output.file.clone()).collect::<Vec<_>>();
    assert_eq!(names(&world.manifest("out")), names(&released));
    assert_eq!(
        Entropies::measures_of(&world.path("out").join(&released.outputs[0].file)).expect("reads"),
        [""; 0]
    );
}

#[test]
fn a_sample_leaves_the_other_rows_unscored() {
    let world = World::new();
    world.score("out", &["--set", "rows=3"]).assert().success();
    let part = &world.scores("out")[0];
    let scored: Vec<bool> = part.entropy.iter().map(|row| row.iter().any(Option::is_some)).collect();
    assert_eq!(scored, [true, true, true, false, false, false, false, false, false]);
    assert_eq!(part.entropy.offsets, tokens(&world)[0].input_ids.offsets);
    assert_eq!(world.manifest("out").stats["scored_rows"], 3);
}

#[test]
fn a_fraction_has_the_values_of_the_whole() {
    let world = World::with_parts(&[60]);
    world.score("whole", &[]).assert().success();
    world.score("some", &["--fraction", "0.4"]).assert().success();
    let (whole, some) = (&world.scores("whole")[0].entropy, &world.scores("some")[0].entropy);
    let scored: Vec<usize> = (0..60).filter(|&row| some.row(row).iter().any(Option::is_some)).collect();
    assert!((12..36).contains(&scored.len()), "{scored:?}");
    for &row in &scored {
        whole.row(row).iter().zip(some.row(row)).for_each(|(&whole, &some)| close(some, whole));
    }
    assert_eq!(world.manifest("some").stats["scored_rows"], scored.len());
    let long = world.score("some", &["--set", "fraction=0.4"]).assert().success();
    assert!(String::from_utf8_lossy(&long.get_output().stdout).contains("up to date"));
    world.score("rows", &["--rows", "3"]).assert().success();
    assert_eq!(world.manifest("rows").config["rows"], 3);
}

#[test]
fn a_sample_of_no_tokens_is_refused() {
    let world = World::new();
    let done = world.score("out", &["--fraction", "1e-9"]).assert().code(2);
    let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(stderr.contains("no token to score in the sample; take a larger"), "{stderr}");
    let left: Vec<_> = fs_err::read_dir(world.path("out")).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "the lock: {left:?}");
    world.score("out", &["--rows", "0"]).assert().code(2);
}

#[test]
fn words_are_masked_as_wholes() {
    let world = World::new();
    world.score("out", &["--set", "whole_word=true", "--set", "folds=3"]).assert().success();
    let device = entromask_device::open("cpu", "f32").expect("opens");
    let (model, _) = MaskedLm::from_pretrained(&world.path("model"), &device).expect("loads");
    let (part, scores) = (&tokens(&world)[0], &world.scores("out")[0]);
    let (row, config) = (2, Config { whole_word: true, folds: Some(3), ..Config::default() });
    let passes = passes(&config, part.row[row], part.word.row(row), None);
    let fold_of = |position: u16| passes.iter().position(|pass| pass.contains(&position));
    assert_eq!((passes.len(), fold_of(2)), (3, fold_of(3)), "positions 2 and 3 are one word");
    for positions in passes {
        let mut ids = part.input_ids.row(row).to_vec();
        for &position in &positions {
            ids[usize::from(position)] = 4;
        }
        let hidden = model.hidden(&Batch::from_rows(&[ids], 0, &device));
        for position in positions.into_iter().map(usize::from) {
            let state = hidden.clone().slice([0..1, position..position + 1]).reshape([1, 16]);
            let (weight, bias) = model.decoder();
            let target = burn::tensor::Tensor::from_ints([part.input_ids.row(row)[position] as i32], &device);
            let (entropy, surprisal) = head_entropy_reference(model.transform(state), weight, bias, target);
            close(scores.entropy.row(row)[position], Some(entropy.into_scalar()));
            close(scores.surprisal.row(row)[position], Some(surprisal.into_scalar()));
        }
    }
}

#[test]
fn logits_are_written_for_comparison() {
    let world = World::new();
    let out = world.path("logits.safetensors");
    let mut command = world.command();
    command.arg("logits").arg("--tokens").arg(world.path("tokens")).arg("--model").arg(world.path("model"));
    let done = command.args(["--rows", "3", "--json"]).arg("--out").arg(&out).assert().success();
    let said: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).expect("JSON");
    assert_eq!((&said["tensor"], &said["shape"][2]), (&"logits".into(), &VOCAB.into()));
    let bytes = fs_err::read(out).expect("reads");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    assert_eq!(file.tensor("logits").expect("there").shape(), [3, 16, VOCAB]);
    assert_eq!(file.tensor("input_ids").expect("there").shape(), [3, 16]);
}

fn tokens(world: &World) -> Vec<Tokens> {
    let dir = world.path("tokens");
    let manifest = entromask_artifact::Manifest::load(&dir, Kind::Tokens).expect("a manifest");
    manifest
        .parts("part")
        .map(|part| Tokens::read(&dir.join(&part.file), TokenColumns::ALL).expect("reads"))
        .collect()
}

fn modified(world: &World, file: &str) -> std::time::SystemTime {
    fs_err::metadata(world.path("out").join(file)).and_then(|metadata| metadata.modified()).expect("a time")
}

fn close(found: Option<f32>, expected: Option<f32>) {
    match (found, expected) {
        (Some(found), Some(expected)) => {
            assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
        }
        (found, expected) => assert_eq!(found, expected),
    }
}
