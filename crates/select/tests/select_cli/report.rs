//! The numbers of the report, against counts made from the tables.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use entromask_artifact::{Kind, Manifest};
use entromask_tables::{TokenColumns, Tokens};
use serde_json::Value;

use crate::world::World;

/// Row number, token ids and masked positions in each epoch.
type Rows = Vec<(u64, Vec<u32>, Vec<Vec<u16>>)>;

fn rows(world: &World, out: &str, epochs: u16) -> Result<Rows> {
    let dir = world.path("tokens");
    let mut found = Rows::new();
    for (index, part) in Manifest::load(&dir, Kind::Tokens)?.parts("part").enumerate() {
        let tokens = Tokens::read(&dir.join(&part.file), TokenColumns::default())?;
        let masks: Vec<_> =
            (0..epochs).map(|epoch| Ok(world.masks(out, epoch)?.remove(index))).collect::<Result<_>>()?;
        for row in 0..tokens.rows() {
            let positions = masks.iter().map(|masks| masks.positions.row(row).to_vec()).collect();
            found.push((tokens.row[row], tokens.input_ids.row(row).to_vec(), positions));
        }
    }
    Ok(found)
}

fn close(found: &Value, wanted: f64) {
    assert!((found.as_f64().expect("a number") - wanted).abs() < 1e-9, "{found} instead of {wanted}");
}

#[test]
fn counts_are_those_of_the_tables() -> Result<()> {
    let world = World::new()?;
    let set =
        ["--set", "epochs=3", "--set", "policy={name=\"sample\", temperature=0.5}", "--set", "rate=0.3"];
    world.select("out", &set).assert().success();
    let (report, rows) = (world.report("out")?, rows(&world, "out", 3)?);
    let masked: usize = rows.iter().flat_map(|(_, _, epochs)| epochs).map(Vec::len).sum();
    let maskable: usize = rows.iter().map(|(_, ids, _)| ids.len() - 2).sum();
    assert_eq!((report["budget"].as_u64(), report["short"].as_u64()), (Some(masked as u64), Some(0)));

    let pairs = |test: &dyn Fn(u16) -> f64| -> f64 {
        let all = rows.iter().flat_map(|(_, _, epochs)| epochs);
        all.flat_map(|positions| positions.windows(2)).map(|pair| test(pair[1] - pair[0])).sum()
    };
    let clustering = &report["clustering"];
    close(&clustering["adjacent"], pairs(&|gap| f64::from(u8::from(gap == 1))) / masked as f64);
    close(&clustering["mean_gap"], pairs(&f64::from) / pairs(&|_| 1.0));

    let sets = |epochs: &[Vec<u16>], epoch: usize| epochs[epoch].iter().copied().collect::<BTreeSet<u16>>();
    let repeated: usize = rows
        .iter()
        .flat_map(|(_, _, epochs)| [0, 1].map(|e| sets(epochs, e).intersection(&sets(epochs, e + 1)).count()))
        .sum();
    let later: usize = rows.iter().map(|(_, _, epochs)| epochs[1].len() + epochs[2].len()).sum();
    let ever: usize =
        rows.iter().map(|(_, _, epochs)| epochs.concat().into_iter().collect::<BTreeSet<_>>().len()).sum();
    close(&report["overlap"]["repeated"], repeated as f64 / later as f64);
    close(&report["overlap"]["ever"], ever as f64 / maskable as f64);

    let mut by_id = BTreeMap::<u32, u64>::new();
    for (_, ids, epochs) in &rows {
        epochs
            .concat()
            .iter()
            .for_each(|&position| *by_id.entry(ids[usize::from(position)]).or_default() += 1);
    }
    assert_eq!(report["tokens"]["ever_masked"].as_u64(), Some(by_id.len() as u64));
    for entry in report["tokens"]["most_masked"].as_array().expect("a list") {
        let id = entry["id"].as_u64().expect("an id") as u32;
        assert_eq!(entry["masked"].as_u64(), by_id.get(&id).copied());
    }
    let classes = report["classes"].as_array().expect("a list");
    let total = |key: &str| classes.iter().filter_map(|class| class[key].as_u64()).sum::<u64>();
    assert_eq!((total("masked"), total("maskable")), (masked as u64, 3 * maskable as u64));
    let expected: f64 = classes.iter().filter_map(|class| class["expected"].as_f64()).sum();
    assert!((expected - masked as f64).abs() < 1e-6 * masked as f64, "{expected} of {masked}");
    let entropies: f64 = rows
        .iter()
        .flat_map(|(_, _, epochs)| epochs.concat())
        .map(|p| f64::from((f32::from(p) - 1.0) / 10.0))
        .sum();
    close(&report["means"]["entropy"]["masked"], entropies / masked as f64);
    Ok(())
}

