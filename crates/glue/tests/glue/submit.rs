//! Submissions, as a user makes them.

use crate::common::{World, complaint, names, stdout};
use entromask_glue::{Column, Task, glue};

fn command(world: &World, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::cargo_bin("entromask-glue").expect("the binary is built");
    command.current_dir(world.path("")).args(arguments);
    command
}

/// A folder in the official layout: some rows to train on and to score, and the official number of test rows.
fn write_layout(world: &World) {
    for task in glue() {
        let columns = task.text.len() + 1;
        for file in task.files() {
            let rows = (0..8).map(|row| labelled(task, row)).collect::<String>();
            world.write(&format!("official/{}/{file}", task.name), &format!("{}{rows}", header(task)));
        }
        for test in &task.test {
            let text = test.text.as_ref().unwrap_or(&task.text);
            let names: Vec<_> = text.iter().map(|column| column.to_string().replace('`', "")).collect();
            // More than the 16 positions of the model.
            let sentence = if test.out == "AX.tsv" { "good ".repeat(20) } else { "good".into() };
            let row = format!("{}\n", vec![sentence; columns - 1].join("\t"));
            let path = format!("official/{}/{}", task.name, test.file);
            world.write(&path, &format!("{}\n{}", names.join("\t"), row.repeat(task.rows[&test.file])));
        }
    }
}

/// `CoLA` has four columns and no header; the others have those that are read.
fn header(task: &Task) -> String {
    let name = |column: &Column| column.to_string().replace('`', "");
    let names: Vec<_> = task.text.iter().chain([&task.label]).map(name).collect();
    if task.header { format!("{}\n", names.join("\t")) } else { String::new() }
}

fn labelled(task: &Task, row: usize) -> String {
    let label = task.labels.get(row % task.outputs()).cloned().unwrap_or_else(|| format!("{}.0", row % 6));
    let word = ["good", "bad", "film"][row % 3];
    if task.header {
        format!("{}\t{label}\n", vec![word; task.text.len()].join("\t"))
    } else {
        format!("x\t{label}\t\t{word}\n")
    }
}

#[test]
fn a_submission_of_nine_tasks_is_what_the_server_takes() {
    let world = World::new();
    write_layout(&world);
    let all = ["data=official", "tasks=['CoLA','SST-2','MRPC','STS-B','QQP','MNLI','QNLI','RTE','WNLI']"];
    stdout(world.stage("out", &[&all[..], &["recipe.epochs=1", "save=true", "seeds=[3]"]].concat()));
    let submit = ["submit", "--scores", "out", "--data", "official", "--seed", "3", "--out", "made/glue.zip"];
    let text = stdout(command(&world, &submit));
    assert!(text.contains("AX.tsv") && text.contains("390965 rows"), "{text}");
    let cut = ", 1104 rows cut";
    assert!(text.contains(&format!("1104 rows{cut}")), "{text}");
    assert_eq!(text.replace(cut, ""), stdout(command(&world, &["validate", "made/glue.zip"])));

    let classifier = names(&world.path("out")).into_iter().find(|name| world.path("out").join(name).is_dir());
    let weights = format!("out/{}/model.safetensors", classifier.expect("saved classifiers"));
    let whole = world.bytes(&weights);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(world.path(&weights), damaged).expect("can be written");
    assert!(complaint(command(&world, &submit), 3).contains("model.safetensors: the manifest says blake3"));
    std::fs::write(world.path(&weights), whole).expect("can be written");

    for read in ["official/RTE/test.tsv", "out/manifest.json", &weights] {
        let over = [&submit[..submit.len() - 1], &[read]].concat();
        assert!(complaint(command(&world, &over), 2).contains("which is read"), "{read}");
    }

    let other = ["submit", "--scores", "out", "--data", "official", "--seed", "4", "--out", "other.zip"];
    assert!(complaint(command(&world, &other), 3).contains("no classifier of CoLA with seed 4"));
    world.write("official/RTE/test.tsv", "sentence1\tsentence2\na\tb\n");
    let text = complaint(command(&world, &submit), 3);
    assert!(text.contains("RTE/test.tsv: 1 rows, the official test split has 3000"), "{text}");
    std::fs::remove_file(world.path("official/RTE/test.tsv")).expect("was there");
    assert!(complaint(command(&world, &submit), 3).contains("RTE/test.tsv"));
    world.write("made/glue.zip", "no zip");
    assert!(complaint(command(&world, &["validate", "made/glue.zip"]), 3).contains("no zip file"));
}

#[test]
fn scores_without_classifiers_make_no_submission() {
    let world = World::new();
    stdout(world.stage("out", &["recipe.epochs=1"]));
    let submit = ["submit", "--scores", "out", "--data", "data", "--seed", "1", "--out", "glue.zip"];
    assert!(complaint(command(&world, &submit), 3).contains("no classifier of CoLA"));
    assert!(!world.path("glue.zip").exists());
}
