//! Colour in the terminal, where there is one.

use std::io::IsTerminal;

use anstyle::{Ansi256Color, AnsiColor, Color, RgbColor, Style};

use crate::nats::Range;
use crate::passage::{Passage, Piece};

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// If stdout is a terminal and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to paint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Not at all: marks stand for colours.
    Plain,
    /// With the 256 colours of the palette.
    Palette,
    /// With 24-bit colours.
    True,
}

/// From certain to uncertain: pale yellow, orange, red, purple; black reads well on each.
const RAMP: [(RgbColor, Ansi256Color); 7] = [
    (RgbColor(255, 249, 196), Ansi256Color(230)),
    (RgbColor(255, 233, 148), Ansi256Color(229)),
    (RgbColor(255, 211, 105), Ansi256Color(222)),
    (RgbColor(255, 183, 77), Ansi256Color(215)),
    (RgbColor(255, 152, 80), Ansi256Color(209)),
    (RgbColor(250, 125, 100), Ansi256Color(203)),
    (RgbColor(226, 118, 178), Ansi256Color(175)),
];

/// Digits of the plain rendering.
const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];

impl Paint {
    /// What the user and the terminal allow.
    pub fn choose(when: When) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let wanted = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => std::io::stdout().is_terminal() && !set("NO_COLOR"),
        };
        let true_color =
            std::env::var("COLORTERM").is_ok_and(|value| value == "truecolor" || value == "24bit");
        match (wanted, true_color) {
            (false, _) => Self::Plain,
            (true, true) => Self::True,
            (true, false) => Self::Palette,
        }
    }

    /// A heading.
    pub fn heading(self, text: &str) -> String {
        self.styled(Style::new().bold(), text)
    }

    /// Something of less weight.
    pub fn faint(self, text: &str) -> String {
        self.styled(Style::new().dimmed(), text)
    }

    /// A passage, each token coloured by where its entropy lies in `range`; masked tokens are underlined, or in brackets.
    /// Lines of more than `width` characters are broken where there is white space.
    pub fn passage(self, passage: &Passage, range: Range, width: Option<usize>) -> String {
        let (mut out, mut column) = (String::new(), 0);
        let pieces: Vec<_> = passage.pieces.iter().map(harmless).collect();
        for word in pieces.chunk_by(|_, next| !next.begins_word()) {
            let (gap, painted) = (word[0].gap.as_str(), self.word(word, range));
            // Escape sequences take no room.
            let seen = if self == Self::Plain { painted.clone() } else { text_of(word) };
            let after = column_after(column_after(column, gap), &seen);
            let is_wide = column > 0 && width.is_some_and(|width| after > width);
            out.push_str(if is_wide { "\n" } else { gap });
            out.push_str(&painted);
            column = if is_wide { column_after(0, &seen) } else { after };
        }
        out
    }

    /// What colours and marks mean.
    pub fn legend(self, range: Range, scored: bool, masked: bool) -> String {
        let mut parts = Vec::new();
        if scored && self == Self::Plain {
            parts.push("raised: entropy in whole nats".to_string());
        } else if scored {
            let decimals = range.decimals();
            let box_of = |level: usize| {
                let nats = range.middle(level, RAMP.len());
                self.token(&format!(" {nats:.decimals$} "), Some(nats), false, range)
            };
            parts.push(format!("entropy in nats {}", (0..RAMP.len()).map(box_of).collect::<String>()));
        }
        if masked {
            parts.push(if self == Self::Plain {
                "[masked]".into()
            } else {
                self.token("masked", None, true, range)
            });
        }
        parts.join("   ")
    }

    /// The tokens of a word, and what lies between them.
    fn word(self, word: &[Piece], range: Range) -> String {
        let mut out = String::new();
        for (index, piece) in word.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { &piece.gap });
            let (entropy, masked) = (piece.entropy.map(f64::from), piece.masked.is_some());
            out.push_str(&self.token(&piece.text, entropy, masked, range));
        }
        out
    }

    fn token(self, text: &str, entropy: Option<f64>, masked: bool, range: Range) -> String {
        if self == Self::Plain {
            let raised = entropy.map_or_else(String::new, raised);
            return if masked { format!("[{text}]{raised}") } else { format!("{text}{raised}") };
        }
        let mut style = Style::new();
        if let Some(nats) = entropy {
            let level = self.background(range.level(nats, RAMP.len()));
            style = style.bg_color(Some(level)).fg_color(Some(AnsiColor::Black.into()));
        }
        if masked {
            style = style.underline().bold();
        }
        self.styled(style, text)
    }

    fn background(self, level: usize) -> Color {
        let (rgb, palette) = RAMP[level];
        if self == Self::True { rgb.into() } else { palette.into() }
    }

    fn styled(self, style: Style, text: &str) -> String {
        if self == Self::Plain || style == Style::new() {
            return text.into();
        }
        // Line by line: a background that crosses the end of a line colours the rest of the screen.
        let lines: Vec<_> = text.split('\n').map(|line| format!("{style}{line}{style:#}")).collect();
        lines.join("\n")
    }
}

