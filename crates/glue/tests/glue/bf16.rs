//! Matrix products in bf16, on processors that multiply in it.

use entromask_kernels::has_bf16_products;
use serde_json::Value;

use crate::common::{World, complaint, names, stdout};

/// Losses of the only run's epochs.
fn losses(world: &World, out: &str) -> Vec<f64> {
    let names = names(&world.path(out));
    let run = names.iter().find(|name| name.contains("seed1")).expect("a run");
    let run: Value = serde_json::from_str(&world.read(&format!("{out}/{run}"))).expect("JSON");
    run["train"]["loss"].as_array().expect("losses").iter().filter_map(Value::as_f64).collect()
}

#[test]
fn fine_tuning_is_nearly_the_same_where_the_processor_multiplies_in_it() {
    let world = World::new();
    let in_bf16 = |out: &str| {
        let mut command = world.stage(out, &["recipe.lr=1e-3"]);
        command.args(["--dtype", "bf16"]);
        command
    };
    if !has_bf16_products() {
        assert!(complaint(in_bf16("rounded"), 4).contains("AVX512_BF16"));
        return;
    }
    world.stage("exact", &["recipe.lr=1e-3"]).assert().success();
    stdout(in_bf16("rounded"));
    let (exact, found) = (losses(&world, "exact"), losses(&world, "rounded"));
    assert_eq!((exact.len(), found.len()), (6, 6));
    assert_ne!(exact, found, "bf16 was used");
    for (exact, found) in exact.iter().zip(&found) {
        assert!((found / exact - 1.0).abs() < 0.01, "{found} {exact}");
    }
}
