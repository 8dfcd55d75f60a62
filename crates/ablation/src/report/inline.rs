//! What paragraphs of a report are made of: plain text, and code between backticks as in Markdown. Nothing else is markup in them.

/// A part of a paragraph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// As it is, whatever signs are in it.
    Plain(&'a str),
    /// Between backticks.
    Code(&'a str),
}

/// Text as code, whatever backticks are in it: those around it are one more than there are in a row.
pub(super) fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let is_edge = |c: Option<char>| c.is_some_and(|c| c == '`' || c == ' ');
    // A blank on both sides is not part of the code.
    let blank = if is_edge(text.chars().next()) || is_edge(text.chars().last()) { " " } else { "" };
    format!("{fence}{blank}{text}{blank}{fence}")
}

/// The parts of a paragraph. Backticks that nothing closes are plain.
pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut parts, mut plain, mut at) = (vec![], 0, 0);
    while let Some(open) = text[at..].find('`').map(|place| at + place) {
        let fence = ticks(&text[open..]);
        at = open + fence;
        if let Some(close) = closing(text, at, fence) {
            parts.extend([Part::Plain(&text[plain..open]), Part::Code(bare(&text[at..close]))]);
            at = close + fence;
            plain = at;
        }
    }
    parts.push(Part::Plain(&text[plain..]));
    parts.retain(|part| *part != Part::Plain(""));
    parts
}

/// How many backticks it begins with.
fn ticks(text: &str) -> usize {
    text.len() - text.trim_start_matches('`').len()
}

/// Where as many backticks stand as the code that begins at `from` was opened with.
fn closing(text: &str, from: usize, fence: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let place = at + text[at..].find('`')?;
        let found = ticks(&text[place..]);
        if found == fence {
            return Some(place);
        }
        at = place + found;
    }
}

/// Without the blanks that stand for none.
fn bare(code: &str) -> &str {
    let inner = code.strip_prefix(' ').and_then(|code| code.strip_suffix(' '));
    inner.filter(|inner| !inner.trim().is_empty()).unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_again_whatever_is_in_it() {
        for text in ["a", "a b", "a`b", "``", "`a", " a ", "a``b`c", " `"] {
            assert_eq!(parts(&code(text)), [Part::Code(text)], "{}", code(text));
        }
    }

    #[test]
    fn what_nothing_closes_is_plain() {
        use Part::{Code, Plain};
        assert_eq!(parts("a `b` c"), [Plain("a "), Code("b"), Plain(" c")]);
        assert_eq!(parts("it`s"), [Plain("it`s")]);
        assert_eq!(parts("``a` `b`"), [Plain("``a"), Code(" "), Plain("b`")]);
        assert_eq!(parts(""), []);
    }
}
