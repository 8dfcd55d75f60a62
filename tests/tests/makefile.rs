//! What the Makefile answers before any stage runs.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use fs_err as fs;

/// Exit code and all that is printed. No stage can run: there are no binaries.
fn make(arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new("make");
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).args(["BUILD=", "BIN=/nowhere"]);
    let output = command.args(arguments).env_remove("MAKEFLAGS").output()?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(printed)?))
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_can() -> Result<()> {
    let cases: [(&[&str], &[&str]); 41] = [
        (&["plan", "pretrain-random"], &["make plan GOAL="]),
        (
            &["pretrain-random", "CORPUS=sampel"],
            &["CORPUS=sampel", "pipelines/corpus/sampel.toml", " sample"],
        ),
        (&["pretrain-kd", "TEACHER=nobody"], &["TEACHER=nobody", "config.json", "mini"]),
        (&["ablation", "GRID=nothing"], &["GRID=nothing", "cpu-first"]),
        (&["pretrain-random", "STUDNET=tiny"], &["there is no such variable"]),
        (&["pretrain-random", "SCORE_DTYPE=f16"], &["SCORE_DTYPE=f16", "f32 or bf16"]),
        (&["glue", "TRAIN_DTYPE=f16"], &["TRAIN_DTYPE=f16", "f32 or bf16"]),
        // Make's shell would read it as octal.
        (&["pretrain-random", "ROUNDS=010"], &["ROUNDS=010", "without zeros"]),
        (&["pretrain-random", "ROUND_EPOCHS=08"], &["ROUND_EPOCHS=08", "without zeros"]),
        (&["pretrain-teacher-mask", "FIRST=random", "FIRST_MODE=foo"], &["FIRST_MODE=foo", "anneal"]),
        (&["pretrain-teacher-mask", "FIRST=random", "FIRST_UNTIL=3"], &["FIRST_UNTIL=3", "below 1"]),
        // Its second masks would never be seen, and 0.50 is another name of what 0.5 makes.
        (&["pretrain-teacher-mask", "FIRST=random", "FIRST_UNTIL=1.0"], &["FIRST_UNTIL=1.0", "below 1"]),
        (&["pretrain-teacher-mask", "FIRST=random", "FIRST_UNTIL=0.50"], &["without zeros behind it"]),
        (&["pretrain-random", "MASK=high"], &["MASK does nothing for random"]),
        (&["pretrain-random", "SCORE=unmasked"], &["SCORE does nothing for random"]),
        (&["pretrain-self-mask", "FIRST=random"], &["FIRST does nothing for self-mask", "teacher-mask"]),
        (&["glue", "RUN=teacher-mask", "KD=kd"], &["KD does nothing for teacher-mask", "self-mask-kd"]),
        (&["pretrain-kd", "TARGETS=top64"], &["TARGETS does nothing", "DISTILL=cached"]),
        (&["pretrain-self-mask", "TEACHER=small"], &["TEACHER does nothing for self-mask", "teacher-mask"]),
        (&["pretrain-self-mask", "TRAIN=kd"], &["TRAIN=kd", "pretrain-self-mask-kd"]),
        (&["clean", "CORPUS=sample"], &["CORPUS does nothing here", "all that was made"]),
        (&["pretrain-self-mask", "MASK=span", "SCORE=unmasked"], &["SCORE does nothing for MASK=span"]),
        (&["pretrain-teacher-mask", "MASK=span", "TEACHER=small"], &["TEACHER does nothing for MASK=span"]),
        (&["report", "MODEL=data/tokenizers"], &["no model folder"]),
        (
            &["report", "MODEL=crates/encoder/tests/fixtures/families/bert"],
            &["no manifest.json", "make glue"],
        ),
        (&["pretrain-random", "GLUE=probe"], &["GLUE does nothing for pretrain-random", "glue"]),
        (&["pretrain-random", "ROUNDS=1000"], &["ROUNDS=1000", "999 at most"]),
        (&["pretrain-random", "DATA=a=b"], &["DATA=a=b", "without ="]),
        (&["clean", "DATA=.//tmp"], &["DATA=.//tmp", "without //"]),
        (&["pretrain-random", "DATA=a%b"], &["DATA=a%b", "without %"]),
        (&["pretrain-self-mask", "RUN=random"], &["RUN does nothing for pretrain-self-mask", "glue"]),
        (&["pretrain-self-mask", "MASK=mixed", "REFERENCE=crates"], &["REFERENCE"]),
        (&["pretrain-random", "CORPUS=my corpus"], &["CORPUS=my corpus", "without blanks"]),
        (&["pretrain-self-mask", "TRAIN=online"], &["TRAIN=online", "pretrain-random"]),
        (&["glue", "TRAIN=online"], &["TRAIN=online", "RUN=random"]),
        (&["report", "page=a b.html"], &["page=a b.html", "without blanks"]),
        (&["pretrain-random", "THREADS=abc"], &["THREADS=abc", "a number above 0"]),
        (&["pretrain-random", "SEED=02"], &["SEED=02", "without zeros"]),
        (&["pretrain-self-mask", "ROUNDS=0", "MASK=band"], &["MASK does nothing with ROUNDS=0"]),
        (&["glue", "MODEL=data", "SCORE=unmasked"], &["SCORE does nothing for MODEL=data"]),
        (&["pretrain-random", "THREADS=0"], &["THREADS=0", "a number above 0"]),
    ];
    for (arguments, expected) in cases {
        let (code, printed) = make(arguments)?;
        assert_eq!(code, Some(2), "{arguments:?}: {printed}");
        for part in expected {
            assert!(printed.contains(part), "{arguments:?}: no {part:?} in {printed}");
        }
    }
    Ok(())
}

