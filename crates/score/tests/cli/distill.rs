//! Soft targets: what a model says at masked positions.

use assert_cmd::Command;
use burn::tensor::Device;
use entromask_artifact::{Cost, Input, Kind, Manifest, OutputSpec, Recipe, Workbench, tool};
use entromask_encoder::{Batch, MaskedLm};
use entromask_kernels::has_bf16_products;
use entromask_tables::{Masks, Ragged, Targets, TokenColumns, Tokens};
use serde_json::{Value, json};

use crate::world::{PARTS, VOCAB, World, write_model, write_model_without_tokenizer};

/// Masks of two epochs: in each row every third word, from another one on in each epoch.
fn write_masks(world: &World) {
    let tokens = Manifest::load(&world.path("tokens"), Kind::Tokens).expect("tokens");
    let inputs = vec![Input::artifact("tokens", &tokens, &world.path("tokens"))];
    let config = json!({"first_epoch": 0, "epochs": 2});
    let recipe = Recipe { kind: Kind::Masks, config, inputs };
    let bench = Workbench::open(&world.path("masks"), recipe, tool("handmade", "0", &[])).expect("opens");
    let mut outputs = Vec::new();
    for epoch in 0..2 {
        for (index, output) in tokens.parts("part").enumerate() {
            let path = world.path("tokens").join(&output.file);
            let part = Tokens::read(&path, TokenColumns::default()).expect("reads");
            let name = bench.part_name(&format!("epoch-{epoch:03}"), index);
            bench.write(&name, |path| masks(&part, epoch).write(path, &bench.footer())).expect("writes");
            outputs.push(OutputSpec::part(name, part.rows() as u64));
        }
    }
    bench.publish(outputs, Value::Null, Cost::default()).expect("publishes");
}

fn masks(part: &Tokens, epoch: u16) -> Masks {
    let positions = |ids: &[u32]| -> Vec<u16> {
        (1..ids.len() as u16 - 1).filter(|position| position % 3 == epoch % 3).collect()
    };
    let positions = Ragged::from_rows(part.input_ids.iter().map(positions));
    let inputs = Ragged { offsets: positions.offsets.clone(), values: vec![4; positions.values.len()] };
    Masks { row: part.row.clone(), epoch: vec![epoch; part.rows()], positions, inputs }
}

fn distill(world: &World, out: &str, more: &[&str]) -> Command {
    let mut command = world.command();
    command.arg("distill").arg("-q");
    for (flag, name) in [("--tokens", "tokens"), ("--masks", "masks"), ("--model", "model"), ("--out", out)] {
        command.arg(flag).arg(world.path(name));
    }
    command.args(more);
    command
}

fn manifest(world: &World, out: &str) -> Manifest {
    Manifest::load(&world.path(out), Kind::Targets).expect("a manifest")
}

#[test]
fn a_teacher_that_is_not_what_its_manifest_says_is_refused() {
    let world = World::new();
    write_masks(&world);
    world.publish_model();
    world.damage("model/model.safetensors", 2);
    let done = distill(&world, "targets", &[]).assert().code(3);
    assert!(String::from_utf8_lossy(&done.get_output().stderr).contains("the manifest says blake3"));
}

#[test]
fn in_bf16_it_says_nearly_the_same_where_the_processor_multiplies_in_it() {
    let world = World::new();
    write_masks(&world);
    let few = ["--set", "top_k=5"];
    let rounded = distill(&world, "rounded", &[&few[..], &["--dtype", "bf16"]].concat()).assert();
    if !has_bf16_products() {
        rounded.code(4);
        return;
    }
    rounded.success();
    distill(&world, "exact", &few).assert().success();
    let tails = |out: &str| -> Vec<f32> {
        let files = manifest(&world, out).outputs.into_iter().map(|output| world.path(out).join(output.file));
        files.flat_map(|file| Targets::read(&file).expect("reads").tail.values).collect()
    };
    let (exact, rounded) = (tails("exact"), tails("rounded"));
    assert_eq!(exact.len(), rounded.len());
    let most = exact.iter().zip(&rounded).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(most > 0.0 && most < 0.02, "{most}");
}

