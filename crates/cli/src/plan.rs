//! `--dry-run`: what a stage would do, and why.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use entromask_artifact::{Kind, Recipe, Remains, Status, is_held, status};
use fs_err as fs;
use serde_json::json;

use crate::{CommonArgs, emit};

/// Says on stdout whether the artifact in `out` is up to date, or what would make it anew; true if something would.
///
/// `inputs` are the artifacts that it is made from. Those that an earlier stage would make anew, according to the
/// file `--pending`, are the reason; the recipe is asked for only if there are none, since they may not exist yet. As JSON it
/// says the key and the configuration of that recipe, too.
pub fn plan(
    common: &CommonArgs,
    out: &Path,
    inputs: &[&Path],
    recipe: impl FnOnce() -> anyhow::Result<Recipe>,
) -> anyhow::Result<bool> {
    let pending = read_pending(common)?;
    let mut reasons: Vec<_> = inputs
        .iter()
        .filter(|input| pending.contains(&normalized(input)))
        .map(|input| format!("{} will be made first", input.display()))
        .collect();
    let recipe = if reasons.is_empty() { Some(recipe()?) } else { None };
    if let Some(recipe) = &recipe {
        reasons = differences(out, recipe)?;
    }
    if !reasons.is_empty() {
        add_pending(common, out)?;
    }
    let (up_to_date, name) = (reasons.is_empty(), out.display());
    let text = if up_to_date {
        format!("{name}: up to date")
    } else {
        format!("{name}: will run\n    {}", reasons.join("\n    "))
    };
    let (key, config) = (recipe.as_ref().map(Recipe::key), recipe.map(|recipe| recipe.config));
    let json =
        json!({"out": out, "up_to_date": up_to_date, "reasons": reasons, "key": key, "config": config});
    emit(common, text, &json)?;
    Ok(!up_to_date)
}

fn differences(out: &Path, recipe: &Recipe) -> anyhow::Result<Vec<String>> {
    let resumed =
        if is_held(out) { Some("another process is at work on it".into()) } else { resumed(out, recipe) };
    Ok(match status(out, recipe)? {
        Status::UpToDate(_) => vec![],
        Status::Missing => vec![resumed.unwrap_or_else(|| "there is none yet".into())],
        Status::Changed(reasons) => reasons.into_iter().chain(resumed).collect(),
    })
}

fn resumed(out: &Path, recipe: &Recipe) -> Option<String> {
    Some(match (recipe.kind, Remains::of(out, &recipe.key())?) {
        (Kind::Model, Remains::Begun) => {
            "begins anew: the run that was interrupted came to no checkpoint".to_owned()
        }
        (_, remains) => format!("goes on with a run that was interrupted{remains}"),
    })
}

fn read_pending(common: &CommonArgs) -> anyhow::Result<BTreeSet<PathBuf>> {
    let Some(file) = common.pending.as_deref().filter(|file| file.exists()) else {
        return Ok(BTreeSet::new());
    };
    Ok(fs::read_to_string(file)?.lines().map(PathBuf::from).collect())
}

fn add_pending(common: &CommonArgs, out: &Path) -> anyhow::Result<()> {
    let Some(file) = &common.pending else { return Ok(()) };
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file)?;
    Ok(writeln!(file, "{}", normalized(out).display())?)
}

/// `./data/./x/` and `data/x` are the same folder.
fn normalized(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use entromask_artifact::{Workbench, tool};

    use super::*;

    #[test]
    fn a_run_at_work_is_not_called_interrupted() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let recipe = || Recipe { kind: Kind::Masks, config: json!({}), inputs: vec![] };
        let bench = Workbench::open(folder.path(), recipe(), tool("test", "0", &[]))?;
        bench.write_bytes(&bench.part_name("part", 0), b"x")?;
        let lent = bench.lend()?;
        assert_eq!(differences(folder.path(), &recipe())?, ["another process is at work on it"]);
        drop(lent);
        let reasons = differences(folder.path(), &recipe())?;
        assert_eq!(reasons, ["goes on with a run that was interrupted after 1 part"]);
        Ok(())
    }

    #[test]
    fn what_is_made_anew_is_passed_on_to_later_stages() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let common = CommonArgs { pending: Some(folder.path().join("pending")), ..CommonArgs::default() };
        let recipe = Recipe { kind: Kind::Tokens, config: json!({}), inputs: vec![] };
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        plan(&common, &first, &[], || Ok(recipe))?;
        plan(&common, &second, &[&first.join(".")], || anyhow::bail!("must not be asked"))?;
        assert_eq!(read_pending(&common)?, BTreeSet::from([first, second]));
        // make takes a leading ./ off targets, and leaves it with inputs.
        assert_eq!(normalized(Path::new("./data/./x/")), normalized(Path::new("data/x")));
        Ok(())
    }
}
