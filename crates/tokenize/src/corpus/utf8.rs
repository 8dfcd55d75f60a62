//! Bytes as text, by the configured policy.

use entromask_fault::Fault;

use super::Source;
use crate::InvalidUtf8;

/// The policy for bytes that are not UTF-8.
#[derive(Clone, Copy, Debug)]
pub(super) struct Utf8 {
    policy: InvalidUtf8,
}

impl Utf8 {
    pub(super) fn new(policy: InvalidUtf8) -> Self {
        Self { policy }
    }

    /// `bytes` as text. `place` tells where in the corpus an invalid byte is from the line feeds before it.
    pub(super) fn decode(
        self,
        bytes: Vec<u8>,
        source: &Source,
        place: impl FnOnce(u64) -> String,
    ) -> anyhow::Result<String> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) if self.policy == InvalidUtf8::Replace => Ok(replace(error.as_bytes(), source)),
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let (place, byte) = (place(line_feeds(valid)), error.as_bytes()[valid.len()]);
                Err(Fault::input(format!("{place}: invalid UTF-8 (byte {byte:#04x})"))
                    .remedy("convert the file to UTF-8, or set `invalid_utf8 = \"replace\"`")
                    .into())
            }
        }
    }
}

/// The number of line feeds in `bytes`.
pub(super) fn line_feeds(bytes: &[u8]) -> u64 {
    bytes.split(|&byte| byte == b'\n').count() as u64 - 1
}

fn replace(bytes: &[u8], source: &Source) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            source.count_replaced(1);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn invalid_sequences_are_replaced_and_counted() -> anyhow::Result<()> {
        let source = Source::default();
        let decode = |bytes: &[u8], policy| {
            Utf8::new(policy).decode(bytes.to_vec(), &source, |feeds| format!("f:{}", 7 + feeds))
        };
        assert_eq!(decode(b"a\xff\xfeb\xe4\xb8", InvalidUtf8::Replace)?, "a\u{fffd}\u{fffd}b\u{fffd}");
        assert_eq!(source.replaced.load(Ordering::Relaxed), 3);
        let error = decode(b"a\n\nb\xffc", InvalidUtf8::Fail).unwrap_err().to_string();
        assert!(error.contains("f:9") && error.contains("0xff"), "{error}");
        Ok(())
    }
}
