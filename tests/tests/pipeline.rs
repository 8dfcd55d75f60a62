//! Drives `make` through the life of a pipeline: swaps, touches, changed keys, kills.
//!
//! The binaries are those that `cargo test --workspace` has just built. Configurations are the small ones in
//! `tests/pipelines`, the corpus is a small part of the sample; everything is made in a temporary folder.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use entromask_artifact::Manifest;
use fs_err as fs;
use tempfile::TempDir;

/// A data folder of its own and the commands that fill it.
struct Pipeline {
    folder: TempDir,
}

impl Pipeline {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        copy_folder(&repository().join("tests/pipelines"), &folder.path().join("pipelines"))?;
        fs::create_dir(folder.path().join("data"))?;
        Ok(Self { folder })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn make_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("make");
        command
            .current_dir(repository())
            .args(["BUILD=", "CORPUS=small", "STUDENT=micro", "ROUNDS=2", "FLAGS=-q"])
            .args(choices(arguments))
            .arg(format!("BIN={}", binaries().display()))
            .arg(format!("DATA={}", self.data().display()))
            .arg(format!("PIPELINES={}", self.folder.path().join("pipelines").display()))
            .args(arguments)
            .env_remove("MAKEFLAGS");
        command
    }

    fn make(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.make_command(arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "make {arguments:?} failed:\n{errors}");
        Ok(output)
    }

    fn plan(&self, arguments: &[&str]) -> Result<String> {
        let output = self.make(&[&["plan"], arguments].concat())?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The manifests below the data folder: artifact -> manifest.
    fn manifests(&self) -> Result<BTreeMap<String, Manifest>> {
        let mut found = BTreeMap::new();
        collect_manifests(&self.data(), &self.data(), &mut found)?;
        Ok(found)
    }

    /// When each artifact was made, as nanoseconds of its manifest's time stamp.
    fn made(&self) -> Result<BTreeMap<String, SystemTime>> {
        let mut found = BTreeMap::new();
        for name in self.manifests()?.into_keys() {
            let made = fs::metadata(self.data().join(&name).join("manifest.json"))?.modified()?;
            found.insert(name, made);
        }
        Ok(found)
    }

    /// The artifacts that `action` made or made anew.
    fn changed_by(&self, action: impl FnOnce() -> Result<()>) -> Result<Vec<String>> {
        let before = self.made()?;
        action()?;
        let after = self.made()?;
        Ok(after
            .into_iter()
            .filter(|(name, time)| before.get(name) != Some(time))
            .map(|(name, _)| name)
            .collect())
    }

    fn edit(&self, config: &str, from: &str, to: &str) -> Result<()> {
        let path = self.folder.path().join("pipelines").join(config);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{config} has no `{from}`");
        Ok(fs::write(&path, text.replace(from, to))?)
    }
}

/// Those that the goals in `arguments` read: others are refused.
fn choices(arguments: &[&str]) -> Vec<&'static str> {
    let names =
        |parts: &[&str]| arguments.iter().any(|argument| parts.iter().any(|part| argument.contains(part)));
    let taught = names(&["teacher-mask", "kd"]) && !names(&["TEACHER="]);
    let measured = names(&["glue", "report"]);
    taught.then_some("TEACHER=a").into_iter().chain(measured.then_some("GLUE=small")).collect()
}

#[test]
fn swapping_the_teacher_reruns_scoring_selection_and_training_only() -> Result<()> {
    let pipeline = Pipeline::new()?;
    let run =
        |teacher: &str| pipeline.make(&["pretrain-teacher-mask", &format!("TEACHER={teacher}")]).map(drop);
    run("a")?;
    let made = pipeline.changed_by(|| run("b"))?;
    let kinds: Vec<_> = made.iter().map(|name| name.split('/').next().unwrap_or_default()).collect();
    // The teacher b is trained, on masks that are there already; then entropy, masks and the student's model follow.
    assert_eq!(kinds, ["entropy", "masks", "models", "models"], "{made:?}");
    assert_eq!(pipeline.changed_by(|| run("a"))?, [""; 0], "going back to a does nothing");
    let first = || pipeline.make(&["pretrain-teacher-mask", "TEACHER=a", "FIRST=random"]).map(drop);
    let made = pipeline.changed_by(first)?;
    let [masks, model] = &made[..] else { anyhow::bail!("masks and a model: {made:?}") };
    assert!(masks.contains("/random/") && model.ends_with("-after-random-0.25"), "{made:?}");
    let config = &pipeline.manifests()?[model].config["mask_transfer"];
    assert_eq!((&config["mode"], &config["init_fraction"]), (&"after-init".into(), &0.25.into()));
    let anneal = ["pretrain-teacher-mask", "TEACHER=a", "FIRST=random", "FIRST_MODE=anneal"];
    let made = pipeline.changed_by(|| pipeline.make(&anneal).map(drop))?;
    let [model] = &made[..] else { anyhow::bail!("a model: {made:?}") };
    assert!(model.ends_with("-anneal-random-0.25"), "{model}");
    assert_eq!(pipeline.manifests()?[model].config["mask_transfer"]["mode"], "anneal");
    Ok(())
}

