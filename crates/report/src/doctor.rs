//! What a user needs to see before a first run.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::number::bytes;

/// Memory that a run on the sample needs, with room to spare.
const MEMORY_BYTES: u64 = 2 << 30;
/// Disk that build, sample run and report need.
const DISK_BYTES: u64 = 5 << 30;

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

/// Looks at programs, machine and data.
pub fn examine(data: &Path) -> Vec<Check> {
    let mut checks = vec![
        Check::known("entromask", format!("{} {}", env!("CARGO_PKG_VERSION"), revision()).trim_end()),
        program("rustc", "install Rust 1.95 or newer with rustup"),
        program("cargo", "install Rust 1.95 or newer with rustup"),
        program("make", "install GNU Make 4.3 or newer"),
        program("cc", "install a C compiler, e.g. gcc"),
    ];
    checks.push(Check::known("cpu", format!("{}, {} cores", cpu_model(), cores())));
    checks.push(memory());
    checks.push(disk(data));
    checks.extend(
        ["sample/corpus", "sample/glue", "tokenizers/bert-base-uncased"].map(|name| folder(data, name)),
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

/// The first line that the program prints about its version.
fn program(name: &str, remedy: &str) -> Check {
    let output = Command::new(name).arg("--version").output();
    let output = output.ok().filter(|output| output.status.success());
    let line =
        output.and_then(|output| Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_string()));
    match line {
        Some(line) => Check::known(name, line),
        None => Check::judged(name, "not found".into(), false, remedy),
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

fn folder(data: &Path, name: &str) -> Check {
    let path = data.join(name);
    let files = std::fs::read_dir(&path).map_or(0, Iterator::count);
    let remedy = "run from the root of the repository, or restore the folder: git checkout -- data";
    Check::judged(name, format!("{files} entries in {}", path.display()), files > 0, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_sample_is_a_problem_with_a_remedy() -> anyhow::Result<()> {
        let data = tempfile::tempdir()?;
        let checks = examine(data.path());
        let sample = checks.iter().find(|check| check.name == "sample/corpus").expect("looked at");
        assert!(!sample.ok && sample.remedy.is_some());
        std::fs::create_dir_all(data.path().join("sample/corpus/book"))?;
        assert!(folder(data.path(), "sample/corpus").ok);
        Ok(())
    }

    #[test]
    fn a_missing_program_is_a_problem() {
        let check = program("entromask-no-such-program", "install it");
        assert_eq!(render(&[check]), "problem  entromask-no-such-program  not found; install it");
    }

    #[test]
    fn the_disk_of_a_folder_that_does_not_exist_yet_is_known() {
        let data = std::env::temp_dir().join("entromask-not-there/data");
        assert!(disk(&data).found.contains("free"));
    }
}
