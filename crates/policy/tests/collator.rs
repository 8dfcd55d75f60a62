//! `random` beside Hugging Face's collator; `tests/parity/export_collator.py` wrote the counts.

use std::path::Path;

use entromask_policy::corruption::Vocabulary;
use entromask_policy::{Config, Row, Scores, Selector};
use serde::Deserialize;

const ORIGINAL: u32 = 2054;
const MASK: u32 = 103;

/// Counts over many rows.
#[derive(Debug, Deserialize)]
struct Counts {
    #[serde(default)]
    rows: u64,
    /// How often each position was masked.
    positions: Vec<u64>,
    /// How often the model sees the mask token.
    mask: u64,
    /// How often it sees the original token.
    original: u64,
    /// How often it sees another one.
    random: u64,
}

fn theirs() -> Counts {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/collator.json");
    serde_json::from_slice(&std::fs::read(path).expect("the fixture")).expect("JSON")
}

/// The same rows, masked by us.
fn ours(rows: u64, length: usize) -> Counts {
    let json = r#"{"corruption": {"mask": 0.8, "random": 0.1, "keep": 0.1}}"#;
    let config: Config = serde_json::from_str(json).expect("a configuration");
    let vocabulary = Vocabulary { size: 30522, mask: MASK, special: vec![0, 100, 101, 102, 103] };
    let selector = Selector { config: &config, vocabulary: &vocabulary, excluded: &[] };
    let word: Vec<_> = (0..length).map(|i| (0 < i && i < length - 1).then_some(i as u16)).collect();
    let input_ids = vec![ORIGINAL; length];
    let mut counts = Counts { rows, positions: vec![0; length], mask: 0, original: 0, random: 0 };
    for number in 0..rows {
        let row = Row { number, input_ids: &input_ids, word: &word, scores: Scores::Nothing };
        let (positions, inputs) = selector.select(&[row], 0).expect("nothing stops it").rows.remove(0);
        for position in positions {
            counts.positions[usize::from(position)] += 1;
        }
        for input in inputs {
            match input {
                MASK => counts.mask += 1,
                ORIGINAL => counts.original += 1,
                _ => counts.random += 1,
            }
        }
    }
    counts
}

/// Two counts, each with what it is a share of: the shares are as far apart as those of two draws from the same
/// distribution are, to 6 standard deviations.
fn assert_alike(what: &str, [ours, of_ours]: [u64; 2], [theirs, of_theirs]: [u64; 2]) {
    let shares = [ours as f64 / of_ours as f64, theirs as f64 / of_theirs as f64];
    let both = (ours + theirs) as f64 / (of_ours + of_theirs) as f64;
    let deviation = (both * (1.0 - both) * (1.0 / of_ours as f64 + 1.0 / of_theirs as f64)).sqrt();
    let apart = (shares[0] - shares[1]).abs();
    assert!(apart <= 6.0 * deviation, "{what}: {shares:?} here and there, standard deviation {deviation}");
}

/// 130 comparisons, each of which a correct program fails with a probability of 2e-9: less than 3e-7 in all.
///
/// The rate here is 19 / 126, the nearest to 15 % that a row of 126 tokens can have; the collator's is 15 % on average.
#[test]
fn random_masks_are_those_of_the_collator_in_distribution() {
    let theirs = theirs();
    let ours = ours(theirs.rows, theirs.positions.len());
    let total = |counts: &Counts| counts.positions.iter().sum::<u64>();
    let maskable = theirs.rows * (theirs.positions.len() as u64 - 2);
    assert_eq!(total(&ours), theirs.rows * 19);
    assert!((total(&theirs) as f64 / maskable as f64 - 0.15).abs() < 0.001);
    assert!((total(&ours) as f64 / maskable as f64 - 0.15).abs() < 0.001);
    for (position, (a, b)) in ours.positions.iter().zip(&theirs.positions).enumerate() {
        assert_alike(&format!("position {position}"), [*a, total(&ours)], [*b, total(&theirs)]);
    }
    assert_eq!((ours.positions[0], theirs.positions[0]), (0, 0), "special tokens");
    assert_alike("[MASK]", [ours.mask, total(&ours)], [theirs.mask, total(&theirs)]);
    assert_alike("the original", [ours.original, total(&ours)], [theirs.original, total(&theirs)]);
    assert_alike("another token", [ours.random, total(&ours)], [theirs.random, total(&theirs)]);
}
