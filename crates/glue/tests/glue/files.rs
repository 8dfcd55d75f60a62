//! What lies in the repository for this stage, and the commands that look at data.

use std::path::{Path, PathBuf};
use std::process::Command;

use entromask_cli::{CommonArgs, load};
use entromask_glue::{Config, Freeze, Head, Task};

use crate::common::{World, complaint, stdout};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn recipe(name: &str) -> anyhow::Result<Config> {
    let config = Some(root().join(format!("pipelines/glue/{name}.toml")));
    load(&CommonArgs { config, ..CommonArgs::default() })
}

#[test]
fn every_recipe_in_the_repository_resolves() -> anyhow::Result<()> {
    let files = std::fs::read_dir(root().join("pipelines/glue"))?.collect::<Result<Vec<_>, _>>()?;
    let names =
        files.iter().filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".toml")?.to_string()));
    let names: Vec<_> = names.collect();
    assert!(
        ["default", "bert", "mosaic", "paper", "probe", "sample"]
            .iter()
            .all(|name| names.contains(&(*name).into()))
    );
    for name in names {
        recipe(&name)?.resolve(&[]).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    Ok(())
}

#[test]
fn recipes_are_what_their_names_promise() -> anyhow::Result<()> {
    let default = recipe("default")?;
    assert_eq!((&default.recipe, default.resolve(&[])?.len()), (&entromask_glue::FineTuning::default(), 9));
    let mosaic = recipe("mosaic")?.resolve(&[])?;
    let from = mosaic.iter().filter(|one| one.recipes[0].from.as_deref() == Some("MNLI"));
    assert_eq!(from.map(|one| one.task.name.as_str()).collect::<Vec<_>>(), ["MRPC", "STS-B", "RTE"]);
    let paper = recipe("paper")?.resolve(&[])?.remove(0).recipes.remove(0);
    assert_eq!((paper.lr, paper.batch_size, paper.patience, paper.halves), (5e-5, 256, 5, true));
    let probe = recipe("probe")?.recipe;
    assert_eq!((probe.freeze, probe.head), (Freeze::Body, Head::Mean));
    Ok(())
}

#[test]
fn the_documented_task_file_is_one() -> anyhow::Result<()> {
    let page = std::fs::read_to_string(root().join("data/README.md"))?;
    let snippet =
        page.split("<!-- check: task -->\n```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("mood.toml");
    std::fs::write(&file, snippet.expect("there is one"))?;
    let task = Task::from_file(&file)?;
    assert_eq!((task.name.as_str(), task.outputs(), task.is_pair()), ("mood", 2, false));
    // What is commented out are keys, too: as a regression with numbered columns.
    let other = "name = \"m\"\nfolder = \".\"\nheader = false\ntrain = \"a\"\ndev = [{ file = \"b\" }]\ntext = [0]\n\
                 label = 1\nrange = [0.0, 5.0]\nmetrics = [\"pearson\"]\nshort_rows = true\n";
    std::fs::write(&file, other)?;
    assert!(Task::from_file(&file)?.is_regression());
    Ok(())
}

/// Rows of which the pair of ids is listed are dev rows, whatever stands first in the file; CR goes, the mark stays.
#[cfg(unix)]
#[test]
fn mrpc_is_divided_by_its_list_of_ids() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    let header = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n";
    write("mrpc_dev_ids.tsv", "12\t34\n")?;
    write(
        "msr_paraphrase_train.txt",
        &format!("{header}1\t1\t2\ta\tb\r\n0\t12\t34\t\"c\td\r\n1\t34\t12\te\tf\r\n"),
    )?;
    write("msr_paraphrase_test.txt", &format!("{header}1\t5\t6\tg\th\r\n0\t7\t8\ti\tj\r\n"))?;
    let script = root().join("pipelines/glue/fetch.sh");
    let status = Command::new("bash").arg(script).arg("--split-mrpc").arg(folder.path()).status()?;
    assert!(status.success());
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name));
    let header = header.replace('\r', "");
    assert_eq!(read("train.tsv")?, format!("{header}1\t1\t2\ta\tb\n1\t34\t12\te\tf\n"));
    assert_eq!(read("dev.tsv")?, format!("{header}0\t12\t34\t\"c\td\n"));
    assert_eq!(
        read("test.tsv")?,
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t5\t6\tg\th\n1\t7\t8\ti\tj\n"
    );
    Ok(())
}

