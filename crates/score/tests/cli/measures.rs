//! Measures on request.

use burn::tensor::{Device, Int, Tensor, TensorData};
use entromask_encoder::{Batch, MaskedLm};
use entromask_kernels::head_details_reference;
use entromask_tables::{Entropies, TokenColumns, Tokens};

use crate::world::{VOCAB, World};

const ALL: &str = r#"measures=["min_entropy", "renyi2", "margin", "normalized"]"#;
const NAMES: [&str; 4] = ["margin", "min_entropy", "normalized", "renyi2"];

fn first_part(world: &World, out: &str) -> Entropies {
    let manifest = world.manifest(out);
    let path = world.path(out).join(&manifest.parts("part").next().expect("a part").file);
    assert_eq!(Entropies::measures_of(&path).expect("reads"), NAMES);
    Entropies::read_measures(&path, &NAMES).expect("reads")
}

#[test]
fn they_are_in_order_and_leave_the_others_as_they_are() {
    let world = World::new();
    world.score("plain", &[]).assert().success();
    world.score("out", &["--set", ALL]).assert().success();
    assert_ne!(world.manifest("plain").key, world.manifest("out").key);
    let (part, plain) = (first_part(&world, "out"), &world.scores("plain")[0]);
    assert_eq!((&part.entropy, &part.surprisal), (&plain.entropy, &plain.surprisal));
    let limit = (VOCAB as f32).ln();
    let column = |name| part.measure(name).expect("was read").values.iter();
    let values = column("entropy").zip(column("renyi2")).zip(column("min_entropy"));
    for ((entropy, renyi2), min_entropy) in values {
        assert_eq!((entropy.is_some(), entropy.is_some()), (renyi2.is_some(), min_entropy.is_some()));
        let order = [Some(0.0), *min_entropy, *renyi2, *entropy, Some(limit)];
        assert!(entropy.is_none() || order.is_sorted(), "{order:?}");
    }
    for (entropy, normalized) in column("entropy").zip(column("normalized")) {
        assert_eq!(entropy.map(|nats| (nats / limit).clamp(0.0, 1.0)), *normalized);
    }
    assert!(column("margin").flatten().all(|margin| (0.0..=1.0).contains(margin)));
    let stats = world.manifest("out").stats;
    for name in NAMES {
        let mean = stats[format!("mean_{name}")].as_f64().expect("a number");
        let values: Vec<f64> = world_values(&world, name);
        assert!((mean - values.iter().sum::<f64>() / values.len() as f64).abs() < 1e-9, "{name}");
    }
}

fn world_values(world: &World, name: &str) -> Vec<f64> {
    let parts = world.manifest("out").parts("part").map(|part| part.file.clone()).collect::<Vec<_>>();
    let read =
        |file: &String| Entropies::read_measures(&world.path("out").join(file), &[name]).expect("reads");
    let values = parts.iter().map(read).flat_map(|part| part.measure(name).expect("read").values.clone());
    values.flatten().map(f64::from).collect()
}

#[test]
fn one_alone_is_one_column() {
    let world = World::new();
    world.score("out", &["--set", r#"measures=["normalized"]"#]).assert().success();
    let file = world.path("out").join(&world.manifest("out").outputs[0].file);
    assert_eq!(Entropies::measures_of(&file).expect("reads"), ["normalized"]);
}

#[test]
fn the_order_in_the_config_does_not_matter() {
    let world = World::new();
    world.score("one", &["--set", r#"measures=["margin", "renyi2"]"#]).assert().success();
    world.score("two", &["--set", r#"measures=["renyi2", "margin", "renyi2"]"#]).assert().success();
    assert_eq!(world.manifest("one").key, world.manifest("two").key);
    assert_eq!(world.manifest("one").content, world.manifest("two").content);
}

#[test]
fn they_follow_the_plain_definition() {
    let world = World::new();
    world.score("out", &["--set", ALL, "--set", "conditioning=mask-each"]).assert().success();
    let part = first_part(&world, "out");
    let tokens = world.path("tokens");
    let file = entromask_artifact::Manifest::load_any(&tokens).expect("a manifest").outputs[0].file.clone();
    let corpus = Tokens::read(&tokens.join(file), TokenColumns::ALL).expect("reads");
    let (row, position, device) = (2, 5, Device::flex());
    let (model, _) = MaskedLm::from_pretrained(&world.path("model"), &device).expect("loads");
    let mut ids = corpus.input_ids.row(row).to_vec();
    let target = ids[position] as i32;
    ids[position] = 4;
    let hidden = model.hidden(&Batch::from_rows(&[ids], 0, &device));
    let state = model.transform(hidden.slice([0..1, position..position + 1]).reshape([1, 16]));
    let (weight, bias) = model.decoder();
    let target = Tensor::<1, Int>::from_data(TensorData::new(vec![target], [1]), &device);
    let (_, _, details) = head_details_reference(state, weight, bias, target);
    for (name, expected) in
        [("min_entropy", details.min_entropy), ("renyi2", details.renyi2), ("margin", details.margin)]
    {
        let found = part.measure(name).expect("was read").row(row)[position].expect("was scored");
        let expected: f32 = expected.into_scalar();
        assert!((found - expected).abs() < 1e-4, "{name}: {found} is not {expected}");
    }
}