#[test]
fn masks_and_tokenizers_that_are_not_what_their_manifests_say_are_refused() {
    let world = World::new();
    write_masks(&world);
    let part = Manifest::load(&world.path("masks"), Kind::Masks).expect("masks").outputs[0].file.clone();
    for file in [format!("masks/{part}"), "tokens/tokenizer.json".to_owned()] {
        let whole = fs_err::read(world.path(&file)).expect("reads");
        world.damage(&file, 1);
        let done = distill(&world, "targets", &[]).assert().code(3);
        let said = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
        assert!(said.contains(&format!("{file}: the manifest says blake3")), "{said}");
        fs_err::write(world.path(&file), whole).expect("writes");
    }
    distill(&world, "targets", &[]).assert().success();
}

#[test]
fn a_teacher_that_computes_no_numbers_is_refused() {
    let world = World::new();
    write_masks(&world);
    world.overwrite_tensor("bert.encoder.layer.1.intermediate.dense.weight", 3e38);
    let done = distill(&world, "targets", &[]).assert().code(3);
    let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(stderr.contains("model: what it computes at row") && stderr.contains("not finite"), "{stderr}");
}

#[test]
fn what_is_kept_is_what_the_model_says() {
    kept_by_a_model_that_knows(VOCAB);
}

#[test]
fn ids_that_no_token_has_are_left_out() {
    kept_by_a_model_that_knows(VOCAB + 6);
}

fn kept_by_a_model_that_knows(vocab_size: usize) {
    let world = World::new();
    write_masks(&world);
    write_model(&world.path("model"), vocab_size);
    distill(&world, "targets", &["--set", "top_k=5", "--set", "temperature=1.5"]).assert().success();
    let manifest = manifest(&world, "targets");
    manifest.verify(&world.path("targets")).expect("whole");
    assert_eq!(manifest.outputs.len(), 2 * PARTS.len());
    let (model, _) = MaskedLm::from_pretrained(&world.path("model"), &Device::flex()).expect("a model");
    let tokens = Manifest::load(&world.path("tokens"), Kind::Tokens).expect("tokens");
    let (mut positions, mut tails) = (0, 0.0);
    for epoch in 0..2 {
        for (index, output) in tokens.parts("part").enumerate() {
            let part = Tokens::read(&world.path("tokens").join(&output.file), TokenColumns::default());
            let part = part.expect("reads");
            let masks = masks(&part, epoch);
            let file = manifest.parts(&format!("epoch-{epoch:03}")).nth(index).expect("a part");
            let targets = Targets::read(&world.path("targets").join(&file.file)).expect("reads");
            assert_eq!((&targets.row, &targets.epoch), (&masks.row, &masks.epoch));
            for row in 0..part.rows() {
                let said = Said { targets: &targets, row };
                said.compare(&model, part.input_ids.row(row), masks.positions.row(row));
                positions += masks.positions.len_of(row);
            }
            tails += targets.tail.values.iter().map(|&tail| f64::from(tail)).sum::<f64>();
        }
    }
    assert_eq!((&manifest.stats["positions"], &manifest.stats["top_k"]), (&positions.into(), &5.into()));
    let mean = manifest.stats["mean_tail"].as_f64().expect("a number");
    assert!((mean - tails / positions as f64).abs() < 1e-9 && mean > 0.01);
}

struct Said<'a> {
    targets: &'a Targets,
    row: usize,
}

