//! From a grid's text to its runs and stages, and what is said about mistakes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use entromask_ablation::grid::{Axis, Grid};
use entromask_ablation::plan::{Account, Plan, Program};
use entromask_fault::class_of;
use fs_err as fs;

fn pipelines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines")
}

fn load(text: &str) -> anyhow::Result<Grid> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("test.toml");
    fs::write(&path, text)?;
    Grid::load(&path, &pipelines())
}

fn plan(grid: &Grid) -> Plan {
    Plan::new(grid, Path::new("data"), &pipelines()).expect("the configurations are there")
}

fn labels(grid: &Grid) -> Vec<String> {
    grid.runs.iter().map(|run| format!("{} {}", run.choice.seed, grid.label(&run.choice))).collect()
}

const PRODUCT: &str = r#"
title = "t"
glue = ["sample"]
baseline = { strategy = "random" }
[fixed]
epochs = 2
rounds = 1
[axes]
strategy = ["random", "sample", "high"]
source = ["teacher", "self"]
seed = [1, 2]
[[exclude]]
strategy = "high"
source = "self"
"#;

#[test]
fn a_product_is_expanded_seed_by_seed_and_equal_runs_are_one() -> anyhow::Result<()> {
    let grid = load(PRODUCT)?;
    let of_a_seed = ["random", "sample, by a teacher", "high, by a teacher", "sample, by itself"];
    let expected: Vec<_> =
        [1, 2].iter().flat_map(|seed| of_a_seed.map(|label| format!("{seed} {label}"))).collect();
    let mut found = labels(&grid);
    assert!(found[..4].iter().all(|label| label.starts_with('1')), "{found:?}");
    let order = found.clone();
    found.sort();
    let mut sorted = expected;
    sorted.sort();
    assert_eq!(found, sorted);
    assert_eq!(labels(&load(PRODUCT)?), order, "the same text, the same order");
    let random = grid.runs.iter().find(|run| run.choice.strategy == "random").expect("there");
    assert_eq!((random.baselines.is_empty(), random.choice.get(Axis::Teacher).as_str()), (true, ""));
    let high = grid.runs.iter().find(|run| run.choice.strategy == "high").expect("there");
    assert_eq!(high.baselines, std::slice::from_ref(&random.choice), "the baseline of the same seed");
    Ok(())
}

/// A grid of rates shares the runs at the usual one with all other grids.
#[test]
fn the_rate_of_a_strategys_file_is_no_choice() -> anyhow::Result<()> {
    let masks = |rates: &str| -> anyhow::Result<Vec<PathBuf>> {
        let axes = format!(
            "title = \"t\"\n[axes]\nstrategy = [\"random\", \"high\"]\nsource = \"teacher\"\n{rates}"
        );
        let stages = plan(&load(&axes)?).stages.into_iter();
        Ok(stages.filter(|stage| stage.program == Program::Select).map(|stage| stage.out).collect())
    };
    assert_eq!(masks("rate = 0.15")?, masks("")?);
    let both = masks("rate = [0.15, 0.3]")?;
    let (usual, other): (Vec<_>, Vec<_>) =
        both.iter().partition(|path| !path.display().to_string().contains("-p0.3-"));
    assert_eq!((usual.into_iter().cloned().collect::<Vec<_>>(), other.len()), (masks("")?, 2));
    Ok(())
}

#[test]
fn a_run_has_several_baselines_each_once_and_never_itself() -> anyhow::Result<()> {
    let several =
        PRODUCT.replace("{ strategy = \"random\" }", "[{ strategy = \"random\" }, { source = \"teacher\" }]");
    let grid = load(&several)?;
    let against = |label: &str| -> Vec<String> {
        let run = grid.runs.iter().find(|run| grid.label(&run.choice) == label).expect("there");
        run.baselines.iter().map(|choice| grid.label(choice)).collect()
    };
    assert!(against("random").is_empty());
    assert_eq!(against("sample, by a teacher"), ["random"]);
    assert_eq!(against("sample, by itself"), ["random", "sample, by a teacher"]);
    Ok(())
}

