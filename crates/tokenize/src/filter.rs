//! Which documents are kept, and in which split.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{Config, Document, Piece};

/// Where a document goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Into the training split.
    Train,
    /// Into the held-out split.
    Valid,
    /// Nowhere.
    Skipped,
}

impl Fate {
    /// The split's index, if there is one: the training split, then the held-out one.
    pub(crate) fn split(self) -> Option<usize> {
        match self {
            Self::Train => Some(0),
            Self::Valid => Some(1),
            Self::Skipped => None,
        }
    }
}

/// Documents that were not taken, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Fewer characters than `min_chars`.
    pub too_short: u64,
    /// More characters than `max_chars`.
    pub too_long: u64,
    /// The same text as an earlier document.
    pub duplicate: u64,
    /// No token, e.g. control characters only.
    pub empty: u64,
    /// Outside of `train_fraction`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// Decides over documents in their order.
pub(crate) struct Filter {
    min_chars: usize,
    max_chars: Option<usize>,
    deduplicate: bool,
    valid_below: u64,
    /// Training documents have a second half of the digest up to this.
    train_up_to: u64,
    seen: HashSet<u128>,
    previous: Fate,
    /// Documents read so far.
    pub(crate) documents: u64,
    /// Documents that came in several pieces.
    pub(crate) long: u64,
    pub(crate) skipped: Skipped,
}

impl Filter {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            min_chars: config.min_chars,
            max_chars: config.max_chars,
            deduplicate: config.deduplicate,
            // A float below 1 times 2^64 fits; the cast saturates.
            valid_below: (config.valid_fraction * 2f64.powi(64)) as u64,
            train_up_to: (config.train_fraction * 2f64.powi(64)) as u64,
            seen: HashSet::new(),
            previous: Fate::Skipped,
            documents: 0,
            long: 0,
            skipped: Skipped::default(),
        }
    }

    /// The fate of the next document. All pieces of a long one share that of the first.
    pub(crate) fn decide(&mut self, document: &Document) -> Fate {
        self.long += u64::from(document.piece == Piece::First);
        if document.piece != Piece::Later {
            self.documents += 1;
            self.previous = self.judge(document);
        }
        self.previous
    }

    fn judge(&mut self, Document { text, piece, .. }: &Document) -> Fate {
        // Counting characters costs a pass over the text; bytes settle most cases.
        let at_most = |limit: usize| text.len() <= limit || text.chars().count() <= limit;
        // The limits of `Config::validate` make sure that a document in pieces is longer than any `max_chars`.
        let reason = if self.max_chars.is_some_and(|most| *piece == Piece::First || !at_most(most)) {
            &mut self.skipped.too_long
        } else if self.min_chars > 0 && at_most(self.min_chars - 1) {
            &mut self.skipped.too_short
        } else {
            let digest = digest(text);
            // Of a document in pieces the rest is not known yet.
            if !self.deduplicate || *piece == Piece::First || self.seen.insert(digest) {
                match self.split(digest) {
                    Fate::Skipped => &mut self.skipped.left_out,
                    kept => return kept,
                }
            } else {
                &mut self.skipped.duplicate
            }
        };
        *reason += 1;
        Fate::Skipped
    }

    /// The two halves of a digest are independent: the share that is trained on does not bear on what is held out.
    fn split(&self, digest: u128) -> Fate {
        if ((digest >> 64) as u64) < self.valid_below {
            Fate::Valid
        } else if digest as u64 <= self.train_up_to {
            Fate::Train
        } else {
            Fate::Skipped
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The first 128 bits of the text's BLAKE3 digest.
fn digest(text: &str) -> u128 {
    let hash = blake3::hash(text.as_bytes());
    let (start, _) = hash.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    u128::from_be_bytes(*start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(config: &Config, texts: &[&str]) -> (Vec<Fate>, Skipped) {
        let mut filter = Filter::new(config);
        let decide =
            |text: &&str| filter.decide(&Document { number: 0, text: (*text).into(), piece: Piece::Whole });
        (texts.iter().map(decide).collect(), filter.skipped)
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let config = Config { min_chars: 2, max_chars: Some(3), valid_fraction: 0.0, ..Config::default() };
        let (fates, skipped) = fates(&config, &["é", "éé", "ééé", "éééé"]);
        assert_eq!(fates, [Fate::Skipped, Fate::Train, Fate::Train, Fate::Skipped]);
        assert_eq!((skipped.too_short, skipped.too_long), (1, 1));
    }

    #[test]
    fn a_text_is_taken_once_and_always_into_the_same_split() {
        let texts: Vec<String> = (0..4000).map(|n| (n % 2000).to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let config = Config { valid_fraction: 0.05, ..Config::default() };
        let (all, _) = fates(&config, &texts);
        assert_eq!(all[..2000], all[2000..]);
        // 2,000 draws at 5 %: mean 100, standard deviation 9.7.
        let held_out = all[..2000].iter().filter(|&&fate| fate == Fate::Valid).count();
        assert!((50..150).contains(&held_out), "{held_out}");
        let (once, skipped) = fates(&Config { deduplicate: true, ..config }, &texts);
        assert_eq!(once[..2000], all[..2000]);
        assert_eq!(skipped.duplicate, 2000);
    }

    #[test]
    fn long_documents_that_begin_alike_are_no_duplicates() {
        let mut filter = Filter::new(&Config { deduplicate: true, valid_fraction: 0.0, ..Config::default() });
        let mut decide = |piece| filter.decide(&Document { number: 0, text: "a preface".into(), piece });
        let pieces = [Piece::First, Piece::Later, Piece::First, Piece::Later, Piece::Whole, Piece::Whole];
        let fates = pieces.map(&mut decide);
        assert_eq!(fates[..5], [Fate::Train; 5]);
        assert_eq!((fates[5], filter.skipped.duplicate), (Fate::Skipped, 1));
    }

    #[test]
    fn a_smaller_share_is_part_of_a_larger_one_and_what_is_held_out_stays() {
        let texts: Vec<String> = (0..4000).map(|n| n.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let with = |train_fraction| fates(&Config { train_fraction, ..Config::default() }, &texts);
        let [(all, none), (half, left), (fifth, _)] = [1.0, 0.5, 0.2].map(with);
        assert_eq!(none.left_out, 0);
        let of = |fates: &[Fate], fate| (0..4000).filter(|&n| fates[n] == fate).collect::<Vec<usize>>();
        assert_eq!(of(&all, Fate::Valid), of(&half, Fate::Valid));
        assert_eq!(of(&all, Fate::Valid), of(&fifth, Fate::Valid));
        assert!(of(&fifth, Fate::Train).iter().all(|&n| half[n] == Fate::Train));
        // 3,800 draws at 1/2: mean 1,900, standard deviation 31.
        let trained = of(&half, Fate::Train).len();
        assert!(
            trained.abs_diff(1900) < 160 && left.left_out as usize == of(&half, Fate::Skipped).len(),
            "{trained}"
        );
    }

    #[test]
    fn pieces_share_the_fate_of_the_first() {
        let mut filter = Filter::new(&Config { max_chars: Some(9), ..Config::default() });
        let mut decide = |piece| filter.decide(&Document { number: 0, text: "x".into(), piece });
        assert_eq!(
            [Piece::First, Piece::Later, Piece::Later].map(&mut decide),
            [Fate::Skipped; 3],
            "too long"
        );
        assert_eq!(filter.skipped.too_long, 1);
        assert_eq!((filter.documents, filter.long), (1, 1));
    }
}
