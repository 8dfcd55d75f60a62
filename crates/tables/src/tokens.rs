//! The tokens table.

use std::path::Path;

use arrow::datatypes::{UInt16Type, UInt32Type, UInt64Type};

use crate::column::{Columns, lists, nullable_lists, scalars, strings};
use crate::{Ragged, file};

/// One part of the tokens table, column by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    /// Number of each row in the split, 0-based and contiguous.
    pub row: Vec<u64>,
    /// Document that the row starts in.
    pub doc: Vec<u64>,
    /// The text that the row was made from.
    pub text: Vec<String>,
    /// Token ids with special tokens, at most `seq_len` a row.
    pub input_ids: Ragged<u32>,
    /// Word that each piece belongs to, counted within the row; `None` exactly at special tokens.
    pub word: Ragged<Option<u16>>,
    /// First byte of each token in `text`.
    pub begin: Ragged<u32>,
    /// Byte after each token in `text`; equal to `begin` at special tokens that `text` does not spell out.
    pub end: Ragged<u32>,
}

/// What to read besides `row`, `doc` and `input_ids`. Columns that are not read stay empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenColumns {
    /// Read `text`.
    pub text: bool,
    /// Read `word`.
    pub word: bool,
    /// Read `begin` and `end`.
    pub span: bool,
}

impl TokenColumns {
    /// Everything.
    pub const ALL: Self = Self { text: true, word: true, span: true };

    fn names(self) -> Vec<&'static str> {
        let mut names = vec!["row", "doc", "input_ids"];
        names.extend(self.text.then_some("text"));
        names.extend(self.word.then_some("word"));
        names.extend(self.span.then_some(["begin", "end"]).into_iter().flatten());
        names
    }
}

impl Tokens {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.row.len()
    }

    /// Writes the part to `path`.
    pub fn write(&self, path: &Path, footer: &[(String, String)]) -> anyhow::Result<()> {
        let columns = vec![
            scalars::<UInt64Type>("row", &self.row),
            scalars::<UInt64Type>("doc", &self.doc),
            strings("text", &self.text),
            lists::<UInt32Type>("input_ids", &self.input_ids),
            nullable_lists::<UInt16Type>("word", &self.word),
            lists::<UInt32Type>("begin", &self.begin),
            lists::<UInt32Type>("end", &self.end),
        ];
        file::write(path, columns, footer)
    }

    /// Reads the part at `path`.
    ///
    /// # Errors
    /// A `Fault` of class input if the file is missing, damaged or another table, or the lists of a row are not of one length.
    pub fn read(path: &Path, columns: TokenColumns) -> anyhow::Result<Self> {
        let mut part = Self::default();
        file::read(path, &columns.names(), |batch| part.append(batch, columns))?;
        file::check_aligned(path, &part.lists(columns))?;
        Ok(part)
    }

    fn lists(&self, columns: TokenColumns) -> Vec<(&str, &[u32])> {
        let mut lists = vec![("input_ids", self.input_ids.offsets.as_slice())];
        lists.extend(columns.word.then_some(("word", self.word.offsets.as_slice())));
        let spans = [("begin", self.begin.offsets.as_slice()), ("end", self.end.offsets.as_slice())];
        lists.extend(columns.span.then_some(spans).into_iter().flatten());
        lists
    }

    fn append(&mut self, batch: &Columns, columns: TokenColumns) -> anyhow::Result<()> {
        batch.scalars::<UInt64Type>("row", &mut self.row)?;
        batch.scalars::<UInt64Type>("doc", &mut self.doc)?;
        batch.lists::<UInt32Type>("input_ids", &mut self.input_ids)?;
        if columns.text {
            batch.strings("text", &mut self.text)?;
        }
        if columns.word {
            batch.nullable_lists::<UInt16Type>("word", &mut self.word)?;
        }
        if columns.span {
            batch.lists::<UInt32Type>("begin", &mut self.begin)?;
            batch.lists::<UInt32Type>("end", &mut self.end)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::*;

    fn tokens() -> Tokens {
        Tokens {
            row: vec![0, 1],
            doc: vec![0, 3],
            text: vec!["ab c".into(), String::new()],
            input_ids: Ragged::from_rows([vec![2, 10, 11, 3], vec![2, 3]]),
            word: Ragged::from_rows([vec![None, Some(0), Some(1), None], vec![None, None]]),
            begin: Ragged::from_rows([vec![0, 0, 3, 4], vec![0, 0]]),
            end: Ragged::from_rows([vec![0, 2, 4, 4], vec![0, 0]]),
        }
    }

    #[test]
    fn what_is_written_is_read() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        tokens().write(file.path(), &[])?;
        assert_eq!(Tokens::read(file.path(), TokenColumns::ALL)?, tokens());
        assert_eq!(file::rows(file.path())?, 2);
        Ok(())
    }

    #[test]
    fn columns_that_are_not_asked_for_stay_empty() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        tokens().write(file.path(), &[])?;
        let part = Tokens::read(file.path(), TokenColumns { word: true, ..TokenColumns::default() })?;
        assert_eq!((part.input_ids, part.word), (tokens().input_ids, tokens().word));
        assert!(part.text.is_empty() && part.begin.is_empty());
        Ok(())
    }

    #[test]
    fn a_truncated_part_is_an_input_error_that_names_it() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        tokens().write(file.path(), &[])?;
        let bytes = std::fs::read(file.path())?;
        for keep in [0, 4, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(file.path(), &bytes[..keep])?;
            let error = Tokens::read(file.path(), TokenColumns::ALL).unwrap_err();
            assert_eq!(class_of(error.as_ref()).exit_code(), 3, "{error:#}");
            assert!(format!("{error:#}").contains(&file.path().display().to_string()));
        }
        Ok(())
    }

    #[test]
    fn lists_of_different_lengths_are_refused() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let short = Ragged::from_rows([vec![0, 0, 3, 4], vec![0]]);
        let words = Ragged::from_rows([vec![None, Some(0), Some(1)], vec![None, None]]);
        let cases = [
            (
                Tokens { word: words, ..tokens() },
                "row 0 of the part has 4 values in `input_ids` and 3 in `word`",
            ),
            (
                Tokens { begin: short.clone(), ..tokens() },
                "row 1 of the part has 2 values in `input_ids` and 1 in `begin`",
            ),
            (Tokens { end: short, ..tokens() }, "and 1 in `end`"),
        ];
        for (part, named) in cases {
            part.write(file.path(), &[])?;
            let error = Tokens::read(file.path(), TokenColumns::ALL).unwrap_err();
            assert_eq!(class_of(error.as_ref()).exit_code(), 3, "{error:#}");
            assert!(format!("{error:#}").contains(named), "{error:#}");
            Tokens::read(file.path(), TokenColumns::default()).expect("what is not read may be anything");
        }
        Ok(())
    }

    #[test]
    fn another_table_is_refused_by_its_columns() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        tokens().write(file.path(), &[])?;
        let error = format!("{:#}", crate::Masks::read(file.path()).unwrap_err());
        assert!(error.contains("no column `epoch`"), "{error}");
        Ok(())
    }
}
