//! Transformer encoders with a masked-LM or a classification head.
//!
//! A model is a Hugging Face folder: `config.json` and `model.safetensors`. What [`MaskedLm::save_pretrained`] writes,
//! `transformers.AutoModelForMaskedLM.from_pretrained` loads without missing or unexpected tensors, and the other
//! way round, for the families of [`Family`]. Weights in several files, and those pickled by `torch.save`, are read too.
//! A decoder that is tied to the word embeddings is not stored.
//!
//! The burn device decides what a forward pass is: on `device.autodiff()` it is differentiable and drops out, on a
//! plain device it uses fused operations and is deterministic. On the CPU both passes exist without tensors too:
//! [`CpuMaskedLm`] and [`CpuEncoder`] only read, [`TrainedBody`] learns.
//!
//! ```
//! use burn::tensor::Device;
//! use entromask_encoder::{Batch, EncoderConfig, MaskedLm};
//!
//! let config = EncoderConfig { vocab_size: 50, hidden_size: 8, num_attention_heads: 2, intermediate_size: 16,
//!     num_hidden_layers: 1, ..EncoderConfig::default() };
//! let device = Device::flex();
//! let model = MaskedLm::init(&config, 1, &device);
//! let batch = Batch::from_rows(&[[2, 7, 9, 3]], config.filling_id(), &device);
//! let hidden = model.hidden(&batch);
//! assert_eq!(hidden.dims(), [1, 4, 8]);
//! assert_eq!(model.logits(hidden.reshape([4, 8])).dims(), [4, 50]);
//! ```

mod activation;
mod attention;
mod batch;
mod checkpoint;
mod classifier;
mod config;
mod counting;
mod cpu;
mod dense;
mod encoder;
mod families;
mod filling;
mod flops;
mod labels;
mod masked_lm;
mod modernbert;
mod problems;
mod rotation;
mod states;
pub mod tokenizer;
mod transformer;

pub use activation::Activation;
pub use batch::Batch;
pub use checkpoint::pretrained_files;
pub use classifier::SequenceClassifier;
pub use config::EncoderConfig;
pub use cpu::train::{BodyGradient, Dropout, Lanes, States, TrainedBody};
pub use cpu::{Buffers, CpuEncoder, CpuMaskedLm, Projected, Sentence, Wanted};
pub use encoder::Encoder;
pub use families::Family;
pub use filling::Filling;
pub use masked_lm::{Inheritance, MaskedLm, MlmHead};
pub use modernbert::{ModernBertConfig, Pooling};
