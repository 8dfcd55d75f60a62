//! What the reports of a grid say, from its own runs and from those of other reports.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use entromask_artifact::Manifest;
use fs_err as fs;
use serde_json::Value;

use crate::world::{World, copy, micro, repository, said};

/// The difference of two strategies, recomputed from the manifests; t(0.975; 1) = 12.706205.
#[test]
fn the_reports_numbers_are_those_of_the_manifests() -> Result<()> {
    let (world, ..) = micro();
    let manifests = world.manifests()?;
    let loss = |model: &str| {
        let (manifest, _) =
            manifests.get(&format!("models/small/micro-mlm-e2/{model}")).context("a model")?;
        manifest.stats["valid_loss"].as_f64().context("a loss")
    };
    let differences = [1, 2].map(|seed| -> Result<f64> {
        Ok(loss(&format!("sample-by-a-mlm-e1-kfold-s{seed}"))? - loss(&format!("random-s{seed}"))?)
    });
    let [one, two] = differences;
    let (one, two) = (one?, two?);
    let (mean, half) = (f64::midpoint(one, two), 12.706_205 * (one - two).abs() / 2.0);

    let report: Value = serde_json::from_str(&world.report("micro.json")?)?;
    let systems = report["systems"].as_array().context("systems")?;
    let place =
        systems.iter().position(|system| system["label"] == "sample, by a teacher").context("the system")?;
    let lines = report["groups"][0]["lines"].as_array().context("lines")?;
    let line = lines.iter().find(|line| line["system"] == place).context("its line")?;
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    assert!((number(&line["difference"]["mean"]) - mean).abs() < 1e-12, "{line}");
    assert!((number(&line["difference"]["t"][0]) - (mean - half)).abs() < 1e-6 * half.max(1.0), "{line}");
    assert!((number(&line["difference"]["t"][1]) - (mean + half)).abs() < 1e-6 * half.max(1.0), "{line}");

    let markdown = world.report("micro.md")?;
    let shown = format!("| {mean:+.4} | {:+.4} to {:+.4} |", mean - half, mean + half);
    let row = markdown.lines().find(|line| line.starts_with("| sample, by a teacher")).context("a row")?;
    assert!(row.contains(&shown), "{shown} in {row}");
    for (manifest, _) in manifests.values() {
        assert!(markdown.contains(&manifest.key[..16]), "each key is named");
    }
    let folders = format!(" DATA={} PIPELINES=tests/pipelines`", world.data().display());
    assert!(markdown.contains("make ablation GRID=") && markdown.contains(&folders), "{folders}");
    assert!(
        markdown.contains("entromask-select --out")
            && markdown.contains("(`tests/pipelines/glue/small.toml`)")
    );
    assert!(
        markdown.contains("Scored on one half of the dev rows, the other half being to choose on: WNLI (")
    );
    check_costs(&report, &manifests)?;
    check_page(world)
}

/// Self-masking is charged its two rounds and the scoring between them, and its curve ends there.
fn check_costs(report: &Value, manifests: &BTreeMap<String, (Manifest, SystemTime)>) -> Result<()> {
    let flops = |name: &str| manifests[name].0.cost.flops;
    let (models, last) = ("models/small/micro-mlm-e2", "sample-by-itself-kfold-r1x1-s1/round-1");
    let training = flops(&format!("{models}/first-1-s1")) + flops(&format!("{models}/{last}"));
    let scoring = flops("entropy/small/micro-mlm-e2/first-1-s1/kfold");
    let runs = report["runs"].as_array().context("runs")?;
    let ends_with = |run: &&Value| run["model"].as_str().is_some_and(|model| model.ends_with(last));
    let run = runs.iter().find(ends_with).context("the run")?;
    assert!(scoring > 0.0 && training > 0.0);
    assert_eq!(run["costs"]["scoring"]["flops"].as_f64(), Some(scoring));
    assert_eq!(run["costs"]["training"]["flops"].as_f64(), Some(training));
    let curve = run["curve"].as_array().context("a curve")?;
    let end = curve.last().context("an end")?;
    assert!((end["flops"].as_f64().unwrap_or(0.0) / (training + scoring) - 1.0).abs() < 1e-9, "{end}");
    assert_eq!(end["loss"], run["valid_loss"], "the last validation is that of the model");
    let steps: Vec<_> = curve.iter().map(|point| point["step"].as_u64()).collect();
    assert!(
        steps.windows(2).all(|pair| pair[0] <= pair[1]) && steps[0] == Some(0),
        "both rounds, once: {steps:?}"
    );
    let twice = steps.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(twice, 1, "once where round 0 ends and once where round 1 begins: {steps:?}");
    Ok(())
}

