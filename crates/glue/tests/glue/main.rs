//! The stage as a user runs it.

mod common;
mod files;
mod official;
mod recipes;
mod stage;
mod submit;
