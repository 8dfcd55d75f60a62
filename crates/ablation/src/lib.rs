//! Grids of experiments: which strategy helps, by how much, and how sure that is.
//!
//! A grid is a TOML file that names values of axes ([`grid`]). It expands to runs, and these to stages, each made once
//! however many runs share it ([`plan`]). Workers make the stages side by side by calling the stage programs ([`execute`]),
//! and everything ends in one report ([`report`]). A document that tells what came out of several becomes a page
//! ([`prose`]).
//!
//! Nothing here trains or scores: what a stage makes, whether it is up to date and how it goes on after a kill is the
//! stage's own affair. So a grid can be stopped at any moment and started again, and grids can share what they make.
//!
//! Invariants:
//! 1. The same grid file expands to the same runs and stages in the same order, whatever has been made already.
//! 2. Two stages have the same path only if they are the same command; that a path differs where results do is checked when
//!    a grid expands.
//! 3. Runs of equal `seed` have the same initial weights, the same order of rows and, where they mask at random, the same
//!    masks: differences are paired by seed.
//! 4. No number comes from an artifact that is not up to date; what is missing is shown as missing.

pub mod command;
mod escape;
pub mod execute;
pub mod grid;
pub mod plan;
pub mod prose;
pub mod report;
