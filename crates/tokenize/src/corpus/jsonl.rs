//! JSON lines: an object a line, one of its strings is the document.

use std::fmt;
use std::io::{BufRead, Read};
use std::path::Path;

use entromask_fault::Fault;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
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
            return Err(too_long(&line, &place()).into());
        }
        let line = utf8.decode(line, source, |_| place())?;
        let line = line.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{feff}');
        if !line.is_empty() {
            let text = text(line, field).map_err(|wrong| wrong.at(&place()))?;
            pieces::split(utf8.decode(text, source, |_| place())?, take)?;
        }
    }
    Ok(())
}

/// An object is read as a whole, and takes several times its size.
fn too_long(start: &[u8], place: &str) -> Fault {
    if start.trim_ascii_start().starts_with(b"{") {
        return Fault::input(format!("{place}: a document of more than 64 MiB"))
            .remedy("split it, or make a text file of it, which is read piece by piece");
    }
    Fault::input(format!("{place}: a line of more than 64 MiB"))
        .remedy("check `format`: JSON lines have one object a line")
}

/// What to do with a file that is one list.
pub(super) const LIST_REMEDY: &str =
    "make an object a line of it, e.g. with `jq -c '.[]'`, and set `format = \"jsonl\"`";

/// Whether what begins with `start` looks like one list of objects.
pub(super) fn is_list(start: &[u8]) -> bool {
    let start = start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start).trim_ascii_start();
    let object = start.strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
    let name = object.and_then(|object| object.strip_prefix(b"{")).map(<[u8]>::trim_ascii_start);
    name.is_some_and(|name| name.starts_with(b"\""))
}

/// The field that seems to hold the text, if what begins with `start` looks like JSON lines: the first line is an object with
/// a string, and the next one begins like an object.
pub(super) fn likely_field(start: &[u8]) -> Option<String> {
    let start = start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start);
    let mut lines =
        start.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let Ok(Value::Object(first)) = serde_json::from_slice(lines.next()?) else { return None };
    if lines.next().is_some_and(|line| !line.starts_with(b"{")) {
        return None;
    }
    let strings = first.iter().filter_map(|(field, value)| Some((field, value.as_str()?)));
    strings.max_by_key(|(field, text)| (*field == "text", text.len())).map(|(field, _)| field.clone())
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

/// The string `field` of the object in `line`, none where it is null.
///
/// As bytes, since JSON can say what is no character: Python's `json` writes half of a surrogate pair as it finds it.
fn text(line: &str, field: &str) -> Result<Vec<u8>, Wrong> {
    let mut json = serde_json::Deserializer::from_str(line);
    match Field(field).deserialize(&mut json).and_then(|found| json.end().map(|()| found)) {
        Ok(Some(text)) => Ok(text.unwrap_or_default().0),
        _ => Err(wrong(line, field)),
    }
}

/// Why there is no string `field` in `line`.
fn wrong(line: &str, field: &str) -> Wrong {
    let message = match serde_json::from_str(line) {
        Err(error) => {
            let found = line.as_bytes().get(error.column().saturating_sub(1)..).unwrap_or_default();
            let is_python =
                ["NaN", "Infinity", "-Infinity"].iter().any(|name| found.starts_with(name.as_bytes()));
            let remedy = if is_python {
                "NaN and Infinity are no JSON, though Python writes them: write null in their place"
            } else {
                "check `format` in the corpus config and the file"
            };
            return Wrong { message: format!("not JSON: {}", in_line(&error)), remedy };
        }
        Ok(Value::Object(map)) => match map.get(field) {
            Some(value) => format!("`{field}` is {}", kind(value)),
            None => format!("no field `{field}` among {:?}", map.keys().collect::<Vec<_>>()),
        },
        Ok(Value::Array(_)) => {
            return Wrong { message: "a list instead of an object".into(), remedy: LIST_REMEDY };
        }
        Ok(other) => format!("{} instead of an object", kind(&other)),
    };
    Wrong { message, remedy: "name the field that holds the text with `field` in the corpus config" }
}

/// What the parser says, without the number of the line, which is 1 for it.
fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.replace(&format!(" at line {} column", error.line()), " at column")
}

/// Finds the value of one key of an object, and skips the others.
struct Field<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<Option<Text>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Option<Text>>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A string as bytes, with what is no character in it.
#[derive(Default)]
struct Text(Vec<u8>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
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
    fn json_lines_are_known_by_their_first_two() {
        let field = |start: &str| likely_field(start.as_bytes());
        assert_eq!(field("{\"id\": \"7\", \"body\": \"a text\"}\n").as_deref(), Some("body"));
        assert_eq!(field("\u{feff}\n{\"text\": \"\", \"url\": \"u\"}\r\n{\"te").as_deref(), Some("text"));
        for text in ["", "text", "{}", "{\"n\": 1}", "[\"a\"]", "{\"a\": \"b\"}\nA text on JSON.", "{a}"] {
            assert_eq!(field(text), None, "{text}");
        }
    }

    #[test]
    fn lines_that_are_something_else_say_what() {
        let wrong = |line| text(line, "text").err().map(|wrong| wrong.message).unwrap_or_default();
        let found = |line| text(line, "text").ok();
        assert_eq!(found(r#"{"id": 1, "text": "a\nb"}"#).as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(found(r#"{"text": null}"#).as_deref(), Some(&b""[..]));
        // Half of a surrogate pair, in the text and beside it; the one in the text is no UTF-8.
        let half = found(r#"{"id": "\ud800", "text": "a\ud800b"}"#).unwrap_or_default();
        assert!(half.starts_with(b"a") && half.ends_with(b"b") && String::from_utf8(half).is_err());
        assert!(wrong("text").starts_with("not JSON"));
        assert_eq!(wrong("[]"), "a list instead of an object");
        assert!(wrong(r#"{"text": "a"} {}"#).starts_with("not JSON"));
        assert_eq!(wrong(r#"{"text": 3}"#), "`text` is a number");
        assert_eq!(wrong(r#"{"text": [104, 105]}"#), "`text` is a list");
        assert_eq!(wrong(r#"{"body": "x", "id": 1}"#), r#"no field `text` among ["body", "id"]"#);
    }
}
