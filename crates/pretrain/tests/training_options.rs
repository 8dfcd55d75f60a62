//! What a recipe can ask for beyond the first options, as a user runs it: each option resumes to the same bits.

#[expect(dead_code, reason = "the unit tests use the rest")]
mod fixture;
mod session;

use std::path::Path;

use anyhow::{Context, Result};
use entromask_encoder::EncoderConfig;
use serde_json::Value;
use session::{Session, assert_same_content, expect_failure, json, rows, tensors};

fn sets<'a>(assignments: &[&'a str]) -> Vec<&'a str> {
    assignments.iter().flat_map(|assignment| ["--set", assignment]).collect()
}

/// New options must not change what was configured without them; the folder is that of `tests/golden/make.sh`.
#[test]
fn what_was_trained_when_format_1_was_fixed_keeps_its_key() -> Result<()> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/format-1");
    let folder = tempfile::tempdir()?;
    let student = folder.path().join("student.toml");
    // What a student that said nothing about dropout had then.
    let dropout = "hidden_dropout_prob = 0.1\nattention_probs_dropout_prob = 0.1\n";
    let heads = format!("{dropout}hidden_size = 8\nnum_hidden_layers = 1\nnum_attention_heads = 2\n");
    std::fs::write(&student, format!("{heads}intermediate_size = 16\nmax_position_embeddings = 32\n"))?;
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("entromask-pretrain"));
    command.args(["--dry-run", "--set", "epochs=1", "--student"]).arg(student);
    for name in ["tokens", "masks"] {
        command.arg(format!("--{name}")).arg(golden.join(name));
    }
    let output = command.arg("--out").arg(golden.join("model")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("up to date"), "{text}{}", session::stderr(&output));
    Ok(())
}

/// Depth and width of each size that has a name, by family; others differ in nothing else.
#[test]
fn the_students_that_have_names_are_what_they_are_called() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/student");
    let bert = [
        ("tiny", 2, 128),
        ("mini", 4, 256),
        ("small", 4, 512),
        ("medium", 8, 512),
        ("base", 12, 768),
        ("large", 24, 1024),
    ];
    for (family, base, large) in [
        ("", 12, 24),
        ("pre-ln-", 12, 24),
        ("roberta-", 12, 24),
        ("distilbert-", 6, 12),
        ("albert-", 12, 24),
        ("modernbert-", 22, 28),
    ] {
        for (size, layers, width) in bert {
            let layers = match size {
                "base" => base,
                "large" => large,
                _ => layers,
            };
            let file = folder.join(format!("{family}{size}.toml"));
            let config: EncoderConfig = entromask_cli::load_file(&file)?;
            config.check()?;
            assert_eq!((config.num_hidden_layers, config.hidden_size), (layers, width), "{family}{size}");
            assert!(config.max_seq_length() >= 512 && config.hidden_dropout_prob.abs() < f64::EPSILON);
            assert_eq!(config.as_stored()?.model_type, config.model_type);
        }
    }
    assert_eq!(std::fs::read_dir(folder)?.count(), 36);
    Ok(())
}

fn steps(model: &Path) -> Result<Vec<Value>> {
    Ok(rows(model)?.into_iter().filter(|row| row.get("loss").is_some()).collect())
}

fn column(model: &Path, name: &str) -> Result<Vec<f64>> {
    steps(model)?.iter().map(|row| row[name].as_f64().with_context(|| format!("no {name}"))).collect()
}