#[test]
fn only_content_decides() -> Result<()> {
    let pipeline = Pipeline::new()?;
    let run = || pipeline.make(&["pretrain-self-mask"]).map(drop);
    let made = pipeline.changed_by(run)?;
    assert_eq!(made.len(), 1 + 3 + 2 + 3, "tokens, masks of 3 rounds, entropy of 2, models of 3: {made:?}");

    touch_all(pipeline.folder.path())?;
    let future = SystemTime::now() + Duration::from_hours(24);
    set_modified(&pipeline.folder.path().join("pipelines/mask/mixed.toml"), future)?;
    assert_eq!(pipeline.changed_by(run)?, [""; 0], "touching files does nothing");

    pipeline.edit("score/kfold.toml", "batch_tokens = 4096", "batch_tokens = 512")?;
    assert_eq!(pipeline.changed_by(run)?, [""; 0], "the batch size of scoring does not matter");

    pipeline.edit("mask/mixed.toml", "temperature = 1.0", "temperature = 0.5")?;
    let plan = pipeline.plan(&["GOAL=pretrain-self-mask"])?;
    assert!(plan.contains("policy.temperature: 1.0 -> 0.5"), "{plan}");
    assert!(plan.contains("tokens/small: up to date") && plan.contains("will be made first"), "{plan}");
    let made = pipeline.changed_by(run)?;
    assert!(made.iter().all(|name| name.contains("round-1") || name.contains("round-2")), "{made:?}");
    // Round 1 is scored by the unchanged model of round 0.
    assert_eq!(made.len(), 5, "{made:?}");
    Ok(())
}

#[test]
fn killed_at_any_moment_it_resumes_to_the_same_bytes() -> Result<()> {
    let uninterrupted = Pipeline::new()?;
    let started = std::time::Instant::now();
    uninterrupted.make(&["pretrain-self-mask"])?;
    let duration = started.elapsed();

    let killed = Pipeline::new()?;
    for share in [0.05, 0.2, 0.3, 0.3, 0.2] {
        let mut child =
            killed.make_command(&["pretrain-self-mask"]).process_group(0).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(duration.mul_f64(share));
        // The whole group: make and the stage that is at work.
        Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
        child.wait()?;
    }
    killed.make(&["pretrain-self-mask"])?;
    assert_same(&uninterrupted, &killed)
}

#[test]
fn configurations_are_printed_without_artifacts() -> Result<()> {
    for stage in ["tokenize", "score", "select", "pretrain", "glue"] {
        let program = binaries().join(format!("entromask-{stage}"));
        let output = Command::new(program).arg("--print-config").output()?;
        assert!(output.status.success() && !output.stdout.is_empty(), "{stage}: {output:?}");
    }
    Ok(())
}

#[test]
fn what_a_later_stage_would_refuse_is_refused_before_any_work() -> Result<()> {
    let pipeline = Pipeline::new()?;
    let mask = pipeline.folder.path().join("pipelines/mask/wrong.toml");
    fs::write(mask, "rate = 15\n[policy]\nname = \"high\"\n")?;
    let output = pipeline.make_command(&["pretrain-self-mask", "MASK=wrong"]).output()?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("rate = 15"));
    let student = pipeline.folder.path().join("pipelines/student/odd.toml");
    fs::write(student, "hidden_size = 128\nnum_attention_heads = 3\n")?;
    let unknown = pipeline.folder.path().join("unknown");
    fs::create_dir(&unknown)?;
    fs::write(unknown.join("config.json"), r#"{"model_type": "deberta"}"#)?;
    let teacher = format!("TEACHER={}", unknown.display());
    for (arguments, code, words) in [
        (&["pretrain-random", "STUDENT=odd"][..], 2, "multiple"),
        (&["pretrain-teacher-mask", &teacher], 3, "deberta"),
        (&["pretrain-random", "DEVICE=cpu:3"], 2, "cpu:3"),
    ] {
        let output = pipeline.make_command(arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && errors.contains(words), "{arguments:?}: {errors}");
        assert!(errors.contains(&format!("Error {code}")), "{arguments:?}: {errors}");
    }
    assert!(!pipeline.data().join("tokens").exists(), "nothing was made");
    Ok(())
}

