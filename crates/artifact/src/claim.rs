//! Whether a folder may become an artifact at all, of these inputs.

use std::path::Path;

use entromask_fault::Fault;
use serde_json::Value;

use crate::lock::LOCK;
use crate::manifest::{Kind, MANIFEST};
use crate::names::{self, STATE};
use crate::recipe::Recipe;

/// What models and tokenizers consist of, wherever they come from. Stages would write over files of these names.
const OF_ANYBODY: [&str; 4] = ["config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"];

/// Whether `dir` is an artifact of the pipeline, or a stage has begun to make one there.
pub fn is_artifact(dir: &Path) -> bool {
    // A stage's lock is empty.
    let has_lock = fs_err::metadata(dir.join(LOCK)).is_ok_and(|lock| lock.len() == 0);
    has_lock || dir.join(MANIFEST).exists()
}

/// Refuses a folder whose loss nobody asked for: one that the artifact is made from or that holds a file that it is made
/// from, an artifact of another kind, what another program calls a manifest, or files of somebody's where no stage has been;
/// and inputs whose paths no manifest can tell, which otherwise would show when all work is done.
///
/// A manifest that is no JSON protects nothing, so that a damaged artifact is made anew where it is.
pub(crate) fn check(out: &Path, recipe: &Recipe) -> Result<(), Fault> {
    if let Some(input) = recipe.inputs.iter().find(|input| input.path.to_str().is_none()) {
        let (path, role) = (input.path.display(), &input.role);
        return Err(Fault::usage(format!("{path}: the path of the input `{role}` is not UTF-8"))
            .remedy("rename it, or name it by a link whose name is"));
    }
    let refuse = |problem: String| Fault::usage(problem).remedy("choose another --out");
    if let Some(input) = recipe.inputs.iter().find(|input| holds(out, &input.path)) {
        return Err(refuse(format!("{}: this is the input `{}`", out.display(), input.role)));
    }
    if let Some(owner) = owner_of_state(out) {
        return Err(refuse(format!("{}: lies in what {} needs to go on", out.display(), owner.display())));
    }
    if is_foreign(out) {
        return Err(refuse(format!("{}: its {MANIFEST} is none of entromask's", out.display())));
    }
    if let Some(file) = file_of_others(out) {
        let problem = format!("{}: holds {file}, which no stage made", out.display());
        return Err(Fault::usage(problem).remedy("give an empty or a new folder as --out"));
    }
    match Kind::of(out).filter(|found| *found != recipe.kind) {
        None => Ok(()),
        Some(found) => {
            let (out, wanted) = (out.display(), recipe.kind);
            Err(refuse(format!("{out}: holds an artifact of kind {found}, this would be of kind {wanted}")))
        }
    }
}

/// Whether `input` is the folder `out` or a file in it, by whatever names; a folder that is not there yet is no other.
fn holds(out: &Path, input: &Path) -> bool {
    match (out.canonicalize(), input.canonicalize()) {
        (Ok(out), Ok(input)) if input.is_file() => input.parent() == Some(&out),
        (Ok(out), Ok(input)) => input == out,
        _ => false,
    }
}

/// The artifact in whose `state` a folder would lie: nobody looks for a result there, and it is left out when a model is
/// handed on.
fn owner_of_state(out: &Path) -> Option<&Path> {
    let folders = out.ancestors().skip(1).filter(|folder| folder.ends_with(STATE));
    folders.filter_map(Path::parent).find(|owner| is_artifact(owner))
}

/// Web pages, browser extensions and others have manifests, too.
fn is_foreign(out: &Path) -> bool {
    let found = fs_err::read(out.join(MANIFEST)).ok();
    let found = found.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    found.is_some_and(|found| ["kind", "key"].iter().any(|name| found.get(name).is_none()))
}

/// The first file or folder in `out` that is somebody's, by name; hidden ones are nobody's.
///
/// A stage leaves its lock where it has been, unless the folder was copied without hidden files. The lock comes before all
/// else, so it is looked for last: another shard may just have begun.
fn file_of_others(out: &Path) -> Option<String> {
    let mut names = names::entries(out);
    // Folders of other artifacts are left as they are.
    let is_other = |name: &str| Kind::of(&out.join(name)).is_some();
    names.retain(|name| !name.starts_with('.') && !is_other(name));
    names.sort();
    if is_artifact(out) {
        return None;
    }
    let of_a_model = names.iter().find(|name| OF_ANYBODY.contains(&name.as_str()));
    of_a_model.or_else(|| names.first().filter(|_| !names::has_begun(out))).cloned()
}

#[cfg(test)]
mod tests {
    use super::Value;
    use crate::{Cost, Input, Kind, OutputSpec, Recipe, Workbench, status, tool};

    #[test]
    fn neither_an_input_nor_an_artifact_of_another_kind_is_replaced() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let of = |kind, inputs| Recipe { kind, config: Value::Null, inputs };
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

