//! The binary: policies and options end to end, exit codes, resuming, the same bytes on any number of threads.

mod bad_input;
mod report;
mod world;

use anyhow::Result;
use entromask_artifact::{Kind, Manifest};
use entromask_tables::Masks;
use world::{PARTS, World, make_entropies_as};

#[test]
fn high_masks_the_tokens_of_highest_entropy() -> Result<()> {
    let world = World::new()?;
    world.select("high", &["--set", "policy.name=high", "--set", "epochs=2"]).assert().success();
    let manifest = world.manifest("high")?;
    assert_eq!(manifest.outputs.len() as u64, 2 * PARTS);
    let masks = &world.masks("high", 1)?[0];
    // Row 0: [CLS], 10 tokens of rising entropy, [SEP]; round(0.15 · 10) = 2 of them.
    assert_eq!((masks.positions.row(0), masks.epoch[0]), (&[9, 10][..], 1));
    let stats = &manifest.stats;
    assert!(stats["mean_entropy_masked"].as_f64() > stats["mean_entropy_unmasked"].as_f64());
    Ok(())
}

#[test]
fn the_printed_configuration_has_the_key_of_what_was_set() -> Result<()> {
    let world = World::new()?;
    let rate = "rate={ shape = 'linear', from = 0.3, to = 0.1, epochs = 4 }";
    let set = ["--set", "policy={ name = 'sample', temperature = 2.0 }", "--set", rate];
    let printed = world.select("out", &[&set[..], &["--print-config"]].concat()).assert().success();
    let file = world.path("printed.toml");
    std::fs::write(&file, &printed.get_output().stdout)?;
    world.select("out", &set).assert().success();
    let again = world.select("out", &["--dry-run", "--config"]).arg(&file).assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stdout).contains("up to date"));
    Ok(())
}

#[test]
fn the_measure_is_a_column_of_the_entropy_table() -> Result<()> {
    let world = World::new()?;
    let high = ["--set", "policy.name=high", "--set", "measure=surprisal"];
    world.select("surprisal", &high).assert().success();
    assert_eq!(world.masks("surprisal", 0)?[0].positions.row(0), [1, 2], "here surprisal falls");
    let means = &world.report("surprisal")?["means"];
    assert!(means["entropy"]["masked"].as_f64() < means["entropy"]["unmasked"].as_f64());
    assert!(means["measure"]["masked"].as_f64() > means["measure"]["unmasked"].as_f64());
    Ok(())
}

/// A teacher with another tokenizer has no value for words 3, 13, 23, …: they are taken for average.
#[test]
fn gaps_of_carried_scores_are_average() -> Result<()> {
    let world = World::new()?;
    let tokens = Manifest::load(&world.path("tokens"), Kind::Tokens)?;
    let config = serde_json::json!({"carry": "sum"});
    make_entropies_as(config, &world.path("gaps"), &world.path("tokens"), &tokens, |_, word| {
        (word as u32 % 10 != 3).then_some(word / 10.0)
    })?;
    let gaps = world.path("gaps").display().to_string();
    for (policy, expected) in [("high", [9, 10]), ("low", [1, 2])] {
        let name = format!("policy.name={policy}");
        world.bare(policy).args(["--entropy", &gaps, "--set", &name]).assert().success();
        assert_eq!(world.masks(policy, 0)?[0].positions.row(0), expected, "{policy}");
    }
    Ok(())
}

#[test]
fn a_small_margin_is_as_good_as_a_high_entropy() -> Result<()> {
    let world = World::new()?;
    for policy in ["high", "low"] {
        let (margin, set) = (format!("{policy}-by-margin"), format!("policy.name={policy}"));
        world.select(policy, &["--set", &set]).assert().success();
        world.select(&margin, &["--set", &set, "--set", "measure=margin"]).assert().success();
        assert_eq!(world.masks(&margin, 0)?, world.masks(policy, 0)?, "{policy}");
        assert_eq!(world.manifest(&margin)?.config["selected_by"], "1 - margin");
    }
    Ok(())
}

