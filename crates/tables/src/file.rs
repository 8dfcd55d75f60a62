//! Reading and writing whole Parquet files.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use entromask_fault::Fault;
use fs_err::File;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::column::Columns;

/// Rows of a row group: what a query engine skips or reads at a time.
const ROW_GROUP_ROWS: usize = 8192;

/// The number of rows that the footer of a part states; also checks that the file is complete.
///
/// # Errors
/// A [`Fault`] of class input if the file is missing, truncated or no Parquet file.
pub fn rows(path: &Path) -> anyhow::Result<u64> {
    Ok(open(path)?.metadata().file_metadata().num_rows() as u64)
}

/// The artifact key that the footer of a part states, if any.
pub fn footer_key(path: &Path) -> anyhow::Result<Option<String>> {
    let builder = open(path)?;
    let pairs = builder.metadata().file_metadata().key_value_metadata();
    let mut pairs = pairs.into_iter().flatten();
    Ok(pairs.find(|pair| pair.key == "entromask.key").and_then(|pair| pair.value.clone()))
}

/// Names of the columns of `path`.
pub(crate) fn columns(path: &Path) -> anyhow::Result<Vec<String>> {
    Ok(open(path)?.schema().fields().iter().map(|field| field.name().clone()).collect())
}

/// Writes `columns` to `path` with `footer` as key-value metadata.
pub(crate) fn write(
    path: &Path,
    columns: Vec<(Field, ArrayRef)>,
    footer: &[(String, String)],
) -> anyhow::Result<()> {
    write_to(File::create(path)?, columns, footer)
}

/// [`write()`] into anything.
pub(crate) fn write_to(
    to: impl Write + Send,
    columns: Vec<(Field, ArrayRef)>,
    footer: &[(String, String)],
) -> anyhow::Result<()> {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), arrays)?;
    let pairs = footer.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_key_value_metadata(Some(pairs))
        .build();
    let mut writer = ArrowWriter::try_new(to, schema, Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

/// Whether the lists in each row of a part are of one length. `columns` are names and offsets; the first one decides, and
/// columns that were not read are left out.
///
/// # Errors
/// A [`Fault`] of class input that names the file, the first such row and the column.
pub(crate) fn check_aligned(path: &Path, columns: &[(&str, &[u32])]) -> anyhow::Result<()> {
    let [(first, offsets), others @ ..] = columns else { return Ok(()) };
    let length = |offsets: &[u32], row: usize| offsets[row + 1] - offsets[row];
    for (name, other) in others.iter().filter(|(_, other)| other != offsets) {
        let rows = offsets.len().min(other.len()) - 1;
        let Some(row) = (0..rows).find(|&row| length(offsets, row) != length(other, row)) else { continue };
        let (one, another) = (length(offsets, row), length(other, row));
        let found = format!(
            "{}: row {row} of the part has {one} values in `{first}` and {another} in `{name}`",
            path.display()
        );
        return Err(Fault::input(found).remedy("make the artifact again").into());
    }
    Ok(())
}

/// Reads the columns called `names` of `path` and hands them over batch by batch.
pub(crate) fn read(
    path: &Path,
    names: &[&str],
    mut take: impl FnMut(&Columns) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let builder = open(path)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
    let reader = builder.with_projection(mask).with_batch_size(ROW_GROUP_ROWS).build();
    for batch in reader.map_err(|error| damaged(path, &error))? {
        let batch = batch.map_err(|error| damaged(path, &error))?;
        take(&Columns { batch: &batch, path })?;
    }
    Ok(())
}

/// Checks that `path` has a column called `name`.
pub(crate) fn require(path: &Path, name: &str, remedy: &str) -> anyhow::Result<()> {
    let builder = open(path)?;
    let names: Vec<_> = builder.schema().fields().iter().map(|field| field.name().as_str()).collect();
    if names.contains(&name) {
        return Ok(());
    }
    let found = names.join(", ");
    Err(Fault::input(format!("{}: no column `{name}` among {found}", path.display())).remedy(remedy).into())
}

fn open(path: &Path) -> anyhow::Result<ParquetRecordBatchReaderBuilder<std::fs::File>> {
    let file = File::open(path).map_err(|error| {
        Fault::input(entromask_fault::unreadable(path, &error))
            .remedy("run the stage that makes it again, or check the path")
    })?;
    ParquetRecordBatchReaderBuilder::try_new(file.into_file())
        .map_err(|error: ParquetError| damaged(path, &error))
        .context("failed to open a table")
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> anyhow::Error {
    Fault::input(format!("{}: damaged or truncated: {error}", path.display()))
        .remedy("delete the file and manifest.json beside it, and run its stage again")
        .into()
}
