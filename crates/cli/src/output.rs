//! Results on stdout.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stdout};

use serde::Serialize;

use crate::CommonArgs;

/// Prints a result: as text, or as one JSON document with `--json`. A closed pipe is not an error.
pub fn emit(common: &CommonArgs, text: impl Display, json: &impl Serialize) -> anyhow::Result<()> {
    let line = if common.output.json { serde_json::to_string(json)? } else { text.to_string() };
    match writeln!(stdout().lock(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
