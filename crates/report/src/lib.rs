//! Shows people what is in the artifacts: in the terminal ([`inspect`]), and as one HTML page about a run ([`html`]); fine-tuning results
//! side by side ([`compare`]), and scorings of the same tokens ([`agreement`]).
//!
//! A report is not an artifact: it is cheap, has no key, and is written anew each time. Nothing here changes what the
//! stages made, except that [`gc`] removes files that no manifest lists, when told to.
//!
//! Invariants:
//! 1. Large tables are sampled, and every view says how many rows it looked at.
//! 2. A page is one file: no network, no external font, image or script.
//! 3. Nothing is said by colour alone.

pub mod agreement;
pub mod command;
pub mod compare;
pub mod corpus;
pub mod doctor;
pub mod drift;
pub mod gc;
pub mod html;
pub mod inspect;
pub mod leaves;
pub mod metrics;
pub mod nats;
pub mod number;
pub mod paint;
mod pairs;
pub mod passage;
pub mod sample;
pub mod scan;
mod student;
pub mod trace;
pub mod weights;
