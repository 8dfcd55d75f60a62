//! Plain text: a paragraph a line, a blank line between documents, or a document a file.

use std::io::{BufRead, Cursor, Read};
use std::path::Path;

use entromask_fault::Fault;

use super::jsonl::{self, LIST_REMEDY};
use super::pieces::{MAX_DOCUMENT_BYTES, cut};
use super::utf8::{Utf8, line_feeds};
use super::{Piece, Sink, Source, open};
use crate::Documents;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How much of a file is looked at for JSON lines: a line that is longer is no sign of them.
const START_BYTES: u64 = 1 << 20;

/// What to do with a file of JSON lines.
#[derive(Clone, Copy, Debug)]
pub(super) enum Json {
    /// It was not said that it is text.
    Refuse,
    /// It was, and this is the first file.
    Warn,
    /// It was, and of the first file it has been said what it looks like.
    Take,
}

/// What a text file is taken for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) documents: Documents,
    pub(super) json: Json,
}

pub(super) fn read(
    path: &Path,
    layout: Layout,
    utf8: Utf8,
    source: &Source,
    take: Sink,
) -> anyhow::Result<()> {
    let mut reader = Reader {
        path,
        documents: layout.documents,
        utf8,
        source,
        take,
        document: Vec::new(),
        line: 1,
        first: 1,
        continued: false,
    };
    let mut stream = open::open(path, source)?;
    let start = open::take(&mut stream, START_BYTES, path)?;
    check(path, &start, layout.json)?;
    let mut stream = Cursor::new(start).chain(stream);
    let mut line = Vec::new();
    while reader.next_line(&mut stream, &mut line)? {
        reader.add(&mut line)?;
    }
    reader.end_document()
}

/// JSON as it stands in a file is seldom what a model should learn.
fn check(path: &Path, start: &[u8], json: Json) -> anyhow::Result<()> {
    let path = path.display();
    let (found, remedy) = if jsonl::is_list(start) {
        (format!("{path}: it is a JSON list of objects"), LIST_REMEDY.to_owned())
    } else if let Some(field) = jsonl::likely_field(start) {
        let remedy =
            format!("set `format = \"jsonl\"`, and `field = \"{field}\"` if that is where the text is");
        (format!("{path}: its lines are JSON objects"), remedy)
    } else {
        return Ok(());
    };
    match json {
        Json::Refuse => {
            let remedy = remedy + "; or `format = \"text\"` for the lines as they are";
            return Err(Fault::input(found).remedy(remedy).into());
        }
        Json::Warn => tracing::warn!("{found}, and are read as text; for what they hold {remedy}"),
        Json::Take => (),
    }
    Ok(())
}

/// Collects the lines of a document.
struct Reader<'a> {
    path: &'a Path,
    documents: Documents,
    utf8: Utf8,
    source: &'a Source,
    take: Sink<'a>,
    /// Paragraphs so far, each with a line feed behind it except for an unfinished one.
    document: Vec<u8>,
    /// Number of the line that is read next, and of the one that `document` starts in.
    line: u64,
    first: u64,
    /// True if an earlier piece of the document has been handed over.
    continued: bool,
}

