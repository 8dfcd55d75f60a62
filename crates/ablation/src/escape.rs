//! Text as a part of HTML or SVG.

/// The text, which may stand between tags and within the quotes of an attribute.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
