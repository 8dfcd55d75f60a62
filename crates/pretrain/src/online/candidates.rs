//! Tokens that a first pass hides.

use entromask_policy::{Config as MaskConfig, budget};
use entromask_random::{keyed, shuffled};

use crate::data::CorpusRow;

/// Positions of random tokens, or whole words where masks are of whole words: `share` of those that may be masked, and as
/// many as will be masked at least. Ascending.
pub(super) fn of(line: &CorpusRow, share: f64, mask: &MaskConfig) -> Vec<u32> {
    let maskable: Vec<u32> =
        (0..line.word.len() as u32).filter(|&i| line.word[i as usize].is_some()).collect();
    let epoch = u16::try_from(line.epoch).unwrap_or(u16::MAX);
    let wanted = budget(share, maskable.len()).max(budget(mask.rate.at(epoch), maskable.len()));
    let units: Vec<&[u32]> = if mask.whole_word.is_some() {
        maskable.chunk_by(|&a, &b| line.word[a as usize] == line.word[b as usize]).collect()
    } else {
        maskable.chunks(1).collect()
    };
    let mut chosen = Vec::new();
    for unit in shuffled(units.len(), &mut keyed(mask.seed, "candidates", line.row, line.epoch)) {
        if chosen.len() >= wanted {
            break;
        }
        chosen.extend(units[unit]);
    }
    chosen.sort_unstable();
    chosen
}
