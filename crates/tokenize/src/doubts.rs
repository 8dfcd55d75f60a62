//! What is likely not meant about a corpus that was made, each with its remedy.

use crate::report::counted;
use crate::{Config, Counts, Documents, Format};

/// How many times more or less text than was asked for may be held out without a word.
const FAR: f64 = 3.0;

/// With fewer documents, poorly filled rows cost little.
const FEW_DOCUMENTS: u64 = 100;

/// Rows that are filled less, on average, are poorly filled.
const POOR: f64 = 0.5;

/// With a larger share of unknown tokens a vocabulary is not that of the text.
const MANY_UNKNOWN: f64 = 0.01;

const OTHER_TOKENIZER: &str =
    "use one for the language of the text, or learn one with `entromask-tokenize vocabulary`";

/// All doubts.
pub(crate) fn doubts(config: &Config, counts: &Counts) -> impl Iterator<Item = String> {
    [held_out(config, counts), filling(config, counts), unknown(counts), lost(counts)].into_iter().flatten()
}

/// Whether about as much is held out as was asked for.
fn held_out(config: &Config, counts: &Counts) -> Option<String> {
    let (share, documents) = (config.valid_fraction, counts.docs + counts.valid_docs);
    if share <= 0.0 {
        return None;
    }
    if counts.valid_rows > 0 {
        return far_off(config, counts);
    }
    let remedy = match counts {
        Counts { valid_docs: 1.., .. } => "lower `min_row_tokens`",
        _ if documents > 1 => "raise `valid_fraction`",
        _ => more_documents(config),
    };
    let gave = counted(documents, "document");
    Some(format!("there are no validation rows: {gave} at valid_fraction = {share} gave none; {remedy}"))
}

/// The odds of a token to be held out, against those of what was asked for.
fn far_off(config: &Config, counts: &Counts) -> Option<String> {
    let share = config.valid_fraction;
    let asked = share / ((1.0 - share) * config.train_fraction);
    let odds = counts.valid_tokens as f64 / counts.tokens as f64;
    if (asked / FAR..=asked * FAR).contains(&odds) {
        return None;
    }
    let percent = 100.0 * counts.valid_tokens as f64 / (counts.valid_tokens + counts.tokens) as f64;
    let documents = counted(counts.docs + counts.valid_docs, "document");
    Some(format!(
        "{percent:.1} % of the tokens are held out, with valid_fraction = {share}: {} of {documents}; {}, or choose \
         another `valid_fraction`",
        counts.valid_docs,
        more_documents(config)
    ))
}

fn more_documents(config: &Config) -> &'static str {
    match (config.format(), config.documents) {
        (Format::Text, Documents::BlankLine) => "cut the text into more documents (a blank line ends one)",
        (Format::Text, Documents::File) => "cut the text into more files",
        _ => "cut the text into more documents",
    }
}

/// Whether rows have fewer tokens than they could because documents do not share them.
fn filling(config: &Config, counts: &Counts) -> Option<String> {
    let filled = counts.tokens as f64 / (counts.rows as f64 * config.seq_len as f64);
    let most = config.max_documents_per_row;
    (filled < POOR && counts.docs > FEW_DOCUMENTS && most > 0).then(|| {
        format!(
            "rows of up to {} tokens have {:.0} on average, as documents are short; raise `max_documents_per_row`, \
             which is {most} (0 is no limit), or lower `seq_len`",
            config.seq_len,
            counts.tokens as f64 / counts.rows as f64
        )
    })
}

/// Whether the vocabulary can express the text.
fn unknown(counts: &Counts) -> Option<String> {
    let (unknown, all) = (counts.unknown + counts.valid_unknown, counts.maskable + counts.valid_maskable);
    let share = unknown as f64 / all as f64;
    (share > MANY_UNKNOWN).then(|| {
        format!(
            "{:.1} % of the tokens are unknown to the tokenizer, and nothing is learned from them; {OTHER_TOKENIZER}",
            100.0 * share
        )
    })
}