#[test]
fn what_comes_from_the_environment_is_looked_at_too() -> Result<()> {
    let make = |data: &str| -> Result<String> {
        let mut command = Command::new("make");
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).env("DATA", data);
        let output = command.args(["BUILD=", "BIN=/nowhere", "plan"]).env_remove("MAKEFLAGS").output()?;
        Ok(String::from_utf8(output.stderr)?)
    };
    for (data, character) in [("/tmp/a&b", "&"), ("/tmp/a:b", ":"), ("/tmp/it's", "'")] {
        let printed = make(data)?;
        assert!(printed.contains(&format!("DATA={data}: names and paths without {character}")), "{printed}");
    }
    Ok(())
}

/// Runs that differ in the seed only stand beside each other; the teacher is one.
#[test]
fn a_seed_is_in_the_path_of_all_that_follows_from_it() -> Result<()> {
    let stages = |arguments: &[&str]| -> Result<Vec<String>> {
        let (code, plan) = make(&[&["--dry-run"], arguments].concat())?;
        assert_eq!(code, Some(0), "{plan}");
        let plan = plan.replace("\\\n", "");
        Ok(plan.lines().filter(|line| line.contains(" --out data/")).map(str::to_owned).collect())
    };
    for goal in ["pretrain-random", "pretrain-teacher-mask", "pretrain-self-mask", "pretrain-kd"] {
        let (plain, seeded) = (stages(&[goal])?, stages(&[goal, "SEED=2"])?);
        assert!(plain.iter().all(|stage| !stage.contains("seed")), "{plain:?}");
        for stage in seeded.iter().filter(|stage| !plain.contains(stage)) {
            let out = stage.split_whitespace().find(|word| word.starts_with("data/")).unwrap_or_default();
            assert!(out.contains("-s2"), "{stage}");
            assert!(stage.contains("entromask-score") || stage.contains("--set seed=2"), "{stage}");
        }
        let of = |stages: &[String], words: &str| stages.iter().any(|stage| stage.contains(words));
        assert_eq!(
            of(&seeded, "--out data/models/sample/modernbert-mini-mlm/random-e2 "),
            of(&plain, "modernbert-mini-mlm/random-e2 ")
        );
    }
    Ok(())
}

/// Not under the name of a teacher that nobody asks.
#[test]
fn masks_that_read_no_entropies_are_trained_on_without_a_teacher() -> Result<()> {
    let (code, plan) = make(&["--dry-run", "pretrain-random", "MASK=span"])?;
    assert_eq!(code, Some(0), "{plan}");
    for part in
        ["--out data/masks/sample/span/epochs-0-4", "--out data/models/sample/modernbert-tiny-mlm/span-e4"]
    {
        assert!(plan.contains(part), "{plan}");
    }
    Ok(())
}

