//! The raw logits or hidden states of a few rows, to compare a model with other implementations.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use entromask_artifact::{Kind, Manifest, Output};
use entromask_cli::{CommonArgs, OutputFile, refuse_inputs};
use entromask_encoder::{Batch, Encoder, EncoderConfig, MaskedLm};
use entromask_fault::Fault;
use entromask_tables::{TokenColumns, Tokens};
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;

use crate::model;

/// Arguments of `entromask-score logits`.
#[derive(Clone, Debug, clap::Args)]
pub struct LogitsArgs {
    /// The tokens artifact
    #[arg(long, value_name = "DIR")]
    pub tokens: PathBuf,
    /// A model artifact or a Hugging Face folder
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// How many rows
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub rows: usize,
    /// Write hidden states instead; then a model without a masked-LM head will do
    #[arg(long)]
    pub hidden: bool,
    /// `--out` names the safetensors file to write.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
struct LogitsReport {
    /// The file.
    out: PathBuf,
    /// `logits` or `hidden`.
    tensor: &'static str,
    /// `[rows, seq_length, width]`
    shape: Vec<usize>,
}

impl fmt::Display for LogitsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {:?}", self.out.display(), self.tensor, self.shape)
    }
}

/// Of one file.
const MOST_BYTES: u64 = 4 << 30;

impl LogitsArgs {
    /// Common flags that nothing is done with.
    pub const UNUSED: &[&str] = &["--config", "--print-config", "--set", "--dry-run"];
}

/// Writes the logits of the first rows, unmasked, as `logits` `[rows, seq_length, vocab_size]` (f32), or the states of
/// the last layer as `hidden` `[rows, seq_length, hidden_size]`, beside `input_ids` and `attention_mask` `[rows,
/// seq_length]` (i32). Shorter rows are padded.
pub fn write_logits(args: &LogitsArgs) -> Result<()> {
    args.common.refuse("logits", LogitsArgs::UNUSED)?;
    let out = args.common.out()?;
    refuse_inputs(out, [&args.tokens, &args.model])?;
    let out = OutputFile::create(out)?;
    let tokens = Manifest::load(&args.tokens, Kind::Tokens)?;
    model::verify_tokenizer(&tokens, &args.tokens)?;
    model::input(&args.model)?;
    let device = entromask_device::open(&args.common.device, &args.common.dtype)?;
    let ids = first_rows(&tokens, &args.tokens, args.rows)?;
    let batch = |shape: &EncoderConfig| -> Result<Batch> {
        let width = if args.hidden { shape.hidden_size } else { shape.vocab_size };
        check_size(&ids, width)?;
        model::check_origin(&args.model, shape, &tokens, &args.tokens)?;
        model::check_rows(shape, ids.iter().map(Vec::as_slice), &args.tokens)?;
        Ok(Batch::from_rows(&ids, shape.filling_id(), &device))
    };
    let (batch, name, values) = if args.hidden {
        let (encoder, shape) = Encoder::from_pretrained(&args.model, &device)?;
        let batch = batch(&shape)?;
        (batch.clone(), "hidden", encoder.forward(&batch))
    } else {
        let (model, shape) = MaskedLm::from_pretrained(&args.model, &device)?;
        let batch = batch(&shape)?;
        (batch.clone(), "logits", logits(&model, &batch))
    };
    let (dims, values) = (batch.dims(), floats(values)?);
    let report = LogitsReport { out: args.common.out()?.into(), tensor: name, shape: values.1.clone() };
    let mask = ids.iter().flat_map(|row| (0..dims[1]).map(|s| i32::from(s < row.len())));
    let tensors = BTreeMap::from([
        (name, values),
        ("input_ids", ints(batch.input_ids.try_into_vec_as::<i32>()?.into_iter(), dims)),
        ("attention_mask", ints(mask, dims)),
    ]);
    write(out, &tensors)?;
    entromask_cli::emit(&args.common, &report, &report)
}

/// All are in memory at once, and what is written of them as well.
fn check_size(rows: &[Vec<u32>], width: usize) -> Result<()> {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let bytes = (rows.len() * longest) as u64 * width as u64 * 4;
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    let gigabytes = bytes as f64 / 1e9;
    let found = format!("--rows {}: {gigabytes:.1} GB of numbers", rows.len());
    let remedy = match rows.len() as u64 * MOST_BYTES / bytes {
        0 => "tokenize with a smaller seq_len, or ask for --hidden".into(),
        most => format!("give at most {most}"),
    };
    Err(Fault::usage(found).remedy(remedy).into())
}

/// `[rows, seq_length, vocab_size]`.
fn logits(model: &MaskedLm, batch: &Batch) -> Tensor<3> {
    let hidden = model.hidden(batch);
    let [rows, seq_length, width] = hidden.dims();
    let logits = model.logits(hidden.reshape([rows * seq_length, width]));
    let [_, vocab_size] = logits.dims();
    logits.reshape([rows, seq_length, vocab_size])
}

type Stored = (Dtype, Vec<usize>, Vec<u8>);

fn first_rows(tokens: &Manifest, dir: &Path, rows: usize) -> Result<Vec<Vec<u32>>> {
    let parts: Vec<&Output> = tokens.parts("part").collect();
    let mut ids = Vec::new();
    for part in parts {
        if ids.len() < rows {
            part.verify(dir)?;
            let part = Tokens::read(&dir.join(&part.file), TokenColumns::default())?;
            ids.extend(part.input_ids.iter().take(rows - ids.len()).map(<[u32]>::to_vec));
        }
    }
    if ids.is_empty() {
        return Err(Fault::usage("there are no rows to compute").remedy("ask for --rows above 0").into());
    }
    Ok(ids)
}

fn floats(tensor: Tensor<3>) -> Result<Stored> {
    let shape = tensor.dims().to_vec();
    let bytes = tensor.try_into_vec_as::<f32>()?.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok((Dtype::F32, shape, bytes))
}

fn ints(values: impl Iterator<Item = i32>, shape: [usize; 2]) -> Stored {
    (Dtype::I32, shape.to_vec(), values.flat_map(i32::to_le_bytes).collect())
}

fn write(out: OutputFile, tensors: &BTreeMap<&str, Stored>) -> Result<()> {
    let view = |(dtype, shape, bytes): &'_ Stored| TensorView::new(*dtype, shape.clone(), bytes).map(|_| ());
    tensors.values().try_for_each(view).context("shapes agree with values")?;
    let views = tensors.iter().filter_map(|(name, (dtype, shape, bytes))| {
        Some((*name, TensorView::new(*dtype, shape.clone(), bytes).ok()?))
    });
    let bytes = safetensors::serialize(views, None).context("failed to lay out the tensors")?;
    out.publish(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_fit_into_memory_is_refused() {
        assert!(check_size(&vec![vec![5; 128]; 200], 30_522).is_ok());
        let error = check_size(&vec![vec![5; 128]; 1000], 30_522).expect_err("16 GB").to_string();
        assert!(error.contains("--rows 1000: 15.6 GB") && error.contains("give at most 274"), "{error}");
    }
}
