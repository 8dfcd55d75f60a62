//! Runs that are stopped, and go on.

use std::fs::TryLockError;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::common::{World, arguments, json, names};

/// The stage at work in `out`, by itself.
fn start(world: &World, set: &[&str], flags: &[&str]) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("entromask-glue"))
        .current_dir(world.path(""))
        .args(arguments("out", set))
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// Asks the stage to end after some time, and says what it has said if it was not done by then.
fn stopped_after(child: Child, time: Duration) -> Option<String> {
    sleep(time);
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill is there");
    let output = child.wait_with_output().expect("a child");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || is_stopped(output.status), "{said}");
    is_stopped(output.status).then_some(said)
}

/// By itself, or by the signal where it came before anybody listened.
fn is_stopped(status: ExitStatus) -> bool {
    status.code() == Some(130) || matches!(status.signal(), Some(2 | 15))
}

/// What is dropped and which epoch is the best one included.
#[test]
fn a_run_goes_on_where_it_was_stopped_and_gives_the_same_bytes() {
    // Many rows to score are where most attempts are stopped.
    let sets: [(usize, &[&str]); 4] = [
        (20, &["recipe.epochs=150", "recipe.dropout=0.3"]),
        (20, &["recipe.epochs=150", "recipe.patience=150", "recipe.lr=1e-4", "save=true"]),
        (20, &["recipe.epochs=150", "recipe.freeze='gradual'", "recipe.head='mean'"]),
        (20_000, &["recipe.epochs=4", "recipe.patience=2", "recipe.lr=1e-4"]),
    ];
    for (rows, set) in sets {
        let world = World::new();
        world.write_separable("dev.tsv", rows);
        world.stage("straight", set).assert().success();
        let mut said = Vec::new();
        for attempt in 1.. {
            let after = Duration::from_millis(60 * attempt);
            let Some(words) = stopped_after(start(&world, set, &["--threads", "1"]), after) else { break };
            said.push(words);
        }
        let count = |words: &str| said.iter().filter(|said| said.contains(words)).count();
        assert!(count("the one that was at work goes on where it was") > 0, "{set:?}: {said:?}");
        assert!(count("SST-2, seed 1: going on at step") > 0, "{set:?}: {said:?}");
        let mut later = said.iter().skip_while(|said| !said.contains("goes on where it was"));
        assert!(later.all(|said| !said.contains("begins anew")), "{set:?}: {said:?}");
        for name in names(&world.path("straight")).iter().filter(|name| name.contains("-seed")) {
            let weights = format!("{name}/model.safetensors");
            let file = if world.path("straight").join(&weights).exists() { &weights } else { name };
            let [one, other] = ["out", "straight"].map(|folder| world.bytes(&format!("{folder}/{file}")));
            assert!(one == other, "{set:?}: {file}");
        }
        assert!(!world.path("out/state").exists(), "what is done needs no checkpoints");
    }
}

#[test]
fn workers_are_asked_once_and_keep_what_they_have() {
    let world = World::new();
    let set = ["recipe.epochs=1000000", "seeds=2"];
    let mut parent = start(&world, &set, &["--jobs", "2", "--threads", "2"]);
    let checkpoints = || -> usize {
        let runs = if world.path("out/state").exists() { names(&world.path("out/state")) } else { vec![] };
        runs.iter()
            .filter(|run| {
                names(&world.path("out/state").join(run)).iter().any(|name| name.starts_with("step-"))
            })
            .count()
    };
    // Until both train, which may take a while on a busy machine, there is nothing to keep.
    let stopped = (1..=20).find_map(|attempt| {
        sleep(Duration::from_millis(500) * attempt);
        Command::new("kill").args(["-INT", &parent.id().to_string()]).status().expect("kill is there");
        assert!(is_stopped(parent.wait().expect("a child")));
        let found = checkpoints();
        if found < 2 {
            parent = start(&world, &set, &["--jobs", "2", "--threads", "2"]);
        }
        (found == 2).then_some(())
    });
    assert!(stopped.is_some(), "{}", checkpoints());
}

#[test]
fn an_interrupted_stage_keeps_finished_runs_and_goes_on() {
    let world = World::new();
    let set = ["seeds=4", "recipe.epochs=20"];
    let done = || if world.path("out").exists() { names(&world.path("out")) } else { vec![] };
    let results = || done().into_iter().filter(|name| name.contains("-seed")).collect::<Vec<_>>();
    let mut child = start(&world, &set, &[]);
    while results().is_empty() && child.try_wait().expect("a child").is_none() {
        sleep(Duration::from_millis(5));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert_eq!(child.wait().expect("a child").code(), Some(130));
    let kept = results();
    assert!((1..4).contains(&kept.len()) && !done().contains(&"results.json".to_string()), "{:?}", done());
    for file in &kept {
        json(&world.read(&format!("out/{file}")));
    }
    world.stage("out", &set).assert().success();
    assert_eq!(results().len(), 4);
}

/// Otherwise they go on unseen, and the next start finds their shards taken.
#[cfg(target_os = "linux")]
#[test]
fn workers_end_with_a_parent_that_is_killed() {
    let world = World::new();
    let set = ["recipe.epochs=1000000", "seeds=2"];
    let mut parent = start(&world, &set, &["--jobs", "2", "--threads", "2"]);
    let locks = [1, 2].map(|shard| world.path(&format!("out/.lock-{shard}-of-2")));
    let taken = |lock: &PathBuf| {
        std::fs::File::open(lock)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    };
    let within_a_minute = |happened: &dyn Fn() -> bool| {
        (0..1200).any(|_| {
            sleep(Duration::from_millis(50));
            happened()
        })
    };
    assert!(within_a_minute(&|| locks.iter().all(taken)), "both are at work");
    parent.kill().and_then(|()| parent.wait()).expect("a child");
    assert!(within_a_minute(&|| !locks.iter().any(taken)), "both end");
}

/// The system tells nothing of a parent that was gone before the worker asked.
#[test]
fn a_worker_whose_parent_is_gone_already_does_nothing() {
    let world = World::new();
    let mut worker = world.stage("out", &[]);
    // Nobody's parent.
    worker.args(["--shard", "1/1", "--parent", "0", "--key", "0"]).assert().code(130);
    assert!(!world.path("out").exists());
}
