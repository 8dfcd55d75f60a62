//! The stage as a user runs it.

mod bf16;
mod common;
mod files;
mod interruptions;
mod official;
mod recipes;
mod stage;
mod submit;
