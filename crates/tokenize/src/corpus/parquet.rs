//! Parquet: a document a row of one column.

use std::fs::File;
use std::io::{BufRead, Read, Seek, Write};
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use entromask_fault::Fault;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::open::{Compression, compression, damaged, decompress, missing};
use super::utf8::Utf8;
use super::{Sink, Source, pieces};

/// Documents that are decoded at a time.
const BATCH_ROWS: usize = 64;

pub(super) fn read(path: &Path, column: &str, utf8: Utf8, source: &Source, take: Sink) -> anyhow::Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(seekable(path)?).map_err(|e| damaged(path, &e))?;
    let mut progress =
        Share::new(fs_err::metadata(path)?.len(), builder.metadata().file_metadata().num_rows());
    let schema = builder.schema().clone();
    let Some((index, field)) = schema.column_with_name(column) else {
        return Err(no_column(path, column, schema.fields().iter().map(|field| field.name().as_str())).into());
    };
    let data_type = field.data_type().clone();
    let mask = ProjectionMask::roots(builder.parquet_schema(), [index]);
    let reader =
        builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(|e| damaged(path, &e))?;
    let mut row = 1;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(path, &error))?;
        let values = plain(batch.column(0)).map_err(|error| damaged(path, &error))?;
        // A document that is null has no text, as in JSON lines.
        for bytes in strings(&values, path, column, &data_type)? {
            let place = |_| format!("{}: row {row}", path.display());
            let text = utf8.decode(bytes.unwrap_or_default().to_vec(), source, place)?;
            pieces::split(text, take)?;
            row += 1;
        }
        source.count_bytes(progress.at(row - 1));
    }
    Ok(())
}

/// How many bytes of a file so many of its rows stand for.
struct Share {
    bytes: u64,
    rows: u64,
    counted: u64,
}

impl Share {
    fn new(bytes: u64, rows: i64) -> Self {
        Self { bytes, rows: rows.unsigned_abs().max(1), counted: 0 }
    }

    /// The bytes since the last call, now that `rows` rows have been read.
    fn at(&mut self, rows: u64) -> u64 {
        let all = (self.bytes as f64 * (rows as f64 / self.rows as f64)) as u64;
        let new = all.saturating_sub(self.counted);
        self.counted += new;
        new
    }
}

/// The file itself, or what it decompresses to: Parquet is read from its end.
fn seekable(path: &Path) -> anyhow::Result<File> {
    let mut file: File = fs_err::File::open(path).map_err(|error| missing(path, &error))?.into();
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut start).map_err(|error| damaged(path, &error))?;
    if compression(&start) == Compression::Plain {
        return Ok(file);
    }
    // Its bytes count when its rows are read.
    let uncounted = Source::default();
    let mut stream = decompress(path, &uncounted)?;
    let mut plain = tempfile::tempfile().map_err(|error| no_room(path, &error))?;
    loop {
        let chunk = stream.fill_buf().map_err(|error| damaged(path, &error))?;
        if chunk.is_empty() {
            break;
        }
        plain.write_all(chunk).map_err(|error| no_room(path, &error))?;
        let bytes = chunk.len();
        stream.consume(bytes);
    }
    plain.rewind()?;
    Ok(plain)
}

/// A Parquet file is read from its end, and so has to lie somewhere as a whole.
fn no_room(path: &Path, error: &std::io::Error) -> Fault {
    let (path, temporary) = (path.display(), std::env::temp_dir());
    Fault::failed(format!("{path}: cannot be decompressed to {}: {error}", temporary.display()))
        .remedy("make room there, name another folder by TMPDIR, or decompress it")
}

/// A column of categories, as pandas calls them, as one of their values.
fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values),
        _ => Ok(array.clone()),
    }
}

type Strings<'a> = Box<dyn Iterator<Item = Option<&'a [u8]>> + 'a>;

/// The values of a column of strings or bytes.
fn strings<'a>(
    array: &'a ArrayRef,
    path: &Path,
    column: &str,
    found: &DataType,
) -> anyhow::Result<Strings<'a>> {
    Ok(match array.data_type() {
        DataType::Utf8 => Box::new(array.as_string::<i32>().iter().map(|text| text.map(str::as_bytes))),
        DataType::LargeUtf8 => Box::new(array.as_string::<i64>().iter().map(|text| text.map(str::as_bytes))),
        DataType::Utf8View => Box::new(array.as_string_view().iter().map(|text| text.map(str::as_bytes))),
        DataType::Binary => Box::new(array.as_binary::<i32>().iter()),
        DataType::LargeBinary => Box::new(array.as_binary::<i64>().iter()),
        DataType::BinaryView => Box::new(array.as_binary_view().iter()),
        // What pyarrow makes of a column of nothing else.
        DataType::Null => Box::new(std::iter::repeat_n(None, array.len())),
        _ => {
            return Err(Fault::input(format!("{}: column `{column}` is {found}", path.display()))
                .remedy("name a column of strings with `column` in the corpus config")
                .into());
        }
    })
}

fn no_column<'a>(path: &Path, column: &str, names: impl Iterator<Item = &'a str>) -> Fault {
    let names: Vec<_> = names.collect();
    Fault::input(format!("{}: no column `{column}` among {names:?}", path.display()))
        .remedy("name the column that holds the text with `column` in the corpus config")
}