    #[test]
    fn what_an_artifact_needs_to_go_on_is_no_place_for_another() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let recipe = Recipe { kind: Kind::Masks, config: Value::Null, inputs: vec![] };
        let check = |out: &str| super::check(&folder.path().join(out), &recipe);
        assert!(check("state/mine").is_ok(), "nobody's");
        std::fs::write(folder.path().join(super::LOCK), "")?;
        let error = check("state/mine").expect_err("is that of an artifact").to_string();
        assert!(error.contains("/state/mine: lies in what"), "{error}");
        assert!(check("states/mine").is_ok());
        Ok(())
    }

    #[test]
    fn files_of_others_are_not_replaced() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (file, manifest) = (folder.path().join("tokenizer.json"), folder.path().join(super::MANIFEST));
        std::fs::write(&file, "{}")?;
        let of = |inputs| Recipe { kind: Kind::Tokens, config: Value::Null, inputs };
        let inputs = vec![Input {
            role: "tokenizer".into(),
            kind: "files".into(),
            content: String::new(),
            path: file,
        }];
        let check = |inputs| super::check(folder.path(), &of(inputs)).map_err(|fault| fault.to_string());
        assert!(check(inputs).is_err_and(|error| error.contains("the input `tokenizer`")));
        for (text, fine) in [("{\"name\": \"a web page\"}", false), ("[]", false), ("{\"kind\": \"tok", true)]
        {
            std::fs::write(&manifest, text)?;
            assert_eq!(check(vec![]).is_ok(), fine, "{text}");
        }
        Ok(())
    }

    #[test]
    fn models_of_others_are_not_replaced_and_unfinished_ones_are_resumed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let recipe = Recipe { kind: Kind::Model, config: Value::Null, inputs: vec![] };
        let open =
            |name: &str| Workbench::open(&folder.path().join(name), recipe.clone(), tool("test", "0", &[]));
        for file in super::OF_ANYBODY {
            let out = folder.path().join(file);
            std::fs::create_dir(&out)?;
            std::fs::write(out.join(file), "precious")?;
            for error in [open(file).map(drop), status(&out, &recipe).map(drop)].map(Result::unwrap_err) {
                assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2);
                assert!(
                    error.to_string().contains(&format!("holds {file}, which no stage made; give an empty"))
                );
            }
            assert_eq!(std::fs::read_dir(&out)?.count(), 1, "not even a lock");
        }
        open("unfinished")?.write_bytes("config.json", b"{}")?;
        open("unfinished")?.write_bytes("model.safetensors", b"")
    }

    #[test]
    fn only_where_nothing_of_somebodys_is_or_a_stage_has_been_is_room() -> anyhow::Result<()> {
        let check = |files: &[&str]| -> anyhow::Result<_> {
            let folder = tempfile::tempdir()?;
            for file in files {
                let path = folder.path().join(file);
                std::fs::create_dir_all(path.parent().expect("a folder"))?;
                std::fs::write(path, if *file == super::LOCK { "" } else { "{" })?;
            }
            let recipe = Recipe { kind: Kind::Masks, config: Value::Null, inputs: vec![] };
            Ok(super::check(folder.path(), &recipe).map_err(|fault| fault.to_string()))
        };
        for (files, first) in [
            (&["notes.md"][..], "notes.md"),
            (&["my text/a b.txt", "z.parquet"], "my text"),
            (&[".tmp-1-page.html", "page.html"], "page.html"),
            (&["state/run/step-1"], "state"),
        ] {
            let error = check(files)?.expect_err("is somebody's");
            assert!(error.contains(&format!(": holds {first}, which no stage made")), "{error}");
        }
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join(super::LOCK), "somebody's, as they are not empty")?;
        std::fs::write(folder.path().join("tokenizer.json"), "{}")?;
        assert_eq!(super::file_of_others(folder.path()).as_deref(), Some("tokenizer.json"));
        let left_by_stages: [&[&str]; 8] = [
            &[],
            &[".lock"],
            &[".tmp-part-1a2b3c4d-00000.parquet"],
            &[".gitkeep", ".DS_Store"],
            &["state/1a2b3c4d/metrics.jsonl"],
            &["epoch-000-1a2b3c4d-00000.parquet", "README.md"],
            &[".lock", "tokenizer.json", "README.md"],
            &["manifest.json", "README.md"],
        ];
        for files in left_by_stages {
            assert_eq!(check(files)?, Ok(()), "{files:?}");
        }
        Ok(())
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
        let recipe = Recipe { kind: Kind::Entropy, config: Value::Null, inputs: vec![input] };
        let out = folder.path().join("out");
        let error = Workbench::open(&out, recipe, tool("test", "0", &[])).map(drop).unwrap_err();
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2);
        assert!(error.to_string().contains("`teacher` is not UTF-8") && !out.exists(), "{error}");
        Ok(())
    }
}