/// Small steps are for a model that is trained already.
#[test]
fn a_teacher_that_is_trained_here_has_the_usual_recipe_where_the_student_goes_on_from_a_model() -> Result<()>
{
    let plan = |more: &[&str]| {
        make(&[&["--dry-run", "pretrain-teacher-mask", "TRAIN=further"], more].concat())
            .map(|(_, printed)| printed)
    };
    let init = plan(&["INIT=crates/encoder/tests/fixtures/families/bert"])?;
    let (teacher, recipe) = ("--out data/models/sample/modernbert-mini-mlm/random-e2", "pipelines/train/");
    assert!(init.contains(teacher), "{init}");
    assert_eq!(["mlm", "further"].map(|name| init.matches(&format!("{recipe}{name}.toml")).count()), [1, 1]);
    assert!(!plan(&[])?.contains(teacher));
    Ok(())
}

#[test]
fn teachers_in_folders_of_one_name_are_kept_apart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let places = ["one/checkpoint", "other/checkpoint"].map(|name| folder.path().join(name));
    let mut plans = Vec::new();
    for place in &places {
        fs::create_dir_all(place)?;
        fs::write(place.join("config.json"), "{}")?;
        plans.push(make(&["--dry-run", "pretrain-teacher-mask", &format!("TEACHER={}", place.display())])?.1);
    }
    let entropies = |plan: &str| {
        let folders =
            plan.split_whitespace().filter(|word| word.starts_with("data/entropy/sample/checkpoint-"));
        folders.map(str::to_owned).next()
    };
    assert!(entropies(&plans[0]).is_some(), "{}", plans[0]);
    assert_ne!(entropies(&plans[0]), entropies(&plans[1]));
    Ok(())
}

/// Another text, or a recipe that was edited meanwhile, must not replace the model that somebody asks about.
#[test]
fn a_model_that_is_named_is_not_made_again() -> Result<()> {
    let data = tempfile::tempdir()?;
    let model = data.path().join("models/sample/modernbert-tiny-mlm/random-e4");
    fs::create_dir_all(&model)?;
    let arguments = [format!("DATA={}", data.path().display()), format!("MODEL={}", model.display())];
    let glue = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        make(&[&["--dry-run", "glue", "RUN=random"], arguments.as_slice()].concat())
    };
    let (_, printed) = glue(&arguments)?;
    assert!(printed.contains("no model folder, there is no config.json"), "{printed}");
    fs::write(model.join("config.json"), "{}")?;
    let (code, printed) = glue(&arguments)?;
    let own = printed.contains(&format!("entromask-glue --out {}/glue/sample/", data.path().display()));
    assert!(code == Some(0) && own && !printed.contains("entromask-pretrain --"), "{printed}");
    let (_, printed) = glue(&arguments[..1])?;
    assert!(printed.contains("entromask-pretrain --"), "{printed}");
    Ok(())
}

/// The stage refuses what it would not read.
#[test]
fn entropies_are_named_for_policies_that_read_them() -> Result<()> {
    for (mask, reads) in
        [("mixed", true), ("high", true), ("random", false), ("frequency", false), ("span", false)]
    {
        for goal in ["pretrain-teacher-mask", "pretrain-self-mask"] {
            let (_, plan) = make(&["--dry-run", goal, &format!("MASK={mask}")])?;
            assert!(plan.contains(&format!("mask/{mask}.toml")), "{plan}");
            assert_eq!(plan.contains("--entropy data/entropy/"), reads, "{goal} {mask}: {plan}");
            assert_eq!(plan.contains("entromask-score"), reads, "what is not read is not scored: {plan}");
        }
    }
    Ok(())
}

