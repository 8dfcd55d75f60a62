//! Files as streams of plain bytes, whatever they are compressed with.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

use entromask_fault::{Fault, unreadable};
use flate2::bufread::GzDecoder;

use super::Source;

const BUFFER_BYTES: usize = 256 << 10;

/// Of zstd: two to this power are the most bytes that a match may reach back.
const MAX_WINDOW_LOG: u32 = 31;

/// A tar archive says what it is within its first block, behind the name of a file.
const BLOCK_BYTES: u64 = 512;
const TAR_MARK: usize = 257;

/// Compression, recognised by a file's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// Opens a file of text and reads through its compression.
pub(super) fn open<'a>(path: &Path, source: &'a Source) -> anyhow::Result<Box<dyn BufRead + 'a>> {
    let mut stream = decompress(path, source)?;
    let start = take(&mut stream, BLOCK_BYTES, path)?;
    match foreign(&start) {
        Some(found) => Err(not_read(path, found).into()),
        None => Ok(Box::new(Cursor::new(start).chain(stream))),
    }
}

/// The next `most` bytes of the stream of `path`, fewer at its end.
pub(super) fn take(stream: impl Read, most: u64, path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(most).read_to_end(&mut bytes).map_err(|error| damaged(path, &error))?;
    Ok(bytes)
}

/// Opens a file and reads through its compression, whatever is in it.
pub(super) fn decompress<'a>(path: &Path, source: &'a Source) -> anyhow::Result<Box<dyn BufRead + 'a>> {
    let counted =
        Counted { file: fs_err::File::open(path).map_err(|error| missing(path, &error))?.into(), source };
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, counted);
    let start = raw.fill_buf().map_err(|error| damaged(path, &error))?;
    Ok(match compression(start) {
        Compression::Plain => Box::new(raw),
        Compression::Gzip => buffered(Gzip(Some(GzDecoder::new(raw)))),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(raw)?;
            // As `zstd --long=31` makes them: the memory is taken by such files only.
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            buffered(decoder)
        }
    })
}

/// The compression of a stream with this start.
pub(super) fn compression(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // Also a frame that is skipped, by which parallel compressors begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::Plain,
    }
}

/// What a stream with this start is, where it is known to be no text, once it has been decompressed: it would be taken for
/// invalid UTF-8, or its headers for text.
fn foreign(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "compressed with xz",
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, ..] => "compressed with bzip2",
        [0x04, 0x22, 0x4d, 0x18, ..] => "compressed with lz4",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        // What follows is a number by Thrift's compact protocol; a text may begin with these letters.
        [b'P', b'A', b'R', b'1', 0x15, ..] => "a Parquet file",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16 text",
        _ if is_tar(start) => "a tar archive",
        _ if compression(start) != Compression::Plain => "compressed twice",
        _ => return None,
    })
}

/// As POSIX and as GNU has it; `ustar` alone is part of words.
fn is_tar(start: &[u8]) -> bool {
    let mark = start.get(TAR_MARK..).unwrap_or_default();
    [&b"ustar\0"[..], b"ustar  \0"].iter().any(|known| mark.starts_with(known))
}

fn not_read(path: &Path, found: &str) -> Fault {
    let remedy = match found {
        "a Parquet file" => "set `format = \"parquet\"`",
        "UTF-16 text" => "convert it to UTF-8, e.g. with iconv",
        "a zip archive" | "a tar archive" => "unpack it, and name its files in `files`",
        "compressed twice" => "decompress it once",
        _ => "decompress it; gzip and zstd are read as they are",
    };
    Fault::input(format!("{}: {found}", path.display())).remedy(remedy)
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

/// The members of a gzip file, one after the other. Zeros may follow, which fill a block of a tape or a device.
struct Gzip<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(member) = &mut self.0 {
            // After an error it is asked again.
            let bytes = member.read(buffer)?;
            if bytes > 0 || buffer.is_empty() {
                return Ok(bytes);
            }
            let goes_on = skip_zeros(member.get_mut())?;
            let rest = self.0.take().map(GzDecoder::into_inner);
            self.0 = rest.filter(|_| goes_on).map(GzDecoder::new);
        }
        Ok(0)
    }
}

/// Whether anything follows.
fn skip_zeros(stream: &mut impl BufRead) -> std::io::Result<bool> {
    loop {
        let buffer = stream.fill_buf()?;
        let (length, zeros) = (buffer.len(), buffer.iter().take_while(|&&byte| byte == 0).count());
        stream.consume(zeros);
        if zeros < length || length == 0 {
            return Ok(length > 0);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> anyhow::Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        fs_err::write(file.path(), bytes)?;
        let mut text = String::new();
        open(file.path(), &Source::default())?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::default());
        encoder.read_to_end(&mut compressed).expect("into memory");
        compressed
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).expect("into memory")
    }

    #[test]
    fn files_that_would_be_read_as_garbage_are_refused() {
        let tar = [&[b'a'; TAR_MARK][..], b"ustar\x0000"].concat();
        let files: [(&[u8], &str); 7] = [
            (b"\xfd7zXZ\0\0\x04", "compressed with xz; decompress it"),
            (b"BZh91AY&SY", "compressed with bzip2"),
            (b"\x04\"M\x18d@", "compressed with lz4"),
            (b"PK\x03\x04\x14", "a zip archive; unpack it"),
            (b"PAR1\x15", "a Parquet file; set `format"),
            (b"\xff\xfea\0", "UTF-16 text; convert it"),
            (&tar, "a tar archive; unpack it, and name its files"),
        ];
        for (bytes, words) in files {
            for bytes in [bytes.to_vec(), gzip(bytes), zstd(bytes)] {
                let error = read(&bytes).unwrap_err();
                assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
                assert!(error.to_string().contains(words), "{error}");
            }
        }
        let twice = read(&gzip(&zstd(b"text"))).unwrap_err().to_string();
        assert!(twice.contains("compressed twice; decompress it once"), "{twice}");
        assert!(read(b"BZh is how a text may begin").is_ok());
        assert!(read(b"PAR1 is how a text may begin").is_ok());
        let ustar = "a".repeat(TAR_MARK) + "ustar is part of words";
        assert!(read(ustar.as_bytes()).is_ok_and(|text| text == ustar));
    }

    #[test]
    fn gzip_may_have_members_and_end_with_zeros() -> anyhow::Result<()> {
        let zeros = vec![0; 2 * BUFFER_BYTES];
        let two = [gzip(b"te"), gzip(b"xt")].concat();
        assert_eq!(read(&two)?, "text");
        assert_eq!(read(&[&two[..], &zeros].concat())?, "text");
        assert_eq!(read(&gzip(b""))?, "");
        for broken in [&two[..two.len() - 3], &[&two[..], b"garbage"].concat()] {
            assert!(read(broken).is_err());
        }
        Ok(())
    }

    #[test]
    fn zstd_may_begin_with_a_frame_that_is_skipped() -> anyhow::Result<()> {
        for first in [0x50, 0x5f] {
            let skipped = [first, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7];
            assert_eq!(read(&[&skipped[..], &zstd(b"text")].concat())?, "text");
        }
        Ok(())
    }

    #[test]
    fn zstd_may_reach_back_far() -> anyhow::Result<()> {
        // A frame that asks for a window of 2^28 bytes and holds one block, which is last and not compressed.
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 4 << 3 | 1, 0, 0][..], b"text"].concat();
        assert_eq!(read(&frame)?, "text");
        Ok(())
    }
}
