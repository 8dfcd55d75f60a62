//! Kernels of GPUs, each beside its plain reference elsewhere.
#![allow(
    clippy::assign_op_pattern,
    clippy::collapsible_if,
    clippy::manual_midpoint,
    clippy::redundant_closure_for_method_calls,
    clippy::trivially_copy_pass_by_ref,
    clippy::used_underscore_binding,
    reason = "the macro `cube` writes a part of what is seen here, and takes neither all of Rust nor conditions that are joined"
)]

#[cfg(feature = "cublas")]
mod attention;
mod norm;
mod rows;
mod sums;
mod weights;

#[cfg(feature = "cublas")]
pub(crate) use attention::{attends, attention};
pub(crate) use norm::normalized;
pub(crate) use sums::{SUMS, softmax_sums};
pub(crate) use weights::weights;
