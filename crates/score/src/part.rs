//! A part of the corpus as the model reads it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::Output;
use entromask_encoder::EncoderConfig;
use entromask_tables::{Entropies, TokenColumns, Tokens};
use rayon::prelude::*;

use crate::carry::carry;
use crate::config::Config;
use crate::draft::Draft;
use crate::folds::{in_sample, passes};
use crate::model;
use crate::pass::{Pass, Work};
use crate::retokenize::Retokenized;
use crate::scorer::Scorer;
use crate::tokenizer::TeacherTokenizer;
use crate::watch::Watch;

/// Tokens of a window: positions in a row are numbers of 16 bits.
const LONGEST_WINDOW: usize = u16::MAX as usize;

/// Reads parts of the tokens for one model.
pub(crate) struct Reader {
    dir: PathBuf,
    shape: EncoderConfig,
    /// Of a model that has one of its own.
    tokenizer: Option<TeacherTokenizer>,
}

/// Rows of the corpus, and what the model reads in their place if its tokenizer is another.
pub(crate) struct Part {
    corpus: Tokens,
    teacher: Option<Retokenized>,
}

impl Reader {
    /// `model` is read for its shape, and for its tokenizer if the values are to be `carried`.
    pub(crate) fn new(tokens: &Path, model: &Path, carried: bool) -> Result<Self> {
        let shape = EncoderConfig::from_pretrained(model)?;
        let tokenizer = carried.then(|| TeacherTokenizer::load(model)).transpose()?;
        Ok(Self { dir: tokens.into(), shape, tokenizer })
    }

    pub(crate) fn shape(&self) -> &EncoderConfig {
        &self.shape
    }

    /// The mask token of the model's own tokenizer.
    pub(crate) fn mask_id(&self) -> Option<u32> {
        self.tokenizer.as_ref().map(|tokenizer| tokenizer.mask_id)
    }

    /// Reads a whole part, of which `config` says what is scored.
    ///
    /// # Errors
    /// An input fault if the file is damaged or the model cannot read its rows.
    pub(crate) fn read(&self, output: &Output, config: &Config) -> Result<Part> {
        let path = self.dir.join(&output.file);
        self.prepare(Tokens::read(&path, self.columns())?, &path, config)
    }

    /// What of the tokens is needed.
    pub(crate) fn columns(&self) -> TokenColumns {
        let carried = self.tokenizer.is_some();
        TokenColumns { word: true, text: carried, span: carried }
    }

    /// Prepares rows that were read from `path`.
    pub(crate) fn prepare(&self, corpus: Tokens, path: &Path, config: &Config) -> Result<Part> {
        let longest = self.shape.max_seq_length().min(LONGEST_WINDOW);
        let wanted = |row| in_sample(config, row);
        let retokenized = |tokenizer| Retokenized::new(&corpus, tokenizer, longest, wanted);
        let teacher = self.tokenizer.as_ref().map(retokenized).transpose()?;
        let part = Part { corpus, teacher };
        let path = self.tokenizer.as_ref().map_or(path, |tokenizer| &tokenizer.file);
        model::check_rows(&self.shape, part.seen().input_ids.iter(), path)?;
        Ok(part)
    }
}

impl Part {
    /// What the model reads.
    fn seen(&self) -> &Tokens {
        self.teacher.as_ref().map_or(&self.corpus, |teacher| &teacher.tokens)
    }

    /// All passes, short rows first: a batch then needs little padding, or none.
    fn passes(&self, config: &Config) -> Vec<Pass> {
        let lengths = &self.seen().input_ids;
        let mut rows: Vec<usize> = (0..self.seen().rows()).collect();
        rows.sort_by_key(|&row| lengths.len_of(row));
        rows.into_par_iter().flat_map_iter(|row| self.passes_of(row, config)).collect()
    }

    fn passes_of(&self, row: usize, config: &Config) -> impl Iterator<Item = Pass> + use<> {
        let seen = self.seen();
        let length = seen.input_ids.len_of(row);
        let readable = self.teacher.as_ref().map(|teacher| teacher.readable[row]);
        let sets = passes(config, seen.row[row], seen.word.row(row), readable);
        sets.into_iter().map(move |positions| Pass { row, length, positions: positions.into() })
    }

    /// What scoring takes. The passes of a row at a time are in memory.
    pub(crate) fn work(&self, config: &Config, shape: &EncoderConfig) -> Work {
        let of_row = |row| Work::of(self.passes_of(row, config), shape);
        let rows: Vec<Work> = (0..self.seen().rows()).into_par_iter().map(of_row).collect();
        rows.into_iter().fold(Work::default(), Work::plus)
    }

    /// The scores of the corpus's tokens; see [`Scorer::score`].
    pub(crate) fn score(
        &self,
        scorer: &Scorer<'_>,
        draft: &mut Draft<'_>,
        watch: &impl Watch,
    ) -> Result<Entropies> {
        let seen = scorer.score(self.seen(), &self.passes(scorer.config()), draft, watch)?;
        let carried = |teacher| carry(&self.corpus, teacher, &seen, scorer.config().carry);
        Ok(self.teacher.as_ref().map(carried).unwrap_or(seen))
    }

    /// Whether `scores` are of these rows.
    pub(crate) fn fits(&self, scores: &Entropies) -> bool {
        let offsets = &self.corpus.input_ids.offsets;
        let columns = [&scores.entropy, &scores.surprisal].into_iter().chain(scores.measures.values());
        scores.row == self.corpus.row && columns.into_iter().all(|column| column.offsets == *offsets)
    }
}