impl Said<'_> {
    fn compare(&self, model: &MaskedLm, ids: &[u32], positions: &[u16]) {
        let (row, targets) = (self.row, self.targets);
        assert_eq!(targets.tail.len_of(row), positions.len());
        let mut seen = ids.to_vec();
        for &position in positions {
            seen[usize::from(position)] = 4;
        }
        let hidden = model.hidden(&Batch::from_rows(&[seen], 0, &Device::flex()));
        let [_, length, width] = hidden.dims();
        let logits = model.logits(hidden.reshape([length, width]));
        let [_, vocab_size] = logits.dims();
        let logits: Vec<f32> = logits.try_into_vec_as().expect("f32");
        for (index, &position) in positions.iter().enumerate() {
            let logits = &logits[usize::from(position) * vocab_size..][..VOCAB];
            let mut order: Vec<usize> = (0..VOCAB).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            let kept = &targets.tokens.row(row)[index * 5..][..5];
            assert!(kept.iter().zip(&order).all(|(&kept, &wanted)| kept as usize == wanted), "{kept:?}");
            let found = &targets.logits.row(row)[index * 5..][..5];
            assert!(found.iter().zip(&order).all(|(found, &wanted)| (found - logits[wanted]).abs() < 1e-3));
            let mass: Vec<f64> = order.iter().map(|&token| (f64::from(logits[token]) / 1.5).exp()).collect();
            let tail = mass[5..].iter().sum::<f64>() / mass.iter().sum::<f64>();
            assert!((f64::from(targets.tail.row(row)[index]) - tail).abs() < 1e-4);
        }
    }
}

#[test]
fn neither_threads_nor_a_second_run_change_it() {
    let world = World::new();
    write_masks(&world);
    distill(&world, "one", &[]).assert().success();
    distill(&world, "two", &["--threads", "1"]).assert().success();
    let [one, two] = ["one", "two"].map(|out| manifest(&world, out));
    assert_eq!((&one.key, &one.content), (&two.key, &two.content));
    let written = fs_err::metadata(world.path("one/manifest.json")).and_then(|file| file.modified()).ok();
    let again = distill(&world, "one", &[]).assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stdout).contains("up to date"));
    assert_eq!(
        fs_err::metadata(world.path("one/manifest.json")).and_then(|file| file.modified()).ok(),
        written
    );
    // An unfinished run keeps its whole parts and makes the others again.
    fs_err::remove_file(world.path("two/manifest.json")).expect("removes");
    let part = world.path("two").join(&two.outputs[0].file);
    let bytes = fs_err::read(&part).expect("reads");
    fs_err::write(&part, &bytes[..bytes.len() / 2]).expect("truncates");
    distill(&world, "two", &[]).assert().success();
    assert_eq!(manifest(&world, "two").content, one.content);
}

#[test]
fn mistakes_have_their_exit_codes() {
    let world = World::new();
    write_masks(&world);
    let fails = |more: &[&str], code: i32, named: &str| {
        let output = distill(&world, "targets", more).assert().code(code);
        let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(text.contains(named), "{named}: {text}");
    };
    fails(&["--set", "top_k=0"], 2, "top_k");
    fails(&["--set", "temperature=0"], 2, "temperature");
    fails(&["--set", "topk=3"], 2, "topk");
    // A model without a tokenizer that knows more tokens than the corpus may have another vocabulary.
    write_model_without_tokenizer(&world.path("model"), VOCAB + 1, 16);
    fs_err::remove_file(world.path("model/tokenizer.json")).expect("removes");
    fails(&[], 3, "knows 51 tokens");
    let other = World::with_parts(&[4]);
    fs_err::rename(world.path("masks"), other.path("masks")).expect("moves");
    let output = distill(&other, "targets", &[]).assert().code(3);
    assert!(String::from_utf8_lossy(&output.get_output().stderr).contains("other tokens"));
}

#[test]
fn the_configuration_is_printed_without_artifacts() {
    let world = World::new();
    let set = ["distill", "--print-config", "--set", "top_k=7"];
    let printed = world.command().args(set).assert().success();
    let printed = String::from_utf8_lossy(&printed.get_output().stdout).into_owned();
    assert!(printed.contains("top_k = 7") && printed.contains("temperature = 2.0"), "{printed}");
    let refused = world.command().args(["distill", "--out", "x"]).assert().code(2);
    assert!(String::from_utf8_lossy(&refused.get_output().stderr).contains("--masks"));
}
