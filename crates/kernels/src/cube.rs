//! Kernels of GPUs, each beside its plain reference elsewhere.

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
