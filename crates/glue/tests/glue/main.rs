//! The stage as a user runs it.

mod common;
mod official;
mod recipes;
mod stage;
mod submit;
