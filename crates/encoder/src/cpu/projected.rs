//! What the first layer computes of single tokens, kept for many rows.

use entromask_kernels::Matrix;
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::body::Body;
use super::embeddings::Token;
use super::{Buffers, Places};

/// Queries, keys and values of the first layer for the tokens of many rows.
///
/// They depend on a token, its place and its segment, not on its neighbours. Rows that are read again and again with other
/// tokens hidden have few tokens that differ, so that each is computed once.
#[derive(Debug)]
pub struct Projected {
    index: FxHashMap<Token, u32>,
    blocks: Vec<Block>,
}

/// Of [`BLOCK_TOKENS`] tokens.
#[derive(Debug)]
struct Block {
    query: Matrix,
    key_value: Matrix,
}

/// Tokens that one thread computes at once.
const BLOCK_TOKENS: usize = 256;

/// Values in memory at most: 256 MB.
const MOST_VALUES: usize = 1 << 26;

impl Projected {
    /// Of the first layer of `body` for `tokens`, on all threads; none where few of them are alike, or too many are not.
    pub(super) fn new(body: &Body, tokens: impl Iterator<Item = Token> + Clone) -> Option<Self> {
        let first = &body.layers[*body.order.first()?];
        let room = MOST_VALUES / first.projections();
        // Finding and copying rows should cost little beside what is saved.
        let (index, distinct) = distinct(tokens.clone(), room.min(tokens.count() / 4 * 3))?;
        let block = |buffers: &mut Buffers, tokens: &[Token]| {
            body.embeddings.forward(tokens, buffers);
            first.project(&Places::all(tokens.len()), buffers);
            Block {
                query: std::mem::take(&mut buffers.query),
                key_value: std::mem::take(&mut buffers.key_value),
            }
        };
        let blocks = distinct.par_chunks(BLOCK_TOKENS).map_init(Buffers::default, block).collect();
        Some(Self { index, blocks })
    }

    /// `key_value` becomes that of `tokens`, and `query` that of those of them at the places.
    ///
    /// # Panics
    ///
    /// If a token was not among those that this was made of.
    pub(super) fn read(&self, tokens: &[Token], places: &Places, buffers: &mut Buffers) {
        let found: Vec<_> = tokens.iter().map(|token| self.find(*token)).collect();
        let keys = found.iter().map(|(block, row)| block.key_value.row(*row));
        buffers.key_value.copy_rows(self.blocks[0].key_value.width(), keys);
        let asked = places.flat().into_iter().map(|token| &found[token]);
        let queries = asked.map(|(block, row)| block.query.row(*row));
        buffers.query.copy_rows(self.blocks[0].query.width(), queries);
    }

    fn find(&self, token: Token) -> (&Block, usize) {
        let index = self.index[&token] as usize;
        (&self.blocks[index / BLOCK_TOKENS], index % BLOCK_TOKENS)
    }
}

/// Each kind of token and its number, in the order in which they come; none if there are more than `most`, or none at all.
fn distinct(tokens: impl Iterator<Item = Token>, most: usize) -> Option<(FxHashMap<Token, u32>, Vec<Token>)> {
    let (mut index, mut distinct) = (FxHashMap::default(), Vec::new());
    for token in tokens {
        index.entry(token).or_insert_with(|| {
            distinct.push(token);
            distinct.len() as u32 - 1
        });
        if distinct.len() > most {
            return None;
        }
    }
    (!distinct.is_empty()).then_some((index, distinct))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_apart_by_all_that_the_first_layer_sees() {
        let token = |id, place, segment| Token { id, place, segment };
        let tokens = [token(7, 0, 0), token(7, 1, 0), token(7, 0, 0), token(7, 0, 1), token(8, 0, 0)];
        let (index, kinds) = distinct(tokens.into_iter(), 4).expect("four kinds");
        assert_eq!(kinds, [tokens[0], tokens[1], tokens[3], tokens[4]]);
        assert!(kinds.iter().enumerate().all(|(number, kind)| index[kind] as usize == number));
        assert!(distinct(tokens.into_iter(), 3).is_none());
        assert!(distinct([].into_iter(), 3).is_none());
    }
}
