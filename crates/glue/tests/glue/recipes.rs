//! What a recipe can be, as a user runs it.

use crate::common::{World, arguments, complaint, names, stdout};
use serde_json::Value;

/// The result of the only run in `out` whose file's name begins with `start`.
fn result(world: &World, out: &str, start: &str) -> Value {
    let found: Vec<_> = names(&world.path(out))
        .into_iter()
        .filter(|name| name.starts_with(start) && world.path(&format!("{out}/{name}")).is_file())
        .collect();
    let [name] = &found[..] else { panic!("{found:?}") };
    serde_json::from_str(&world.read(&format!("{out}/{name}"))).expect("JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

#[test]
fn a_probe_trains_its_head_only() {
    let world = World::new();
    // Hidden width 16, two labels: 34 numbers without a pooler, 272 more with one.
    for (head, trained) in [("cls", 34.0), ("mean", 34.0), ("pooler", 306.0)] {
        let head = format!("recipe.head={head}");
        let text = stdout(world.stage(&head, &["recipe.freeze=body", "recipe.epochs=2", &head]));
        assert!(text.contains("of the parameters trained: SST-2"), "{text}");
        let run = result(&world, &head, "SST-2");
        assert_eq!(numbers(&run["parameters"]["trainable"]), [trained; 2], "{head}");
    }
    let all = world.path("none");
    stdout(world.stage("none", &["recipe.epochs=1"]));
    assert!(all.exists());
    let run = result(&world, "none", "SST-2");
    assert_eq!(run["parameters"]["trainable"][0], run["parameters"]["total"]);
}

/// Dropping out one number of a billion drops out none of these few, but is not a probe's recipe: then the body runs in each
/// epoch.
#[test]
fn a_probe_runs_its_body_once_a_row_and_learns_the_same() {
    let world = World::new();
    for head in ["cls", "mean", "pooler"] {
        let head_key = format!("recipe.head={head}");
        let run = |dropout: &str| {
            let out = format!("{head}-{dropout}");
            let dropout = format!("recipe.dropout={dropout}");
            let set = ["recipe.freeze=body", "recipe.epochs=4", "recipe.patience=4", "seeds=2"];
            stdout(world.stage(&out, &[&set[..], &[&head_key, &dropout]].concat()));
            [1, 2].map(|seed| result(&world, &out, &format!("SST-2-seed{seed}")))
        };
        let (once, often) = (run("0.0"), run("1e-9"));
        assert_ne!(once[0]["train"]["loss"], once[1]["train"]["loss"], "seeds differ");
        for (once, often) in once.iter().zip(&often) {
            assert_eq!((&once["metrics"], &once["choose"]), (&often["metrics"], &often["choose"]), "{head}");
            for losses in ["loss", "valid_loss"] {
                let [found, wanted] = [once, often].map(|run| numbers(&run["train"][losses]));
                assert_eq!(found.len(), 4);
                let near = found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-5);
                assert!(near, "{head} {losses}: {found:?} {wanted:?}");
            }
            // 64 training rows and 20 to score, once and not in each of four epochs.
            let [once, often] = [once, often].map(|run| run["tokens"].as_f64().expect("a number"));
            assert!(often > 3.0 * once, "{once} {often}");
        }
    }
}

#[test]
fn a_task_may_have_some_of_its_training_rows_and_says_so() {
    let world = World::new();
    let text = stdout(world.stage("out", &["recipe.train_rows=40", "seeds=2"]));
    assert!(text.contains("NOT THE WHOLE TASK, trained on a sample of the rows: SST-2 40 of 64"), "{text}");
    let run = result(&world, "out", "SST-2-seed1");
    assert_eq!(
        (&run["train"]["split"]["rows"], &run["train"]["split"]["sampled_from"]),
        (&40.into(), &64.into())
    );
    assert_eq!(
        (&run["train"]["steps"], &run["recipe"]["train_rows"]),
        (&18.into(), &40.into()),
        "6 epochs of 3"
    );
    let text = stdout(world.stage("all", &["recipe.train_rows=1000", "recipe.epochs=1"]));
    assert!(!text.contains("sample"), "there are no more than 64: {text}");
    let text = complaint(world.stage("few", &["task.SST-2.train_rows=1"]), 3);
    assert!(text.contains("one label in all of 1 sampled rows"), "{text}");
}

#[test]
fn gradual_unfreezing_trains_more_each_epoch_and_too_much_freezing_is_refused() {
    let world = World::new();
    stdout(world.stage("out", &["recipe.freeze=gradual", "recipe.epochs=3"]));
    let run = result(&world, "out", "SST-2");
    let trained = numbers(&run["parameters"]["trainable"]);
    assert!(trained.is_sorted() && trained[0] < trained[1] && trained[1] < trained[2], "{trained:?}");
    assert_eq!(run["parameters"]["total"], trained[2] as u64);
    let text = complaint(world.stage("more", &["recipe.freeze=bottom-7"]), 2);
    assert!(text.contains("`freeze` is bottom-7, the model has 1 layers"), "{text}");
    let text = complaint(world.stage("more", &["recipe.freeze=top"]), 2);
    assert!(text.contains("none, embeddings, bottom-N, body or gradual"), "{text}");
}

/// A learning rate of 0.9 ruins the model, so of the two recipes the other one is chosen.
#[test]
fn a_grid_is_chosen_from_on_one_half_and_reported_on_the_other() {
    let world = World::new();
    let text = stdout(world.stage("out", &["grid.lr=[0.9, 2e-2]"]));
    assert!(text.contains("chosen on the other: SST-2 (of 2: lr 0.02)"), "{text}");
    let summary: Value = serde_json::from_str(&world.read("out/results.json")).expect("JSON");
    let task = &summary["tasks"][0];
    assert_eq!((&task["recipe"]["lr"], task["tried"].as_array().map(Vec::len)), (&0.02.into(), Some(2)));
    assert!(task["dev"][0]["rows"].as_u64().expect("a number") < 20, "{}", task["dev"]);
    let runs = names(&world.path("out")).iter().filter(|name| name.contains("-seed")).count();
    assert_eq!(runs, 2);
    // A recipe of the grid alone is one of the runs that are there.
    stdout(world.stage("out", &["recipe.lr=2e-2", "recipe.halves=true"]));
    let runs = names(&world.path("out")).iter().filter(|name| name.contains("-seed")).count();
    assert_eq!(runs, 2, "nothing was done again");
}

#[test]
fn patience_ends_training_and_takes_the_best_epoch() {
    let world = World::new();
    // The loss of a model that is ruined at once does not fall any more.
    stdout(world.stage("out", &["recipe.patience=2", "recipe.epochs=50", "recipe.lr=0.9"]));
    let run = result(&world, "out", "SST-2");
    let losses = numbers(&run["train"]["valid_loss"]);
    let best = run["train"]["best_epoch"].as_u64().expect("a number") as usize;
    assert!(losses.len() < 50, "{losses:?}");
    assert_eq!(losses.len(), best + 3, "two epochs after the best one");
    assert!(losses.iter().all(|&loss| loss >= losses[best]), "{losses:?}");
}

#[test]
fn a_task_of_a_file_starts_from_another_tasks_model_whatever_the_number_of_workers() {
    let world = World::new();
    world.write("mine/mood.toml", MOOD);
    let rows = "text\tmood\tnote\ngood film\tglad\tx\nbad film\tsad\ty\none dog\tmad\tz\n".to_string();
    world.write("mine/mood/a.tsv", &rows);
    world.write("mine/mood/b.tsv", &rows);
    let set = ["tasks=['SST-2','mood']", "seeds=2", "recipe.epochs=2", "task.mood.from='SST-2'"];
    let run = |out: &str, jobs: &str| {
        let mut command = world.stage(out, &set);
        command.args(["--task-file", "mine/mood.toml", "--jobs", jobs, "--threads", "2"]);
        stdout(command)
    };
    let text = run("one", "1");
    assert!(text.contains("mood") && text.contains("matthews"), "{text}");
    assert_eq!(text, run("three", "3"));
    let files = names(&world.path("one"));
    assert_eq!(files, names(&world.path("three")));
    let folders = files.iter().filter(|name| world.path(&format!("one/{name}")).is_dir()).count();
    assert_eq!(folders, 2, "the classifiers that others start from are kept: {files:?}");
    let is_log = |file: &String| ["manifest.json", "seconds.json"].contains(&file.as_str());
    for file in files.iter().filter(|file| file.ends_with("json") && !is_log(file)) {
        assert_eq!(world.read(&format!("one/{file}")), world.read(&format!("three/{file}")), "{file}");
    }
    // Another origin is another run: without it, the numbers differ.
    let mut alone = world.stage("alone", &["tasks=['mood']", "recipe.epochs=2"]);
    alone.args(["--task-file", "mine/mood.toml"]).assert().success();
    let loss = |out: &str| result(&world, out, "mood-seed1")["train"]["loss"].clone();
    assert_ne!(loss("alone"), loss("one"));
}

const MOOD: &str = r#"
name = "mood"
train = "a.tsv"
dev = [{ file = "b.tsv" }]
text = ["text"]
label = "mood"
labels = ["sad", "glad", "mad"]
metrics = ["accuracy", "matthews"]
"#;

/// What can be read once only is read by one process.
#[test]
fn workers_have_the_configuration_of_the_run() {
    let world = World::new();
    let config = "data = \"data\"\ntasks = [\"SST-2\"]\n[recipe]\nlr = 2e-2\nepochs = 1\nclip = 0.5\n";
    world.write("own.toml", config);
    let run = |out: &str, config: &str, jobs: &str| {
        let mut command = assert_cmd::Command::cargo_bin("entromask-glue").expect("the binary is built");
        command.current_dir(world.path("")).args(["--model", "model", "--set", "seeds=3", "--out", out]);
        command.args(["--config", config, "--jobs", jobs, "--threads", "2"]);
        command.write_stdin(world.read("own.toml")).assert().success();
        names(&world.path(out))
    };
    let one = run("one", "own.toml", "1");
    assert_eq!(run("two", "/dev/stdin", "2"), one, "other settings would have left runs of other names");
    for file in one.iter().filter(|file| file.contains("-seed") || *file == "results.json") {
        assert_eq!(world.read(&format!("two/{file}")), world.read(&format!("one/{file}")), "{file}");
    }
}

#[test]
fn a_worker_of_another_artifact_does_nothing() {
    let world = World::new();
    let mut worker = world.stage("out", &[]);
    let parent = std::process::id().to_string();
    worker.args(["--shard", "1/1", "--runs", "0", "--parent", &parent, "--key", "0"]);
    let text = complaint(worker, 3);
    assert!(text.contains("changed while the run began; run the same command again"), "{text}");
    assert!(!world.path("out").exists());
}

#[test]
fn a_worker_that_fails_fails_the_stage() {
    let world = World::new();
    world.write("data/SST-2/train.tsv", "sentence\tlabel\na\t7\n");
    let mut command = world.stage("out", &["seeds=2"]);
    command.args(["--jobs", "2"]);
    let text = complaint(command, 3);
    assert!(text.contains("the label is `7`") && text.contains("a worker ended with"), "{text}");
}

#[test]
fn subsets_of_the_official_splits_are_warned_about_and_the_table_is_parquet() -> anyhow::Result<()> {
    let world = World::new();
    let mut command = world.stage("out", &["recipe.epochs=1", "seeds=2"]);
    let output = command.assert().success().get_output().clone();
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(stderr.contains("dev.tsv: 20 rows, the official split has 872"), "{stderr}");
    assert!(stdout.contains("SST-2 (64 of 67349 to train on, 20 of 872 to score)"), "{stdout}");
    let table = entromask_tables::Scores::read(&world.path("out/results.parquet"))?;
    assert_eq!((table.rows(), &table.seed[..], &table.task[1][..]), (2, &[1, 2][..], "SST-2"));
    assert_eq!(
        entromask_tables::footer_key(&world.path("out/results.parquet"))?.map(|key| key.len()),
        Some(64)
    );
    Ok(())
}

#[test]
fn kept_classifiers_load_alone() -> anyhow::Result<()> {
    let world = World::new();
    stdout(world.stage("out", &["save=true", "recipe.epochs=1"]));
    let folders = names(&world.path("out")).into_iter().map(|name| world.path(&format!("out/{name}")));
    let folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
    let [folder] = &folders[..] else { panic!("{folders:?}") };
    let device = burn::tensor::Device::flex();
    let (_, config) = entromask_encoder::SequenceClassifier::from_pretrained(folder, &device)?;
    assert_eq!(config.hidden_size, 16);
    assert!(folder.join("tokenizer.json").is_file());
    let manifest = world.read("out/manifest.json");
    assert!(manifest.contains("/model.safetensors") && manifest.contains("\"save\": true"), "{manifest}");
    // Without its classifier a run is not finished.
    std::fs::remove_file(folder.join("model.safetensors"))?;
    std::fs::remove_file(world.path("out/manifest.json"))?;
    stdout(world.stage("out", &["save=true", "recipe.epochs=1"]));
    assert!(folder.join("model.safetensors").is_file());
    Ok(())
}

/// Its result is there from a run that kept no classifier.
#[cfg(unix)]
#[test]
fn a_run_that_is_killed_before_its_classifier_is_whole_is_done_again() {
    use std::process::{Command, Stdio};

    let world = World::new();
    let set = ["recipe.epochs=20"];
    stdout(world.stage("out", &set));
    let files = names(&world.path("out"));
    let result = files.iter().find(|file| file.contains("-seed")).expect("a result");
    let classifier = format!("out/{}", result.trim_end_matches(".json"));
    let is_there = |name: &str| world.path(&format!("out/{name}")).exists();
    let saving = [&set[..], &["save=true"]].concat();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("entromask-glue"))
        .current_dir(world.path(""))
        .args(arguments("out", &saving))
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    while is_there(result) {
        assert!(child.try_wait().expect("a child").is_none(), "the old result stands until the new one");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(!is_there("manifest.json"), "it lists what is gone");
    child.kill().expect("is at work");
    child.wait().expect("a child");
    // As one leaves it that dies between two files, and a result that lies beside it.
    world.write(&format!("{classifier}/model.safetensors"), "another's");
    stdout(world.stage("out", &set));
    assert!(!world.path(&classifier).exists(), "leftovers are no classifier of this result");
    world.write(&format!("{classifier}/model.safetensors"), "another's");
    stdout(world.stage("out", &saving));
    assert!(world.path(&format!("{classifier}/config.json")).is_file());
}

/// At a rate that moves nothing, the kept heads are the initial ones.
#[test]
fn one_seed_has_one_initial_head_whatever_the_model() -> anyhow::Result<()> {
    let world = World::new();
    world.write_model("another", 2);
    let set = ["save=true", "recipe.epochs=1", "recipe.lr=1e-30", "recipe.weight_decay=0.0", "seeds=[5, 6]"];
    stdout(world.stage("one", &set));
    let mut other = assert_cmd::Command::cargo_bin("entromask-glue")?;
    let arguments =
        arguments("two", &set).into_iter().map(|it| if it == "model" { "another".into() } else { it });
    other.current_dir(world.path("")).args(arguments);
    stdout(other);
    let head = |out: &str, seed: u64| -> anyhow::Result<Vec<u8>> {
        let start = format!("SST-2-seed{seed}-");
        let mut folders =
            names(&world.path(out)).into_iter().map(|name| world.path(&format!("{out}/{name}")));
        let is_kept = |path: &std::path::PathBuf| path.is_dir() && path.to_string_lossy().contains(&start);
        let folder = folders.find(is_kept).expect("a classifier");
        let bytes = std::fs::read(folder.join("model.safetensors"))?;
        let tensors = safetensors::SafeTensors::deserialize(&bytes)?;
        let heads = ["classifier.weight", "bert.pooler.dense.weight"]
            .map(|name| tensors.tensor(name).map(|view| view.data().to_vec()));
        Ok(heads.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    };
    assert_eq!(head("one", 5)?, head("two", 5)?);
    assert_ne!(head("one", 5)?, head("one", 6)?);
    Ok(())
}