/// Whether a vocabulary without an unknown token can express the text.
fn lost(counts: &Counts) -> Option<String> {
    let percent = counts.lost_letters_percent.filter(|percent| *percent > 100.0 * MANY_UNKNOWN)?;
    Some(format!(
        "{percent:.1} % of the letters are left out, since the tokenizer has no token for them; {OTHER_TOKENIZER}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpecialTokens;

    /// Counts of two splits: rows, tokens, documents.
    fn counts([rows, tokens, docs]: [u64; 3], [valid_rows, valid_tokens, valid_docs]: [u64; 3]) -> Counts {
        let special = SpecialTokens { mask: 4, ..SpecialTokens::default() };
        Counts {
            rows,
            tokens,
            maskable: tokens,
            unknown: 0,
            docs,
            valid_rows,
            valid_tokens,
            valid_maskable: valid_tokens,
            valid_unknown: 0,
            valid_docs,
            vocab_size: 5,
            special,
            lost_letters_percent: None,
            replaced_invalid_utf8: 0,
            documents_read: docs + valid_docs,
            long_documents: 0,
            skipped: crate::filter::Skipped::default(),
            dropped_rows: 0,
            dropped_tokens: 0,
        }
    }

    fn all(config: &Config, train: [u64; 3], valid: [u64; 3]) -> String {
        doubts(config, &counts(train, valid)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn too_little_or_too_much_that_is_held_out_is_doubted() {
        let with = |valid_fraction| Config { valid_fraction, ..Config::default() };
        let none = all(&with(0.005), [60, 7000, 6], [0; 3]);
        assert!(
            none.contains("6 documents at valid_fraction = 0.005 gave none; raise `valid_fraction`"),
            "{none}"
        );
        let one = all(&with(0.005), [60, 7000, 1], [0; 3]);
        assert!(one.contains("1 document at") && one.contains("a blank line ends one"), "{one}");
        let half = all(&with(0.05), [60, 7000, 1], [60, 7000, 1]);
        assert!(half.contains("50.0 % of the tokens") && half.contains(": 1 of 2 documents;"), "{half}");
        assert_eq!(all(&with(0.0), [60, 7000, 6], [0; 3]), "");
        assert_eq!(all(&with(0.05), [60, 7000, 90], [6, 700, 5]), "");
        // A tenth of the other documents: of what is read, a third is held out.
        let tenth = Config { train_fraction: 0.1, ..with(0.05) };
        assert_eq!(all(&tenth, [60, 7000, 90], [30, 3500, 45]), "");
    }

    #[test]
    fn letters_without_a_token_are_doubted() {
        let config = Config { valid_fraction: 0.0, ..Config::default() };
        let with =
            |lost_letters_percent| Counts { lost_letters_percent, ..counts([200, 25_000, 20], [0; 3]) };
        let said = |counts| doubts(&config, &counts).collect::<Vec<_>>();
        assert!(said(with(Some(0.9))).is_empty() && said(with(None)).is_empty());
        assert!(said(with(Some(12.0)))[0].contains("12.0 % of the letters are left out"));
    }

    #[test]
    fn short_documents_that_share_no_rows_are_doubted() {
        let with = |max_documents_per_row| Config {
            valid_fraction: 0.0,
            max_documents_per_row,
            ..Config::default()
        };
        let short = all(&with(1), [200, 200 * 30, 200], [0; 3]);
        assert!(short.contains("128 tokens have 30 on average"), "{short}");
        assert!(short.contains("raise `max_documents_per_row`, which is 1 (0 is no limit)"), "{short}");
        assert_eq!(all(&with(0), [200, 200 * 30, 200], [0; 3]), "");
        assert_eq!(all(&with(1), [200, 200 * 100, 150], [0; 3]), "");
        assert_eq!(all(&with(1), [20, 20 * 30, 20], [0; 3]), "");
    }
}