/// The text with its control characters, those of layout excepted, as escapes: a corpus must not steer the terminal.
pub fn visible(text: &str) -> String {
    let is_harmless = |char: char| !char.is_control() || char == '\n' || char == '\t';
    let shown = |char: char| {
        if is_harmless(char) { String::from(char) } else { char.escape_unicode().to_string() }
    };
    text.chars().map(shown).collect()
}

fn harmless(piece: &Piece) -> Piece {
    Piece { gap: visible(&piece.gap), text: visible(&piece.text), ..piece.clone() }
}

fn text_of(word: &[Piece]) -> String {
    let inner = word.iter().skip(1).flat_map(|piece| [&piece.gap, &piece.text]);
    word.iter().take(1).map(|piece| &piece.text).chain(inner).map(String::as_str).collect()
}

/// Where a line is after `text` that begins at `column`.
fn column_after(column: usize, text: &str) -> usize {
    match text.rsplit_once('\n') {
        Some((_, last)) => last.chars().count(),
        None => column + text.chars().count(),
    }
}

fn raised(nats: f64) -> String {
    let whole = nats.round().max(0.0) as u64;
    whole.to_string().chars().filter_map(|digit| Some(RAISED[digit.to_digit(10)? as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range = Range { low: 0.0, high: 10.0 };

    fn passage() -> Passage {
        let piece = |gap: &str, text: &str, entropy, masked: Option<&str>| Piece {
            gap: gap.into(),
            text: text.into(),
            entropy,
            masked: masked.map(Into::into),
            ..Piece::default()
        };
        let pieces = vec![
            piece("", "the", Some(0.2), None),
            piece(" ", "king", Some(11.6), Some("[MASK]")),
            piece("", ".", None, None),
        ];
        Passage { row: 0, pieces }
    }

    #[test]
    fn without_colour_marks_say_the_same() {
        assert_eq!(Paint::Plain.passage(&passage(), RANGE, None), "the⁰ [king]¹².");
        assert_eq!(Paint::Plain.passage(&passage(), RANGE, Some(9)), "the⁰\n[king]¹².");
        assert!(!Paint::Plain.legend(RANGE, true, true).contains('\x1b'));
    }

    #[test]
    fn control_characters_of_the_text_are_shown_and_not_sent() {
        let piece = Piece { gap: "\x07".into(), text: "a\x1b[31mred\u{9b}\n".into(), ..Piece::default() };
        let text = Paint::Plain.passage(&Passage { row: 0, pieces: vec![piece] }, RANGE, None);
        assert_eq!(text, "\\u{7}a\\u{1b}[31mred\\u{9b}\n");
    }

    #[test]
    fn coloured_lines_are_broken_between_words_only() {
        let piece = |gap: &str, text: &str| Piece {
            gap: gap.into(),
            text: text.into(),
            entropy: Some(1.0),
            ..Piece::default()
        };
        let pieces =
            vec![piece("", "of"), piece("", "ten"), piece(" ", "a"), piece(" ", "word"), piece("", ".")];
        let text = Paint::Palette.passage(&Passage { row: 0, pieces }, RANGE, Some(7));
        let mut escaped = false;
        let seen = text.chars().filter(|&char| {
            let hidden = escaped || char == '\x1b';
            escaped = hidden && char != 'm';
            !hidden
        });
        assert_eq!(seen.collect::<String>(), "often a\nword.");
    }

    #[test]
    fn colours_follow_the_entropy_and_end_after_each_token() {
        let text = Paint::Palette.passage(&passage(), RANGE, None);
        let (low, high) = (text.find("48;5;230").expect("lowest"), text.find("48;5;175").expect("highest"));
        assert!(low < high);
        assert!(text.contains("\x1b[4m"), "masked tokens are underlined: {text:?}");
        assert!(text.ends_with('.'), "unscored tokens have no colour: {text:?}");
        assert!(Paint::True.passage(&passage(), RANGE, None).contains("48;2;255;249;196"));
    }
}