#[test]
fn runs_share_stages_and_other_results_have_other_paths() -> anyhow::Result<()> {
    let grid = load(PRODUCT)?;
    let plan = plan(&grid);
    let count = |program| plan.stages.iter().filter(|stage| stage.program == program).count();
    // One corpus; the teacher, and a seed: random, two by the teacher, the first round and one more by itself.
    assert_eq!((count(Program::Tokenize), count(Program::Pretrain)), (1, 1 + 2 * 5));
    // The teacher's scores once, the first round's for each seed.
    assert_eq!((count(Program::Score), count(Program::Glue)), (1 + 2, 2 * 4));
    let outs: BTreeSet<_> = plan.stages.iter().map(|stage| &stage.out).collect();
    assert_eq!(outs.len(), plan.stages.len());
    for (index, stage) in plan.stages.iter().enumerate() {
        let made = stage.inputs.iter().filter(|input| input.starts_with("data")).count();
        assert_eq!(plan.needs(index).count(), made, "what a stage needs comes before it: {stage:?}");
    }
    let teachers = plan
        .runs
        .iter()
        .map(|run| run.timeline.iter().filter(|(account, _)| *account == Account::Teacher).count());
    let by_teacher = grid.runs.iter().filter(|run| !run.choice.teacher.is_empty()).count();
    assert_eq!(teachers.filter(|&parts| parts > 0).count(), by_teacher, "charged to those that use it");
    Ok(())
}

/// Whatever axis changes: either nothing does, or the path of some stage.
#[test]
fn every_axis_is_in_some_path() -> anyhow::Result<()> {
    let base = "title = \"t\"\nglue = [\"sample\"]\n[fixed]\nsource = \"teacher\"\nepochs = 4\nrounds = 3\ntransfer = \"after-init\"\n\
                distillation = \"kd\"\n[schedules]\nup = { rate = { shape = \"linear\", from = 0.1, to = 0.2, epochs = 4 } }\n";
    let variants = [
        ("seed", "1", "2"),
        ("corpus", "\"sample\"", "\"enwiki2015\""),
        ("data", "1.0", "0.5"),
        ("student", "\"tiny\"", "\"small\""),
        ("train", "\"mlm\"", "\"cpu\""),
        ("epochs", "4", "8"),
        ("dtype", "\"f32\"", "\"bf16\""),
        ("teacher", "\"mini\"", "\"small\""),
        ("score", "\"kfold\"", "\"unmasked\""),
        ("rate", "0.15", "0.3"),
        ("schedule", "\"constant\"", "\"up\""),
        ("source", "\"teacher\"", "\"self\""),
        ("distillation", "\"kd\"", "\"none\""),
        ("transfer", "\"after-init\"", "\"complete\""),
        ("init_fraction", "0.25", "0.5"),
        ("strategy", "\"sample\"", "\"high\""),
        ("freezing", "\"body\"", "\"gradual\""),
    ];
    for (axis, one, other) in variants {
        let strategy = if axis == "strategy" { "" } else { "strategy = \"sample\"\n" };
        let grid = load(&format!("{base}[axes]\n{strategy}{axis} = [{one}, {other}]\n"))?;
        assert_eq!(grid.runs.len(), 2, "{axis}");
        let plan = plan(&grid);
        let last = |run: usize| &plan.stages[plan.runs[run].glue[0].1].out;
        assert_ne!(last(0), last(1), "{axis}");
    }
    let rounds = "[axes]\nstrategy = \"sample\"\nrounds = [1, 3]\n";
    let grid = load(&format!("{}{rounds}", base.replace("\"teacher\"", "\"self\"")))?;
    let plan = plan(&grid);
    assert_ne!(plan.stages[plan.runs[0].model].out, plan.stages[plan.runs[1].model].out);
    Ok(())
}

/// Also what is random, or said by a teacher: in bf16 nothing is shared with f32 but tokens and random masks.
#[test]
fn all_that_computes_with_a_model_has_its_type() -> anyhow::Result<()> {
    let grid = load(&PRODUCT.replace("[axes]", "[axes]\ndtype = [\"f32\", \"bf16\"]"))?;
    let plan = plan(&grid);
    for (run, stages) in plan.of(&grid) {
        let all = stages
            .timeline
            .iter()
            .map(|(_, stage)| *stage)
            .chain(stages.glue.iter().map(|(_, stage)| *stage));
        for stage in all.map(|stage| &plan.stages[stage]) {
            let computes = !matches!(stage.program, Program::Tokenize | Program::Select);
            let is_bf16 = run.choice.get(Axis::Dtype) == "bf16";
            assert_eq!(stage.args.contains(&"--dtype".into()), computes && is_bf16, "{stage:?}");
        }
    }
    assert!(labels(&grid).contains(&"1 sample, in bf16, by itself".into()), "{:?}", labels(&grid));
    Ok(())
}

