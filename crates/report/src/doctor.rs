//! What a user needs to see before a first run.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::number::bytes;

/// The oldest GNU Make that the Makefile was tried with; that of Rust stands in Cargo.toml.
const MAKE: &str = "4.3";
/// A program that computes: all of them are built with the same backends.
const STAGE: &str = "entromask-pretrain";
/// Memory that a run on the sample needs, with room to spare.
const MEMORY_BYTES: u64 = 2 << 30;
/// Disk that build, sample run and report need.
const DISK_BYTES: u64 = 5 << 30;

/// Where the pipelines read samples and tokenizers, wherever they write.
pub const SAMPLES: &str = "data";

/// One line of the examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub found: String,
    /// Whether it will do.
    pub ok: bool,
    /// What to do otherwise.
    pub remedy: Option<String>,
}

/// Looks at programs, machine and data; `samples` is where the pipelines read samples and tokenizers, `data` where they write.
pub fn examine(samples: &Path, data: &Path) -> Vec<Check> {
    let mut checks = vec![
        Check::known("entromask", format!("{} {}", env!("CARGO_PKG_VERSION"), revision()).trim_end()),
        program("rustc", Some(env!("CARGO_PKG_RUST_VERSION")), "install it with rustup (https://rustup.rs)"),
        program("cargo", Some(env!("CARGO_PKG_RUST_VERSION")), "install it with rustup (https://rustup.rs)"),
        program("make", Some(MAKE), "install GNU Make"),
        program("cc", None, "install a C compiler, e.g. gcc"),
        backends(&beside(STAGE)),
    ];
    checks.push(Check::known("cpu", format!("{}, {} cores", cpu_model(), cores())));
    checks.push(memory());
    checks.push(disk(data));
    checks.extend(
        ["sample/corpus", "sample/glue", "tokenizers/bert-base-uncased"].map(|name| folder(samples, name)),
    );
    checks
}

/// The checks as lines.
pub fn render(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for Check { name, found, ok, remedy } in checks {
        let mark = if *ok { "ok     " } else { "problem" };
        let _ = write!(out, "{mark}  {name:<width$}  {found}");
        let _ = writeln!(out, "{}", remedy.as_ref().map_or_else(String::new, |remedy| format!("; {remedy}")));
    }
    out.trim_end().to_string()
}

impl Check {
    fn known(name: &str, found: impl Into<String>) -> Self {
        Self { name: name.into(), found: found.into(), ok: true, remedy: None }
    }

    fn judged(name: &str, found: String, ok: bool, remedy: &str) -> Self {
        Self { ok, remedy: (!ok).then(|| remedy.into()), ..Self::known(name, found) }
    }
}

fn revision() -> String {
    std::env::var("ENTROMASK_GIT").unwrap_or_default()
}

/// Whether the program is there and new enough.
fn program(name: &str, oldest: Option<&str>, remedy: &str) -> Check {
    let Some(text) = version_text(name.as_ref()) else {
        return Check::judged(name, "not found".into(), false, remedy);
    };
    let line = text.lines().next().unwrap_or_default();
    match oldest {
        Some(oldest) => judge_version(name, line, oldest, remedy),
        None => Check::known(name, line),
    }
}

fn judge_version(name: &str, line: &str, oldest: &str, remedy: &str) -> Check {
    let remedy = format!("{oldest} or newer is needed: {remedy}");
    let new_enough = version(line).is_some_and(|found| Some(found) >= version(oldest));
    Check::judged(name, line.into(), new_enough, &remedy)
}

/// The first version number in a text: major and minor.
fn version(text: &str) -> Option<(u32, u32)> {
    let numbers = |word: &str| {
        let mut parts = word.split(['.', '-']).map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    };
    text.split(|c: char| c.is_whitespace() || "(),".contains(c)).find_map(numbers)
}

/// What `program --version` prints, if it runs.
fn version_text(program: &OsStr) -> Option<String> {
    let output =
        Command::new(program).arg("--version").output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The path of another program of entromask, in the folder of this one.
fn beside(name: &str) -> PathBuf {
    std::env::current_exe().map_or_else(|_| name.into(), |this| this.with_file_name(name))
}

/// Which backends were compiled in; this program itself has none, since it computes nothing.
fn backends(stage: &Path) -> Check {
    let text = version_text(stage.as_os_str());
    let line = text.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("backends: ")));
    match line {
        Some(line) => Check::known("backends", line),
        None => Check::judged(
            "backends",
            format!("{} does not tell", stage.display()),
            false,
            "build all programs: make build",
        ),
    }
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split(':').nth(1)).map(str::trim);
    model.unwrap_or(std::env::consts::ARCH).to_string()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn memory() -> Check {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    };
    match (field("MemTotal:"), field("MemAvailable:")) {
        (Some(total), Some(free)) => {
            let found = format!("{} of {} available", bytes(free), bytes(total));
            Check::judged("memory", found, free >= MEMORY_BYTES, "close other programs: a run wants 2 GiB")
        }
        _ => Check::known("memory", "this system does not tell"),
    }
}

