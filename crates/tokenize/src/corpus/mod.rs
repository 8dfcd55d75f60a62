//! The documents of a corpus, one after the other, in bounded memory.

mod files;
mod jsonl;
mod open;
mod parquet;
mod pieces;
mod text;
mod utf8;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Config, Documents, Format};
use utf8::Utf8;

pub use pieces::MAX_DOCUMENT_BYTES;

/// A document, or a piece of one that is longer than [`MAX_DOCUMENT_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Number of the document in the corpus, from 0, skipped ones included.
    pub number: u64,
    /// Its text; paragraphs are separated by a line feed.
    pub text: String,
    /// Whether this is all of it.
    pub piece: Piece,
}

/// How much of a document a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    Whole,
    /// The first piece of a long one.
    First,
    /// A later piece of a long one.
    Later,
}

/// The files of a corpus and how to read them.
#[derive(Clone, Debug)]
pub struct Corpus {
    files: Vec<PathBuf>,
    format: Option<Format>,
    documents: Documents,
    name: String,
    utf8: Utf8,
}

/// Counters that are read while the corpus is.
#[derive(Debug, Default)]
pub struct Source {
    /// Bytes read from the files, compressed as they are.
    pub bytes: AtomicU64,
    /// Invalid UTF-8 sequences that were replaced.
    pub replaced: AtomicU64,
}

/// What takes the texts of documents.
type Sink<'a> = &'a mut dyn FnMut(String, Piece) -> anyhow::Result<()>;

impl Corpus {
    /// Finds the files.
    ///
    /// # Errors
    /// A `Fault` of class input if a file does not exist or a glob matches nothing.
    pub fn find(config: &Config) -> anyhow::Result<Self> {
        let name = if config.format() == Format::Parquet { &config.column } else { &config.field };
        Ok(Self {
            files: files::find(&config.files)?,
            format: config.format,
            documents: config.documents,
            name: name.clone(),
            utf8: Utf8::new(config.invalid_utf8),
        })
    }

    /// The files in the order in which they are read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Size of all files in bytes, as they are on the disk.
    pub fn bytes(&self) -> anyhow::Result<u64> {
        self.files.iter().map(|file| Ok(fs_err::metadata(file)?.len())).sum()
    }

    /// Hands every document to `take`, in order. An error of `take` ends the reading and is returned.
    ///
    /// # Errors
    /// A `Fault` of class input if a file cannot be read or is not what the configuration says.
    pub fn read(
        &self,
        source: &Source,
        take: &mut dyn FnMut(Document) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut documents = 0;
        let mut number = |text: String, piece: Piece| {
            documents += u64::from(piece != Piece::Later);
            take(Document { number: documents - 1, text, piece })
        };
        for (index, file) in self.files.iter().enumerate() {
            match self.format.unwrap_or_default() {
                Format::Text => text::read(file, self.layout(index), self.utf8, source, &mut number)?,
                Format::Jsonl => jsonl::read(file, &self.name, self.utf8, source, &mut number)?,
                Format::Parquet => parquet::read(file, &self.name, self.utf8, source, &mut number)?,
            }
        }
        Ok(())
    }

    fn layout(&self, index: usize) -> text::Layout {
        let json = match (self.format, index) {
            (None, _) => text::Json::Refuse,
            (Some(_), 0) => text::Json::Warn,
            (Some(_), _) => text::Json::Take,
        };
        text::Layout { documents: self.documents, json }
    }
}

impl Source {
    fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn count_replaced(&self, sequences: u64) {
        self.replaced.fetch_add(sequences, Ordering::Relaxed);
    }
}
