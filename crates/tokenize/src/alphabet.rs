//! The characters that a WordPiece vocabulary keeps.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString};

/// Characters that WordPiece vocabularies keep, the most frequent ones; rarer ones become the unknown token. As in Hugging
/// Face's `BertWordPieceTokenizer`. Byte-level vocabularies have all 256 bytes.
const USUAL: usize = 1_000;

/// Share of the text's characters that may be lost. Where more would be, as in Chinese, the alphabet grows.
const FEW: f64 = 0.001;

/// Share of the tokens that may be letters where the alphabet has grown.
const MOST_LETTERS: f64 = 0.75;

/// The characters of a corpus.
#[derive(Default)]
pub(crate) struct Alphabet {
    /// The most frequent ones.
    pub(crate) kept: BTreeSet<char>,
    /// Those of them that stand inside of words.
    pub(crate) inside: BTreeSet<char>,
    /// How many others there are.
    others: usize,
    /// Their share of the text's characters.
    lost: f64,
}

/// How often each character begins a word, and how often it stands inside of one.
#[derive(Default)]
pub(crate) struct Characters(HashMap<char, [u64; 2]>);

impl Alphabet {
    /// What is wrong if more than few of the characters are lost, and the remedy.
    pub(crate) fn doubt(&self) -> Option<String> {
        let Self { kept, others, lost, .. } = self;
        (*lost > FEW).then(|| {
            format!(
                "{:.1} % of the text's characters are none of the {} that are kept, but of {others} rarer ones, and \
                 their words become unknown; raise --size",
                100.0 * lost,
                kept.len()
            )
        })
    }
}

impl Characters {
    pub(crate) fn with(mut self, words: &PreTokenizedString) -> Self {
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            for (index, c) in word.chars().enumerate() {
                self.0.entry(c).or_default()[usize::from(index > 0)] += 1;
            }
        }
        self
    }

    pub(crate) fn and(mut self, others: Self) -> Self {
        for (c, [first, inside]) in others.0 {
            let sum = self.0.entry(c).or_default();
            *sum = [sum[0] + first, sum[1] + inside];
        }
        self
    }

    /// The alphabet of a vocabulary of `size` tokens.
    pub(crate) fn alphabet(self, size: usize) -> Alphabet {
        let mut all: Vec<(char, [u64; 2])> = self.0.into_iter().collect();
        all.sort_unstable_by_key(|&(c, [first, inside])| (Reverse(first + inside), c));
        let rare = all.split_off(kept(&all, size));
        let [lost, known] = [&rare, &all].map(|some| sum(some) as f64);
        let inside = all.iter().filter(|(_, [_, inside])| *inside > 0).map(|&(c, _)| c).collect();
        let kept = all.into_iter().map(|(c, _)| c).collect();
        Alphabet { kept, inside, others: rare.len(), lost: lost / (lost + known).max(1.0) }
    }
}

/// How many of `characters`, in the order of their frequency, are kept.
fn kept(characters: &[(char, [u64; 2])], size: usize) -> usize {
    let enough = (FEW * sum(characters) as f64) as u64;
    let most = (MOST_LETTERS * size as f64) as usize;
    let (mut letters, mut rest) = (0, sum(characters));
    let grows = |(_, [first, inside]): &&(char, [u64; 2])| {
        let more = rest > enough;
        letters += 1 + usize::from(*inside > 0);
        rest -= first + inside;
        more && letters <= most
    };
    characters.iter().take_while(grows).count().max(USUAL).min(characters.len())
}

fn sum(characters: &[(char, [u64; 2])]) -> u64 {
    characters.iter().map(|(_, [first, inside])| first + inside).sum()
}