fn command(world: &World, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::cargo_bin("entromask-glue").expect("the binary is built");
    command.current_dir(world.path("")).args(arguments);
    command
}

#[test]
fn the_survey_counts_what_is_there_and_fails_where_something_is_missing() {
    let world = World::new();
    let output = command(&world, &["data", "--data", "data"]).assert().code(3).get_output().clone();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |start: &str| {
        text.lines().find(|line| line.trim().starts_with(start)).unwrap_or_default().to_string()
    };
    let sst2 = line("SST-2");
    assert!(
        sst2.contains("train.tsv") && sst2.contains("64") && sst2.contains("not the official split"),
        "{text}"
    );
    assert!(text.contains("data/CoLA/train.tsv: no such file"), "{text}");
    let output = command(&world, &["data", "--data", "elsewhere"]).assert().code(3).get_output().clone();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.stdout.is_empty() && error.contains("elsewhere: no such folder"), "{error}");
}

#[test]
fn the_tasks_of_a_configuration_are_looked_for() {
    let world = World::new();
    let with = |text: &str, flags: &[&str], code: i32| {
        world.write("own.toml", text);
        let arguments = [&["data", "--config", "own.toml"], flags].concat();
        let output = command(&world, &arguments).assert().code(code).get_output().clone();
        String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8")
    };
    let good = "data = \"data\"\ntasks = [\"SST-2\"]\n";
    assert!(with(good, &[], 0).contains("SST-2: data/SST-2"));
    assert!(with(&format!("{good}[task.SST-2]\nepoch = 1\n"), &[], 2).contains("epoch"));
    assert!(with(good, &["--set", "recipe.lr=-1"], 2).contains("`lr` is -1"));
    assert!(with(good, &["--set", "tasks=['RTE']"], 3).contains("data/RTE: no such folder"));
    assert!(with(good, &["--data", "data"], 2).contains("--data"));
}

#[test]
fn tasks_of_files_are_looked_for_as_those_of_glue_are() {
    let world = World::new();
    world.write("mine/mood.toml", MOOD);
    world.write("own.toml", "data = \"data\"\n[task.mood]\nepochs = 1\n");
    let data = |flags: &[&str], code: i32| {
        let output = command(&world, &[&["data"], flags].concat()).assert().code(code).get_output().clone();
        String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8")
    };
    let mood = ["--task-file", "mine/mood.toml"];
    assert!(data(&mood, 3).contains("mine/mood: no such folder; put the task's files there"));
    for file in ["train.tsv", "dev.tsv"] {
        world.write(&format!("mine/mood/{file}"), "");
    }
    assert_eq!(data(&mood, 0), "mood: mine/mood\n");
    assert_eq!(data(&[&mood[..], &["--config", "own.toml"]].concat(), 0), "mood: mine/mood\n");
    let both = [&mood[..], &["--config", "own.toml", "--set", "tasks=['SST-2', 'mood']"]].concat();
    assert_eq!(data(&both, 0), "SST-2: data/SST-2\nmood: mine/mood\n");
    assert!(data(&["--config", "own.toml"], 2).contains("`mood` is unknown"));
    assert!(data(&[&mood[..], &["--data", "data"]].concat(), 2).contains("--data"));
    world.write("mine/mood.toml", &MOOD.replace("\"sad\"", "\" sad\""));
    assert!(data(&mood, 2).contains("mine/mood.toml: `labels` has \" sad\""));
}

#[test]
fn a_task_whose_training_rows_have_one_label_is_refused() {
    let world = World::new();
    world.write("data/SST-2/train.tsv", "sentence\tlabel\ngood\t1\nbad\t1\n\n");
    let error = complaint(world.stage("out", &[]), 3);
    assert!(error.contains("data/SST-2/train.tsv: one label in all of 2 rows"), "{error}");
}