#[test]
fn what_a_teachers_file_cannot_say_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("teacher"))?;
    let pipelines = format!("PIPELINES={}", folder.path().display());
    let files = [
        ("path = \"/models/my teacher\"\n", "/models/my teacher: paths without blanks"),
        ("path = \"/models/a#b\"\n", "/models/a#b: paths without #"),
        ("path = \"it's\"\n", "it's: paths without '"),
        ("path = \"/models/x\"\nepochs = 2\n", "path only, or student and epochs"),
        ("student = \"tiny\"\nepochs = 1.5\n", "`epochs = 1.5`: a teacher has"),
        ("student = \"tiny\"\nepochs = 0\n", "`epochs = 0`: a teacher has"),
    ];
    for (text, expected) in files {
        fs::write(folder.path().join("teacher/mine.toml"), text)?;
        let (code, printed) = make(&["pretrain-teacher-mask", "TEACHER=mine", &pipelines])?;
        assert_eq!(code, Some(2), "{text}: {printed}");
        assert!(printed.contains(expected), "{text}: {printed}");
    }
    Ok(())
}

/// Before the teacher is trained and asked.
#[test]
fn pipelines_that_cannot_go_together_are_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = [
        ("teacher/mine.toml", "student = \"tinny\"\n"),
        ("train/warm.toml", "[online]\ntemperature = 2\n[objective]\ntemperature = 4.0\n"),
        ("targets/top64.toml", "temperature = 2.0\n"),
        ("targets/silent.toml", "top_k = 64\n"),
        ("train/dotted.toml", "objective.temperature = 4.0\n"),
        ("train/spread.toml", "[objective]\r\n\t\"temperature\" = 4.0\r\n"),
        ("train/long.toml", "lr = 1e-3\nepochs = 5\n"),
        ("mask/margins.toml", "measure = \"margin\"\n[policy]\nname = \"high\"\n"),
        ("score/kfold.toml", "folds = 7\n"),
    ];
    for (file, text) in files {
        fs::create_dir_all(folder.path().join(file).parent().expect("a folder"))?;
        fs::write(folder.path().join(file), text)?;
    }
    let pipelines = format!("PIPELINES={}", folder.path().display());
    let (code, printed) = make(&["pretrain-teacher-mask", "TEACHER=mine", &pipelines])?;
    assert!(code == Some(2) && printed.contains("student/tinny.toml"), "{printed}");
    for (recipe, kept) in [("warm", "top64"), ("dotted", "silent"), ("spread", "silent")] {
        let choices = [format!("KD={recipe}"), format!("TARGETS={kept}")];
        let (code, printed) = make(&["pretrain-kd", "DISTILL=cached", &choices[0], &choices[1], &pipelines])?;
        assert!(
            code == Some(2) && printed.contains("temperature 2, and") && printed.contains("at 4:"),
            "{recipe}: {printed}"
        );
    }
    let (code, printed) = make(&["pretrain-random", "TRAIN=long", &pipelines])?;
    assert!(code == Some(2) && printed.contains("ROUND_EPOCHS"), "{printed}");
    let (code, printed) = make(&["pretrain-self-mask", "MASK=margins", &pipelines])?;
    assert!(code == Some(2) && printed.contains("selects by margin, which"), "{printed}");
    Ok(())
}

#[test]
fn what_is_being_written_is_not_cleaned() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let own = folder.path().join("models/sample/tiny");
    fs::create_dir_all(&own)?;
    let lock = std::fs::File::create(own.join(".lock"))?;
    lock.lock()?;
    let data = format!("DATA={}", folder.path().display());
    let (code, printed) = make(&["clean", &data])?;
    assert!(code == Some(0) && own.exists() && printed.contains("which is being written"), "{printed}");
    drop(lock);
    let (_, printed) = make(&["clean", &data])?;
    assert!(!own.exists(), "{printed}");
    Ok(())
}

#[test]
fn a_folder_without_artifacts_is_not_cleaned() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let own = folder.path().join("models/mine.txt");
    fs::create_dir(folder.path().join("models"))?;
    fs::write(&own, "not made by a stage")?;
    let (code, printed) = make(&["clean", &format!("DATA={}", folder.path().display())])?;
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("nothing in it was made here") && own.exists(), "{printed}");
    Ok(())
}