#[test]
fn every_pipeline_runs_and_leaves_a_model_a_table_and_a_page() -> Result<()> {
    let pipeline = Pipeline::new()?;
    for goal in ["pretrain-random", "pretrain-kd", "pretrain-self-mask-kd"] {
        pipeline.make(&[goal])?;
    }
    let output = pipeline.make(&["glue", "RUN=kd"])?;
    let table = String::from_utf8(output.stdout)?;
    assert!(table.contains("WNLI"), "{table}");
    pipeline.make(&["report", "RUN=kd"])?;
    let pages: Vec<_> = fs::read_dir(pipeline.data().join("report"))?.collect::<Result<_, _>>()?;
    assert_eq!(pages.len(), 1);
    Ok(())
}

/// The same artifacts with the same content; logs (times, speeds) differ.
fn assert_same(left: &Pipeline, right: &Pipeline) -> Result<()> {
    let (left_found, right_found) = (left.manifests()?, right.manifests()?);
    assert_eq!(left_found.keys().collect::<Vec<_>>(), right_found.keys().collect::<Vec<_>>());
    for (name, manifest) in &left_found {
        let content = |manifest: &Manifest| -> Vec<_> {
            let files = manifest.outputs.iter().filter(|output| !output.log);
            files.map(|output| (output.file.clone(), output.blake3.clone())).collect()
        };
        assert_eq!(content(manifest), content(&right_found[name]), "{name}");
        manifest.verify(&left.data().join(name))?;
        right_found[name].verify(&right.data().join(name))?;
    }
    Ok(())
}

