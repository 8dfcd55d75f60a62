//! Kernels of GPUs, each beside its plain reference elsewhere.

mod norm;
mod rows;
mod sums;
mod weights;

pub(crate) use norm::normalized;
pub(crate) use sums::{SUMS, softmax_sums};
pub(crate) use weights::weights;
