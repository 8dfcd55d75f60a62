//! Files as streams of plain bytes, whatever they are compressed with.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use entromask_fault::{Fault, unreadable};

use super::Source;

const BUFFER_BYTES: usize = 256 << 10;

/// Compression, recognised by a file's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// Opens a file and reads through its compression.
pub(super) fn open<'a>(path: &Path, source: &'a Source) -> anyhow::Result<Box<dyn BufRead + 'a>> {
    let counted =
        Counted { file: fs_err::File::open(path).map_err(|error| missing(path, &error))?.into(), source };
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, counted);
    let start = raw.fill_buf().map_err(|error| damaged(path, &error))?;
    Ok(match compression(start) {
        Compression::Plain => Box::new(raw),
        Compression::Gzip => buffered(flate2::bufread::MultiGzDecoder::new(raw)),
        Compression::Zstd => buffered(zstd::Decoder::with_buffer(raw)?),
    })
}

/// The compression of a stream with this start.
pub(super) fn compression(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::Plain,
    }
}

/// An error while reading `path`, e.g. because its compressed stream breaks off.
pub(super) fn damaged(path: &Path, error: &dyn std::error::Error) -> Fault {
    Fault::input(format!("{}: damaged or truncated: {error}", path.display()))
        .remedy("get the file again, or take it out of `files`")
}

/// An error while opening `path`.
pub(super) fn missing(path: &Path, error: &std::io::Error) -> Fault {
    Fault::input(unreadable(path, error))
        .remedy("check `files` in the corpus config; paths are relative to the working folder")
}

fn buffered<'a>(decoder: impl Read + 'a) -> Box<dyn BufRead + 'a> {
    Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
}

struct Counted<'a> {
    file: File,
    source: &'a Source,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.source.count_bytes(bytes as u64);
        Ok(bytes)
    }
}