#[test]
fn every_option_resumes_to_the_same_bits() -> Result<()> {
    let session = Session::new()?;
    let (masks, first) = (session.fixture.masks(0, 4)?, session.fixture.masks(0, 5)?);
    let teacher = session.train(&masks, "teacher", &["--set", "lr=1e-2"])?;
    let (teacher, first) = (teacher.to_str().context("utf-8")?, first.to_str().context("utf-8")?);
    let guided = ["--teacher", teacher, "--init-masks", first];
    let cases = [
        ("lamb", sets(&["optimizer=lamb", "batch_size=4", "micro_batch=2", "ramp={from=1,rows=40}"])),
        ("muon", sets(&["optimizer=muon", "budget={tokens=500}", "decay=wsd", "cooldown=0.5"])),
        (
            "annealed",
            [
                &guided[..],
                &sets(&[
                    "objective.kd=1",
                    "objective.hidden=1",
                    "objective.hidden_layers=[[1,2],[2,2]]",
                    "transfer={mode=\"anneal\",init_fraction=0.5}",
                    "mask_transfer={mode=\"anneal\",init_tokens=400}",
                ]),
            ]
            .concat(),
        ),
    ];
    let policy = "online.mask={policy={name=\"sample\",temperature=1.0},rate=0.3}";
    let online = [
        (
            "first-pass",
            sets(&["online.candidates=0.7", policy, "mask_transfer={mode=\"after-init\",init_tokens=100}"]),
        ),
        ("averages", sets(&["online.mode=running", "online.refresh=5", policy, "batch_size=3"])),
    ];
    for (name, options) in cases.into_iter().chain(online) {
        let whole = session.train(&masks, &format!("{name}-whole"), &options)?;
        let killed = format!("{name}-killed");
        for stop in [9, 14] {
            let mut child = session.started(&masks, &killed, stop, &options)?;
            child.kill()?;
            child.wait()?;
        }
        let resumed = session.train(&masks, &killed, &options)?;
        assert_same_content(&whole, &resumed).with_context(|| name)?;
        let losses = column(&whole, "loss")?;
        assert!(losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");
    }
    Ok(())
}

#[test]
fn a_run_goes_on_only_with_all_rows_that_it_has_logged() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let options = sets(&["online.mode=running", "online.mask={policy={name=\"high\"},rate=0.3}"]);
    let mut child = session.started(&masks, "model", 20, &options)?;
    child.kill()?;
    child.wait()?;
    let state = std::fs::read_dir(session.fixture.path("model/state"))?.next().context("state")??.path();
    for name in ["metrics.jsonl", "masks.jsonl"] {
        let (log, aside) = (state.join(name), state.join("aside"));
        std::fs::rename(&log, &aside)?;
        let named = format!("{name}: has 0 rows up to step");
        expect_failure(session.command(&masks, "model").args(&options), 3, &named)?;
        std::fs::rename(&aside, &log)?;
    }
    session.train(&masks, "model", &options)?;
    Ok(())
}

#[test]
fn a_budget_ends_the_run_and_spans_the_schedule() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let run = |name: &str, budget: &str| {
        session.train(&masks, name, &sets(&[budget, "warmup=0.1", "decay=linear", "lr=1e-3"]))
    };
    let by_steps = run("by-steps", "budget={steps=20}")?;
    let rates = column(&by_steps, "lr")?;
    assert_eq!((rates.len(), rates[1].to_bits()), (20, 1e-3f64.to_bits()));
    assert!((rates[19] - 1e-3 / 18.0).abs() < 1e-12, "the last step before the end: {}", rates[19]);
    let by_tokens = run("by-tokens", "budget={tokens=200}")?;
    let tokens = column(&by_tokens, "tokens")?;
    let last = tokens.len() - 1;
    assert!(tokens[last] >= 200.0 && tokens[last - 1] < 200.0, "{tokens:?}");
    let rates = column(&by_tokens, "lr")?;
    assert!((rates[0] - 1e-3 * tokens[0] / 20.0).abs() < 1e-12, "warmup by tokens");
    assert!((rates[last] - 1e-3 * (200.0 - tokens[last - 1]) / 180.0).abs() < 1e-12);
    let by_seconds = run("by-seconds", "budget={seconds=0.001}")?;
    let rates = column(&by_seconds, "lr")?;
    assert!(rates.len() < 96, "ended before its masks: {}", rates.len());
    assert!(rates[0] > 0.0, "the first step learns");
    Ok(())
}

/// Neither in the key nor in the folder that comes out.
#[test]
fn a_student_that_says_nothing_about_dropout_has_none() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let silent: String =
        session::STUDENT.split_inclusive('\n').filter(|line| !line.contains("dropout")).collect();
    let hidden = "hidden_dropout_prob = 0.25\n";
    let cases = [("silent", silent.clone(), [0.0, 0.0]), ("one", format!("{silent}{hidden}"), [0.25, 0.0])];
    for (name, student, wanted) in cases {
        session.fixture.file("student.toml", &student)?;
        let model = session.train(&masks, name, &[])?;
        let config = json(&model.join("config.json"))?;
        let found = ["hidden_dropout_prob", "attention_probs_dropout_prob"].map(|key| config[key].as_f64());
        assert_eq!(found, wanted.map(Some), "{name}");
        let student = &json(&model.join("manifest.json"))?["config"]["student"];
        assert_eq!(student["hidden_dropout_prob"].as_f64(), Some(wanted[0]), "{name}");
    }
    // The recipe has the last word.
    let config = json(&session.train(&masks, "none", &["--set", "dropout=0.0"])?.join("config.json"))?;
    assert_eq!(config["hidden_dropout_prob"], 0.0);
    Ok(())
}