impl Reader<'_> {
    /// Reads a line, or as much of a very long one as a document may hold; false at the end of the file.
    fn next_line(&self, stream: &mut dyn BufRead, line: &mut Vec<u8>) -> anyhow::Result<bool> {
        line.clear();
        let mut limited = stream.take(MAX_DOCUMENT_BYTES as u64);
        limited.read_until(b'\n', line).map_err(|error| open::damaged(self.path, &error))?;
        if self.line == 1 && self.document.is_empty() && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
            return Ok(true);
        }
        Ok(!line.is_empty())
    }

    fn add(&mut self, line: &mut Vec<u8>) -> anyhow::Result<()> {
        let within_line = self.document.last().is_some_and(|&byte| byte != b'\n');
        let is_end = self.documents == Documents::BlankLine || self.document.is_empty();
        if is_end && !within_line && line.trim_ascii().is_empty() {
            self.end_document()?;
            self.line += line_feeds(line);
            self.first = self.line;
            return Ok(());
        }
        if line.ends_with(b"\r\n") {
            line.truncate(line.len() - 2);
            line.push(b'\n');
        }
        self.line += u64::from(line.ends_with(b"\n"));
        self.document.extend_from_slice(line);
        while self.document.len() > MAX_DOCUMENT_BYTES {
            let rest = self.document.split_off(cut(&self.document[..MAX_DOCUMENT_BYTES]));
            self.hand_over(rest, if self.continued { Piece::Later } else { Piece::First })?;
            self.continued = true;
        }
        Ok(())
    }

    fn end_document(&mut self) -> anyhow::Result<()> {
        while self.document.ends_with(b"\n") {
            self.document.pop();
        }
        if !self.document.is_empty() {
            self.hand_over(Vec::new(), if self.continued { Piece::Later } else { Piece::Whole })?;
        }
        self.continued = false;
        Ok(())
    }

    /// Hands over what has been collected and goes on with `rest`.
    fn hand_over(&mut self, rest: Vec<u8>, piece: Piece) -> anyhow::Result<()> {
        let bytes = std::mem::replace(&mut self.document, rest);
        let lines = line_feeds(&bytes);
        let place = |feeds| format!("{}:{}", self.path.display(), self.first + feeds);
        let text = self.utf8.decode(bytes, self.source, place)?;
        self.first += lines;
        (self.take)(text, piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InvalidUtf8;

    fn documents(bytes: &[u8]) -> anyhow::Result<Vec<(String, Piece)>> {
        documents_by(Documents::BlankLine, bytes)
    }

    fn documents_by(documents: Documents, bytes: &[u8]) -> anyhow::Result<Vec<(String, Piece)>> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), bytes)?;
        let mut found = Vec::new();
        let utf8 = Utf8::new(InvalidUtf8::Fail);
        let layout = Layout { documents, json: Json::Refuse };
        read(file.path(), layout, utf8, &Source::default(), &mut |text, piece| {
            found.push((text, piece));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn blank_lines_end_documents() -> anyhow::Result<()> {
        let texts = |bytes: &[u8]| {
            documents(bytes).map(|found| found.into_iter().map(|(text, _)| text).collect::<Vec<_>>())
        };
        assert_eq!(texts(b"")?, [""; 0]);
        assert_eq!(texts(b"\n \n\r\n")?, [""; 0]);
        assert_eq!(texts(b"a\nb\n\nc")?, ["a\nb", "c"]);
        assert_eq!(texts(b"\xef\xbb\xbfa\r\nb\r\n \t\r\n\r\nc\r\n")?, ["a\nb", "c"]);
        assert_eq!(texts(b"  a  \n\n\n\n b")?, ["  a  ", " b"]);
        Ok(())
    }

    #[test]
    fn a_file_may_be_a_document_with_its_blank_lines() -> anyhow::Result<()> {
        let found = documents_by(Documents::File, b"\n\na\r\nb\r\n\r\nc\n\n\n")?;
        assert_eq!(found, [("a\nb\n\nc".to_owned(), Piece::Whole)]);
        assert_eq!(documents_by(Documents::File, b"\n \n")?, []);
        let error = documents_by(Documents::File, b"\na\n\nb\xff").unwrap_err().to_string();
        assert!(error.contains(":4: invalid UTF-8"), "{error}");
        Ok(())
    }

    #[test]
    fn a_file_without_line_feeds_is_read_in_pieces() -> anyhow::Result<()> {
        let text = "word ".repeat(MAX_DOCUMENT_BYTES / 5 * 2 + 7);
        let found = documents(format!("first\n\n{text}\n\nlast").as_bytes())?;
        let kinds: Vec<_> = found.iter().map(|(_, piece)| *piece).collect();
        assert_eq!(kinds, [Piece::Whole, Piece::First, Piece::Later, Piece::Later, Piece::Whole]);
        assert!(found[1..4].iter().map(|(text, _)| text.as_str()).collect::<String>() == text);
        assert!(found.iter().all(|(text, _)| text.len() <= MAX_DOCUMENT_BYTES));
        Ok(())
    }

    #[test]
    fn invalid_utf8_is_found_in_its_line() {
        let error = documents(b"a\n\n\nb\nc\xff\n").unwrap_err().to_string();
        assert!(error.contains(":5: invalid UTF-8"), "{error}");
    }
}
