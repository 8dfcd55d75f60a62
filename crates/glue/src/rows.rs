//! Text to token ids, with the model's own tokenizer.

use std::path::Path;

use anyhow::anyhow;
use burn::tensor::Device;
use entromask_encoder::{Batch, EncoderConfig, Filling, Sentence};
use entromask_fault::Fault;
use entromask_tokenizer::leave_dropout_out;
use tokenizers::{EncodeInput, Encoding, PostProcessor, Tokenizer, TruncationParams};

use crate::data::{Example, Split};

/// Rows that are tokenized at once.
const AT_ONCE: usize = 4096;

/// One tokenized row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Token ids with special tokens.
    pub ids: Vec<u32>,
    /// 0 for the first sentence, 1 for the second.
    pub types: Vec<u32>,
}

/// A tokenized split.
#[derive(Clone, Debug, Default)]
pub struct Tokenized {
    /// Rows in the order of the file.
    pub rows: Vec<Row>,
    /// Class numbers or targets.
    pub labels: Vec<f32>,
    /// Rows that were too long and were cut.
    pub truncated: usize,
    /// Rows of the file that were left out.
    pub skipped: usize,
    /// Official number of rows, where it is another.
    pub official: Option<usize>,
    /// Rows that these were sampled from.
    pub sampled_from: Option<usize>,
}

/// The tokenizer of a model folder, for rows of at most a given length.
#[derive(Clone, Debug)]
pub struct RowTokenizer {
    tokenizer: Tokenizer,
}

impl Tokenized {
    /// Tokens of each row.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.ids.len()).collect()
    }

    /// The rows numbered `batch` as the input of a model; segments only for pairs and where the model has them.
    pub fn batch(&self, batch: &[usize], is_pair: bool, config: &EncoderConfig, device: &Device) -> Batch {
        let rows = || batch.iter().map(|&row| &self.rows[row]);
        let ids: Vec<_> = rows().map(|row| row.ids.as_slice()).collect();
        let filling = Filling::of(config, entromask_device::is_cpu(device));
        let inputs = Batch::filled(&ids, filling, device);
        if !has_segments(is_pair, config) {
            return inputs;
        }
        let types: Vec<_> = rows().map(|row| row.types.as_slice()).collect();
        inputs.with_token_types(&types)
    }

    /// The rows numbered `batch` for a body on the CPU; segments as in [`batch`](Self::batch).
    pub fn sentences(&self, batch: &[usize], is_pair: bool, config: &EncoderConfig) -> Vec<Sentence<'_>> {
        let has_segments = has_segments(is_pair, config);
        let rows = batch.iter().map(|&row| &self.rows[row]);
        rows.map(|row| Sentence {
            input_ids: &row.ids,
            token_type_ids: if has_segments { &row.types } else { &[] },
        })
        .collect()
    }

    /// Tokens of all rows together.
    pub fn tokens(&self) -> u64 {
        self.rows.iter().map(|row| row.ids.len() as u64).sum()
    }
}

impl RowTokenizer {
    /// Reads `tokenizer.json` of the model folder `dir`. Rows longer than `max_length` are cut, the longer sentence first.
    ///
    /// # Errors
    /// A [`Fault`] of class input if the file cannot be read, adds no special tokens, or has more tokens than the
    /// model's `vocab_size`.
    pub fn load(dir: &Path, vocab_size: usize, max_length: usize) -> anyhow::Result<Self> {
        let path = dir.join("tokenizer.json");
        let mut tokenizer = Tokenizer::from_file(&path).map_err(|error| {
            Fault::input(format!("{}: {error}", path.display()))
                .remedy("a model folder needs the tokenizer it was trained with")
        })?;
        check(&path, &tokenizer, vocab_size)?;
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| anyhow!(error))?;
        tokenizer.with_padding(None);
        leave_dropout_out(&mut tokenizer);
        Ok(Self { tokenizer })
    }

    /// Whether the tokenizer's file asks for dropout, which is left out.
    pub(crate) fn has_dropout(dir: &Path) -> bool {
        let tokenizer = Tokenizer::from_file(dir.join("tokenizer.json"));
        tokenizer.is_ok_and(|mut tokenizer| leave_dropout_out(&mut tokenizer))
    }

    /// Tokenizes a split on all cores.
    pub fn encode(&self, split: &Split) -> anyhow::Result<Tokenized> {
        let (mut rows, mut truncated) = (Vec::with_capacity(split.examples.len()), 0);
        // What `tokenizers` says of a row takes some kilobytes.
        for examples in split.examples.chunks(AT_ONCE) {
            let texts: Vec<_> = examples.iter().map(input).collect();
            let encodings = self.tokenizer.encode_batch(texts, true).map_err(|error| anyhow!(error))?;
            truncated += encodings.iter().filter(|encoding| !encoding.get_overflowing().is_empty()).count();
            rows.extend(encodings.iter().map(row));
        }
        Ok(Tokenized {
            truncated,
            rows,
            labels: split.labels(),
            skipped: split.skipped,
            official: split.official,
            sampled_from: split.sampled_from,
        })
    }
}

fn has_segments(is_pair: bool, config: &EncoderConfig) -> bool {
    is_pair && config.type_vocab_size > 1
}

fn check(path: &Path, tokenizer: &Tokenizer, vocab_size: usize) -> anyhow::Result<()> {
    let tokens = tokenizer.get_vocab_size(true);
    if tokens > vocab_size {
        return Err(Fault::input(format!(
            "{}: {tokens} tokens, the model's vocab_size is {vocab_size}",
            path.display()
        ))
        .remedy("put the tokenizer that the model was trained with into its folder")
        .into());
    }
    if tokenizer.get_post_processor().is_none_or(|processor| processor.added_tokens(false) == 0) {
        return Err(Fault::input(format!("{}: it adds no special tokens to a sentence", path.display()))
            .remedy("the model is classified by its first token: use a tokenizer with a post-processor")
            .into());
    }
    Ok(())
}

fn input(example: &Example) -> EncodeInput<'_> {
    match &example.second {
        Some(second) => (example.first.as_str(), second.as_str()).into(),
        None => example.first.as_str().into(),
    }
}

fn row(encoding: &Encoding) -> Row {
    Row { ids: encoding.get_ids().to_vec(), types: encoding.get_type_ids().to_vec() }
}
