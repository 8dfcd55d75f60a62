//! Sizes that batches of tensors are filled up to.

use crate::EncoderConfig;

/// What the rows of a batch are filled up with, and to what sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    pub(crate) id: u32,
    longest: usize,
    is_roomy: bool,
}

/// Tokens that the tiles of a GPU's kernels divide.
const TILE: usize = 32;

/// For rows shorter than a tile, and for positions, of which a row has few.
const SMALL_TILE: usize = 8;

impl Filling {
    /// For batches that a model of this shape reads: tight on the CPU, which computes nothing that it need not, and roomy
    /// on other devices.
    pub fn of(config: &EncoderConfig, is_cpu: bool) -> Self {
        let id = config.filling_id();
        let filling = if is_cpu { Self::tight(id) } else { Self::roomy(id) };
        filling.within(config.max_seq_length())
    }

    /// As much of the token `id` as the longest row of a batch needs.
    pub fn tight(id: u32) -> Self {
        Self { id, longest: usize::MAX, is_roomy: false }
    }

    /// Few sizes, as GPUs want them: a kernel is chosen by timing, and compiled, for each kind of size, and those for odd
    /// ones are slower.
    pub fn roomy(id: u32) -> Self {
        Self { is_roomy: true, ..Self::tight(id) }
    }

    /// For a model that reads no more than `longest` tokens.
    #[must_use]
    pub fn within(self, longest: usize) -> Self {
        Self { longest: longest.min(self.longest), ..self }
    }

    /// Whether anything is added that no row needs.
    pub fn is_roomy(self) -> bool {
        self.is_roomy
    }

    /// Tokens that rows are filled up to, of which the longest has `tokens`.
    pub fn length(self, tokens: usize) -> usize {
        let tile = if tokens > TILE { TILE } else { SMALL_TILE };
        if self.is_roomy { tokens.next_multiple_of(tile).min(self.longest).max(tokens) } else { tokens }
    }

    /// Positions that are computed of each row, of which none wants more than `positions`.
    pub fn positions(self, positions: usize) -> usize {
        if self.is_roomy { positions.next_multiple_of(SMALL_TILE) } else { positions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roomy_sizes_are_few_and_within_the_model() {
        let roomy = Filling::roomy(0).within(100);
        let lengths = [0, 1, 8, 9, 32, 33, 64, 65, 97, 100].map(|tokens| roomy.length(tokens));
        assert_eq!(lengths, [0, 8, 8, 16, 32, 64, 64, 96, 100, 100]);
        assert_eq!([0, 1, 19, 24].map(|n| roomy.positions(n)), [0, 8, 24, 24]);
    }

    #[test]
    fn no_batch_is_longer_than_what_its_model_reads() {
        let config = EncoderConfig { max_position_embeddings: 100, ..EncoderConfig::default() };
        let lengths = [true, false].map(|is_cpu| Filling::of(&config, is_cpu).length(97));
        assert_eq!(lengths, [97, 100]);
    }

    #[test]
    fn tight_sizes_are_those_of_the_rows() {
        let tight = Filling::tight(0).within(100);
        assert_eq!(
            [1, 33, 100].map(|n| (tight.length(n), tight.positions(n))),
            [(1, 1), (33, 33), (100, 100)]
        );
    }
}
