//! Fine-tuning, and what goes wrong with it.

use std::fmt::Write;

use crate::common::{World, complaint, json, names, stdout};

#[test]
fn a_separable_task_is_learned_and_reported() {
    let world = World::new();
    let text = stdout(world.stage("out", &[]));
    for part in ["SST-2", "accuracy", "50.0", "100.0", "average of 1 task"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let mut again = world.stage("out", &[]);
    again.arg("--json");
    let summary = json(&stdout(again));
    assert_eq!(summary, json(&world.read("out/results.json")));
    assert_eq!(summary["tasks"][0]["dev"][0]["rows"], 20);
    let manifest = json(&world.read("out/manifest.json"));
    assert_eq!(
        (&manifest["kind"], &manifest["stats"]["tasks"]["SST-2"]["mean"]),
        (&"glue".into(), &100.0.into())
    );
}

#[test]
fn equal_seeds_give_equal_bytes_on_any_number_of_threads() {
    let world = World::new();
    let set = ["recipe.epochs=1", "seeds=2", "recipe.lr=1e-3"];
    world.stage("one", &set).args(["--threads", "1"]).assert().success();
    world.stage("two", &set).args(["--threads", "2"]).assert().success();
    assert_eq!(names(&world.path("one")), names(&world.path("two")));
    let is_log = |file: &String| ["manifest.json", "seconds.json"].contains(&file.as_str());
    for file in names(&world.path("one")).iter().filter(|file| !is_log(file)) {
        assert_eq!(world.bytes(&format!("one/{file}")), world.bytes(&format!("two/{file}")), "{file}");
    }
    let summary = json(&world.read("one/results.json"));
    let losses = names(&world.path("one")).into_iter().filter(|file| file.contains("seed"));
    let losses: Vec<_> =
        losses.map(|file| json(&world.read(&format!("one/{file}")))["train"]["loss"][0].clone()).collect();
    assert_eq!((losses.len(), summary["seeds"].as_array().map(Vec::len)), (2, Some(2)));
    assert_ne!(losses[0], losses[1], "another seed is another run");
}

#[test]
fn a_model_that_is_not_what_its_manifest_says_is_refused() {
    let world = World::new();
    world.publish_model("model");
    for name in ["model/model.safetensors", "model/tokenizer.json"] {
        let whole = world.bytes(name);
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        std::fs::write(world.path(name), damaged).expect("can be written");
        let said = complaint(world.stage("out", &["recipe.epochs=1"]), 3);
        assert!(said.contains(&format!("{name}: the manifest says blake3")), "{said}");
        std::fs::write(world.path(name), whole).expect("can be written");
    }
    world.stage("out", &["recipe.epochs=1"]).assert().success();
}

#[test]
fn finished_runs_are_kept_when_seeds_are_added_and_damaged_ones_are_done_again() {
    let world = World::new();
    let set = |seeds: &'static str| ["recipe.epochs=1", seeds];
    world.stage("out", &set("seeds=1")).assert().success();
    let first = names(&world.path("out")).into_iter().find(|file| file.contains("seed1")).expect("a result");
    let written =
        || std::fs::metadata(world.path("out").join(&first)).expect("exists").modified().expect("known");
    let (text, time) = (world.read(&format!("out/{first}")), written());
    world.stage("out", &set("seeds=[2, 1]")).assert().success();
    assert_eq!(time, written(), "seed 1 was done already");
    assert_eq!(json(&world.read("out/results.json"))["seeds"], json("[2, 1]"));
    world.write(&format!("out/{first}"), "{\"task\":");
    world.stage("out", &set("seeds=[2, 1]")).assert().success();
    assert_eq!(text, world.read(&format!("out/{first}")));
}

/// The manifest tells results that somebody has changed, also while it is gone because a run has begun.
#[test]
fn a_changed_result_is_done_again_and_not_published() {
    let world = World::new();
    let set = |seeds: &'static str| ["recipe.epochs=1", "save=true", seeds];
    world.stage("out", &set("seeds=2")).assert().success();
    let files = names(&world.path("out"));
    let of = |seed: &str, end: &str| {
        let found = files.iter().find(|file| file.contains(seed) && file.ends_with(end));
        format!("out/{}", found.expect("a run"))
    };
    let (result, classifier) = (of("seed1", ".json"), of("seed2", "").replace(".json", ""));
    let model = format!("{classifier}/model.safetensors");
    let (text, weights) = (world.read(&result), world.bytes(&model));
    world.write(&result, &text.replace("\"value\": ", "\"value\": 1"));
    let mut damaged = weights.clone();
    *damaged.last_mut().expect("weights") ^= 1;
    std::fs::write(world.path(&model), damaged).expect("can be written");
    for jobs in ["2", "1"] {
        let mut command = world.stage("out", &set("seeds=3"));
        let output = command.args(["--jobs", jobs]).assert().success().get_output().clone();
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(said.matches("done again").count(), if jobs == "2" { 2 } else { 0 }, "{said}");
        assert_eq!((world.read(&result), world.bytes(&model)), (text.clone(), weights.clone()));
    }
}

/// Otherwise a table of costs would compare the operations of all runs with the seconds of some.
#[test]
fn the_seconds_of_runs_that_are_kept_are_counted() {
    let world = World::new();
    let seconds = |name: &str| json(&world.read(name));
    let total = || seconds("out/manifest.json")["cost"]["seconds"].as_f64().expect("a number");
    world.stage("out", &["recipe.epochs=1", "seeds=1"]).assert().success();
    let runs = seconds("out/seconds.json");
    let (name, took) = runs.as_object().and_then(|runs| runs.iter().next()).expect("a run");
    assert!(total() >= took.as_f64().expect("a number"), "{runs}");
    world.write("out/seconds.json", &format!("{{\"{name}\": 5000.0}}"));
    world.stage("out", &["recipe.epochs=1", "seeds=2"]).assert().success();
    assert_eq!(seconds("out/seconds.json").as_object().map(serde_json::Map::len), Some(2));
    assert!((5000.0..5060.0).contains(&total()), "{}", total());
    let hidden = std::fs::read_dir(world.path("out")).expect("a folder").flatten();
    assert!(hidden.into_iter().all(|file| !file.file_name().to_string_lossy().starts_with(".elapsed")));
}

/// The square of the largest target is no number any more.
#[test]
fn a_run_that_diverges_is_named_with_its_recipe() {
    let world = World::new();
    let task = "name = \"far\"\nfolder = \".\"\ntrain = \"far.tsv\"\ndev = [{ file = \"far.tsv\" }]\ntext = [\"text\"]\n\
                label = \"target\"\nrange = [0.0, 3e38]\nmetrics = [\"pearson\"]\n";
    world.write("far.toml", task);
    world.write("far.tsv", "text\ttarget\ngood film\t3e38\nbad film\t0\n");
    let stage = |flags: &[&str]| {
        let mut command = world.stage("out", &["tasks=['far', 'SST-2']", "seeds=[7, 8]", "recipe.epochs=2"]);
        command.args(["--task-file", "far.toml"]).args(flags);
        complaint(command, 1)
    };
    let text = stage(&[]);
    let named = [
        "far, seed 7, epoch 1 (lr 0.02, batch_size 16,",
        "training diverged",
        "lower lr or clip",
        "2 runs diverged",
    ];
    for part in named {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("checkpoint"), "{text}");
    // The others are done, and kept.
    let finished =
        || names(&world.path("out")).into_iter().filter(|name| name.contains("-seed")).collect::<Vec<_>>();
    let kept = finished();
    assert!(kept.len() == 2 && kept.iter().all(|name| name.starts_with("SST-2-seed")), "{kept:?}");
    assert!(stage(&["--jobs", "2"]).contains("a worker ended with exit status: 1"));
    assert_eq!(finished(), kept);
}

#[test]
fn a_dry_run_says_what_changed_and_does_nothing() {
    let world = World::new();
    let dry = |set: &[&str]| {
        let mut command = world.stage("out", &[&["recipe.epochs=1"], set].concat());
        command.arg("--dry-run");
        stdout(command)
    };
    assert!(dry(&[]).contains("there is none yet"));
    assert!(!world.path("out").exists());
    world.stage("out", &["recipe.epochs=1"]).assert().success();
    assert!(dry(&["run.eval_batch_size=3"]).contains("up to date"));
    assert!(dry(&["recipe.lr=1e-5"]).contains("tasks.SST-2.lr: 0.02 -> 0.00001"));
}

#[test]
fn the_printed_configuration_is_that_of_the_run() {
    let world = World::new();
    let set = ["recipe.epochs=1", "recipe.head=cls", "task.SST-2.lr=1e-3", "run.eval_batch_size=3"];
    let mut print = world.stage("nowhere", &set);
    print.arg("--print-config");
    let text = stdout(print);
    assert!(text.contains("eval_batch_size = 3") && !world.path("nowhere").exists(), "{text}");
    assert!(text.contains("recipe.betas") && !text.contains("recipe.head"), "{text}");
    world.write("printed.toml", &text);
    world.stage("out", &set).assert().success();
    let mut again = assert_cmd::Command::cargo_bin("entromask-glue").expect("the binary is built");
    again.current_dir(world.path("")).args(["--model", "model", "--out", "out", "--dry-run"]);
    again.args(["--config", "printed.toml"]);
    assert!(stdout(again).contains("up to date"));
}

#[test]
fn pairs_and_regressions_run_and_long_rows_are_counted() {
    let world = World::new();
    let mut rows = String::from("index\tsentence1\tsentence2\tscore\n");
    for index in 0..20 {
        let long = if index < 3 { "a dog is the cat ".repeat(4) } else { "a dog".into() };
        writeln!(rows, "{index}\t{long}\tthe {}\t{}.5", ["cat", "film"][index % 2], index % 5)
            .expect("a string grows");
    }
    world.write("data/STS-B/train.tsv", &rows);
    world.write("data/STS-B/dev.tsv", &rows);
    let text = stdout(world.stage("out", &["tasks=['STS-B']", "recipe.epochs=1", "recipe.max_length=512"]));
    for part in ["pearson", "spearman", "mean", "rows cut to max_length tokens: STS-B 6"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn mistakes_in_the_configuration_are_usage_errors() {
    let world = World::new();
    let cases = [
        (&["tasks=['SST-3']"][..], "the tasks are CoLA, SST-2"),
        (&["recipe.epoch=3"], "epoch"),
        (&["rates=0.1"], "rates"),
        (&["recipe.lr=-1"], "`lr` is -1"),
        (&["seeds=0"], "seeds"),
    ];
    for (set, named) in cases {
        let text = complaint(world.stage("out", set), 2);
        assert!(text.contains(named), "{named} is missing in {text}");
    }
    assert!(!world.path("out").exists());
}

#[test]
fn errors_about_a_task_of_ones_own_do_not_advise_glues_files() {
    let world = World::new();
    let task = "name = \"mine\"\nfolder = \".\"\ntrain = \"mine.tsv\"\ndev = [{ file = \"mine.tsv\" }]\ntext = [\"text\"]\n\
                label = \"mood\"\nlabels = [\"sad\", \"glad\"]\nmetrics = [\"accuracy\"]\n";
    world.write("mine.toml", task);
    let complain = || {
        let mut command = world.stage("out", &["tasks=['mine']"]);
        command.args(["--task-file", "mine.toml"]);
        complaint(command, 3)
    };
    let missing = complain();
    world.write("mine.tsv", "text\tlabel\ngood\tglad\n");
    let column = complain();
    world.write("mine.tsv", "text\tmood\n");
    let rows = complain();
    for (text, remedy) in
        [(missing, "`train` and `dev`"), (column, "`text` and `label`"), (rows, "below its header")]
    {
        assert!(text.contains(remedy) && !text.contains("GLUE"), "{remedy} is missing in {text}");
    }
}

#[test]
fn mistakes_in_the_inputs_are_named_and_leave_nothing() {
    let world = World::new();
    world.write("data/WNLI/train.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n1\ta\tb\t2\n");
    world.write("data/WNLI/dev.tsv", "index\tsentence1\tsentence2\tlabel\n");
    world.write("data/RTE/train.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n");
    world.write("empty/tokenizer.json", "{}");
    let cases = [
        (&["tasks=['QNLI']"][..], "data/QNLI: no such folder"),
        (&["tasks=['WNLI']"], "train.tsv:3: the label is `2`"),
        (&["tasks=['RTE']"], "dev.tsv: no such file"),
        (&["data=nowhere"], "nowhere/SST-2: no such folder"),
    ];
    for (set, named) in cases {
        let text = complaint(world.stage("out", set), 3);
        assert!(text.contains(named), "{named} is missing in {text}");
        assert!(!world.path("out/manifest.json").exists());
    }
    let mut command = world.stage("out", &[]);
    command.args(["--model", "empty"]);
    assert!(complaint(command, 2).contains("--model"), "given twice");
    std::fs::remove_file(world.path("model/model.safetensors")).expect("was there");
    assert!(complaint(world.stage("out", &[]), 3).contains("model: no model.safetensors and no"));
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let world = World::new();
    let text = world.read("model/tokenizer.json");
    world.write("model/tokenizer.json", &text.replace("\"dog\":", "\"wolf\":99,\"dog\":"));
    let error = complaint(world.stage("out", &[]), 3);
    assert!(error.contains("17 tokens, the model's vocab_size is 16"), "{error}");
    world.write("model/tokenizer.json", "not JSON");
    assert!(complaint(world.stage("out", &[]), 3).contains("model/tokenizer.json"));
}

#[test]
fn a_device_that_is_not_there_is_exit_code_four() {
    let world = World::new();
    let mut command = world.stage("out", &[]);
    command.args(["--device", "cuda:77"]);
    let text = complaint(command, 4);
    assert!(text.contains("cuda"), "{text}");
}