/// Random masks have no policy, so a schedule of one does not bear on the rounds that begin with them.
#[test]
fn schedules_of_a_policy_share_the_first_round() -> anyhow::Result<()> {
    let text = "title = \"t\"\n[fixed]\nsource = \"self\"\nstrategy = \"sample\"\nepochs = 4\nrounds = 1\n\
                [schedules]\nsharp = { \"policy.temperature\" = 0.5 }\nmuch = { rate = 0.3 }\n";
    let grid = load(&format!("{text}[axes]\nschedule = [\"constant\", \"sharp\", \"much\"]\n"))?;
    let plan = plan(&grid);
    let first = |run: usize| {
        let trained = plan.runs[run].timeline.iter().map(|(_, stage)| &plan.stages[*stage]);
        trained.filter(|stage| stage.program == Program::Pretrain).map(|stage| &stage.out).next()
    };
    assert_eq!(first(0), first(1));
    assert_ne!(first(0), first(2), "a schedule of the rate does");
    let count = |program| plan.stages.iter().filter(|stage| stage.program == program).count();
    // Two first rounds, each scored once, and three second ones.
    assert_eq!((count(Program::Score), count(Program::Pretrain)), (2, 5));
    Ok(())
}

#[test]
fn seeds_pair_runs() -> anyhow::Result<()> {
    let grid = load(PRODUCT)?;
    let plan = plan(&grid);
    for (run, stages) in plan.of(&grid) {
        let seeded = |program: Program| {
            let all = stages
                .timeline
                .iter()
                .filter(|(account, _)| *account != Account::Teacher)
                .map(|(_, stage)| &plan.stages[*stage]);
            all.filter(move |stage| stage.program == program)
        };
        let set = format!("seed={}", run.choice.seed);
        assert!(
            seeded(Program::Pretrain).chain(seeded(Program::Select)).all(|stage| stage.args.contains(&set))
        );
    }
    Ok(())
}

#[test]
fn a_teacher_folder_is_no_stage() -> anyhow::Result<()> {
    let model = tempfile::tempdir()?;
    fs::write(model.path().join("config.json"), "{}")?;
    let text = format!(
        "title = \"t\"\n[axes]\nstrategy = \"high\"\nsource = \"teacher\"\nteacher = {:?}\n",
        model.path()
    );
    let plan = plan(&load(&text)?);
    let programs: Vec<_> = plan.stages.iter().map(|stage| stage.program).collect();
    assert_eq!(programs, [Program::Tokenize, Program::Score, Program::Select, Program::Pretrain]);
    Ok(())
}

/// What is made for one would be taken for the other's.
#[test]
fn teachers_of_one_name_are_refused() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for kind in fs::read_dir(pipelines())? {
        let kind = kind?;
        if kind.file_name() != "teacher" {
            std::os::unix::fs::symlink(kind.path(), folder.path().join(kind.file_name()))?;
        }
    }
    fs::create_dir_all(folder.path().join("teacher/other"))?;
    for (name, student) in [("teacher/a", "modernbert-mini"), ("teacher/other/a", "modernbert-small")] {
        let text = format!("student = {student:?}\nepochs = 2\n");
        fs::write(folder.path().join(name).with_extension("toml"), text)?;
    }
    let path = folder.path().join("test.toml");
    let axes = "strategy = \"high\"\nsource = \"teacher\"\nteacher = [\"a\", \"other/a\"]";
    fs::write(&path, format!("title = \"t\"\n[axes]\n{axes}\n"))?;
    let grid = Grid::load(&path, folder.path())?;
    let error = Plan::new(&grid, Path::new("data"), folder.path()).expect_err("one path for two teachers");
    assert_eq!(class_of(error.as_ref()).exit_code(), 2);
    assert!(error.to_string().contains("would be made in two different ways"), "{error}");
    Ok(())
}

