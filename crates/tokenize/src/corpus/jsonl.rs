//! JSON lines: an object a line, one of its strings is the document.

use std::io::{BufRead, Read};
use std::path::Path;

use entromask_fault::Fault;
use serde_json::Value;

use super::utf8::Utf8;
use super::{Sink, Source, open, pieces};

/// A longer line is taken for a file of another format.
const MAX_LINE_BYTES: u64 = 64 << 20;

pub(super) fn read(path: &Path, field: &str, utf8: Utf8, source: &Source, take: Sink) -> anyhow::Result<()> {
    let mut stream = open::open(path, source)?;
    for number in 1.. {
        let mut line = Vec::new();
        let mut limited = (&mut stream).take(MAX_LINE_BYTES);
        limited.read_until(b'\n', &mut line).map_err(|error| open::damaged(path, &error))?;
        if line.is_empty() {
            break;
        }
        let place = || format!("{}:{number}", path.display());
        if line.len() as u64 == MAX_LINE_BYTES {
            return Err(Fault::input(format!("{}: a line of more than 64 MiB", place()))
                .remedy("check `format`: JSON lines have one object a line")
                .into());
        }
        let line = utf8.decode(line, path, number, source)?;
        let line = line.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{feff}');
        if !line.is_empty() {
            pieces::split(text(line, field).map_err(|fault| fault.at(&place()))?, take)?;
        }
    }
    Ok(())
}

/// What is wrong with a line, before its place is known.
struct Wrong {
    message: String,
    remedy: &'static str,
}

impl Wrong {
    fn at(self, place: &str) -> Fault {
        Fault::input(format!("{place}: {}", self.message)).remedy(self.remedy)
    }
}

fn text(line: &str, field: &str) -> Result<String, Wrong> {
    let value: Value = serde_json::from_str(line).map_err(|error| Wrong {
        message: format!("not JSON: {error}"),
        remedy: "check `format` in the corpus config and the file",
    })?;
    let (found, value) = match value {
        Value::Object(mut map) => match map.remove(field) {
            Some(Value::String(text)) => return Ok(text),
            Some(other) => (format!("`{field}` is {}", kind(&other)), Value::Null),
            None => (format!("no field `{field}` among {:?}", map.keys().collect::<Vec<_>>()), Value::Null),
        },
        other => (format!("{} instead of an object", kind(&other)), other),
    };
    drop(value);
    Err(Wrong {
        message: found,
        remedy: "name the field that holds the text with `field` in the corpus config",
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_something_else_say_what() {
        let wrong = |line| text(line, "text").err().map(|wrong| wrong.message).unwrap_or_default();
        assert_eq!(text(r#"{"id": 1, "text": "a\nb"}"#, "text").ok().as_deref(), Some("a\nb"));
        assert!(wrong("text").starts_with("not JSON"));
        assert_eq!(wrong("[]"), "a list instead of an object");
        assert_eq!(wrong(r#"{"text": 3}"#), "`text` is a number");
        assert_eq!(wrong(r#"{"body": "x", "id": 1}"#), r#"no field `text` among ["body", "id"]"#);
    }
}
