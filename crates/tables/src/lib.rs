//! The tables that stages exchange, as Parquet: tokens, entropy, masks, soft targets, scores.
//!
//! One row of a table is one training row, and all tables of a corpus have the same rows in the same order. A part is
//! read and written whole; a part's size in rows is chosen when the corpus is tokenized and kept by every later stage.
//!
//! | table | column | type | meaning |
//! |---|---|---|---|
//! | tokens | `row` | u64 | 0-based, contiguous over the split |
//! | | `doc` | u64 | document that the row starts in |
//! | | `text` | utf8 | the text that the row was made from |
//! | | `input_ids` | list\<u32\> | with special tokens |
//! | | `word` | list\<u16?\> | word that the piece belongs to; null at special tokens |
//! | | `begin`, `end` | list\<u32\> | byte span of the token in `text`; equal at special tokens that `text` does not spell out |
//! | entropy | `row` | u64 | |
//! | | `entropy` | list\<f32?\> | nats; null where not scored |
//! | | `surprisal` | list\<f32?\> | −ln q(original token), nats |
//! | | further measures | list\<f32?\> | optional, named in `config.measures` |
//! | masks | `row` | u64 | |
//! | | `epoch` | u16 | |
//! | | `positions` | list\<u16\> | ascending |
//! | | `inputs` | list\<u32\> | what the model sees at these positions |
//! | targets | `row`, `epoch` | | as in masks |
//! | | `tokens`, `logits` | list\<u32\>, list\<f32\> | a teacher's k most probable tokens at each masked position |
//! | | `tail` | list\<f32\> | probability of all others |
//! | scores | `model_key`, `model`, `task`, `metric` | utf8 | what was fine-tuned on what, and how it is measured |
//! | | `seed` | u64 | |
//! | | `floor`, `value` | f64 | percent |
//!
//! ```
//! use entromask_tables::{Masks, Ragged};
//! # fn main() -> anyhow::Result<()> {
//! let file = tempfile::NamedTempFile::new()?;
//! let masks = Masks {
//!     row: vec![0, 1],
//!     epoch: vec![0, 0],
//!     positions: Ragged::from_rows([vec![2, 5], vec![1]]),
//!     inputs: Ragged::from_rows([vec![103, 103], vec![103]]),
//! };
//! masks.write(file.path(), &[("entromask.key".into(), "18b4".into())])?;
//! assert_eq!(Masks::read(file.path())?, masks);
//! assert_eq!(entromask_tables::footer_key(file.path())?.as_deref(), Some("18b4"));
//! # Ok(()) }
//! ```

mod agreements;
mod column;
mod comparisons;
mod entropy;
mod file;
mod masks;
mod measure;
mod ragged;
mod scores;
mod targets;
mod tokens;

pub use agreements::Agreements;
pub use comparisons::Comparisons;
pub use entropy::Entropies;
pub use file::{footer_key, rows};
pub use masks::Masks;
pub use measure::Measure;
pub use ragged::Ragged;
pub use scores::Scores;
pub use targets::Targets;
pub use tokens::{TokenColumns, Tokens};
