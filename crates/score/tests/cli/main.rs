//! The binary, driven as a user would.

mod bad_input;
mod scoring;
mod world;