/// One file, without scripts and without a network.
fn check_page(world: &World) -> Result<()> {
    let page = world.report("micro.html")?;
    assert!(
        page.contains("<code><span>entromask-pretrain</span> <span>"),
        "who made a run is broken into lines"
    );
    assert_eq!(page.matches("<svg").count(), 3);
    for foreign in ["<script", "src=", "@import", "url(", "<link"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let addresses = page.matches("http").count();
    assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    assert!(world.report("micro-compute.svg")?.starts_with("<svg"));
    Ok(())
}

#[test]
fn a_report_takes_runs_that_another_one_has() -> Result<()> {
    let (whole, ..) = micro();
    let other = whole.data().join("report/micro.json");
    let world = World::new()?;
    let report = world.command("report", "micro", &["--with"]).arg(&other).output()?;
    ensure!(report.status.success(), "{}", said(&report));
    let [theirs, taken] = [whole, &world]
        .map(|world| -> Result<Value> { Ok(serde_json::from_str(&world.report("micro.json")?)?) });
    let (theirs, taken) = (theirs?, taken?);
    assert_eq!(theirs["groups"], taken["groups"]);
    let keys = |report: &Value| -> Vec<Value> {
        report["stages"].as_array().into_iter().flatten().map(|stage| stage["key"].clone()).collect()
    };
    assert_eq!((keys(&theirs), keys(&taken).len()), (keys(&taken), 27));
    let markdown = world.report("micro.md")?;
    assert!(markdown.contains("6 of 6 runs are complete"), "{markdown}");
    let from = format!("Taken from {}, keys included: ", other.display());
    assert!(markdown.contains(&from) && markdown.contains("random (seed 1, 2)"), "{markdown}");
    assert!(!whole.report("micro.md")?.contains("Taken from"), "it has all of its own");
    let unknown = "stages were taken from it without comparing configurations";
    assert!(said(&report).contains(unknown), "{}", said(&report));
    let lead = "Taken without comparing configurations, since what they read is not here: 26 stages, ";
    let command = format!("--out {}", whole.data().join("entropy").display());
    assert!(markdown.contains(lead) && markdown.contains(&command), "{markdown}");
    for words in ["Not replicates", "unlike rows"] {
        assert!(!markdown.contains(words), "{words} is in {markdown}");
    }
    // Written again from itself it says the same.
    let itself = world.data().join("report/micro.json");
    let report = world.command("report", "micro", &["--with"]).arg(&itself).output()?;
    ensure!(report.status.success(), "{}", said(&report));
    assert_eq!(world.report("micro.md")?, markdown);
    Ok(())
}

/// Perhaps it is that of another grid, or choices were changed since.
#[test]
fn a_report_with_no_run_of_the_grid_is_named() -> Result<()> {
    let (whole, ..) = micro();
    let world = World::new()?;
    let mut other: Value = serde_json::from_str(&whole.report("micro.json")?)?;
    other["runs"].as_array_mut().into_iter().flatten().for_each(|run| run["seed"] = 9.into());
    let path = world.folder.path().join("other.json");
    fs::write(&path, other.to_string())?;
    let report = world.command("report", "micro", &["--with"]).arg(&path).output()?;
    ensure!(report.status.success(), "{}", said(&report));
    let warning = format!("{}: none of its 6 runs is one of this grid", path.display());
    assert!(said(&report).contains(&warning), "{}", said(&report));
    Ok(())
}

/// Its model may be of the same recipe on masks of another one.
#[test]
fn a_taken_run_of_other_configurations_is_no_replicate() -> Result<()> {
    let (whole, ..) = micro();
    let world = World::new()?;
    let mut other: Value = serde_json::from_str(&whole.report("micro.json")?)?;
    let runs = other["runs"].as_array_mut().context("runs")?;
    let masked = runs.iter_mut().find(|run| run["seed"] == 2 && run["system"] == 1).context("a run")?;
    masked["lineage"] = "of other masks".into();
    let path = world.folder.path().join("other.json");
    fs::write(&path, other.to_string())?;
    let report = world.command("report", "micro", &["--with"]).arg(&path).output()?;
    ensure!(report.status.success(), "{}", said(&report));
    let label = other["systems"][1]["label"].as_str().context("a label")?;
    let markdown = world.report("micro.md")?;
    assert!(markdown.contains(&format!("Not replicates: the models of {label} were")), "{markdown}");
    Ok(())
}

/// A run that lacks a fine-tuning has a model and others, which a report would else be without.
#[test]
fn a_taken_run_may_lack_a_fine_tuning() -> Result<()> {
    let (whole, ..) = micro();
    let world = World::new()?;
    let mut other: Value = serde_json::from_str(&whole.report("micro.json")?)?;
    let runs = other["runs"].as_array_mut().context("runs")?;
    let partial = runs.iter_mut().find(|run| run["seed"] == 2).context("a run")?;
    let (system, loss) = (partial["system"].clone(), partial["valid_loss"].clone());
    partial["glue"] = serde_json::json!({});
    let path = world.folder.path().join("other.json");
    fs::write(&path, other.to_string())?;

    let report = world.command("report", "micro", &["--with"]).arg(&path).output()?;
    ensure!(report.status.success(), "{}", said(&report));
    let report: Value = serde_json::from_str(&world.report("micro.json")?)?;
    let mut runs = report["runs"].as_array().into_iter().flatten();
    let taken = runs.find(|run| run["seed"] == 2 && run["system"] == system).context("the run")?;
    assert_eq!((&taken["valid_loss"], taken["glue"].as_object().map(serde_json::Map::len)), (&loss, Some(0)));
    let missing = taken["missing"].as_str().context("what is missing")?;
    assert!(missing.starts_with("glue/"), "{missing}");
    assert!(world.report("micro.md")?.contains("5 of 6 runs are complete"));
    Ok(())
}

/// What made a run there may have been made here too, with other bits: then both are told, each with its own.
#[test]
fn a_taken_run_keeps_the_stages_that_made_it() -> Result<()> {
    let (whole, ..) = micro();
    let world = World::new()?;
    copy(&whole.data(), &world.data())?;
    let (scores, model) =
        ("entropy/small/micro-mlm-e2/first-1-s1/kfold", "sample-by-itself-kfold-r1x1-s1/round-1");
    let content = whole.manifests()?[scores].0.content.clone();
    let other = world.folder.path().join("other.json");
    let zeros = "0".repeat(content.len());
    fs::write(&other, whole.report("micro.json")?.replace(&content, &zeros))?;
    fs::remove_file(world.data().join("models/small/micro-mlm-e2").join(model).join("manifest.json"))?;

    let report = world.command("report", "micro", &["--with"]).arg(&other).output()?;
    ensure!(report.status.success(), "{}", said(&report));
    let report: Value = serde_json::from_str(&world.report("micro.json")?)?;
    let stages = report["stages"].as_array().context("stages")?;
    assert_eq!(stages.len(), 28, "those of the grid, and the scores of the other report");
    let runs = report["runs"].as_array().context("runs")?;
    let of = |taken: bool| -> Vec<&Value> {
        let runs = runs.iter().filter(|run| run["taken_from"].is_string() == taken);
        let stages = runs.flat_map(|run| run["stages"].as_array().into_iter().flatten());
        stages.filter_map(|stage| stages_content(&report, stage, scores)).collect()
    };
    assert_eq!(of(true).iter().map(|found| found.as_str()).collect::<Vec<_>>(), [Some(zeros.as_str())]);
    assert!(of(false).iter().all(|found| found.as_str() == Some(&content)));
    let markdown = world.report("micro.md")?;
    assert!(markdown.contains(&zeros[..16]) && markdown.contains("other.json |"), "{markdown}");
    Ok(())
}

/// The content of a stage, if it made `name`.
fn stages_content<'a>(report: &'a Value, stage: &Value, name: &str) -> Option<&'a Value> {
    let stage = &report["stages"][stage.as_u64()? as usize];
    stage["out"].as_str()?.ends_with(name).then_some(&stage["content"])
}

