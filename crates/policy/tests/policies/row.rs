//! Rows to select from.

use entromask_policy::corruption::Vocabulary;
use entromask_policy::{Choice, Config, Row, Scores, Selector};
use proptest::prelude::*;

/// A row of its own: scores are there exactly where words are.
#[derive(Clone, Debug)]
pub struct TestRow {
    pub number: u64,
    pub input_ids: Vec<u32>,
    pub word: Vec<Option<u16>>,
    pub scores: Vec<Option<f32>>,
    /// For each token id whether it is excluded.
    pub excluded: Vec<bool>,
}

impl TestRow {
    /// A special token, words of the given numbers of pieces, a special token. All ids and scores differ.
    pub fn of_words(pieces: &[usize]) -> Self {
        let words = pieces.iter().zip(0u16..).flat_map(|(&pieces, word)| vec![Some(word); pieces]);
        let word: Vec<_> = [None].into_iter().chain(words).chain([None]).collect();
        let score = |i: usize| ((i * 37) % 101) as f32 / 10.0;
        Self {
            number: 0,
            input_ids: (0..word.len() as u32).map(|i| 200 + i).collect(),
            scores: word.iter().enumerate().map(|(i, word)| word.map(|_| score(i))).collect(),
            word,
            excluded: Vec::new(),
        }
    }

    pub fn as_row(&self) -> Row<'_> {
        let (input_ids, word) = (&self.input_ids, &self.word);
        Row { number: self.number, input_ids, word, scores: Scores::Column(&self.scores) }
    }

    pub fn select(&self, config: &Config, epoch: u16) -> Choice {
        self.try_select(config, epoch).expect("shortfall is not `fail`")
    }

    pub fn try_select(&self, config: &Config, epoch: u16) -> anyhow::Result<Choice> {
        select(config, &[self.as_row()], &self.excluded, epoch)
    }

    pub fn positions(&self, config: &Config, epoch: u16) -> Vec<u16> {
        self.select(config, epoch).rows.remove(0).0
    }

    pub fn maskable(&self) -> usize {
        self.word.iter().flatten().count()
    }

    /// Position and score of each maskable token.
    pub fn scored(&self) -> Vec<(u16, f32)> {
        self.scores.iter().enumerate().filter_map(|(i, score)| Some((i as u16, (*score)?))).collect()
    }
}

pub fn select(config: &Config, rows: &[Row], excluded: &[bool], epoch: u16) -> anyhow::Result<Choice> {
    let vocabulary = Vocabulary { size: 1000, mask: 103, special: vec![0, 100, 101, 102, 103] };
    Selector { config, vocabulary: &vocabulary, excluded }.select(rows, epoch)
}

pub fn config(json: &str) -> Config {
    let config: Config = serde_json::from_str(json).expect(json);
    config.validate().expect(json);
    config
}

/// Every policy as JSON, with parameters.
pub fn policies() -> impl Strategy<Value = String> {
    let temperature = || 0.01f64..100.0;
    prop_oneof![
        Just(r#"{"name": "random"}"#.to_string()),
        Just(r#"{"name": "high"}"#.to_string()),
        Just(r#"{"name": "low"}"#.to_string()),
        Just(r#"{"name": "reducible"}"#.to_string()),
        temperature().prop_map(|t| format!(r#"{{"name": "reducible", "temperature": {t}}}"#)),
        temperature().prop_map(|t| format!(r#"{{"name": "sample", "temperature": {t}}}"#)),
        (0.0f64..0.05, 0.95f64..=1.0)
            .prop_map(|(lo, hi)| format!(r#"{{"name": "band", "lo": {lo}, "hi": {hi}}}"#)),
        (0.0f64..=1.0, temperature())
            .prop_map(|(share, t)| format!(r#"{{"name": "mixed", "share": {share}, "temperature": {t}}}"#)),
        (0.0f64..3.0).prop_map(|smoothing| format!(r#"{{"name": "frequency", "smoothing": {smoothing}}}"#)),
        (0.05f64..=1.0, 1u16..12)
            .prop_map(|(p, longest)| format!(r#"{{"name": "span", "p": {p}, "longest": {longest}}}"#)),
    ]
}

/// Words of one to four pieces from a small vocabulary, special tokens anywhere; some ids excluded on request.
pub fn rows() -> impl Strategy<Value = TestRow> {
    let piece = || (200u32..230, 0.0f32..10.3);
    let word = prop::option::weighted(0.9, prop::collection::vec(piece(), 1..5));
    (prop::collection::vec(word, 1..60), 0u64..1000).prop_map(|(words, number)| row_of(&words, number))
}

fn row_of(words: &[Option<Vec<(u32, f32)>>], number: u64) -> TestRow {
    let (input_ids, word, scores, excluded) = Default::default();
    let mut row = TestRow { number, input_ids, word, scores, excluded };
    for (word, index) in words.iter().zip(0u16..) {
        match word {
            None => row.push(102, None, None),
            Some(pieces) => pieces.iter().for_each(|&(id, score)| row.push(id, Some(index), Some(score))),
        }
    }
    row
}

impl TestRow {
    fn push(&mut self, id: u32, word: Option<u16>, score: Option<f32>) {
        self.input_ids.push(id);
        self.word.push(word);
        self.scores.push(score);
    }
}
