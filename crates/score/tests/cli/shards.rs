//! One job divided among processes.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use entromask_tables::Entropies;

use crate::world::World;

const PARTS: [usize; 7] = [4, 3, 5, 2, 4, 3, 1];

/// The binary as a process of its own.
fn process(world: &World, out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entromask-score"));
    command.current_dir(world.dir.path()).arg("-q").args(more).stdout(Stdio::null());
    command.arg("--tokens").arg(world.path("tokens")).arg("--model").arg(world.path("model"));
    command.arg("--out").arg(world.path(out));
    command
}

fn parts(world: &World, out: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.path(out)).into_iter().flatten().flatten();
    let mut parts: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .collect();
    parts.sort();
    parts
}

#[test]
fn processes_side_by_side_make_what_one_makes() {
    let world = World::of_parts(&PARTS);
    world.score("one", &["--set", r#"measures=["margin"]"#]).assert().success();
    let shards = ["1/3", "2/3", "3/3"].map(|shard| {
        let more = ["--set", r#"measures=["margin"]"#, "--shard", shard];
        process(&world, "many", &more).spawn().expect("starts")
    });
    for shard in shards {
        assert!(shard.wait_with_output().expect("ends").status.success());
    }
    assert!(!world.path("many").join("manifest.json").exists(), "shards write no manifest");
    world.score("many", &["--set", r#"measures=["margin"]"#, "--finalize"]).assert().success();
    let (one, many) = (world.manifest("one"), world.manifest("many"));
    assert_eq!((&one.key, &one.content, &one.stats), (&many.key, &many.content, &many.stats));
    assert_eq!((one.cost.tokens, one.cost.flops.to_bits()), (many.cost.tokens, many.cost.flops.to_bits()));
    assert_eq!(many.cost.device, "cpu");
    assert!(many.cost.seconds > 0.0 && many.cost.peak_memory_bytes > 0);
    many.verify(&world.path("many")).expect("verifies");
    let again = world.score("many", &["--set", r#"measures=["margin"]"#]).assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stdout).contains("up to date"));
}

#[test]
fn a_shard_makes_its_parts_only_and_again_with_the_same_bytes() {
    let world = World::of_parts(&PARTS);
    world.score("out", &["--shard", "2/3"]).assert().success();
    let made = parts(&world, "out");
    let numbers: Vec<_> = made
        .iter()
        .map(|path| path.to_string_lossy()[path.to_string_lossy().len() - 9..][..1].to_owned())
        .collect();
    assert_eq!(numbers, ["1", "4"]);
    let bytes: Vec<_> = made.iter().map(|path| fs_err::read(path).expect("reads")).collect();
    fs_err::remove_file(&made[1]).expect("removes");
    let done = world.score("out", &["--shard", "2/3"]).assert().success();
    assert!(String::from_utf8_lossy(&done.get_output().stdout).contains("1 of 2 parts scored now"));
    let again: Vec<_> = made.iter().map(|path| fs_err::read(path).expect("reads")).collect();
    assert_eq!(bytes, again);
}

#[test]
fn missing_parts_are_named() {
    let world = World::of_parts(&PARTS);
    for shard in ["1/3", "3/3"] {
        world.score("out", &["--shard", shard]).assert().success();
    }
    fs_err::write(&parts(&world, "out")[0], b"damaged").expect("writes");
    let done = world.score("out", &["--finalize"]).assert().code(3);
    let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(stderr.contains("3 of 7 parts are missing"), "{stderr}");
    for number in ["00000", "00001", "00004"] {
        assert!(stderr.contains(&format!("-{number}.parquet")), "{stderr}");
    }
    assert!(!stderr.contains("00002.parquet"), "{stderr}");
    assert!(!world.path("out").join("manifest.json").exists());
    // The damaged part is made again, and a run over everything takes the shards' parts over.
    world.score("one", &[]).assert().success();
    world.score("out", &[]).assert().success();
    assert_eq!(world.manifest("one").content, world.manifest("out").content);
}

/// It can be read and has its key, but it is not what the shard wrote.
#[test]
fn a_part_that_was_changed_is_refused_and_made_again() {
    let world = World::of_parts(&PARTS);
    world.score("one", &[]).assert().success();
    for shard in ["1/2", "2/2"] {
        world.score("out", &["--shard", shard]).assert().success();
    }
    let changed = &parts(&world, "out")[3];
    let mut scores = Entropies::read(changed).expect("reads");
    scores.entropy.values.iter_mut().flatten().for_each(|nats| *nats += 0.5);
    scores.write(changed, &[("entromask.key".into(), world.manifest("one").key)]).expect("writes");
    let done = world.score("out", &["--finalize"]).assert().code(3);
    let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(stderr.contains("1 of 7 parts are missing or damaged") && stderr.contains("-00003"), "{stderr}");
    let done = world.score("out", &["--shard", "2/2"]).assert().success();
    assert!(String::from_utf8_lossy(&done.get_output().stdout).contains("1 of 3 parts scored now"));
    world.score("out", &["--finalize"]).assert().success();
    assert_eq!(world.manifest("out").content, world.manifest("one").content);
}

/// What a part took is noted when it is made, and nobody reads its text again to find out.
#[test]
fn finished_parts_are_not_counted_anew() {
    let world = World::of_parts(&PARTS);
    world.score("one", &[]).assert().success();
    let tokens = world.manifest("one").cost.tokens;
    for (out, last) in [("run", &[][..]), ("finalize", &["--finalize"])] {
        world.score(out, &["--shard", "1/1"]).assert().success();
        let entries = fs_err::read_dir(world.path(out)).expect("a folder").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let note = names.filter(|name| name.starts_with(".digest-")).min().expect("a note");
        world.edit_json(&format!("{out}/{note}"), |note| {
            let more = note["facts"]["tokens"].as_u64().expect("a number") + 1_000;
            note["facts"]["tokens"] = more.into();
        });
        world.score(out, last).assert().success();
        assert_eq!(world.manifest(out).cost.tokens, tokens + 1_000, "{out}");
        assert_eq!(world.manifest(out).content, world.manifest("one").content);
        assert_eq!(world.manifest(out).stats, world.manifest("one").stats);
    }
}

#[test]
fn a_killed_shard_goes_on() {
    let world = World::of_parts(&[60; 6]);
    let slow = ["--set", "conditioning=mask-each", "--threads", "1"];
    world.score("one", &slow).assert().success();
    let mut child =
        process(&world, "many", &[&slow[..], &["--shard", "1/2"]].concat()).spawn().expect("starts");
    while parts(&world, "many").is_empty() && child.try_wait().expect("is asked").is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("is killed");
    child.wait().expect("ends");
    let mut shards = ["1/2", "2/2"].map(|shard| {
        process(&world, "many", &[&slow[..], &["--shard", shard]].concat()).spawn().expect("starts")
    });
    for shard in &mut shards {
        assert!(shard.wait().expect("ends").success());
    }
    world.score("many", &[&slow[..], &["--finalize"]].concat()).assert().success();
    assert_eq!(world.manifest("one").content, world.manifest("many").content);
}

#[test]
fn bad_shards_are_usage_errors() {
    let world = World::new();
    for more in [["--shard", "0/2"], ["--shard", "3/2"], ["--shard", "two"]] {
        let done = world.score("out", &more).assert().code(2);
        assert!(String::from_utf8_lossy(&done.get_output().stderr).contains(more[1]));
    }
    world.score("out", &["--shard", "1/2", "--finalize"]).assert().code(2);
    let done = world.score("out", &["--finalize"]).assert().code(3);
    assert!(String::from_utf8_lossy(&done.get_output().stderr).contains("2 of 2 parts are missing"));
}

#[test]
fn a_shard_beyond_the_parts_has_nothing_to_do() {
    let world = World::new();
    let done = world.score("out", &["--shard", "5/5"]).assert().success();
    assert!(String::from_utf8_lossy(&done.get_output().stdout).contains("0 of 0 parts"));
}
