//! Each stage once, in whatever order, after kills and failures.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use fs_err as fs;

use crate::world::{World, binaries, copy, micro, repository, said};

#[test]
fn each_stage_is_made_once_and_a_second_time_there_is_nothing_to_do() -> Result<()> {
    let (world, first, _) = micro();
    let before = world.manifests()?;
    // The corpus; the teacher, on masks that a first round has too, and its entropies; and for each seed: masks of random, of the first round, by the
    // teacher and by itself; four models; one scoring; three fine-tunings.
    assert_eq!(before.len(), 1 + 2 + 2 * (4 + 4 + 1 + 3), "{:?}", before.keys());
    let made: Vec<_> = first.lines().filter(|line| line.contains(": made in ")).collect();
    assert_eq!(made.len(), before.len(), "{first}");
    assert!(first.contains(&format!("[{0}/{0}]", before.len())) && first.contains(" left"), "{first}");

    let again = world.run("micro", &["--jobs", "3"])?;
    assert!(again.status.success() && !said(&again).contains(": made in "), "{}", said(&again));
    assert_eq!(before, world.manifests()?, "nothing was touched");
    let plan = world.run("micro", &["--dry-run"])?;
    let text = String::from_utf8(plan.stdout)?;
    assert!(text.contains("6 runs, 27 stages, 27 of them up to date"), "{text}");
    Ok(())
}

#[test]
fn a_dry_run_says_what_would_be_made_and_makes_nothing() -> Result<()> {
    let world = World::new()?;
    let mut make = Command::new("make");
    make.current_dir(repository()).args(["plan", "GOAL=ablation", "BUILD=", "PIPELINES=tests/pipelines"]);
    make.args([format!("BIN={}", binaries().display()), format!("DATA={}", world.data().display())]);
    let output = make.arg("GRID=tests/pipelines/grid/micro.toml").env_remove("MAKEFLAGS").output()?;
    let text = String::from_utf8(output.stdout.clone())?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(text.contains("tokens/small: will run\n    there is none yet"), "{text}");
    assert!(text.contains("6 runs, 27 stages, 0 of them up to date"), "{text}");
    assert!(world.manifests()?.is_empty());
    Ok(())
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_artifacts() -> Result<()> {
    let (whole, _, duration) = micro();
    let world = World::new()?;
    for (share, signal) in [(0.1, "TERM"), (0.2, "KILL"), (0.3, "TERM")] {
        // Stages of a killed grid may still be on their way out when the next one starts, which waits for them then.
        let mut command = world.command("run", "micro", &[]);
        let mut child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(duration.mul_f64(share));
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status()?;
        let status = child.wait()?;
        // It may have been through already, on a machine whose load has changed.
        assert!(signal == "KILL" || [Some(130), Some(0)].contains(&status.code()), "{status}");
    }
    let output = world.run("micro", &[])?;
    assert!(output.status.success(), "{}", said(&output));
    let (left, right) = (whole.manifests()?, world.manifests()?);
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (name, (manifest, _)) in &left {
        assert_eq!(manifest.content, right[name].0.content, "{name}");
    }
    Ok(())
}

/// Otherwise it would go on unseen, and the next start would wait for it.
#[cfg(target_os = "linux")]
#[test]
fn a_stage_ends_with_a_grid_that_is_killed() -> Result<()> {
    let world = World::new()?;
    let (bin, note) = (world.folder.path().join("bin"), world.folder.path().join("stage"));
    fs::create_dir(&bin)?;
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--dry-run*) echo '{{\"up_to_date\": false, \"reasons\": []}}'; exit;; esac\n\
         echo $$ > {0}.tmp; mv {0}.tmp {0}; exec sleep 600\n",
        note.display()
    );
    let program = bin.join("entromask-tokenize");
    write_program(&program, &script)?;
    for other in ["pretrain", "glue"] {
        write_program(&bin.join(format!("entromask-{other}")), "#!/bin/sh\n")?;
    }
    let mut command = world.command("run", "micro", &["--bin"]);
    let mut grid = command.arg(&bin).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let within_a_minute = |happened: &dyn Fn() -> bool| {
        (0..1200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            happened()
        })
    };
    ensure!(within_a_minute(&|| note.exists()), "no stage has begun");
    let stage = Path::new("/proc").join(fs::read_to_string(&note)?.trim()).join("cmdline");
    let sleeps = || fs::read_to_string(&stage).is_ok_and(|line| line.starts_with("sleep"));
    assert!(within_a_minute(&sleeps), "it is the program's own process");
    grid.kill()?;
    grid.wait()?;
    assert!(within_a_minute(&|| !sleeps()), "it ends");
    Ok(())
}

