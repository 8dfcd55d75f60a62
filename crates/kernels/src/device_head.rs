//! Entropy and surprisal on any device.

use anyhow::Result;
use burn::tensor::{Int, Tensor, TensorData};

use crate::head::{Details, Measures};
use crate::{DetailTensors, head_details_reference, head_entropy_reference};

/// A decoder on a device.
///
/// On GPUs the vocabulary is taken in blocks: the logits of some positions and one block are in memory at a time, and a
/// kernel reduces them in one pass. On other devices this is the plain reference.
#[derive(Clone, Debug)]
pub struct DeviceHead {
    weight: Tensor<2>,
    bias: Tensor<1>,
    #[cfg(feature = "cube")]
    blocks: Option<crate::blocks::Blocks>,
}

/// Logits in memory at once, 64 MB in f32.
const LOGITS: usize = 1 << 24;

impl DeviceHead {
    /// `weight` is `[vocab_size, hidden_size]`, `bias` `[vocab_size]`.
    pub fn new(weight: Tensor<2>, bias: Tensor<1>) -> Self {
        Self {
            #[cfg(feature = "cube")]
            blocks: crate::blocks::Blocks::new(&weight, &bias),
            weight,
            bias,
        }
    }

    /// Measures of each row of `hidden` `[n, hidden_size]`, whose target is `targets[n]`; the further ones if `details`.
    /// The product is computed in the type of its factors, everything else in f32.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn measure(
        &self,
        hidden: &Tensor<2>,
        targets: &[u32],
        details: bool,
    ) -> Result<Vec<(Measures, Option<Details>)>> {
        self.launch(hidden, targets, details).read()
    }

    /// Begins [`DeviceHead::measure`] without waiting for the device.
    pub fn launch(&self, hidden: &Tensor<2>, targets: &[u32], details: bool) -> Pending {
        let positions = self.positions();
        let chunk = |(index, targets): (usize, &[u32])| {
            let hidden = hidden.clone().narrow(0, index * positions, targets.len());
            let ids: Vec<i32> = targets.iter().map(|&id| id as i32).collect();
            let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [targets.len()]), &hidden.device());
            #[cfg(feature = "cube")]
            if let Some(blocks) = &self.blocks {
                return Chunk::Sums(blocks.clone(), blocks.sums(&hidden, &ids), targets.to_vec());
            }
            self.plain(hidden, ids, details)
        };
        Pending {
            chunks: targets.chunks(positions).enumerate().map(chunk).collect(),
            #[cfg(feature = "cube")]
            details,
        }
    }

    /// Positions whose logits are computed at once.
    fn positions(&self) -> usize {
        let [vocab_size, _] = self.weight.dims();
        #[cfg(feature = "cube")]
        let vocab_size = self.blocks.as_ref().map_or(vocab_size, |_| crate::blocks::BLOCK.min(vocab_size));
        (LOGITS / vocab_size).max(1)
    }

    fn plain(&self, hidden: Tensor<2>, targets: Tensor<1, Int>, details: bool) -> Chunk {
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        if !details {
            let (entropy, surprisal) = head_entropy_reference(hidden, weight, bias, targets);
            return Chunk::Plain(entropy, surprisal, None);
        }
        let (entropy, surprisal, details) = head_details_reference(hidden, weight, bias, targets);
        Chunk::Plain(entropy, surprisal, Some(details))
    }
}

/// Measures that a device is computing.
#[derive(Debug)]
pub struct Pending {
    chunks: Vec<Chunk>,
    #[cfg(feature = "cube")]
    details: bool,
}

/// Of some positions.
#[derive(Debug)]
enum Chunk {
    Plain(Tensor<1>, Tensor<1>, Option<DetailTensors>),
    #[cfg(feature = "cube")]
    Sums(crate::blocks::Blocks, Tensor<2>, Vec<u32>),
}

impl Pending {
    /// Waits for the device.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn read(self) -> Result<Vec<(Measures, Option<Details>)>> {
        let mut measured = Vec::new();
        for chunk in self.chunks {
            match chunk {
                Chunk::Plain(entropy, surprisal, details) => {
                    let details = details.map(read_details).transpose()?;
                    let at = |i: usize| details.as_ref().map(|details| details[i]);
                    let both = measures(entropy, surprisal)?.into_iter().enumerate();
                    measured.extend(both.map(|(i, measures)| (measures, at(i))));
                }
                #[cfg(feature = "cube")]
                Chunk::Sums(blocks, sums, targets) => {
                    let all = blocks.read(sums, &targets)?.into_iter();
                    measured.extend(all.map(|(measures, more)| (measures, self.details.then_some(more))));
                }
            }
        }
        Ok(measured)
    }
}

fn read_details(details: DetailTensors) -> Result<Vec<Details>> {
    let columns = [details.min_entropy, details.renyi2, details.margin];
    let [min_entropy, renyi2, margin] = columns.map(Tensor::try_into_vec_as::<f32>);
    let (min_entropy, renyi2, margin) = (min_entropy?, renyi2?, margin?);
    let at = |i: usize| Details { min_entropy: min_entropy[i], renyi2: renyi2[i], margin: margin[i] };
    Ok((0..margin.len()).map(at).collect())
}

fn measures(entropy: Tensor<1>, surprisal: Tensor<1>) -> Result<Vec<Measures>> {
    let pairs = entropy.try_into_vec_as::<f32>()?.into_iter().zip(surprisal.try_into_vec_as::<f32>()?);
    Ok(pairs.map(|(entropy, surprisal)| Measures { entropy, surprisal }).collect())
}
