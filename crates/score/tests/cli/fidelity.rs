//! `entromask-score fidelity`.

use serde_json::Value;

use crate::world::World;

fn fidelity(world: &World, more: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = world.command();
    command.arg("fidelity").arg("--tokens").arg(world.path("tokens"));
    command.arg("--model").arg(world.path("model")).args(more).assert()
}

fn json(world: &World, more: &[&str]) -> Value {
    let done = fidelity(world, &[&["--json"], more].concat()).success();
    serde_json::from_slice(&done.get_output().stdout).expect("JSON")
}

#[test]
fn as_many_folds_as_positions_are_exact() {
    let world = World::of_parts(&[20, 20]);
    let found = json(&world, &["--rows", "40", "--set", "folds=16"]);
    assert_eq!(found["rows"], 40);
    let number = |key: &str| found["kfold"][key].as_f64().expect("a number");
    assert!(number("spearman") > 0.999 && number("spearman_in_rows") > 0.999, "{found}");
    assert!(number("top_agreement") > 0.99 && number("mean_difference") < 1e-4, "{found}");
    assert_eq!(found["trusted"], true);
    assert!(found["unmasked"]["spearman_in_rows"].as_f64().expect("a number") < 0.9, "{found}");
}

#[test]
fn unmasked_scores_of_a_random_model_are_not_trusted() {
    let world = World::of_parts(&[20, 20]);
    let found = json(&world, &["--rows", "40", "--set", "conditioning=unmasked"]);
    assert_eq!(found["trusted"], false);
    assert!(found["verdict"].as_str().expect("text").starts_with("unmasked cannot be trusted"), "{found}");
}

#[test]
fn it_is_the_same_each_time_and_reads_as_a_table() {
    let world = World::of_parts(&[20, 20]);
    assert_eq!(json(&world, &["--rows", "9"]), json(&world, &["--rows", "9", "--threads", "1"]));
    let done = fidelity(&world, &["--rows", "25"]).success();
    let text = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
    for word in ["25 rows", "mask-each", "kfold", "unmasked", "Spearman", "trusted"] {
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(text.lines().count(), 6, "{text}");
}

#[test]
fn too_few_tokens_say_nothing_and_none_are_a_mistake() {
    let world = World::new();
    assert_eq!(json(&world, &["--rows", "2"])["trusted"], Value::Null);
    fidelity(&world, &["--rows", "0"]).code(2);
}
