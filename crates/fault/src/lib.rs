//! Errors of the user's world: what is wrong, what to do about it, and which exit code it means.
//!
//! Libraries return `anyhow::Result`; an error that a user can cause is a [`Fault`] in the chain, everything else is
//! a bug or a failure of the machine. The exit codes are part of the interface:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done, or up to date |
//! | 1 | failed |
//! | 2 | usage or configuration |
//! | 3 | an input is missing, damaged or of another origin |
//! | 4 | the device is not available |
//! | 130 | interrupted; the next run resumes |

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

/// What kind of trouble a [`Fault`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The work itself failed, e.g. the loss diverged or the disk filled up.
    Failed,
    /// Another process is at work on the same.
    Busy,
    /// The command line or a configuration file is wrong.
    Usage,
    /// An input is missing, damaged or belongs to something else.
    Input,
    /// The device is not compiled in, or has no driver.
    Device,
    /// The user asked to stop.
    Interrupted,
}

impl Class {
    /// The process exit code of this class.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::Busy => 1,
            Self::Usage => 2,
            Self::Input => 3,
            Self::Device => 4,
            Self::Interrupted => 130,
        }
    }
}

/// An error that names what was found and how to mend it.
///
/// ```
/// use entromask_fault::{Class, Fault};
/// let fault = Fault::input("corpus.txt: no such file").remedy("check `files` in the corpus config");
/// assert_eq!(fault.class(), Class::Input);
/// assert_eq!(fault.to_string(), "corpus.txt: no such file; check `files` in the corpus config");
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    class: Class,
    message: String,
    remedy: Option<String>,
}

impl Fault {
    /// The work itself failed (exit code 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Class::Failed, message)
    }

    /// Another process is at work on the same (exit code 1).
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Class::Busy, message)
    }

    /// The command line or a configuration is wrong (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }

    /// An input is missing, damaged or of another origin (exit code 3).
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Class::Input, message)
    }

    /// The device is not available (exit code 4).
    pub fn device(message: impl Into<String>) -> Self {
        Self::new(Class::Device, message)
    }

    /// The user interrupted the run (exit code 130).
    pub fn interrupted() -> Self {
        Self::new(Class::Interrupted, "interrupted").remedy("run the same command again to resume")
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The class, which decides the exit code.
    pub fn class(&self) -> Class {
        self.class
    }

    fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), remedy: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl std::error::Error for Fault {}

/// Why a file cannot be read, in plain words and with its path: the message of a [`Fault`].
///
/// ```
/// use std::path::Path;
/// let path = Path::new("nowhere/config.json");
/// let error = std::fs::read(path).unwrap_err();
/// assert_eq!(entromask_fault::unreadable(path, &error), "nowhere/config.json: no such file");
/// ```
pub fn unreadable(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!("{path}: no such file"),
        ErrorKind::PermissionDenied => format!("{path}: permission denied"),
        ErrorKind::IsADirectory => format!("{path}: a folder, not a file"),
        ErrorKind::NotADirectory => format!("{path}: no such file, a part of this path is not a folder"),
        _ => format!("{path}: {error}"),
    }
}

/// The class of an error: that of the first [`Fault`] in its chain, else [`Class::Failed`].
pub fn class_of(error: &(dyn std::error::Error + 'static)) -> Class {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return fault.class;
        }
        link = error.source();
    }
    Class::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes =
            [Class::Failed, Class::Busy, Class::Usage, Class::Input, Class::Device, Class::Interrupted];
        assert_eq!(codes.map(Class::exit_code), [1, 1, 2, 3, 4, 130]);
    }

    #[test]
    fn class_is_found_behind_other_errors() {
        let io = std::io::Error::other(Fault::device("no driver"));
        assert_eq!(class_of(&Fault::usage("x")), Class::Usage);
        assert_eq!(class_of(&io), Class::Failed, "io::Error hides what it was made from");
    }
}
