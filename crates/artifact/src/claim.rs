//! Whether a folder may become an artifact at all, of these inputs.

use std::path::Path;

use entromask_fault::Fault;

use crate::manifest::{MANIFEST, Manifest};
use crate::recipe::Recipe;

/// Refuses a folder whose loss nobody asked for: one that the artifact is made from, or an artifact of another kind; and
/// inputs whose paths no manifest can tell, which otherwise would show when all work is done.
///
/// A manifest that cannot be read protects nothing, so that a damaged artifact is made anew where it is.
pub(crate) fn check(out: &Path, recipe: &Recipe) -> Result<(), Fault> {
    if let Some(input) = recipe.inputs.iter().find(|input| input.path.to_str().is_none()) {
        let (path, role) = (input.path.display(), &input.role);
        return Err(Fault::usage(format!("{path}: the path of the input `{role}` is not UTF-8"))
            .remedy("rename it, or name it by a link whose name is"));
    }
    let refuse = |problem: String| Fault::usage(problem).remedy("choose another --out");
    if let Some(input) = recipe.inputs.iter().find(|input| same_folder(out, &input.path)) {
        return Err(refuse(format!("{}: this is the input `{}`", out.display(), input.role)));
    }
    let found = out.join(MANIFEST).exists().then(|| Manifest::load_any(out).ok()).flatten();
    match found.filter(|found| found.kind != recipe.kind) {
        None => Ok(()),
        Some(found) => {
            let (out, found, wanted) = (out.display(), found.kind, recipe.kind);
            Err(refuse(format!("{out}: holds an artifact of kind {found}, this would be of kind {wanted}")))
        }
    }
}

/// By whatever names; a folder that is not there yet is no other.
fn same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::{Cost, Input, Kind, OutputSpec, Recipe, Workbench, status, tool};

    #[test]
    fn neither_an_input_nor_an_artifact_of_another_kind_is_replaced() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let of = |kind, inputs| Recipe { kind, format: 1, config: Value::Null, inputs };
        let tool = || tool("test", "0", &[]);
        let bench = Workbench::open(folder.path(), of(Kind::Masks, vec![]), tool())?;
        bench.write_bytes("file", b"precious")?;
        let first = bench.publish(vec![OutputSpec::file("file")], Value::Null, Cost::default())?;
        let input = Input::artifact("before", &first, &folder.path().join("."));
        let (other, itself) = (of(Kind::Entropy, vec![]), of(Kind::Masks, vec![input]));
        for (recipe, words) in [(other, "of kind masks"), (itself, "the input `before`")] {
            let refused = [
                status(folder.path(), &recipe).map(drop),
                Workbench::open(folder.path(), recipe.clone(), tool()).map(drop),
                Workbench::open_shard(folder.path(), recipe, tool(), "1/2".parse()?, "cpu").map(drop),
            ];
            for error in refused.map(Result::unwrap_err) {
                assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2);
                assert!(error.to_string().contains(words), "{error}");
            }
        }
        assert!(!folder.path().join(".lock-1-of-2").exists());
        first.verify(folder.path())
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_a_manifest_cannot_tell_is_refused_before_the_work() -> anyhow::Result<()> {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let folder = tempfile::tempdir()?;
        let input = Input {
            role: "teacher".into(),
            kind: "files".into(),
            content: String::new(),
            path: folder.path().join(OsStr::from_bytes(b"mod\xe8le")),
        };
        let recipe = Recipe { kind: Kind::Entropy, format: 1, config: Value::Null, inputs: vec![input] };
        let out = folder.path().join("out");
        let error = Workbench::open(&out, recipe, tool("test", "0", &[])).map(drop).unwrap_err();
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2);
        assert!(error.to_string().contains("`teacher` is not UTF-8") && !out.exists(), "{error}");
        Ok(())
    }
}