/// The space on the disk of `data`, or of the nearest folder above that exists.
fn disk(data: &Path) -> Check {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.into());
    let Some(folder) = absolute.ancestors().find(|folder| folder.exists()) else {
        return Check::known("disk", "unknown");
    };
    match fs4::available_space(folder) {
        Ok(free) => {
            let found = format!("{} free for {}", bytes(free), data.display());
            Check::judged(
                "disk",
                found,
                free >= DISK_BYTES,
                "free some space: build and sample run want 5 GiB",
            )
        }
        Err(error) => {
            Check::judged("disk", error.to_string(), false, "check that the data folder can be read")
        }
    }
}

fn folder(samples: &Path, name: &str) -> Check {
    let path = samples.join(name);
    let files = std::fs::read_dir(&path).map_or(0, Iterator::count);
    let remedy = "run from the root of the repository, or restore the folder: git checkout -- data";
    Check::judged(name, format!("{files} entries in {}", path.display()), files > 0, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_sample_is_a_problem_with_a_remedy() -> anyhow::Result<()> {
        let samples = tempfile::tempdir()?;
        let checks = examine(samples.path(), samples.path());
        let sample = checks.iter().find(|check| check.name == "sample/corpus").expect("looked at");
        assert!(!sample.ok && sample.remedy.is_some());
        std::fs::create_dir_all(samples.path().join("sample/corpus/book"))?;
        assert!(folder(samples.path(), "sample/corpus").ok);
        Ok(())
    }

    #[test]
    fn a_missing_program_is_a_problem() {
        let check = program("entromask-no-such-program", Some("1.0"), "install it");
        assert_eq!(render(&[check]), "problem  entromask-no-such-program  not found; install it");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let judge = |line, oldest| judge_version("it", line, oldest, "install it").ok;
        assert!(judge("rustc 1.95.0 (59807616e 2026-04-14)", "1.95"));
        assert!(judge("cargo 1.100.0-nightly (f298b8c82 2026-02-24)", "1.95"));
        assert!(judge("GNU Make 4.4.1", "4.3") && judge("GNU Make 10.0", "4.3"));
        assert!(!judge("rustc 1.94.1 (abc 2026-03-01)", "1.95"));
        assert!(!judge("GNU Make 3.81", "4.3"));
        assert!(!judge("something else", "4.3"));
    }

    #[test]
    fn a_program_that_is_too_old_is_a_problem_with_a_remedy() {
        let check = judge_version("make", "GNU Make 3.81", "4.3", "install GNU Make");
        assert_eq!(
            render(&[check]),
            "problem  make  GNU Make 3.81; 4.3 or newer is needed: install GNU Make"
        );
    }

    #[test]
    fn the_documents_name_the_versions_that_are_looked_for() -> anyhow::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for file in ["README.md", "CONTRIBUTING.md"] {
            let text = std::fs::read_to_string(root.join(file))?;
            let wanted = [format!("Rust {}", env!("CARGO_PKG_RUST_VERSION")), format!("GNU Make {MAKE}")];
            assert!(wanted.iter().all(|words| text.contains(words)), "{file}: {wanted:?}");
        }
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn backends_are_those_of_a_stage() -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir()?;
        let stage = folder.path().join("stage");
        assert!(!backends(&stage).ok);
        std::fs::write(&stage, "#!/bin/sh\necho stage 0.1.0\necho backends: cpu, cuda\n")?;
        std::fs::set_permissions(&stage, std::fs::Permissions::from_mode(0o755))?;
        assert_eq!(render(&[backends(&stage)]), "ok       backends  cpu, cuda");
        Ok(())
    }

    #[test]
    fn the_disk_of_a_folder_that_does_not_exist_yet_is_known() {
        let data = std::env::temp_dir().join("entromask-not-there/data");
        assert!(disk(&data).found.contains("free"));
    }
}