/// The separable task: good films have label 1.
#[test]
fn predictions_are_written_row_by_row_with_their_logits() {
    let world = World::new();
    stdout(world.stage("out", &["save=true"]));
    let folders = crate::common::names(&world.path("out"));
    let kept = folders.iter().find(|name| world.path(&format!("out/{name}")).is_dir()).expect("a classifier");
    let classifier = format!("out/{kept}");
    let arguments =
        ["predict", "--classifier", &classifier, "--task", "SST-2", "--data", "data", "--out", "rows.tsv"];
    assert!(stdout(command(&world, &arguments)).contains("rows.tsv: 20 rows"));
    let table = world.read("rows.tsv");
    let mut lines = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    assert_eq!(lines.next(), Some(vec!["index", "label", "prediction", "logit 0", "logit 1"]));
    for (index, line) in lines.enumerate() {
        let logits: Vec<f32> = line[3..].iter().map(|logit| logit.parse().expect("a number")).collect();
        assert_eq!((line[0].parse(), line[1]), (Ok(index), line[2]), "{table}");
        assert_eq!(line[2] == "1", logits[1] > logits[0], "{table}");
    }
    // A classifier of somebody else may have them in another order.
    let config = format!("{classifier}/config.json");
    let mut theirs: serde_json::Value = serde_json::from_str(&world.read(&config)).expect("JSON");
    assert_eq!(theirs["id2label"], serde_json::json!({"0": "0", "1": "1"}));
    theirs["id2label"] = serde_json::json!({"0": "1", "1": "0"});
    world.write(&config, &theirs.to_string());
    stdout(command(&world, &arguments));
    for (theirs, ours) in world.read("rows.tsv").lines().zip(table.lines()).skip(1) {
        let (theirs, ours): (Vec<_>, Vec<_>) = (theirs.split('\t').collect(), ours.split('\t').collect());
        assert_eq!((theirs[3], theirs[4]), (ours[4], ours[3]));
        assert_ne!(theirs[2], ours[2]);
    }
    let long = format!("{}\t1\ngood film\t1\n", "good ".repeat(9));
    world.write("data/SST-2/long.tsv", &format!("sentence\tlabel\n{long}"));
    let cut = [&arguments[..], &["--file", "long.tsv", "--max-length", "8"]].concat();
    assert!(stdout(command(&world, &cut)).contains("rows.tsv: 2 rows, 1 rows cut"));
    let json = stdout(command(&world, &[&cut[..], &["--json"]].concat()));
    assert!(json.contains("\"truncated\":1,\"skipped\":0"), "{json}");
    let result = format!("{classifier}.json");
    let trained = world.read(&result).replace("\"max_length\": 128", "\"max_length\": 8");
    world.write(&result, &trained);
    let as_trained = stdout(command(&world, &cut[..cut.len() - 2]));
    assert!(as_trained.contains("2 rows, 1 rows cut"), "{as_trained}");
    for length in ["7", "65536"] {
        let wrong = [&arguments[..], &["--max-length", length]].concat();
        assert!(complaint(command(&world, &wrong), 2).contains("--max-length"));
    }
    let other =
        ["predict", "--classifier", &classifier, "--task", "MNLI", "--data", "data", "--out", "x.tsv"];
    assert!(complaint(command(&world, &other), 3).contains("data/MNLI/dev_matched.tsv"));
}

/// That is seen before the classifier is opened, which is none here.
#[test]
fn predictions_are_not_written_over_what_is_read() -> anyhow::Result<()> {
    let world = World::new();
    world.write("mine/mood.toml", MOOD);
    let rows = "text\tmood\ngood\tglad\nbad\tsad\n";
    for file in ["train.tsv", "dev.tsv", "more.tsv"] {
        world.write(&format!("mine/mood/{file}"), rows);
    }
    std::os::unix::fs::symlink(world.path("mine/mood/dev.tsv"), world.path("link.tsv"))?;
    world.write("model.json", "{}");
    let weights = world.bytes("model/model.safetensors");
    let read = ["mine/mood.toml", "mine/mood/train.tsv", "mine/mood/dev.tsv", "mine/mood/more.tsv"];
    let classifier = ["model/model.safetensors", "model/new.tsv", "model.json"];
    for out in read.iter().chain(&classifier).chain(&["link.tsv", "mine/../mine/mood/dev.tsv"]) {
        let mut predict = command(&world, &["predict", "--classifier", "model", "--file", "more.tsv"]);
        predict.args(["--task-file", "mine/mood.toml", "--out", out]);
        let error = complaint(predict, 2);
        assert!(error.contains("which is read; choose another --out"), "{out}: {error}");
    }
    let kept = read[1..].iter().all(|file| world.read(file) == rows);
    assert!(kept && world.read(read[0]) == MOOD && world.bytes("model/model.safetensors") == weights);
    Ok(())
}

const MOOD: &str = r#"
name = "mood"
train = "train.tsv"
dev = [{ file = "dev.tsv" }]
text = ["text"]
label = "mood"
labels = ["sad", "glad"]
metrics = ["accuracy"]
"#;