#[test]
fn what_runs_have_by_default_is_named_where_nothing_else_tells_them_apart() -> anyhow::Result<()> {
    let text = "title = \"t\"\n[schedules]\nup = { rate = 0.3 }\n[axes]\n";
    let of = |axes: &str| Ok::<_, anyhow::Error>(labels(&load(&format!("{text}{axes}\n"))?));
    assert_eq!(of("data = [1.0, 0.5]")?, ["1 data 1", "1 data 0.5"]);
    assert_eq!(of("schedule = [\"constant\", \"up\"]")?, ["1 constant", "1 up"]);
    assert_eq!(of("seed = [1, 2]")?, ["1 random", "2 random"]);
    Ok(())
}

#[test]
fn runs_that_nothing_is_compared_with_are_named() -> anyhow::Result<()> {
    assert!(load(PRODUCT)?.unpaired().is_empty());
    let text = "title = \"t\"\nbaseline = [{ strategy = \"random\" }, { strategy = \"low\" }]\n[fixed]\nsource = \"teacher\"\n\
        [[runs]]\nstrategy = \"random\"\nseed = [1, 2]\n[[runs]]\nstrategy = \"high\"\nseed = [2, 3]\n";
    let expected = [
        "random (seed 1, 2) with low, by a teacher, which the grid does not have",
        "high, by a teacher (seed 2, 3) with low, by a teacher, which the grid does not have",
        "high, by a teacher (seed 3) with random, which the grid does not have",
    ];
    assert_eq!(load(text)?.unpaired(), expected);
    let text =
        "title = \"t\"\nbaseline = { train = \"untrained\", student = \"tiny\" }\n[axes]\nseed = [1, 2]\n";
    let expected = "random, student modernbert-tiny, train mlm (seed 1, 2) with random, student tiny, train untrained, which the \
                    grid does not have";
    assert_eq!(load(text)?.unpaired(), [expected]);
    Ok(())
}

#[test]
fn the_committed_grids_are_good() -> anyhow::Result<()> {
    let mut found = 0;
    for entry in fs::read_dir(pipelines().join("grid"))? {
        let grid = Grid::load(&entry?.path(), &pipelines())?;
        let plan = plan(&grid);
        assert!(grid.runs.iter().any(|run| !run.baselines.is_empty()), "{}", grid.name);
        for baseline in grid.runs.iter().flat_map(|run| &run.baselines) {
            assert!(
                grid.runs.iter().any(|run| run.choice == *baseline),
                "{}: {baseline:?} is not in it",
                grid.name
            );
        }
        for stage in &plan.stages {
            let config =
                stage.args.windows(2).find(|pair| pair[0] == "--config").map(|pair| PathBuf::from(&pair[1]));
            assert!(config.is_some_and(|config| config.is_file()), "{stage:?}");
        }
        found += 1;
    }
    assert!(found >= 9, "{found}");
    Ok(())
}