#[test]
fn a_failed_run_is_named_and_the_others_go_on() -> Result<()> {
    let world = World::new()?;
    let output = world.run("broken", &[])?;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("1 of 2 runs failed: student impossible (seed 1)"), "{text}");
    assert!(text.contains("enough for 8 tokens"), "the stage's own words: {text}");
    assert!(world.data().join("models/small/micro-mlm-e1/random-s1/manifest.json").exists());
    let markdown = world.report("broken.md")?;
    assert!(
        markdown.contains("1 of 2 runs are complete") && markdown.contains("Missing: student impossible"),
        "{markdown}"
    );
    let why = "models/small/impossible-mlm-e1/random-s1: failed: tests/pipelines/student/impossible.toml: max_position";
    assert!(markdown.contains(why), "{markdown}");
    let json: serde_json::Value = serde_json::from_str(&world.report("broken.json")?)?;
    let failed = json["stages"].as_array().into_iter().flatten().filter(|stage| stage["failed"].is_string());
    assert_eq!(failed.count(), 1);
    assert!(
        markdown.lines().any(|line| line.contains("student impossible") && line.ends_with("missing |")),
        "{markdown}"
    );

    let report =
        world.command("report", "broken", &["--out"]).arg(world.folder.path().join("docs")).output()?;
    ensure!(report.status.success(), "{}", said(&report));
    assert_eq!(
        fs::read_to_string(world.folder.path().join("docs/broken.md"))?,
        markdown,
        "the report alone is the same"
    );
    Ok(())
}

/// As with other programs, it is a matter of the command line.
#[test]
fn a_folder_that_cannot_be_written_is_named() -> Result<()> {
    let world = World::new()?;
    fs::remove_dir(world.data())?;
    fs::write(world.data(), "text")?;
    let output = world.run("micro", &[])?;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let words = said(&output);
    assert!(words.contains("cannot write: ") && words.contains("choose another --data"), "{words}");
    Ok(())
}

/// Logs are of what stages say, and of a disk that is read only nothing else would be asked.
#[test]
fn where_all_is_made_nothing_is_logged() -> Result<()> {
    let (whole, ..) = micro();
    let world = World::new()?;
    copy(&whole.data(), &world.data())?;
    let (logs, out) = (world.data().join("ablation"), world.folder.path().join("out"));
    fs::remove_dir_all(&logs)?;
    fs::write(&logs, "no folder")?;
    let run = || world.command("run", "micro", &["--out"]).arg(&out).output();
    let output = run()?;
    assert!(output.status.success() && out.join("micro.md").exists(), "{}", said(&output));
    fs::remove_file(world.data().join("models/small/micro-mlm-e2/random-s1/manifest.json"))?;
    let output = run()?;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("data/ablation/micro: cannot write: "), "{}", said(&output));
    Ok(())
}

#[test]
fn a_corpus_without_rows_to_validate_on_is_named_when_it_is_made() -> Result<()> {
    let world = World::new()?;
    let pipelines = world.folder.path().join("pipelines");
    copy(&repository().join("tests/pipelines"), &pipelines)?;
    let corpus = pipelines.join("corpus/small.toml");
    let text = fs::read_to_string(&corpus)?;
    fs::write(&corpus, text.replace("valid_fraction = 0.2", "valid_fraction = 0.0"))?;
    let mut command = Command::new(binaries().join("entromask-ablation"));
    command.current_dir(repository()).arg("run").arg(pipelines.join("grid/broken.toml"));
    let output = command.arg("--pipelines").arg(&pipelines).arg("--data").arg(world.data()).output()?;
    let text = said(&output);
    let said = text.lines().position(|line| line.contains("tokens/small: no rows to validate on"));
    let trained = text.lines().position(|line| line.contains("models/small/micro-mlm-e1/random-s1: made"));
    assert!(said.is_some() && said < trained, "{text}");
    Ok(())
}

/// Otherwise it would fail when all models are trained.
#[test]
fn configurations_and_tasks_are_looked_at_before_anything_is_made() -> Result<()> {
    let world = World::new()?;
    let pipelines = world.folder.path().join("pipelines");
    let run = |file: &str, from: &str, to: &str, flags: &[&str]| -> Result<(Option<i32>, String)> {
        copy(&repository().join("tests/pipelines"), &pipelines)?;
        let text = fs::read_to_string(pipelines.join(file))?;
        ensure!(text.contains(from), "{text}");
        fs::write(pipelines.join(file), text.replace(from, to))?;
        let output = world.command_of(&pipelines, "run", "micro", flags).output()?;
        Ok((output.status.code(), said(&output)))
    };
    let (glue, train, student) = ("glue/small.toml", "train/mlm.toml", "student/micro.toml");
    let cases = [
        (glue, "epochs = 1", "epoch = 1", "unknown", 2),
        (glue, "epochs = 1", "epochs = 0", "`epochs` is 0", 2),
        (glue, "WNLI", "QNLI2", "`QNLI2` is unknown", 2),
        (glue, "data/sample/glue", "nowhere", "nowhere/WNLI: no such folder", 3),
        (train, "lr = ", "rate = ", "unknown", 2),
        (train, "lr = ", "lr = -", "lr = -", 2),
        (student, "heads = 2", "heads = 3", "micro.toml: hidden_size 32 is not", 2),
    ];
    for (file, from, to, words, code) in cases {
        let (found, text) = run(file, from, to, &[])?;
        assert!(found == Some(code) && text.contains(words), "{words}: {found:?} {text}");
        let (found, text) = run(file, from, to, &["--dry-run"])?;
        let code = if code == 3 { 0 } else { code };
        assert!(found == Some(code) && text.contains(words), "{words}: {found:?} {text}");
    }
    assert!(world.manifests()?.is_empty(), "nothing was made");
    Ok(())
}