#[test]
fn a_report_of_other_artifacts_is_refused() -> Result<()> {
    let (whole, ..) = micro();
    let report = whole.report("micro.json")?;
    let manifests = whole.manifests()?;
    let [tokens, entropy] = ["tokens/small", "entropy/small/micro-mlm-e2/first-1-s1/kfold"]
        .map(|name| manifests[name].0.key.clone());
    let other = whole.folder.path().join("other.json");
    let forge = |key: &str| fs::write(&other, report.replace(key, &"0".repeat(key.len())));
    let out = whole.folder.path().join("refused");
    let with =
        |file: &Path| whole.command("report", "micro", &["--out"]).arg(&out).arg("--with").arg(file).output();
    forge(&tokens)?;
    let output = with(&other)?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains(&tokens) && said(&output).contains("other.json"), "{}", said(&output));
    fs::write(&other, "{}")?;
    let output = with(&other)?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("no report of entromask-ablation"), "{}", said(&output));
    assert_eq!(with(&whole.data().join("report/none.json"))?.status.code(), Some(3));
    assert!(!out.exists(), "nothing was written");
    let stages: Value = serde_json::from_str(&report)?;
    let recipe = stages["stages"].as_array().into_iter().flatten().find(|stage| stage["program"] == "glue");
    let recipe = recipe.and_then(|stage| stage["config"].as_str()).context("its configuration")?;
    forge(recipe)?;
    let output = with(&other)?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("its configuration is") && said(&output).contains(recipe),
        "{}",
        said(&output)
    );
    // A model may differ in its last bits, and with it the key of its entropies.
    forge(&entropy)?;
    let output = with(&other)?;
    assert!(output.status.success() && out.exists(), "{}", said(&output));
    Ok(())
}