#[test]
fn parts_of_a_batch_are_the_batch() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let run =
        |name: &str, more: &[&str]| session.train(&masks, name, &sets(&[&["batch_size=6"], more].concat()));
    let (whole, parts) = (run("whole", &[])?, run("parts", &["micro_batch=4"])?);
    for (a, b) in column(&whole, "loss")?.iter().zip(column(&parts, "loss")?) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    let manifest = |model: &Path| json(&model.join("manifest.json"));
    assert_ne!(manifest(&whole)?["key"], manifest(&parts)?["key"], "the last bits differ");
    Ok(())
}

#[test]
fn masks_change_when_the_first_phase_is_over() -> Result<()> {
    let session = Session::new()?;
    let (early, late) = (session.fixture.masks(0, 1)?, session.fixture.masks_of_position(0, 1, 5)?);
    let run = |masks: &Path, name: &str, more: &[&str]| {
        session.train(masks, name, &[&sets(&["epochs=1"]), more].concat())
    };
    let switched = [
        &["--init-masks", early.to_str().context("utf-8")?][..],
        &sets(&["mask_transfer={mode=\"after-init\",init_fraction=0.5}"]),
    ]
    .concat();
    let both = run(&late, "both", &switched)?;
    let (first, second) = (run(&early, "early", &[])?, run(&late, "late", &[])?);
    let loss = |model: &Path| column(model, "ce");
    assert_eq!(loss(&both)?[..12], loss(&first)?[..12], "the first half is that of the first masks");
    assert_ne!(loss(&both)?[12..], loss(&first)?[12..]);
    assert_ne!(loss(&both)?[0].to_bits(), loss(&second)?[0].to_bits());
    Ok(())
}

#[test]
fn online_masks_are_written_down_and_their_age_is_logged() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let options =
        sets(&["online.mode=running", "online.refresh=4", "online.mask={policy={name=\"high\"},rate=0.3}"]);
    let model = session.train(&masks, "model", &options)?;
    let text = std::fs::read_to_string(model.join("masks.jsonl"))?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), 96, "24 rows in 4 epochs");
    let mut rows: Vec<u64> = lines[24..48].iter().filter_map(|line| line["row"].as_u64()).collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..24).collect::<Vec<_>>());
    assert!(lines[24..48].iter().all(|line| line["epoch"] == 1));
    let steps = steps(&model)?;
    assert!(steps[..24].iter().all(|step| step.get("staleness").is_none()), "nothing was scored before");
    let ages: Vec<f64> = steps.iter().filter_map(|step| step["staleness"].as_f64()).collect();
    assert!(!ages.is_empty() && ages.iter().all(|age| *age > 0.0 && *age < 728.0), "{ages:?}");
    let manifest = entromask_artifact::Manifest::load(&model, entromask_artifact::Kind::Model)?;
    manifest.verify(&model)?;
    assert!(manifest.outputs.iter().any(|output| output.file == "masks.jsonl"));
    Ok(())
}

/// Two of four epochs of 24 steps.
#[test]
fn losses_are_logged_where_they_are_measured() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let teacher = session.train(&masks, "teacher", &[])?;
    let teacher = ["--teacher", teacher.to_str().context("utf-8")?];
    let objective = sets(&["objective.kd=1", "objective.cos=1"]);
    for (mode, measured) in [("after-init", [false, true]), ("anneal", [true, false])] {
        let transfer = format!("transfer={{mode=\"{mode}\",init_fraction=0.5}}");
        let model =
            session.train(&masks, mode, &[&teacher[..], &objective, &["--set", &transfer]].concat())?;
        for (half, measured) in steps(&model)?.chunks(48).zip(measured) {
            let all = |name: &str| half.iter().all(|step| step.get(name).is_some() == measured);
            assert!(all("kd") && all("cos"), "{mode}");
        }
    }
    Ok(())
}

#[test]
fn a_student_begins_with_the_layers_of_its_teacher() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let teacher = session.train(&masks, "teacher", &["--set", "lr=1e-2"])?;
    session.fixture.file("student.toml", &session::STUDENT.replace("layers = 2", "layers = 1"))?;
    let init = ["--init", teacher.to_str().context("utf-8")?];
    let still = sets(&["init.layers=[1]", "lr=1e-30", "weight_decay=0"]);
    let student = session.train(&masks, "student", &[&init[..], &still].concat())?;
    let weights = tensors(&student.join("model.safetensors"))?;
    let theirs = tensors(&teacher.join("model.safetensors"))?;
    assert!(weights.len() > 10);
    for (name, values) in &weights {
        let from = name.replace("layer.0.", "layer.1.");
        let origin = theirs.iter().find(|(name, _)| *name == from).context(from.clone())?;
        assert!(*values == origin.1, "{name}");
    }
    Ok(())
}

