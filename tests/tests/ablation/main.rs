//! Runs small grids from the corpus to the report: each stage once, kills, failures, and the report's numbers.

mod reports;
mod runs;
mod world;
