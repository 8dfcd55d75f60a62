//! Fused operations, each beside its plain reference.
//!
//! [`Head`] measures how unsure a masked language model is: it takes hidden states to the entropy and surprisal of the
//! prediction without ever storing the logits, of which there are `vocab_size` a position; on request it adds min-entropy,
//! Rényi-2 entropy and margin. [`head_entropy_reference`] and [`head_details_reference`] say the same in tensor
//! operations, for other devices than the CPU and for the tests. [`DeviceHead`] does the same on GPUs, block by block;
//! [`attention()`], [`attention_weights`] and [`layer_norm`] are kernels there.
//!
//! [`Linear`], [`Attention`], [`LayerNorm`] and [`Activation`] are the layers of a forward pass on the CPU; [`TrainedLinear`],
//! [`AttentionTape`], [`TrainedNorm`] and [`TrainedVocabulary`] go both ways, and are tested against automatic differentiation.
//!
//! The kernels are safe Rust over `pulp`, which picks the widest vector unit of the machine at run time. `unsafe` is what enters
//! products in bf16, which `pulp` does not know, and what calls cuBLASLt (`cublas/library.rs`).

#![expect(
    clippy::inline_always,
    reason = "the vector unit is chosen where a kernel is entered; code that is not inlined there misses it"
)]

mod activation;
mod attention;
mod backward;
mod bf16;
#[cfg(feature = "cube")]
mod blocks;
mod cpu;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "cublas")]
mod cublas;
mod device_head;
mod device_layers;
mod exponential;
mod head;
mod linear;
mod mass;
mod matrix;
mod mixed;
mod norm;
mod panels;
mod peaks;
mod prefetch;
mod product;
mod reference;
mod softmax;
#[cfg(any(feature = "cublas", test))]
mod strided;
mod weights;

pub use activation::Activation;
pub use attention::{Attention, Queries};
pub use backward::{
    AttentionTape, DropFactors, Heads, LinearGradient, NormGradient, NormTape, Span, Tile, TrainedLinear,
    TrainedNorm, TrainedVocabulary, VocabularyGradient,
};
pub use bf16::has_bf16_products;
pub use cpu::{cpu, is_cpu};
#[cfg(feature = "cublas")]
pub use cublas::multiplies_on as cublas_multiplies_on;
pub use device_head::{DeviceHead, Measured, Pending};
pub use device_layers::{attention, attention_weights, in_parts, layer_norm};
pub use head::{Details, Head, Measures, head_entropy};
pub use linear::Linear;
pub use mass::exponential_mass;
pub use matrix::Matrix;
pub use mixed::Products;
pub use norm::LayerNorm;
pub use reference::{DetailTensors, head_details_reference, head_entropy_reference};
