//! `entromask-report gc` on the command line.

mod fixture;

use assert_cmd::Command;
use entromask_artifact::Manifest;
use fixture::Fixture;

/// What it says of all artifacts of the fixture.
fn gc(fixture: &Fixture, flags: &[&str]) -> String {
    let mut command = Command::cargo_bin("entromask-report").expect("built with the tests");
    command.env_remove("RUST_LOG").arg("gc").arg(fixture.dir("")).args(flags);
    String::from_utf8(command.assert().success().get_output().stdout.clone()).expect("UTF-8")
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

#[test]
fn garbage_is_listed_and_removed_only_when_told_to() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let stale = fixture.dir("masks-1").join("epoch-000-00000000-00000.parquet");
    let key = Manifest::load_any(&fixture.dir("model-1"))?.short_key().to_owned();
    let checkpoint = fixture.dir("model-1").join(format!("state/{key}/step-10/model.safetensors"));
    std::fs::create_dir_all(checkpoint.parent().expect("a folder"))?;
    for file in [&stale, &checkpoint] {
        std::fs::write(file, [0; 1000])?;
    }
    let gc = |flags: &[&str]| gc(&fixture, flags);
    let listed = gc(&[]);
    assert_has(&listed, &["epoch-000-00000000", "step-10", "7 artifacts, 2 files", "--delete removes them"]);
    assert!(stale.exists() && checkpoint.exists());
    assert_has(&gc(&["--delete"]), &["2.0 KiB: removed"]);
    assert!(!stale.exists() && !fixture.dir("model-1").join("state").exists());
    assert_has(&gc(&[]), &["7 artifacts, 0 files"]);
    Manifest::load_any(&fixture.dir("masks-1"))?.verify(&fixture.dir("masks-1"))?;
    let mut nowhere = Command::cargo_bin("entromask-report")?;
    nowhere.arg("gc").arg(fixture.dir("nowhere")).assert().code(3);
    Ok(())
}

#[test]
fn files_that_no_stage_made_are_never_garbage() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let masks = fixture.dir("masks-1");
    let mut files = std::fs::read_dir(&masks)?.flatten().map(|entry| entry.path());
    let table = files.find(|path| path.extension().is_some_and(|ending| ending == "parquet"));
    std::fs::create_dir(masks.join("my text"))?;
    let theirs = ["c.jsonl", "c.parquet", "notes.md", "my text/a b.txt"];
    for file in theirs {
        std::fs::write(masks.join(file), "precious")?;
    }
    // A table of others under the name of a part, as a date makes it.
    let of_a_day = masks.join("part-20240101-00000.parquet");
    std::fs::copy(table.expect("a part"), &of_a_day)?;
    let outside = fixture.dir("outside");
    std::fs::create_dir(&outside)?;
    std::fs::write(outside.join(".tmp-mine"), "precious")?;
    std::os::unix::fs::symlink(&outside, masks.join("link"))?;
    let listed = gc(&fixture, &["--delete"]);
    assert_has(&listed, &["no stage made them: 6 files", "7 artifacts, 0 files"]);
    let kept = theirs.iter().all(|file| masks.join(file).exists());
    assert!(kept && of_a_day.exists() && outside.join(".tmp-mine").exists());
    Ok(())
}

#[test]
fn checkpoints_of_an_interrupted_run_are_kept_beside_the_model_of_an_earlier_one() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let model = fixture.dir("model-1");
    let run = [
        "state/1a2b3c4d/step-00000010/model.safetensors",
        "state/1a2b3c4d/metrics.jsonl",
        ".elapsed-1a2b3c4d",
    ];
    let without_checkpoint = "state/00000000/metrics.jsonl";
    for file in run.into_iter().chain([without_checkpoint]) {
        std::fs::create_dir_all(model.join(file).parent().expect("a folder"))?;
        std::fs::write(model.join(file), [0; 1000])?;
    }
    let gc = |flags: &[&str]| gc(&fixture, flags);
    let kept = || run.iter().filter(|file| model.join(file).exists()).count();
    let listed = gc(&["--delete"]);
    assert_has(
        &listed,
        &["unfinished, kept to resume from", "model-1/state/1a2b3c4d", "1 file that", "removed"],
    );
    assert_eq!((kept(), model.join(without_checkpoint).exists()), (3, false));
    assert_has(&gc(&["--unfinished"]), &["3 files that no manifest lists", "--delete removes them"]);
    assert_eq!(kept(), 3);
    assert_has(&gc(&["--unfinished", "--delete"]), &["3 files", "removed"]);
    assert_eq!((kept(), model.join("state").exists()), (0, false));
    Ok(())
}

#[test]
fn finished_parts_of_an_interrupted_run_are_kept_beside_an_earlier_artifact() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let masks = fixture.dir("masks-1");
    let run =
        ["epoch-000-1a2b3c4d-00000.parquet", ".digest-1a2b3c4d-epoch-000-00000.json", ".elapsed-1a2b3c4d"];
    let results = ["RTE-seed1-5e6f7a8b.json", "RTE-seed1-5e6f7a8b/model.safetensors"];
    std::fs::create_dir(masks.join("RTE-seed1-5e6f7a8b"))?;
    for file in run.iter().chain(&results) {
        std::fs::write(masks.join(file), [0; 1000])?;
    }
    let kept = || run.iter().chain(&results).filter(|file| masks.join(file).exists()).count();
    let listed = gc(&fixture, &["--delete"]);
    assert_has(&listed, &["unfinished, kept to resume from", "masks-1", "0 files"]);
    assert_eq!(kept(), 5);
    assert_has(&gc(&fixture, &["--unfinished", "--delete"]), &["5 files", "removed"]);
    assert_eq!(kept(), 0);
    // A run that has finished nothing goes on from nothing.
    std::fs::write(masks.join(run[2]), "{}")?;
    assert_has(&gc(&fixture, &["--delete"]), &["1 file ", "removed"]);
    Ok(())
}

#[test]
fn what_a_stage_is_working_on_is_left_alone() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let stale = fixture.dir("tokens").join("part-00000000-00000.parquet");
    std::fs::write(&stale, [0; 10])?;
    let lock = std::fs::File::open(fixture.dir("tokens").join(".lock"))?;
    lock.lock()?;
    assert_has(&gc(&fixture, &["--delete"]), &["in use", "tokens"]);
    assert!(stale.exists());
    lock.unlock()?;
    std::fs::create_dir(fixture.dir("begun"))?;
    std::fs::write(fixture.dir("begun").join(".lock"), "")?;
    assert_has(&gc(&fixture, &["--delete"]), &["unfinished", "begun"]);
    assert!(!stale.exists());
    Ok(())
}