#[test]
fn a_run_that_diverges_keeps_its_last_good_checkpoint() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let options =
        sets(&["lr=30", "clip=0", "run.checkpoint_every=1", "validation.every=0", "optimizer=lamb"]);
    expect_failure(session.command(&masks, "model").args(&options), 1, "diverged")?;
    let state = std::fs::read_dir(session.fixture.path("model/state"))?.next().context("state")??.path();
    let kept = std::fs::read_dir(state)?.flatten().filter(|entry| entry.path().join("trainer.json").exists());
    assert!(kept.count() >= 1);
    assert!(!session.fixture.path("model/manifest.json").exists());
    Ok(())
}

/// An epoch is 24 steps, all of which are validated here, and many of them are the best so far.
#[test]
fn checkpoints_come_when_they_are_due_and_the_best_of_them_is_marked() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let options = |every| sets(&["validation.every=1", "lr=1e-2", every]);
    let written = |out: &str, every| -> Result<usize> {
        let output = session.command(&masks, out).args(options(every)).arg("-v").output()?;
        assert!(output.status.success());
        Ok(session::stderr(&output).matches("checkpoint at step").count())
    };
    assert_eq!(written("none", "run.checkpoint_every=0")?, 1, "that at the end");
    assert_eq!(written("some", "run.checkpoint_every=24")?, 4);
    let mut child = session.started(&masks, "model", 30, &options("run.checkpoint_every=1"))?;
    session::signal(&child, "TERM")?;
    child.wait()?;
    let state = std::fs::read_dir(session.fixture.path("model/state"))?.next().context("state")??.path();
    let best = std::fs::read_to_string(state.join("best"))?;
    assert!(state.join(&best).join("trainer.json").exists(), "{best}");
    Ok(())
}

#[test]
fn contradictions_are_named() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let run = |more: &[&str]| {
        let mut command = session.command(&masks, "model");
        command.args(more);
        command
    };
    let path = masks.to_str().context("utf-8")?;
    expect_failure(&mut run(&["--init-masks", path]), 2, "mask_transfer")?;
    expect_failure(&mut run(&sets(&["init.fresh_head=true"])), 2, "--init")?;
    let policy = "online.mask.policy.name";
    expect_failure(&mut run(&sets(&[&format!("{policy}=reducible")])), 2, policy)?;
    expect_failure(&mut run(&sets(&["online.refresh=9"])), 2, "online.mask.policy.name = random")?;
    expect_failure(&mut run(&sets(&["online.candidates=0"])), 2, "online.candidates")?;
    expect_failure(
        &mut run(&[&["--init-masks", path][..], &sets(&["online.mask.policy.name=high"])].concat()),
        2,
        "[online]",
    )?;
    expect_failure(&mut run(&sets(&["budget={miles=3}"])), 2, "miles")?;
    expect_failure(&mut run(&sets(&["momentum=0.5"])), 2, "momentum = 0.5; it must be left out")?;
    expect_failure(&mut run(&sets(&["cooldown=0.7"])), 2, "cooldown = 0.7; it must be left out")?;
    expect_failure(&mut run(&sets(&["objective.temperature=7.0"])), 2, "but there is no teacher")?;
    let both = sets(&["budget={steps=3}", "budget.tokens=9"]);
    expect_failure(&mut run(&both), 2, "`budget` has several keys, of which it takes one; leave one")?;
    expect_failure(&mut run(&sets(&["budget={steps=0}"])), 2, "budget.steps = 0; it must be at least 1")?;
    expect_failure(run(&sets(&["epochs=4000000000"])).arg("--dry-run"), 2, "epochs = 4000000000")?;
    expect_failure(&mut run(&sets(&["eps=inf"])), 2, "eps = inf")?;
    expect_failure(&mut run(&sets(&["transfer.mode=anneal"])), 2, "transfer without a teacher")?;
    expect_failure(&mut run(&sets(&["decay=wsd", "warmup=0.9"])), 2, "cooldown")?;
    expect_failure(&mut run(&sets(&["ramp={from=3,rows=9}"])), 2, "ramp.from = 3")?;
    expect_failure(&mut run(&sets(&["objective.hidden=1"])), 2, "hidden_layers")?;
    expect_failure(
        &mut run(&["--targets", path, "--set", "objective.kd=1", "--set", "objective.cos=1"]),
        2,
        "--targets",
    )?;
    expect_failure(&mut run(&["--targets", path, "--set", "objective.kd=1"]), 3, "targets")?;
    Ok(())
}
