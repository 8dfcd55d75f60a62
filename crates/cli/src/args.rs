//! The flags that every stage takes.

use std::path::{Path, PathBuf};

use entromask_fault::Fault;

/// Printed below each binary's `--help`.
pub const EXIT_CODES_HELP: &str = "Exit codes: 0 done or up to date · 1 failed · 2 usage or config · \
3 input missing, damaged or of another origin · 4 device unavailable · 130 interrupted (run again to resume)";

/// The default device.
const CPU: &str = "cpu";
const F32: &str = "f32";

/// What `--version` of a stage that computes says: its version, and the backends that it can use. Made once a process, for
/// clap, which wants it to live as long.
pub fn long_version(version: &str, backends: &[&str]) -> &'static str {
    format!("{version}\nbackends: {}", backends.join(", ")).leak()
}

/// Leaves `arg` out of `--help` if it is among `flags`, which a command refuses; with the device goes its type.
///
/// For clap's `mut_args`, with the flags that [`CommonArgs::refuse`] is told.
#[must_use]
pub fn hide_refused(arg: clap::Arg, flags: &[&str]) -> clap::Arg {
    let flag = arg.get_long().map(|name| format!("--{name}"));
    let is_refused = flag.is_some_and(|flag| is_among(flags, &flag));
    let is_hidden = arg.is_hide_set();
    arg.hide(is_hidden || is_refused)
}

fn is_among(flags: &[&str], flag: &str) -> bool {
    flags.contains(&if flag == "--dtype" { "--device" } else { flag })
}

/// Flags common to all stages.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CommonArgs {
    /// Configuration of the stage (TOML); without it the defaults hold
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one key of the configuration; one in a table is TABLE.KEY. May be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the configuration that holds as TOML, naming the keys that are left at their defaults, and do nothing
    #[arg(long)]
    pub print_config: bool,
    /// What to make: the folder of an artifact, or a file where a command makes one
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// Where to compute: cpu, wgpu, vulkan or cuda; cuda:1 names the second GPU, wgpu:1 and vulkan:1 the second discrete one,
    /// and cuda:0,1 several for stages that can use them
    #[arg(long, value_name = "DEVICE", default_value = CPU)]
    pub device: String,
    /// Floating-point type: f32 or, on a GPU or a CPU with `AVX512_BF16`, bf16: of the matrix products where a model is trained or a
    /// CPU computes, of all but the softmax over the vocabulary where a GPU scores
    #[arg(long, value_name = "TYPE", default_value = F32, value_parser = ["f32", "bf16"])]
    pub dtype: String,
    /// Threads to use; by default all cores
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Wait while another process works on the same artifact, instead of failing
    #[arg(long)]
    pub wait: bool,
    /// Say what would be done and why, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: a file that collects what earlier stages would make anew
    #[arg(long, value_name = "FILE", hide = true, requires = "dry_run")]
    pub pending: Option<PathBuf>,
    /// What is printed, and how
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What is printed, and how.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print warnings and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more: -v for details, -vv for everything; `RUST_LOG`, where it is set, decides instead
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl CommonArgs {
    /// The artifact's folder.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if `--out` was not given.
    pub fn out(&self) -> anyhow::Result<&Path> {
        let missing = || Fault::usage("no output folder").remedy("name one with --out DIR");
        Ok(self.out.as_deref().ok_or_else(missing)?)
    }

    /// Refuses those of `flags` that were given although `command` has no use for them, and with the device its type. A device
    /// other than the processor, and a type other than f32, is one that was given.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that names the first one.
    pub fn refuse(&self, command: &str, flags: &[&str]) -> anyhow::Result<()> {
        let all = [
            ("--config", self.config.is_some()),
            ("--print-config", self.print_config),
            ("--set", !self.set.is_empty()),
            ("--out", self.out.is_some()),
            ("--dry-run", self.dry_run),
            ("--wait", self.wait),
            ("--device", ![CPU, ""].contains(&self.device.as_str())),
            ("--dtype", ![F32, ""].contains(&self.dtype.as_str())),
        ];
        match all.iter().find(|(flag, given)| *given && is_among(flags, flag)) {
            None => Ok(()),
            Some((flag, _)) => {
                Err(Fault::usage(format!("{command} has no use for {flag}")).remedy("leave it out").into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        common: CommonArgs,
    }

    fn parse(flags: &str) -> Result<CommonArgs, clap::Error> {
        let words = std::iter::once("stage").chain(flags.split_whitespace());
        Args::try_parse_from(words).map(|args| args.common)
    }

    #[test]
    fn flags_that_would_do_nothing_are_refused() -> anyhow::Result<()> {
        for flags in ["--dtype foo", "--pending file"] {
            let error = parse(flags).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flags}: {error}");
        }
        assert!(parse("--dtype bf16 --pending file --dry-run")?.dry_run);
        for (flags, fine) in
            [("", true), ("--device cpu", true), ("--device cuda:1", false), ("--dtype bf16", false)]
        {
            let refused = parse(flags)?.refuse("select", &["--device"]);
            assert_eq!(refused.is_ok(), fine, "{flags}");
            assert!(
                refused.err().is_none_or(|error| error.to_string().contains("select has no use for --d"))
            );
        }
        CommonArgs::default().refuse("select", &["--device"])
    }

    #[test]
    fn flags_that_are_refused_are_not_in_the_help() {
        let command = Args::command().mut_args(|arg| hide_refused(arg, &["--device", "--set"]));
        let help = command.clone().render_help().to_string();
        for (flag, shown) in [("--device", false), ("--dtype", false), ("--set", false), ("--out", true)] {
            assert_eq!(help.contains(&format!("{flag} ")), shown, "{flag}: {help}");
        }
        assert!(!help.contains("--pending"), "what was hidden stays hidden");
    }
}
