//! What a grid varies and a file that it names decides is refused when the grid is read.

use std::path::Path;

use entromask_ablation::grid::Grid;
use entromask_fault::class_of;
use fs_err as fs;
use tempfile::TempDir;

const LATE: &str = "[objective]\nce = 0.5\nkd = 0.5\n[transfer]\nmode = \"after-init\"\n";
const IN_TOKENS: &str = "[objective]\nce = 0.5\nkd = 0.5\n[transfer]\ninit_tokens = 1000\n";
const TASK: &str = "tasks = [\"WNLI\"]\n[task.WNLI]\n";

/// Configurations of which some decide what grids do.
fn pipelines() -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines"), folder.path())?;
    let files = [
        ("train/late.toml", LATE.to_owned()),
        ("train/in-tokens.toml", IN_TOKENS.to_owned()),
        ("train/first-tokens.toml", "[mask_transfer]\ninit_tokens = 1000\n".into()),
        ("train/budgeted.toml", "budget = { steps = 10 }\n".into()),
        ("glue/frozen.toml", format!("{TASK}freeze = \"body\"\n")),
        ("glue/tried.toml", "tasks = [\"WNLI\"]\n[grid]\nfreeze = [\"none\", \"body\"]\n".into()),
        ("glue/whole.toml", format!("{TASK}halves = false\n")),
    ];
    files.iter().try_for_each(|(name, text)| fs::write(folder.path().join(name), text))?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn load(pipelines: &Path, text: &str) -> anyhow::Result<Grid> {
    let path = pipelines.join("grid/test.toml");
    fs::write(&path, format!("title = \"t\"\n{text}\n"))?;
    Grid::load(&path, pipelines)
}

/// Otherwise two runs of different names would be one, or one run would have a choice in its name that it does not have.
#[test]
fn what_a_file_decides_is_no_axis() -> anyhow::Result<()> {
    let folder = pipelines()?;
    let cases = [
        (
            "[axes]\ndistillation = \"late\"\ntransfer = [\"complete\", \"after-init\"]",
            "train/late.toml has `transfer.mode` = \"after-init\"",
        ),
        (
            "baseline = { transfer = \"complete\" }\n[axes]\ndistillation = \"late\"",
            "transfer with distillation = \"late\"",
        ),
        (
            "[axes]\ndistillation = \"in-tokens\"\ntransfer = \"anneal\"\ninit_fraction = [0.25, 0.5]",
            "init_fraction = 0.25 with distillation = \"in-tokens\"",
        ),
        (
            "[axes]\ntrain = \"first-tokens\"\nstrategy = \"high\"\nsource = \"teacher\"\ntransfer = \"after-init\"",
            "train/first-tokens.toml has `mask_transfer.init_tokens` = 1000",
        ),
        ("[axes]\ntrain = \"budgeted\"\nepochs = [2, 4]", "epochs = 2 and 4 with train = \"budgeted\""),
        ("[axes]\ntrain = \"online\"\nrate = [0.15, 0.3]", "rate = 0.3 with train = \"online\""),
        ("[axes]\ntrain = \"online\"\nstrategy = [\"random\", \"span\"]", "strategy = random and span with"),
        (
            "[axes]\ntrain = \"online\"\nstrategy = \"high\"\nsource = \"teacher\"",
            "source = \"teacher\" with train = \"online\"",
        ),
        (
            "[schedules]\nup = { rate = 0.3 }\n[axes]\ntrain = \"online\"\nschedule = \"up\"",
            "schedule = \"up\" with train = \"online\"",
        ),
        (
            "glue = [\"frozen\"]\n[axes]\nfreezing = [\"recipe\", \"none\"]",
            "glue/frozen.toml has `task.WNLI.freeze` = \"body\"",
        ),
        ("glue = [\"tried\"]\n[axes]\nfreezing = \"body\"", "freezing = \"body\" with glue = \"tried\""),
        (
            "glue = [\"whole\"]\n[axes]\nstrategy = \"random\"",
            "glue/whole.toml has `task.WNLI.halves` = false",
        ),
    ];
    for (text, named) in cases {
        let error = load(folder.path(), text).expect_err(text);
        assert_eq!(class_of(error.as_ref()).exit_code(), 2, "{error:#}");
        let words = format!("{error:#}");
        assert!(words.contains("grid/test.toml") && words.contains(named), "{named}: {words}");
        assert!(words.contains("which counts instead; "), "no remedy: {words}");
    }
    Ok(())
}

/// The same files where the grid leaves to them what they decide.
#[test]
fn what_a_grid_does_not_vary_a_file_may_decide() -> anyhow::Result<()> {
    let folder = pipelines()?;
    let cases = [
        "[axes]\ndistillation = [\"kd\", \"late\"]",
        "[axes]\ndistillation = \"kd\"\ntransfer = [\"complete\", \"after-init\"]",
        "[axes]\ntrain = [\"mlm\", \"budgeted\"]\nepochs = 4",
        "[[runs]]\ntrain = \"mlm\"\nepochs = [2, 4]\n[[runs]]\ntrain = \"budgeted\"\nepochs = 4",
        "[[runs]]\ntrain = \"online\"\n[[runs]]\nstrategy = [\"random\", \"span\"]\nrate = [0.15, 0.3]",
        "glue = [\"frozen\", \"tried\"]\n[axes]\nfreezing = \"recipe\"",
    ];
    for text in cases {
        load(folder.path(), text).map_err(|error| error.context(text))?;
    }
    Ok(())
}