#[test]
fn what_has_no_effect_changes_no_key() -> Result<()> {
    let world = World::new()?;
    let random = ["--set", "whole_word=max"];
    world.bare("random").args(random).assert().success();
    let without_effect =
        ["--set", "measure=surprisal", "--set", "whole_word=mean", "--set", "shortfall=accept"];
    let again = world.bare("random").args(without_effect).arg("--dry-run").assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stdout).contains("up to date"));
    Ok(())
}

#[test]
fn reducible_masks_where_the_reference_is_surer() -> Result<()> {
    let world = World::new()?;
    // The reference is as unsure as the student, but for the words 3 and 5.
    world.score("reference", |_, word| Some(if [3.0, 5.0].contains(&word) { 0.0 } else { word / 10.0 }))?;
    let reference = world.path("reference").display().to_string();
    let reducible = ["--reference", &reference, "--set", "policy.name=reducible"];
    world.select("reducible", &reducible).assert().success();
    assert_eq!(world.masks("reducible", 0)?[0].positions.row(0), [4, 6]);
    let manifest = world.manifest("reducible")?;
    let roles: Vec<_> = manifest.inputs.iter().map(|input| input.role.as_str()).collect();
    assert_eq!(roles, ["tokens", "entropy", "reference"]);
    let excess = &manifest.stats["report"]["means"]["excess"];
    assert!(excess["masked"].as_f64() > excess["unmasked"].as_f64());
    Ok(())
}

#[test]
fn frequency_and_span_need_no_entropies() -> Result<()> {
    let world = World::new()?;
    for policy in ["frequency", "span"] {
        world.bare(policy).args(["--set", &format!("policy.name={policy}")]).assert().success();
    }
    // Id 200 is in each of 60 rows, the last ones of the longest rows in few of them.
    let tokens = &world.report("frequency")?["tokens"];
    assert!(tokens["top_share"].as_f64().is_some());
    let mean_gap = |out| anyhow::Ok(world.report(out)?["clustering"]["mean_gap"].as_f64());
    world.bare("random").assert().success();
    assert!(mean_gap("span")? < mean_gap("random")?);
    let rare = |out| -> Result<usize> {
        let parts = world.masks(out, 0)?;
        let positions = parts.iter().flat_map(|masks| masks.positions.values.iter());
        Ok(positions.filter(|&&position| position > 30).count())
    };
    assert!(rare("frequency")? > rare("random")?, "late positions hold rare tokens here");
    Ok(())
}

