//! Entropy and surprisal on any device.

use anyhow::Result;
use burn::tensor::{Int, Tensor, TensorData, Transaction};

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

/// Positions at once: each is a cube of the kernel, and WebGPU takes no more of them.
const MOST_POSITIONS: usize = 65_535;

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
    pub fn measure(&self, hidden: &Tensor<2>, targets: &[u32], details: bool) -> Result<Measured> {
        let mut read = Pending::read(vec![self.launch(hidden, targets, details)])?;
        Ok(read.swap_remove(0))
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
        Pending { chunks: targets.chunks(positions).enumerate().map(chunk).collect(), details }
    }

    /// Positions whose logits are computed at once.
    fn positions(&self) -> usize {
        let [vocab_size, _] = self.weight.dims();
        #[cfg(feature = "cube")]
        let vocab_size = self.blocks.as_ref().map_or(vocab_size, |_| crate::blocks::BLOCK.min(vocab_size));
        (LOGITS / vocab_size).clamp(1, MOST_POSITIONS)
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
    details: bool,
}

/// Of some positions.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are a few at a time")]
enum Chunk {
    Plain(Tensor<1>, Tensor<1>, Option<DetailTensors>),
    #[cfg(feature = "cube")]
    Sums(crate::blocks::Blocks, Tensor<2>, Vec<u32>),
}

/// The measures of some positions, and the further ones if they were asked for.
pub type Measured = Vec<(Measures, Option<Details>)>;

impl Pending {
    /// Waits for the device, once for all of `pending`, which it is to compute in this order: it is idle from then on until
    /// it is asked for more.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn read(pending: Vec<Self>) -> Result<Vec<Measured>> {
        let mut chunks = pending.iter().flat_map(|pending| &pending.chunks).peekable();
        if chunks.peek().is_none() {
            // There may be none of a transaction's reads.
            return Ok(vec![Vec::new(); pending.len()]);
        }
        let mut read = chunks.fold(Transaction::default(), Chunk::register).try_execute()?.into_iter();
        let mut columns = || Ok(read.next().expect("all were registered").try_into_vec_as::<f32>()?);
        pending.into_iter().map(|pending| pending.measured(&mut columns)).collect()
    }

    fn measured(self, columns: &mut impl FnMut() -> Result<Vec<f32>>) -> Result<Measured> {
        let mut all = Vec::new();
        for chunk in self.chunks {
            chunk.measured(columns, self.details, &mut all)?;
        }
        Ok(all)
    }
}

impl Chunk {
    fn register(reads: Transaction, chunk: &Self) -> Transaction {
        match chunk {
            Self::Plain(entropy, surprisal, details) => {
                let reads = reads.register(entropy.clone()).register(surprisal.clone());
                let Some(details) = details else { return reads };
                let details = [&details.min_entropy, &details.renyi2, &details.margin];
                details.into_iter().cloned().fold(reads, Transaction::register)
            }
            #[cfg(feature = "cube")]
            Self::Sums(_, sums, _) => reads.register(sums.clone()),
        }
    }

    /// Adds its measures to `all`, from what was registered, column by column.
    fn measured(
        self,
        columns: &mut impl FnMut() -> Result<Vec<f32>>,
        wants_details: bool,
        all: &mut Measured,
    ) -> Result<()> {
        match self {
            Self::Plain(..) => {
                let measures = columns()?.into_iter().zip(columns()?);
                let measures = measures.map(|(entropy, surprisal)| Measures { entropy, surprisal });
                if !wants_details {
                    all.extend(measures.map(|measures| (measures, None)));
                    return Ok(());
                }
                let [min_entropy, renyi2, margin] = [columns()?, columns()?, columns()?];
                let at =
                    |i: usize| Details { min_entropy: min_entropy[i], renyi2: renyi2[i], margin: margin[i] };
                all.extend(measures.enumerate().map(|(i, measures)| (measures, Some(at(i)))));
            }
            #[cfg(feature = "cube")]
            Self::Sums(blocks, _, targets) => {
                let measured = blocks.measures(&columns()?, &targets).into_iter();
                all.extend(measured.map(|(measures, more)| (measures, wants_details.then_some(more))));
            }
        }
        Ok(())
    }
}