/// Choices do not say what is in the files that they name, and what is not up to date any more has no key to compare.
#[test]
fn runs_of_another_configuration_are_not_taken_over() -> Result<()> {
    let (whole, ..) = micro();
    let world = World::new()?;
    copy(&whole.data(), &world.data())?;
    let (other, pipelines) = (whole.data().join("report/micro.json"), world.folder.path().join("pipelines"));
    let changes = [
        ("glue/small.toml", "epochs = 1", "epochs = 2", "glue/small/micro-mlm-e2/"),
        ("train/mlm.toml", "lr = ", "weight_decay = 0.125\nlr = ", "models/small/micro-mlm-e"),
    ];
    for (file, from, to, stage) in changes {
        copy(&repository().join("tests/pipelines"), &pipelines)?;
        let text = fs::read_to_string(pipelines.join(file))?;
        ensure!(text.contains(from), "{text}");
        fs::write(pipelines.join(file), text.replace(from, to))?;
        let output = world.command_of(&pipelines, "report", "micro", &["--with"]).arg(&other).output()?;
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        for part in [stage, "its configuration is", "micro.json it is"] {
            assert!(said(&output).contains(part), "{part} is not in {}", said(&output));
        }
    }
    // By itself the report has fewer runs than the one that it replaces, and says why.
    let output = world.command_of(&pipelines, "report", "micro", &[]).output()?;
    assert!(output.status.success(), "{}", said(&output));
    let warning = "0 runs are complete, 6 were in the report that this one replaces";
    assert!(said(&output).contains(warning), "{}", said(&output));
    let markdown = world.report("micro.md")?;
    let missing = markdown.lines().find(|line| line.starts_with("Missing: ")).context("a paragraph")?;
    assert!(missing.contains("weight_decay: "), "{missing}");
    Ok(())
}

/// Their names say that they differ, and a difference of 0 would say that it does not matter.
#[test]
fn runs_that_come_to_one_model_are_named() -> Result<()> {
    let world = World::new()?;
    let pipelines = world.folder.path().join("pipelines");
    copy(&repository().join("tests/pipelines"), &pipelines)?;
    fs::copy(pipelines.join("train/mlm.toml"), pipelines.join("train/same.toml"))?;
    let grid = "title = \"Twins\"\n[fixed]\ncorpus = \"small\"\nstudent = \"micro\"\nepochs = 1\n\
                [axes]\ntrain = [\"mlm\", \"same\"]\n";
    fs::write(pipelines.join("grid/twins.toml"), grid)?;
    let warning = "train mlm and train same (seed 1) are one and the same, so some file";
    for flags in [&[][..], &["--dry-run"]] {
        let output = world.command_of(&pipelines, "run", "twins", flags).output()?;
        assert!(output.status.success() && said(&output).contains(warning), "{}", said(&output));
    }
    let markdown = world.report("twins.md")?;
    assert!(markdown.contains(&format!("\nNot different: {warning}")), "{markdown}");
    Ok(())
}

/// Numbers that somebody changed would stand in the report with the key of those that were measured.
#[test]
fn results_that_are_not_what_their_manifest_says_are_refused() -> Result<()> {
    let (whole, ..) = micro();
    let world = World::new()?;
    copy(&whole.data(), &world.data())?;
    let out = world.folder.path().join("out");
    let report = || world.command("report", "micro", &["--out"]).arg(&out).output();
    let manifests = whole.manifests()?;
    for (kind, file) in [("glue/", "results.json"), ("models/", "metrics.jsonl")] {
        let is_last = |name: &&String| name.starts_with(kind) && name.contains("random-s2");
        let folder = world.data().join(manifests.keys().find(is_last).context(kind)?);
        let path = folder.join(file);
        let text = fs::read_to_string(&path)?;
        let place = text.rfind(|c: char| c.is_ascii_digit()).context("a number")?;
        let digit = if text[place..].starts_with('1') { "2" } else { "1" };
        fs::write(&path, format!("{}{digit}{}", &text[..place], &text[place + 1..]))?;
        let output = report()?;
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let complaint = format!("{}: the manifest says blake3", path.display());
        assert!(said(&output).contains(&complaint), "{complaint} is not in {}", said(&output));
        assert!(!out.exists(), "nothing was written");
        fs::write(&path, text)?;
    }
    let output = report()?;
    assert!(output.status.success() && out.exists(), "{}", said(&output));
    Ok(())
}