/// Files by hand are those that `make` makes, and the model trained on them is the same bits.
#[test]
fn rounds_of_self_masking_equal_the_same_files_made_by_hand() -> Result<()> {
    let pipeline = Pipeline::new()?;
    pipeline.make(&["pretrain-self-mask", "ROUNDS=1"])?;
    let folder = pipeline.folder.path();
    let stage = |name: &str, words: &str| -> Result<()> {
        let mut command = Command::new(binaries().join(format!("entromask-{name}")));
        command.current_dir(folder).args(["-q", "--tokens", "data/tokens/small"]);
        let output = command.args(words.split_whitespace()).output()?;
        ensure!(output.status.success(), "{name} {words}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let train = "--config pipelines/train/mlm.toml --student pipelines/student/micro.toml --set epochs=2";
    stage("select", "--config pipelines/mask/random.toml --set epochs=1 --out masks-0")?;
    stage("pretrain", &format!("{train} --masks masks-0 --out model-0"))?;
    stage("score", "--config pipelines/score/kfold.toml --model model-0 --out entropy-1")?;
    let epoch = "--set first_epoch=1 --set epochs=1";
    stage(
        "select",
        &format!("--config pipelines/mask/mixed.toml --entropy entropy-1 {epoch} --out masks-1"),
    )?;
    stage("pretrain", &format!("{train} --masks masks-1 --continue-from model-0 --out model-1"))?;
    let by_hand = Manifest::load_any(&folder.join("model-1"))?;
    let manifests = pipeline.manifests()?;
    let (name, made) = manifests
        .iter()
        .find(|(name, _)| name.ends_with("round-1") && name.starts_with("models"))
        .context("round 1")?;
    assert_eq!((&made.key, &made.content), (&by_hand.key, &by_hand.content), "{name}");
    assert_eq!(made.stats["steps"], by_hand.stats["steps"]);

    // The tokens that were trained on since the model scored: none at first, then all before a step.
    let log = fs::read_to_string(folder.join("model-1/metrics.jsonl"))?;
    let rows: Vec<serde_json::Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let steps: Vec<_> = rows.iter().filter(|row| row.get("loss").is_some()).collect();
    let (first, second) = steps.split_at(steps.len() / 2);
    assert!(first.iter().all(|row| row.get("staleness").is_none()), "the masks of round 0 are random");
    let before = first.iter().chain(second).map(|row| row["tokens"].as_f64()).collect::<Vec<_>>();
    for (index, row) in second.iter().enumerate() {
        let trained =
            before[first.len() + index - 1].zip(before[first.len() - 1]).map(|(now, then)| now - then);
        assert_eq!(row["staleness"].as_f64(), trained, "{row}");
    }
    Ok(())
}

#[test]
fn a_cached_teacher_guides_without_being_there() -> Result<()> {
    let pipeline = Pipeline::new()?;
    let run = |distill: &str| pipeline.make(&["pretrain-kd", "ROUNDS=1", distill]).map(drop);
    run("DISTILL=live")?;
    let made = pipeline.changed_by(|| run("DISTILL=cached"))?;
    let [model, targets] = &made[..] else { anyhow::bail!("a model and targets: {made:?}") };
    assert!(model.starts_with("models/") && targets.starts_with("targets/"), "{made:?}");
    assert_eq!(pipeline.changed_by(|| run("DISTILL=cached"))?, [""; 0]);
    assert_eq!(pipeline.manifests()?[targets].config["top_k"], 64);

    let mut inspect = Command::new(binaries().join("entromask-report"));
    let output = inspect.arg("inspect").arg(pipeline.data().join(targets)).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("soft targets") && text.contains("64"), "{text}");

    let live = model.replace("-top64", "");
    let first_step = |model: &str| -> Result<[f64; 2]> {
        let log = fs::read_to_string(pipeline.data().join(model).join("metrics.jsonl"))?;
        let row = log.lines().find(|line| line.contains("\"loss\"")).context("a step")?;
        let row: serde_json::Value = serde_json::from_str(row)?;
        Ok(["ce", "kd"].map(|name| row[name].as_f64().unwrap_or(f64::NAN)))
    };
    let ([ce, kd], [cached_ce, cached_kd]) = (first_step(&live)?, first_step(model)?);
    assert_eq!(ce.to_bits(), cached_ce.to_bits(), "the same batch and weights");
    assert!(cached_kd > 0.0 && cached_kd <= kd, "a bound from below: {cached_kd} {kd}");

    let plan = pipeline.plan(&["GOAL=pretrain-self-mask-kd", "ROUNDS=1", "DISTILL=cached"])?;
    let to_run = |line: &&str| line.contains("/targets/small/") && line.ends_with("will run");
    assert_eq!(plan.lines().filter(to_run).count(), 2, "targets of each round: {plan}");

    let mut other = Command::new(binaries().join("entromask-pretrain"));
    other.current_dir(pipeline.folder.path()).args(["--dry-run", "--set", "objective.temperature=3"]);
    let flags = "--config pipelines/train/kd.toml --student pipelines/student/micro.toml --tokens data/tokens/small \
                 --masks data/masks/small/random/epochs-0-2 --out model --targets";
    let output = other.args(flags.split_whitespace()).arg(format!("data/{targets}")).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("temperature 2, objective.temperature is 3"), "{text}");
    assert_eq!(output.status.code(), Some(2));
    Ok(())
}

fn collect_manifests(root: &Path, dir: &Path, found: &mut BTreeMap<String, Manifest>) -> Result<()> {
    if dir.join("manifest.json").exists() {
        let name = dir.strip_prefix(root)?.display().to_string();
        found.insert(name, Manifest::load_any(dir)?);
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_manifests(root, &path, found)?;
        }
    }
    Ok(())
}

fn touch_all(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            touch_all(&path)?;
        } else if path.file_name().is_none_or(|name| name != "manifest.json") {
            set_modified(&path, SystemTime::now())?;
        }
    }
    Ok(())
}

fn set_modified(path: &Path, time: SystemTime) -> Result<()> {
    Ok(std::fs::File::options().write(true).open(path)?.set_modified(time)?)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("an entry has a name")?);
        if path.is_dir() { copy_folder(&path, &target)? } else { fs::copy(&path, &target).map(drop)? }
    }
    Ok(())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").into()
}

/// The folder of the binaries that were built together with this test: `…/debug`, where the test is `…/debug/deps/x`.
fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in <profile>/deps").to_path_buf();
    let stage = folder.join("entromask-pretrain");
    assert!(stage.exists(), "{} is not built: run `cargo test --workspace`", stage.display());
    folder
}