/// For `random` what is found differs from what is expected of random masks by chance only: 60 rows, 40 epochs, about
/// 11,700 masked tokens, 2,200 of them beside another one. The bounds are at least 6 standard deviations, estimated as if tokens were independent.
#[test]
fn random_masks_are_what_is_expected_of_random_masks() -> Result<()> {
    let world = World::new()?;
    world.bare("out").args(["--set", "epochs=40", "--set", "rate=0.2"]).assert().success();
    let report = world.report("out")?;
    let near = |found: &Value, wanted: &Value, relative: f64| {
        let (found, wanted) = (found.as_f64().expect("a number"), wanted.as_f64().expect("a number"));
        assert!((found / wanted - 1.0).abs() < relative, "{found} and {wanted}");
    };
    let (clustering, overlap) = (&report["clustering"], &report["overlap"]);
    near(&clustering["adjacent"], &clustering["adjacent_random"], 0.15);
    near(&clustering["mean_gap"], &clustering["mean_gap_random"], 0.06);
    near(&overlap["repeated"], &overlap["repeated_random"], 0.15);
    near(&overlap["ever"], &overlap["ever_random"], 0.01);
    for class in report["classes"].as_array().expect("a list") {
        let share = class["masked"].as_f64().zip(class["maskable"].as_f64()).map(|(a, b)| a / b);
        assert!((share.expect("counts") - 0.2).abs() < 0.04, "{class}");
    }
    assert_eq!(report["overlap"]["ever_random"].as_f64().map(|ever| ever > 0.99), Some(true));
    Ok(())
}

/// `high` masks the same in every epoch, the last words of each row, side by side: the report says so.
#[test]
fn a_collapse_is_visible() -> Result<()> {
    let world = World::new()?;
    world.select("out", &["--set", "epochs=3", "--set", "policy.name=high"]).assert().success();
    let report = world.report("out")?;
    close(&report["overlap"]["repeated"], 1.0);
    close(&report["clustering"]["mean_gap"], 1.0);
    assert!(report["overlap"]["ever_random"].as_f64() > Some(0.35));
    close(&report["overlap"]["ever"], world.manifest("out")?.stats["rate"].as_f64().expect("a rate"));
    assert!(report["tokens"]["ever_masked"].as_u64() < report["tokens"]["distinct"].as_u64());
    Ok(())
}

#[test]
fn where_all_is_masked_nothing_else_has_a_mean() -> Result<()> {
    let world = World::new()?;
    world.select("out", &["--set", "rate=1.0", "--set", "policy.name=high"]).assert().success();
    let stats = world.manifest("out")?.stats;
    assert_eq!(stats["masked"], stats["maskable"]);
    let means = &world.report("out")?["means"]["entropy"];
    for (masked, unmasked) in [
        (&stats["mean_entropy_masked"], stats.get("mean_entropy_unmasked")),
        (&means["masked"], means.get("unmasked")),
    ] {
        assert!(masked.as_f64() > Some(0.0) && unmasked.is_some_and(Value::is_null), "{stats}");
    }
    Ok(())
}

#[test]
fn a_single_epoch_has_no_overlap() -> Result<()> {
    let world = World::new()?;
    world.bare("out").assert().success();
    assert!(world.report("out")?["overlap"].is_null());
    Ok(())
}
