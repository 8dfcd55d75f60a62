//! The raw logits of a few rows, to compare a model with other implementations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use entromask_artifact::{Kind, Manifest, Output};
use entromask_cli::CommonArgs;
use entromask_encoder::Batch;
use entromask_fault::Fault;
use entromask_tables::{TokenColumns, Tokens};
use safetensors::tensor::{Dtype, TensorView};

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
    /// `--out` names the safetensors file to write.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Writes the logits of the first rows, unmasked, as `logits` `[rows, seq_length, vocab_size]` (f32) beside
/// `input_ids` and `attention_mask` `[rows, seq_length]` (i32). Shorter rows are padded.
pub fn write_logits(args: &LogitsArgs) -> Result<()> {
    let tokens = Manifest::load(&args.tokens, Kind::Tokens)?;
    let device = entromask_device::open(&args.common.device, &args.common.dtype)?;
    let (model, shape) = model::load(&args.model, &device, &tokens, &args.tokens)?;
    let ids = first_rows(&tokens, &args.tokens, args.rows)?;
    model::check_rows(&shape, ids.iter().map(Vec::as_slice), &args.tokens)?;
    let batch = Batch::from_rows(&ids, shape.pad_token_id, &device);
    let [batch_size, seq_length] = batch.dims();
    let hidden = model.hidden(&batch).reshape([batch_size * seq_length, shape.hidden_size]);
    let logits: Tensor<3> = model.logits(hidden).reshape([batch_size, seq_length, shape.vocab_size]);
    let mask = ids.iter().flat_map(|row| (0..seq_length).map(|s| i32::from(s < row.len())));
    let tensors = BTreeMap::from([
        ("logits", floats(logits)?),
        ("input_ids", ints(batch.input_ids.try_into_vec_as::<i32>()?.into_iter(), [batch_size, seq_length])),
        ("attention_mask", ints(mask, [batch_size, seq_length])),
    ]);
    write(args.common.out()?, &tensors)
}

type Stored = (Dtype, Vec<usize>, Vec<u8>);

fn first_rows(tokens: &Manifest, dir: &Path, rows: usize) -> Result<Vec<Vec<u32>>> {
    let parts: Vec<&Output> = tokens.parts("part").collect();
    let mut ids = Vec::new();
    for part in parts {
        if ids.len() < rows {
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

fn write(path: &Path, tensors: &BTreeMap<&str, Stored>) -> Result<()> {
    let view = |(dtype, shape, bytes): &'_ Stored| TensorView::new(*dtype, shape.clone(), bytes).map(|_| ());
    tensors.values().try_for_each(view).context("shapes agree with values")?;
    let views = tensors.iter().filter_map(|(name, (dtype, shape, bytes))| {
        Some((*name, TensorView::new(*dtype, shape.clone(), bytes).ok()?))
    });
    let bytes = safetensors::serialize(views, None).context("failed to lay out the tensors")?;
    fs_err::write(path, bytes)
        .map_err(|error| Fault::usage(error.to_string()).remedy("choose another --out").into())
}
