//! Carrying values from a teacher's tokens to the corpus's tokens by the bytes that they share.

use std::ops::Range;

use entromask_tables::{Entropies, Ragged, Tokens};
use rayon::prelude::*;

use crate::config::{Carry, Measure};
use crate::retokenize::Retokenized;

/// The scores of `student`'s tokens, from those of the teacher's tokens of the same text.
///
/// A token is null where it is special, where it shares no byte with a token of the teacher, or where those were not
/// scored. What the teacher says about bytes that no token of the corpus covers, a line feed for instance, is lost, and
/// so is what it says about tokens without bytes of their own, such as a space that its spans leave out.
pub(crate) fn carry(student: &Tokens, teacher: &Retokenized, scores: &Entropies, rule: Carry) -> Entropies {
    let measures = scores.measures.iter().map(|(name, from)| (from, rule_of(name, rule)));
    let columns = [(&scores.entropy, rule), (&scores.surprisal, rule)];
    let columns: Vec<(&Column, Carry)> = columns.into_iter().chain(measures).collect();
    // Links take ten times the memory of the values: those of a row go before the next row comes.
    let rows: Vec<Vec<Vec<Option<f32>>>> = (0..student.rows())
        .into_par_iter()
        .map(|row| {
            let links = links(&spans_of(student, row), &teacher_spans(teacher, row));
            let start = first_token(teacher, row);
            let values = |&(from, rule): &(&Column, Carry)| {
                links.iter().map(|links| links.value(&from.values[start..], rule)).collect()
            };
            columns.iter().map(values).collect()
        })
        .collect();
    let carried = |index: usize| Ragged::from_rows(rows.iter().map(|row| row[index].iter().copied()));
    Entropies {
        row: student.row.clone(),
        entropy: carried(0),
        surprisal: carried(1),
        measures: scores.measures.keys().cloned().zip((2..).map(carried)).collect(),
    }
}

type Column = Ragged<Option<f32>>;

/// Ratios do not add up.
fn rule_of(measure: &str, rule: Carry) -> Carry {
    let information = [Measure::MinEntropy, Measure::Renyi2, Measure::Margin, Measure::Normalized];
    let adds_up = information.iter().any(|known| known.name() == measure && known.adds_up());
    if adds_up { rule } else { Carry::Mean }
}

/// Spans of a row's tokens, empty where nothing is to be carried to.
fn spans_of(tokens: &Tokens, row: usize) -> Vec<Range<usize>> {
    let (word, begin, end) = (tokens.word.row(row), tokens.begin.row(row), tokens.end.row(row));
    let span = |s: usize| if word[s].is_some() { begin[s] as usize..end[s] as usize } else { 0..0 };
    (0..word.len()).map(span).collect()
}

/// Spans of all tokens in the windows of a row, one window after the other.
fn teacher_spans(teacher: &Retokenized, row: usize) -> Vec<Range<usize>> {
    windows(teacher, row).flat_map(|window| spans_of(&teacher.tokens, window)).collect()
}

fn first_token(teacher: &Retokenized, row: usize) -> usize {
    teacher.tokens.input_ids.offsets[windows(teacher, row).start] as usize
}

fn windows(teacher: &Retokenized, row: usize) -> Range<usize> {
    teacher.row_of.partition_point(|&of| of < row)..teacher.row_of.partition_point(|&of| of <= row)
}