#[test]
fn mistakes_name_file_value_and_remedy() {
    let title = "title = \"t\"\n";
    let cases = [
        ("[axes]\nstrategie = [\"random\"]", "strategie"),
        ("baseline = { strategie = \"random\" }\n[axes]\nstrategy = \"random\"", "strategie"),
        ("baseline = [{ seed = [1] }]\n[axes]\nstrategy = \"random\"", "[baseline]: `seed` is a list"),
        ("baseline = { seed = 2 }\n[axes]\nstrategy = \"random\"", "baseline: `seed`"),
        ("[axes]\nseed = [1, 2, 1]", "`seed` has 1 twice"),
        ("baseline = 1\n[axes]\nstrategy = \"random\"", "`baseline` has 1; give a table"),
        ("[axes]\nstrategy = []", "`strategy` is empty"),
        ("[axes]\nstrategy = [\"hihg\"]\nsource = \"self\"", "hihg"),
        ("[axes]\nstrategy = [\"high\"]", "needs entropies"),
        ("[axes]\nstrategy = [\"../score/kfold\"]", "\"../score/kfold\": there is no"),
        ("[axes]\nstrategy = [\"reducible\"]\nsource = \"self\"", "reference"),
        ("[axes]\nsource = [\"teachr\"]", "one of: none, teacher, self"),
        ("[axes]\nrate = [1.5]", "rate = 1.5"),
        ("[axes]\nseed = [-1]", "seed = -1"),
        ("[axes]\nteacher = \"nobody\"\nstrategy = \"high\"\nsource = \"teacher\"", "nobody"),
        ("[axes]\nfreezing = \"all\"", "bottom-N"),
        ("[axes]\nschedule = \"up\"", "[schedules]"),
        (
            "[axes]\nstrategy = \"high\"\nsource = \"self\"\nepochs = 3\nrounds = 1",
            "epochs = 3 with rounds = 1",
        ),
        ("[fixed]\nseed = [1, 2]\n[axes]\nstrategy = \"random\"", "`seed` is a list"),
        ("glue = [\"none\"]\n[axes]\nstrategy = \"random\"", "none.toml"),
        ("jobs = 0\n[axes]\nstrategy = \"random\"", "jobs"),
        ("job = 1\n[axes]\nstrategy = \"random\"", "job"),
        ("[axes]\nstrategy = \"random\"\n[[exclude]]\nstrategy = \"random\"", "leaves no run"),
        ("", "there is no run"),
        (
            "[axes]\nstrategy = \"random\"\n[[exclude]]\nstrategy = \"randm\"",
            "strategy = \"randm\": there is no such run",
        ),
        ("[axes]\nepochs = 65536", "at most 65535"),
        ("[axes]\nstrategy = \"random\"\nfreezing = \"body\"", "without fine-tuning"),
        ("glue = [\"sample\"]\n[axes]\nstudent = \"tiny\"\nfreezing = \"bottom-3\"", "tiny has 2 layers"),
        ("[axes]\ntrain = \"kd\"", "train = \"kd\": this recipe needs a teacher"),
        ("[axes]\ndistillation = \"mlm\"", "nothing in this recipe asks a teacher"),
        ("[schedules]\nconstant = { rate = 0.3 }\n[axes]\nstrategy = \"random\"", "the name of no schedule"),
        ("[schedules.\"x/../../y\"]\nrate = 0.3\n[axes]\nstrategy = \"random\"", "[schedules] \"x/../../y\""),
        (
            "baseline = { strategy = \"hihg\" }\n[axes]\nstrategy = \"random\"",
            "baseline: strategy = \"hihg\"",
        ),
        ("[schedules]\nup = { rate = 7.0 }\n[axes]\nschedule = \"up\"", "[schedules] up: rate = 7"),
        (
            "[schedules]\nup = { \"policy.temprature\" = 0.5 }\n[axes]\nstrategy = \"sample\"\nsource = \"self\"\nschedule = \"up\"",
            "temprature",
        ),
        ("[schedules]\nup = { seed = 9 }\n[axes]\nschedule = \"up\"", "[schedules] up: `seed`"),
        (
            "[schedules.up.policy]\nname = \"span\"\n[axes]\nstrategy = \"sample\"\nsource = \"self\"\nschedule = \"up\"",
            "[schedules] up: `policy.name`",
        ),
        (
            "[axes]\nstrategy = \"band\"\nsource = \"teacher\"\nrate = 0.6",
            "rate = 0.6 with strategy = \"band\": policy.hi",
        ),
        ("glue = [\"sample\", \"sample\"]\n[axes]\nstrategy = \"random\"", "\"sample\" stands there twice"),
        (
            "[schedules]\nup = { rate = 0.2 }\n[axes]\nschedule = \"up\"\nrate = 0.3",
            "rate = 0.3 with schedule = \"up\"",
        ),
    ];
    for (text, named) in cases {
        let error = load(&format!("{title}{text}\n")).expect_err(text);
        assert_eq!(class_of(error.as_ref()).exit_code(), 2, "{error:#}");
        let words = format!("{error:#}");
        assert!(words.contains("test.toml") || words.contains("pipelines/"), "no file: {words}");
        assert!(words.contains(named), "{words}");
    }
    let error = Grid::load(Path::new("nowhere.toml"), &pipelines()).expect_err("there is none");
    assert!(error.to_string().contains("nowhere.toml: no such file"), "{error}");
}
