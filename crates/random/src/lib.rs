//! Keyed random numbers: each draw depends on what it is for, never on when or where it is made.
//!
//! Every generator is made from (seed, purpose, row, epoch), so that masks, folds, initial weights and data order are
//! the same bytes on any number of threads, in any order, after any restart. `ChaCha8` is a counter-based generator
//! whose output is fixed by its specification and portable across machines.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator for one purpose, row and epoch.
///
/// ```
/// use rand::RngExt;
/// let draw = |row| entromask_random::keyed(1, "masks", row, 0).random::<u64>();
/// assert_eq!(draw(7), draw(7));
/// assert_ne!(draw(7), draw(8));
/// ```
pub fn keyed(seed: u64, purpose: &str, row: u64, epoch: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, fnv1a(purpose), row, epoch]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A uniformly random permutation of `0..n` (Fisher–Yates).
pub fn shuffled(n: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut items: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        items.swap(last, below(last + 1, rng));
    }
    items
}

/// A uniformly random integer in `0..n`, the same on 32- and 64-bit machines.
pub fn below(n: usize, rng: &mut impl Rng) -> usize {
    rng.random_range(0..n as u64) as usize
}

/// A uniformly random number in the open interval (0, 1), so that its logarithm is finite.
pub fn open_unit(rng: &mut impl Rng) -> f64 {
    ((rng.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// Two independent standard normal numbers (Box & Muller, 1958).
pub fn normal_pair(rng: &mut impl Rng) -> [f64; 2] {
    let radius = (-2.0 * open_unit(rng).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * open_unit(rng)).sin_cos();
    [radius * cos, radius * sin]
}

/// `n` independent draws from N(0, `std`²).
pub fn normals(n: usize, std: f64, rng: &mut impl Rng) -> Vec<f32> {
    let mut values = Vec::with_capacity(n + 1);
    while values.len() < n {
        values.extend(normal_pair(rng).map(|value| (value * std) as f32));
    }
    values.truncate(n);
    values
}

/// FNV-1a of 64 bits (Fowler, Noll and Vo): a number for a name, as for a purpose in the key. Not for content.
pub fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_frozen() {
        let mut rng = keyed(42, "masks", 3, 1);
        let first = [rng.next_u64(), rng.next_u64()];
        assert_eq!(first, FROZEN, "a changed generator changes every artifact: raise the formats' versions");
    }

    #[test]
    fn each_part_of_the_key_matters() {
        let keys = [(1, "a", 1, 1), (2, "a", 1, 1), (1, "b", 1, 1), (1, "a", 2, 1), (1, "a", 1, 2)];
        let mut draws =
            keys.map(|(seed, purpose, row, epoch)| keyed(seed, purpose, row, epoch).next_u64()).to_vec();
        draws.sort_unstable();
        draws.dedup();
        assert_eq!(draws.len(), keys.len());
    }

    /// 24,000 permutations of 4 items: each of the 24 has mean 1,000 and standard deviation 31, so 6 sigma is 186;
    /// a correct generator fails with probability below 24 · 2e-9.
    #[test]
    fn permutations_are_uniform() {
        let mut rng = keyed(5, "permutations", 0, 0);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            *counts.entry(shuffled(4, &mut rng)).or_insert(0i32) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|count| (count - 1000).abs() < 186), "{counts:?}");
    }

    /// Mean and variance of 100,000 standard normals: 6 standard errors are 0.019 and 0.027.
    #[test]
    fn normals_have_their_moments() {
        let values = normals(100_001, 1.0, &mut keyed(6, "normals", 0, 0));
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        let variance =
            values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert_eq!(values.len(), 100_001);
        assert!(mean.abs() < 0.019 && (variance - 1.0).abs() < 0.027, "{mean} {variance}");
    }

    const FROZEN: [u64; 2] = [1_528_391_580_277_019_217, 13_521_961_098_423_298_713];
}