/// The tokens of the teacher that one token of the corpus shares bytes with.
#[derive(Clone, Debug, Default, PartialEq)]
struct Links(Vec<Link>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Link {
    /// Place among the teacher's tokens of the row.
    from: usize,
    /// Bytes in common; a byte that several tokens of the corpus cover is divided among them.
    bytes: f64,
    /// These bytes as a share of those of the teacher's token that the corpus covers.
    share: f64,
}

impl Links {
    fn value(&self, values: &[Option<f32>], rule: Carry) -> Option<f32> {
        let scored = self.0.iter().filter_map(|link| Some((link, f64::from(values[link.from]?))));
        let weight = |link: &Link| match rule {
            Carry::Sum => link.share,
            Carry::Mean => link.bytes,
        };
        let (sum, bytes) = scored
            .fold((0.0, 0.0), |(sum, bytes), (link, value)| (sum + weight(link) * value, bytes + link.bytes));
        let scale = if rule == Carry::Mean { bytes } else { 1.0 };
        (bytes > 0.0).then(|| (sum / scale) as f32)
    }
}

/// For each token of the corpus what it shares with the teacher's.
fn links(student: &[Range<usize>], teacher: &[Range<usize>]) -> Vec<Links> {
    let owners = Owners::new(student);
    let mut links = vec![Links::default(); student.len()];
    for (from, span) in teacher.iter().enumerate() {
        let (mut shared, mut covered) = (Vec::<(usize, f64)>::new(), 0.0);
        for owners in span.clone().map(|byte| owners.of(byte)).filter(|owners| !owners.is_empty()) {
            covered += 1.0;
            for &owner in owners {
                add(&mut shared, owner as usize, 1.0 / owners.len() as f64);
            }
        }
        for (owner, bytes) in shared {
            links[owner].0.push(Link { from, bytes, share: bytes / covered });
        }
    }
    links
}

fn add(shared: &mut Vec<(usize, f64)>, owner: usize, bytes: f64) {
    match shared.iter_mut().rev().find(|(known, _)| *known == owner) {
        Some((_, sum)) => *sum += bytes,
        None => shared.push((owner, bytes)),
    }
}

/// Which tokens cover each byte.
struct Owners {
    offsets: Vec<usize>,
    tokens: Vec<u32>,
}

impl Owners {
    fn new(spans: &[Range<usize>]) -> Self {
        let bytes = spans.iter().map(|span| span.end).max().unwrap_or(0);
        let mut offsets = vec![0; bytes + 1];
        spans.iter().flat_map(Clone::clone).for_each(|byte| offsets[byte + 1] += 1);
        (0..bytes).for_each(|byte| offsets[byte + 1] += offsets[byte]);
        let mut next = offsets.clone();
        let mut tokens = vec![0; offsets[bytes]];
        for (token, span) in spans.iter().enumerate() {
            for byte in span.clone() {
                tokens[next[byte]] = token as u32;
                next[byte] += 1;
            }
        }
        Self { offsets, tokens }
    }

    fn of(&self, byte: usize) -> &[u32] {
        self.offsets.get(byte + 1).map_or(&[], |&end| &self.tokens[self.offsets[byte]..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn carried(
        student: &[Range<usize>],
        teacher: &[Range<usize>],
        values: &[f32],
        rule: Carry,
    ) -> Vec<Option<f32>> {
        let values: Vec<_> = values.iter().copied().map(Some).collect();
        links(student, teacher).iter().map(|links| links.value(&values, rule)).collect()
    }

    #[test]
    fn a_word_of_other_pieces_keeps_its_sum() {
        // "unaffable": un|aff|able against una|ffable.
        let (student, teacher) = ([0..2, 2..5, 5..9], [0..3, 3..9]);
        let sums = carried(&student, &teacher, &[3.0, 6.0], Carry::Sum);
        assert_eq!(sums, [Some(2.0), Some(3.0), Some(4.0)]);
        let means = carried(&student, &teacher, &[3.0, 6.0], Carry::Mean);
        assert_eq!(means, [Some(3.0), Some(5.0), Some(6.0)]);
    }

    #[test]
    fn bytes_outside_of_the_corpus_take_nothing_away() {
        // The teacher's span has the space before the word.
        assert_eq!(carried(&[0..2, 3..6], &[0..2, 2..6], &[1.0, 8.0], Carry::Sum), [Some(1.0), Some(8.0)]);
    }

    #[test]
    fn pieces_of_one_character_divide_it() {
        let (student, teacher) = ([0..4, 0..4, 4..5], [0..4, 4..5]);
        assert_eq!(carried(&student, &teacher, &[3.0, 1.0], Carry::Sum), [Some(1.5), Some(1.5), Some(1.0)]);
        assert_eq!(carried(&teacher, &student, &[3.0, 2.0, 1.0], Carry::Sum), [Some(5.0), Some(1.0)]);
    }

    #[test]
    fn without_a_teachers_token_there_is_no_value() {
        let (student, teacher) = ([0..2, 2..4, 0..0], [2..5, 7..9]);
        assert_eq!(carried(&student, &teacher, &[1.0, 5.0], Carry::Sum), [None, Some(1.0), None]);
        assert_eq!(links(&student, &student)[0].value(&[None], Carry::Sum), None, "not scored");
    }

    #[derive(serde::Deserialize)]
    struct Case {
        teacher: Vec<(usize, usize)>,
        values: Vec<f32>,
        student: Vec<(usize, usize)>,
        sum: Vec<Option<f32>>,
        mean: Vec<Option<f32>>,
    }

    /// Lines of many scripts; `NumPy` computed the values byte by byte, see `tests/parity/export_carry.py`.
    #[test]
    fn robertas_values_reach_berts_tokens() {
        let cases = include_str!("../tests/fixtures/carry.jsonl").lines();
        let mut tokens = 0;
        for case in cases.map(|line| serde_json::from_str::<Case>(line).expect("a case")) {
            let ranges = |spans: &[(usize, usize)]| spans.iter().map(|&(a, b)| a..b).collect::<Vec<_>>();
            let (student, teacher) = (ranges(&case.student), ranges(&case.teacher));
            for (rule, expected) in [(Carry::Sum, &case.sum), (Carry::Mean, &case.mean)] {
                let found = carried(&student, &teacher, &case.values, rule);
                for (found, expected) in found.iter().zip(expected) {
                    let off = found.zip(*expected).map(|(found, expected)| (found - expected).abs());
                    assert!(found.is_some() == expected.is_some(), "{found:?} {expected:?}");
                    assert!(off.is_none_or(|off| off < 2e-4), "{found:?} {expected:?}");
                }
                tokens += found.len();
            }
        }
        assert!(tokens > 3000, "{tokens}");
    }

    /// Spans that begin where the one before ends, or after a gap.
    fn spans() -> impl Strategy<Value = Vec<Range<usize>>> {
        prop::collection::vec((0usize..3, 0usize..6), 1..40).prop_map(|steps| {
            let mut at = 0;
            let span = |(gap, length): (usize, usize)| {
                let begin = at + gap;
                at = begin + length;
                begin..at
            };
            steps.into_iter().map(span).collect()
        })
    }

    fn touches(span: &Range<usize>, others: &[Range<usize>]) -> bool {
        others.iter().any(|other| span.start.max(other.start) < span.end.min(other.end))
    }

    proptest! {
        #[test]
        fn information_is_conserved(student in spans(), teacher in spans(), seed in 0f32..1.0) {
            let values: Vec<f32> = (0..teacher.len()).map(|i| (i as f32 * 0.37 + seed) % 9.0).collect();
            let carried = carried(&student, &teacher, &values, Carry::Sum);
            let found: f32 = carried.iter().flatten().sum();
            let touching = teacher.iter().zip(&values).filter(|(span, _)| touches(span, &student));
            let expected: f32 = touching.map(|(_, value)| value).sum();
            prop_assert!((found - expected).abs() < 1e-3, "{found} is not {expected}");
            for (span, value) in student.iter().zip(&carried) {
                prop_assert_eq!(value.is_some(), touches(span, &teacher));
            }
        }

        #[test]
        fn means_stay_among_the_values(student in spans(), teacher in spans()) {
            let values: Vec<f32> = (0..teacher.len()).map(|i| (i * 7 % 11) as f32).collect();
            for (span, mean) in student.iter().zip(carried(&student, &teacher, &values, Carry::Mean)) {
                let touching = teacher.iter().zip(&values).filter(|(other, _)| touches(span, &[(*other).clone()]));
                let values: Vec<f32> = touching.map(|(_, &value)| value).collect();
                let low = values.iter().copied().fold(f32::INFINITY, f32::min);
                let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                prop_assert!(mean.is_none_or(|mean| mean >= low - 1e-4 && mean <= high + 1e-4));
            }
        }

        #[test]
        fn the_same_tokens_keep_their_values(spans in spans()) {
            let values: Vec<f32> = (0..spans.len()).map(|i| i as f32 + 0.5).collect();
            for rule in [Carry::Sum, Carry::Mean] {
                for ((span, value), found) in spans.iter().zip(&values).zip(carried(&spans, &spans, &values, rule)) {
                    prop_assert_eq!(found, (!span.is_empty()).then_some(*value));
                }
            }
        }
    }
}
