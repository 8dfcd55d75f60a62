//! Tokenizes a corpus: text files in, the tokens artifact out.
//!
//! Documents are read from plain text (a paragraph a line, a blank line between documents, or a document a file), JSON
//! lines or Parquet, each plain, gzip or zstd; filtered, de-duplicated and split into a training and a held-out part by
//! their content; encoded
//! on all cores; and packed into rows of at most `seq_len` tokens.
//!
//! What a row is:
//! 1. The special tokens that the tokenizer puts around a text, and between them consecutive tokens of one document
//!    (of up to `max_documents_per_row` documents, then with the separator token between them, or where the tokenizer puts
//!    nothing behind a text, what it puts before one). Every token of the corpus stands in exactly one row, in order.
//! 2. `text` is a slice of the document (slices of several documents are joined by a line feed); a document's
//!    paragraphs are joined by a line feed. Encoding `text` of a one-document row again gives `input_ids` again, as
//!    long as rows are cut where the tokenizer allows it (3), and the tokenizer treats the beginning of a text as it does the rest: those
//!    that put a space before a text, or strip it, may encode the first word otherwise.
//! 3. Rows end between two words: the tokenizer's own (Hugging Face `word_ids`), and at whitespace where a tokenizer
//!    would otherwise encode the rest of a row differently. Only a word longer than a row is cut.
//! 4. `begin` and `end` are the tokenizer's byte offsets. Several tokens of a byte-level tokenizer may share one
//!    character; each then spans the whole character.
//! 5. `word` counts the row's words from 0 and is null at special tokens: those that the tokenizer adds, and those
//!    that the text itself spells out (`[MASK]`), which keep their span.
//!
//! The result does not depend on threads, batches or interruptions. Memory stays bounded: a document of more than
//! [`MAX_DOCUMENT_BYTES`] is packed in several pieces, which count as documents of their own where rows have several, queues are short, and a part is held in memory while it is
//! filled (about 20 bytes a token) and while it is written (about 40), and its text, which is short but where words are
//! very long: one that a WordPiece tokenizer does not know is one token.

mod alphabet;
mod cache;
mod config;
mod corpus;
mod doubts;
mod encode;
mod filter;
mod normalization;
mod pack;
mod parts;
mod pipeline;
mod report;
mod row;
mod special;
mod stage;
mod traits;
mod vocabulary;

pub use config::{Config, Documents, Format, InvalidUtf8, Run};
pub use corpus::{Corpus, Document, MAX_DOCUMENT_BYTES, Piece, Source};
pub use encode::{Pieces, TextEncoder};
pub use pack::{Packer, Packing, Place};
pub use report::{Counts, Report, SplitCounts};
pub use row::Row;
pub use special::SpecialTokens;
pub use stage::{Options, dry_run, recipe, run};
pub use vocabulary::{Learned, learn};