#[test]
fn excluded_classes_are_never_masked() -> Result<()> {
    let world = World::new()?;
    let set = ["--set", r#"exclude=["punctuation", "digits"]"#, "--set", "rate=0.9"];
    world.bare("out").args(set).assert().success();
    assert!(world.manifest("out")?.config.get("excluded_by").is_none(), "it has the key that it had");
    world.bare("words").args(set).args(["--set", "whole_word=max"]).assert().success();
    assert_eq!(world.manifest("words")?.config["excluded_by"], "piece");
    let report = world.report("out")?;
    let masked = |class: &str| {
        let mut classes = report["classes"].as_array().into_iter().flatten();
        classes.find(|entry| entry["class"] == class).and_then(|entry| entry["masked"].as_u64())
    };
    assert_eq!((masked("punctuation"), masked("digits")), (Some(0), Some(0)));
    assert!(masked("word") > Some(0) && report["short"].as_u64() > Some(0), "{report}");
    // Id 200 is punctuation and 201 a number: the positions 1 and 2, 11 and 12, …
    let parts = world.masks("out", 0)?;
    assert!(
        parts
            .iter()
            .flat_map(|masks| &masks.positions.values)
            .all(|position| position % 10 > 2 || position % 10 == 0)
    );
    Ok(())
}

#[test]
fn a_budget_of_a_part_goes_where_the_entropy_is() -> Result<()> {
    let world = World::new()?;
    let set = ["--set", "policy.name=high", "--set", "budget=shard"];
    world.select("out", &set).assert().success();
    let parts = world.masks("out", 0)?;
    let counts: Vec<usize> = parts[0].positions.iter().map(<[_]>::len).collect();
    assert!(counts[0] == 0 && counts[19] > 5, "long rows have the higher entropies: {counts:?}");
    assert_eq!(world.report("out")?["short"], 0);
    Ok(())
}

#[test]
fn threads_and_restarts_do_not_change_a_byte() -> Result<()> {
    let world = World::new()?;
    let sample = ["--set", "policy={name=\"sample\", temperature=1}", "--set", "epochs=3"];
    let capped = [&sample[..], &["--set", "cap=0.1", "--set", "whole_word=max"]].concat();
    let shard = [&sample[..], &["--set", "budget=shard", "--set", "spread={share=0.4, window=5}"]].concat();
    for (name, arguments) in [("rows", &sample[..]), ("capped", &capped), ("shard", &shard)] {
        world.select(name, arguments).args(["--threads", "1"]).assert().success();
        let before = (world.bytes(name)?, world.manifest(name)?.stats);
        let two = format!("{name}-two");
        world.select(&two, arguments).args(["--threads", "2"]).assert().success();
        assert_eq!((world.bytes(&two)?, world.manifest(&two)?.stats), before);

        std::fs::remove_file(world.path(name).join("manifest.json"))?;
        std::fs::remove_file(world.path(name).join(&before.0[1].0))?;
        world.select(name, arguments).assert().success();
        assert_eq!((world.bytes(name)?, world.manifest(name)?.stats), before);
    }
    Ok(())
}

#[test]
fn one_epoch_can_be_made_alone() -> Result<()> {
    let world = World::new()?;
    let rate = r#"rate={shape="linear", from=0.1, to=0.5, epochs=3}"#;
    world.bare("all").args(["--set", "epochs=3", "--set", rate]).assert().success();
    world.bare("last").args(["--set", "first_epoch=2", "--set", rate]).assert().success();
    let last = world.masks("last", 2)?;
    assert_eq!(world.masks("all", 2)?, last);
    let rates = world.report("all")?["epochs"].as_array().map(Vec::len);
    assert_eq!(rates, Some(3));
    assert!(last.iter().map(Masks::rows).sum::<usize>() == 60 && last[0].positions.row(0).len() == 5);
    Ok(())
}

#[test]
fn a_second_run_is_up_to_date_and_a_dry_run_says_why_not() -> Result<()> {
    let world = World::new()?;
    world.bare("out").assert().success();
    let again = world.bare("out").assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stdout).contains("up to date"));
    let plan = world.bare("out").args(["--set", "rate=0.3", "--dry-run"]).assert().success();
    assert!(String::from_utf8_lossy(&plan.get_output().stdout).contains("rate: 0.15 -> 0.3"));
    let defaults = ["--set", "measure=entropy", "--set", "budget=row", "--set", "shortfall=relax"];
    let nothing = ["--set", "exclude=[]", "--set", "cap=1.0", "--set", "spread={share=1.0,window=9}"];
    let plan = world.bare("out").args(defaults).args(nothing).arg("--dry-run").assert();
    assert!(String::from_utf8_lossy(&plan.get_output().stdout).contains("up to date"));
    world.bare("spared").args(["--set", "exclude=['digits','punctuation']"]).assert().success();
    let twice = "exclude=['punctuation','digits','punctuation']";
    let plan = world.bare("spared").args(["--set", twice, "--dry-run"]).assert();
    assert!(String::from_utf8_lossy(&plan.get_output().stdout).contains("up to date"));
    Ok(())
}

#[test]
fn the_configurations_that_come_along_are_valid() -> Result<()> {
    let world = World::new()?;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/mask");
    world.score("reference", |_, word| Some(word / 20.0))?;
    let reference = world.path("reference").display().to_string();
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let unscored = ["random", "frequency", "span"].contains(&name.as_str());
        let mut select = if unscored { world.bare(&name) } else { world.select(&name, &[]) };
        if name == "reducible" {
            select.args(["--reference", &reference]);
        }
        select.arg("--config").arg(&path).assert().success();
        assert!(world.manifest(&name)?.stats["masked"].as_u64() > Some(100), "{name}");
        names.push(name);
    }
    assert!(names.len() >= 11, "{names:?}");
    Ok(())
}
