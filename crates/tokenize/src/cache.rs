//! Words that have been encoded before.
//!
//! Most of a text is made of few words (Zipf), and a tokenizer spends microseconds on each: copying its tokens from
//! here is some ten times as fast as the whole of normalising, splitting and looking it up.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Pieces;

/// Longer words are rarely met again.
const MAX_WORD_BYTES: usize = 48;

/// Words that a thread remembers, about 15 MB; then it starts anew.
const MAX_WORDS: usize = 1 << 17;

/// One cache a thread, so that none waits for another.
#[derive(Debug)]
pub(crate) struct Caches {
    threads: Box<[Mutex<Cache>]>,
}

/// Encoded words: tokens with spans and word ids that count from the start of the word.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    places: HashMap<Box<str>, (u32, u32)>,
    tokens: Pieces,
}

impl Caches {
    pub(crate) fn new() -> Self {
        Self { threads: (0..rayon::current_num_threads()).map(|_| Mutex::default()).collect() }
    }

    /// The cache of this thread.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Cache> {
        let index = rayon::current_thread_index().unwrap_or(0) % self.threads.len();
        // A cache is whole between any two statements that can panic.
        self.threads[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Adds the tokens of `word`, which starts at byte `start`, to `pieces`; `encode` is asked if it is new.
    ///
    /// `next_word` is the number of the next word, before and after.
    pub(crate) fn add(
        &mut self,
        word: &str,
        start: usize,
        pieces: &mut Pieces,
        next_word: &mut u32,
        encode: impl FnOnce(&str) -> anyhow::Result<Pieces>,
    ) -> anyhow::Result<()> {
        if let Some(&(from, to)) = self.places.get(word) {
            pieces.extend(&self.tokens, from as usize..to as usize, start, next_word);
            return Ok(());
        }
        let tokens = encode(word)?;
        pieces.extend(&tokens, 0..tokens.len(), start, next_word);
        if word.len() <= MAX_WORD_BYTES {
            self.remember(word, &tokens);
        }
        Ok(())
    }

    fn remember(&mut self, word: &str, tokens: &Pieces) {
        if self.places.len() == MAX_WORDS {
            *self = Self::default();
        }
        let from = self.tokens.len();
        self.tokens.extend(tokens, 0..tokens.len(), 0, &mut 0);
        self.places.insert(word.into(), (from as u32, self.tokens.len() as u32));
    }
}
