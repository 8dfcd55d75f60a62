//! The binary, driven as a user would.

mod bad_input;
mod distill;
mod fidelity;
mod measures;
mod scoring;
mod shards;
mod teacher;
mod world;