#[test]
fn only_what_was_made_here_is_cleaned() -> Result<()> {
    let manifest = r#"{"kind": "model", "key": "0"}"#;
    let page = "<head>\n<title>tiny – entromask</title>\n";
    let ours = [
        ("models/sample/tiny/round-0/manifest.json", manifest),
        ("models/sample/tiny/round-0/state/1a2b3c4d/best/weights", ""),
        ("masks/begun/.lock", ""),
        ("ablation/grid/models-sample-tiny.log", "said"),
        ("report/grid.md", "# Report"),
        ("report/grid-loss.svg", "<svg/>"),
        ("report/sample-tiny.html", page),
    ];
    let theirs = [
        ("models/bert/config.json", "{}"),
        (
            "models/sample/noted/manifest.json",
            r#"{"kind": "model", "key": "0", "outputs": [{"file": "README.md"}]}"#,
        ),
        ("models/sample/noted/README.md", "a card"),
        ("models/sample/noted/notes/first try.md", "mine"),
        ("models/sample/notes.txt", "mine"),
        ("models/.lock", ""),
        ("tokens/site/manifest.json", r#"{"name": "a web page", "kind": "site", "key": "0"}"#),
        ("ablation/grid/notes.txt", "mine"),
        ("report/thesis.md", "mine"),
        ("report/thesis.html", "<title>A thesis</title>"),
    ];
    let folder = tempfile::tempdir()?;
    let place = |file: &str| folder.path().join(file);
    for (file, text) in ours.iter().chain(&theirs) {
        fs::create_dir_all(place(file).parent().expect("a folder"))?;
        fs::write(place(file), text)?;
    }
    let (code, printed) = make(&["clean", &format!("DATA={}", folder.path().display())])?;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("noted, which holds files that no stage made: notes/first try.md"), "{printed}");
    for (file, _) in theirs {
        assert!(place(file).exists(), "{file} is gone: {printed}");
    }
    for (file, _) in ours {
        assert!(!place(file).exists(), "{file} is still there: {printed}");
    }
    assert!(!place("masks").exists() && !place("models/sample/tiny").exists(), "{printed}");
    Ok(())
}

#[test]
fn characters_that_shells_and_make_read_are_refused() -> Result<()> {
    for teacher in ["/x/k&l", "g(h)", "o'brien", "c:d", "e;f", "a b", "$(touch x)"] {
        let (code, printed) = make(&["pretrain-kd", &format!("TEACHER={teacher}")])?;
        assert_eq!(code, Some(2), "{teacher}: {printed}");
        assert!(printed.contains("without"), "{teacher}: {printed}");
    }
    Ok(())
}

#[test]
fn scores_in_bf16_lie_beside_those_in_f32() -> Result<()> {
    for goal in ["pretrain-teacher-mask", "pretrain-self-mask"] {
        let plan = |more: &[&str]| make(&[&["--dry-run", goal], more].concat());
        let (exact, rounded) = (plan(&[])?.1, plan(&["SCORE_DTYPE=bf16"])?.1);
        assert!(!exact.contains("bf16"), "{exact}");
        let scoring = |line: &&str| line.contains("entromask-score");
        assert!(rounded.lines().filter(scoring).count() > 0, "{rounded}");
        for line in rounded.lines().filter(scoring) {
            assert!(line.contains("kfold-bf16") || line.contains("round-"), "{line}");
        }
        assert!(rounded.contains("--dtype bf16") && rounded.contains("-kfold-bf16-mixed"), "{rounded}");
    }
    Ok(())
}

#[test]
fn what_is_trained_in_bf16_lies_beside_that_in_f32() -> Result<()> {
    for run in ["random", "teacher-mask", "self-mask", "kd", "self-mask-kd"] {
        let (code, printed) = make(&["--dry-run", "glue", &format!("RUN={run}"), "TRAIN_DTYPE=bf16"])?;
        assert_eq!(code, Some(0), "{printed}");
        let trained =
            |line: &&str| line.contains("entromask-pretrain --") || line.contains("entromask-glue --");
        assert!(printed.lines().filter(trained).count() > 1, "{printed}");
        for line in printed.lines().filter(trained) {
            let out = line.split_whitespace().skip_while(|word| *word != "--out").nth(1);
            assert!(line.contains("--dtype bf16") && out.is_some_and(|out| out.contains("-bf16/")), "{line}");
        }
        let scoring = |line: &&str| line.contains("entromask-score --");
        assert!(printed.lines().filter(scoring).all(|line| !line.contains("--dtype")), "{printed}");
    }
    Ok(())
}
