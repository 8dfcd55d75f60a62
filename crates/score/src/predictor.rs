//! A model ready to predict: laid out for the CPU, or on a device.

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use entromask_encoder::{CpuMaskedLm, EncoderConfig, MaskedLm};
use entromask_kernels::{DeviceHead, Head};

use crate::finite::Limit;

/// A masked language model.
pub(crate) enum Predictor {
    Cpu(Box<Fused>),
    Device(Box<OnDevice>),
}

/// The model laid out for the CPU.
pub(crate) struct Fused {
    pub(crate) model: CpuMaskedLm,
    pub(crate) head: Head,
    pub(crate) limit: Limit,
}

/// The model in tensors.
pub(crate) struct OnDevice {
    pub(crate) model: MaskedLm,
    pub(crate) head: DeviceHead,
    pub(crate) device: Device,
    pub(crate) limit: Limit,
}

impl Predictor {
    pub(crate) fn new(model: MaskedLm, shape: &EncoderConfig, device: Device) -> Result<Self> {
        Ok(if entromask_device::is_cpu(&device) {
            Self::Cpu(Box::new(Fused::new(model, shape)))
        } else {
            Self::Device(Box::new(OnDevice::new(model, device)?))
        })
    }
}

/// A model laid out for the CPU, and its decoder as it is stored.
pub(crate) struct LaidOut {
    pub(crate) model: CpuMaskedLm,
    /// None where it is the word embeddings.
    weight: Option<Vec<f32>>,
    /// `[vocab_size]`
    pub(crate) bias: Vec<f32>,
}

impl LaidOut {
    /// Tensors are dropped before the decoder is laid out, and a decoder that is tied is read where the embeddings are: a
    /// large vocabulary is most of a model, and would lie in memory four times.
    pub(crate) fn new(model: MaskedLm, shape: &EncoderConfig) -> Self {
        let (weight, bias) = model.decoder();
        // A tied one must not be held: what two hold is copied when it is read.
        let weight = Some(weight).filter(|_| model.has_own_decoder());
        let model = CpuMaskedLm::new(model, shape);
        Self { model, weight: weight.map(read), bias: read(bias) }
    }

    /// `[vocab_size, embedding_size]`, row-major.
    pub(crate) fn decoder(&self) -> &[f32] {
        self.weight.as_deref().unwrap_or_else(|| self.model.word_embeddings())
    }
}

impl Fused {
    fn new(model: MaskedLm, shape: &EncoderConfig) -> Self {
        let products = model.products();
        let laid_out = LaidOut::new(model, shape);
        let decoder = laid_out.decoder();
        let (head, limit) =
            (Head::new(decoder, &laid_out.bias, products), Limit::of(decoder, &laid_out.bias));
        Self { model: laid_out.model, head, limit }
    }
}

impl OnDevice {
    pub(crate) fn new(model: MaskedLm, device: Device) -> Result<Self> {
        let (weight, bias) = model.decoder();
        let limit = Limit::of_tensors(&weight, &bias)?;
        Ok(Self { model, head: DeviceHead::new(weight, bias), device, limit })
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("a float tensor of the CPU reads as f32")
}