/// Its code is that of the stage itself.
#[test]
fn a_dry_run_ends_as_the_stage_that_cannot_run() -> Result<()> {
    let world = World::new()?;
    let pipelines = world.folder.path().join("pipelines");
    copy(&repository().join("tests/pipelines"), &pipelines)?;
    let corpus = pipelines.join("corpus/small.toml");
    let text = fs::read_to_string(&corpus)?;
    let lines =
        text.lines().map(|line| if line.starts_with("files") { "files = [\"nowhere.txt\"]" } else { line });
    fs::write(&corpus, lines.collect::<Vec<_>>().join("\n"))?;
    let output = world.command_of(&pipelines, "run", "micro", &["--dry-run"]).output()?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("nowhere.txt"), "{}", said(&output));
    Ok(())
}

/// Another process writes it: a program that a test beside this one has open for writing cannot be started.
fn write_program(path: &Path, text: &str) -> Result<()> {
    let write = ["-c", "printf %s \"$1\" > \"$0\" && chmod +x \"$0\""];
    let status = Command::new("sh").args(write).arg(path).arg(text).status()?;
    ensure!(status.success(), "{}: {status}", path.display());
    Ok(())
}

/// Stages that say what the real ones say, half a second late.
fn slow_programs(folder: &Path) -> Result<PathBuf> {
    let slow = folder.join("slow");
    fs::create_dir(&slow)?;
    for stage in ["tokenize", "score", "select", "pretrain", "glue"] {
        let (name, real) = (format!("entromask-{stage}"), binaries().join(format!("entromask-{stage}")));
        write_program(&slow.join(&name), &format!("#!/bin/sh\nsleep 0.5\nexec {} \"$@\"\n", real.display()))?;
    }
    Ok(slow)
}

/// A stage that does not listen is not left behind by who asks twice.
#[test]
fn asked_twice_it_takes_its_stages_along() -> Result<()> {
    let (folder, world) = (tempfile::tempdir()?, World::new()?);
    let programs = slow_programs(folder.path())?;
    let real = binaries().join("entromask-tokenize");
    let deaf = format!(
        "#!/bin/sh\ncase \"$*\" in *dry-run*) exec {} \"$@\";; esac\necho $$ > \"$0.pid\"\nasked=0\n\
         trap 'asked=$((asked + 1))' TERM\nwhile test $asked -lt 2; do sleep 0.1; done\n",
        real.display()
    );
    let (tokenize, pid) = (programs.join("entromask-tokenize"), programs.join("entromask-tokenize.pid"));
    fs::write(&tokenize, deaf)?;
    let mut command = world.command("run", "micro", &["--bin"]);
    let mut child = command.arg(&programs).stderr(Stdio::null()).process_group(0).spawn()?;
    let mut stage = String::new();
    for _ in 0..600 {
        stage = fs::read_to_string(&pid).unwrap_or_default().trim().to_owned();
        if !stage.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(!stage.is_empty(), "the stage has begun");
    for _ in 0..2 {
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(child.wait()?.code(), Some(130));
    // Who is waited for by nobody stays as a zombie.
    let status = || fs::read_to_string(Path::new("/proc").join(&stage).join("status")).unwrap_or_default();
    let lives = || status().lines().any(|line| line.starts_with("State:") && !line.contains('Z'));
    for _ in 0..100 {
        if !lives() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Command::new("kill").args(["-KILL", &stage]).status()?;
    anyhow::bail!("stage {stage} was left behind")
}

/// Ctrl-C goes to the stages that are asked as well.
#[test]
fn an_interrupted_report_leaves_the_one_that_is_there() -> Result<()> {
    let (whole, ..) = micro();
    let folder = tempfile::tempdir()?;
    let before = whole.report("micro.md")?;
    let mut command = whole.command("report", "micro", &["--bin"]);
    command.arg(slow_programs(folder.path())?).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn()?;
    std::thread::sleep(Duration::from_millis(800));
    let group = format!("-{}", child.id());
    ensure!(Command::new("kill").args(["-INT", "--", &group]).status()?.success());
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert_eq!(whole.report("micro.md")?, before);
    Ok(())
}
