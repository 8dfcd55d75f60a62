//! One call of a stage program.

use std::path::{Path, PathBuf};

use entromask_cli::quoted;
use serde::{Deserialize, Serialize};

/// One stage: what is called, and what it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Which program.
    pub program: Program,
    /// The artifact that it makes.
    pub out: PathBuf,
    /// Artifacts of other stages that it reads.
    pub inputs: Vec<PathBuf>,
    /// Its arguments, but for where and on how many threads it runs.
    pub args: Vec<String>,
    /// Stages that take about as long have this in common.
    pub class: String,
}

/// The stage programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// Text to tokens.
    Tokenize,
    /// Tokens to entropy.
    Score,
    /// Entropy to masks.
    Select,
    /// Masks to a model.
    Pretrain,
    /// A model to scores.
    Glue,
}

/// Where stages run; nothing of it bears on a result.
#[derive(Clone, Debug)]
pub struct Place {
    /// Folder of the stage programs.
    pub bin: PathBuf,
    /// Device.
    pub device: String,
    /// Threads of each stage; the stage's own choice without.
    pub threads: Option<usize>,
    /// The program that becomes a stage's, so that it ends with the grid; without, the stage's own is called.
    pub launcher: Option<PathBuf>,
}

impl Program {
    /// The name of the program's file.
    pub fn file(self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        format!("entromask-{}", value.as_str().unwrap_or_default())
    }

    /// Whether it computes with a model.
    fn uses_device(self) -> bool {
        !matches!(self, Self::Tokenize | Self::Select)
    }
}

impl Stage {
    /// The program's path, and all arguments.
    pub fn command(&self, place: &Place) -> (PathBuf, Vec<String>) {
        let mut args = self.args.clone();
        args.push("--wait".into());
        if self.program.uses_device() {
            // Scoring computes on one device.
            let first = place.device.split(',').next().unwrap_or_default();
            let device = if self.program == Program::Score { first } else { &place.device };
            args.extend(["--device".into(), device.into()]);
        }
        if let Some(threads) = place.threads {
            args.extend(["--threads".into(), threads.to_string()]);
        }
        (place.bin.join(self.program.file()), args)
    }

    /// The command as one would type it, without what does not bear on the result.
    pub fn line(&self) -> String {
        let words = std::iter::once(self.program.file()).chain(self.args.iter().map(|word| quoted(word)));
        words.collect::<Vec<_>>().join(" ")
    }

    /// The artifact's folder below `data`, for people.
    pub fn name(&self, data: &Path) -> String {
        self.out.strip_prefix(data).unwrap_or(&self.out).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scoring_has_the_first_of_several_devices() {
        let place = Place { bin: "bin".into(), device: "cuda:0,1".into(), threads: None, launcher: None };
        let args = |program| {
            let stage =
                Stage { program, out: "out".into(), inputs: vec![], args: vec![], class: String::new() };
            stage.command(&place).1
        };
        assert_eq!(args(Program::Pretrain), ["--wait", "--device", "cuda:0,1"]);
        assert_eq!(args(Program::Score), ["--wait", "--device", "cuda:0"]);
        assert_eq!(args(Program::Select), ["--wait"]);
    }

    #[test]
    fn lines_can_be_pasted_into_a_shell() {
        let args = ["--set", "rate={ shape = \"linear\" }"].map(String::from).into();
        let stage =
            Stage { program: Program::Select, out: "out".into(), inputs: vec![], args, class: String::new() };
        assert_eq!(stage.line(), "entromask-select --set 'rate={ shape = \"linear\" }'");
    }
}
