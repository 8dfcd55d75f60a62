//! What online masks keep: budgets, special tokens, the same draw for the same row.

use entromask_encoder::EncoderConfig;

use super::*;

fn vocabulary() -> Vocabulary {
    Vocabulary { size: 50, mask: 4, special: vec![0, 1, 2, 3, 4] }
}

fn line(row: u64, words: usize) -> CorpusRow {
    let ids: Vec<u32> = (0..words as u32).map(|i| 5 + (row as u32 * 7 + i * 3) % 45).collect();
    let word = (0..words as u16).map(|i| Some(i / 2));
    CorpusRow {
        row,
        epoch: 1,
        ids: [2].into_iter().chain(ids).chain([3]).collect(),
        word: [None].into_iter().chain(word).chain([None]).collect(),
    }
}

fn open(folder: &Path, mode: OnlineMode, mask: &str) -> Result<Online> {
    let mask: MaskConfig = serde_json::from_str(mask)?;
    let config = OnlineConfig { mode, refresh: 1, mask, ..OnlineConfig::default() };
    Online::open(config, vocabulary(), folder, (None, None))
}

fn config() -> EncoderConfig {
    EncoderConfig {
        vocab_size: 50,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 24,
        max_position_embeddings: 24,
        initializer_range: 0.5,
        ..EncoderConfig::default()
    }
}

fn model() -> MaskedLm {
    MaskedLm::init(&config(), 1, &Device::flex())
}

fn batch() -> Vec<Example> {
    let lines = [line(0, 20), line(1, 3), line(2, 0), line(3, 13)];
    lines
        .map(|line| Example {
            input_ids: line.ids.clone(),
            line: Some(line),
            open: true,
            ..Example::default()
        })
        .into()
}

fn chosen(online: &mut Online, step: u64) -> Result<Vec<Example>> {
    let mut batch = batch();
    let now = Now { step, tokens: 100 * step };
    online.choose(&mut batch, (&model(), &config()), now, (2, &Device::flex()))?;
    Ok(batch)
}

#[test]
fn the_highest_of_the_candidates_are_masked_and_the_budget_is_that_of_the_row() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut online = open(folder.path(), OnlineMode::Step, r#"{"policy": {"name": "high"}, "rate": 0.2}"#)?;
    let batch = chosen(&mut online, 5)?;
    let counts: Vec<usize> = batch.iter().map(|row| row.positions.len()).collect();
    assert_eq!(counts, [4, 1, 0, 3], "round(0.2 · 20), at least 1, nothing to mask, round(0.2 · 13)");
    for example in &batch {
        let line = example.line.as_ref().expect("kept");
        for (&position, &target) in example.positions.iter().zip(&example.targets) {
            assert!(line.word[position as usize].is_some(), "never a special token");
            assert_eq!((target, example.input_ids[position as usize]), (line.ids[position as usize], 4));
        }
    }
    let lines: Vec<CorpusRow> = batch.iter().filter_map(|row| row.line.clone()).collect();
    let (columns, flops) = online.first_pass(&lines, (&model(), &config()), (4, &Device::flex()))?;
    assert!(flops > 0.0);
    let scored: Vec<f32> = columns[0].iter().flatten().copied().collect();
    assert_eq!(scored.len(), 10, "half of the tokens were candidates");
    let lowest = batch[0].positions.iter().filter_map(|&position| columns[0][position as usize]);
    let lowest = lowest.fold(f32::INFINITY, f32::min);
    assert_eq!(scored.iter().filter(|&&entropy| entropy >= lowest).count(), 4, "the four highest");
    Ok(())
}

#[test]
fn a_choice_depends_on_row_and_model_only_and_is_written_down() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mask = r#"{"policy": {"name": "sample", "temperature": 1.0}, "whole_word": "max"}"#;
    let mut online = open(folder.path(), OnlineMode::Step, mask)?;
    let first = chosen(&mut online, 0)?;
    assert_eq!(chosen(&mut online, 1)?, first);
    let text = std::fs::read_to_string(online.path())?;
    let rows: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(rows.len(), 8);
    for (row, example) in rows[..4].iter().zip(&first) {
        assert_eq!((row["step"].as_u64(), row["epoch"].as_u64()), (Some(1), Some(1)));
        assert_eq!(row["positions"], serde_json::json!(example.positions));
        assert!(row["entropy"].as_array().is_some_and(|all| all.iter().all(serde_json::Value::is_number)));
    }
    for words in first.iter().filter_map(|row| row.line.as_ref().map(|line| (row, &line.word))) {
        let masked = |i: usize| words.0.positions.contains(&(i as u32));
        let pairs = (1..words.1.len()).filter(|&i| words.1[i].is_some() && words.1[i] == words.1[i - 1]);
        assert!(pairs.into_iter().all(|i| masked(i) == masked(i - 1)), "whole words");
    }
    Ok(())
}

#[test]
fn running_averages_are_learnt_and_their_age_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut online =
        open(folder.path(), OnlineMode::Running, r#"{"policy": {"name": "high"}, "rate": 0.2}"#)?;
    let first = chosen(&mut online, 0)?;
    let masked: usize = first.iter().map(|row| row.positions.len()).sum();
    let falling: Vec<f32> = (0..masked).map(|i| 9.0 - i as f32).collect();
    let fresh = online.learn(&first, &falling, Now { step: 0, tokens: 0 });
    assert_eq!(fresh, Freshness::default(), "nothing was known");
    let again = chosen(&mut online, 1)?;
    let known = again.iter().flat_map(|row| {
        let line = row.line.as_ref().expect("kept").row;
        row.positions.iter().filter(|&&p| online.averages.get(line, p as usize).is_some()).collect::<Vec<_>>()
    });
    assert!(known.count() >= 2, "the highest are those above their row's mean");
    let fresh = online.learn(
        &first,
        &falling.iter().rev().copied().collect::<Vec<_>>(),
        Now { step: 1, tokens: 300 },
    );
    assert_eq!(fresh.staleness, Some(300.0));
    assert!(
        fresh.rank_drift.is_some_and(|drift| (drift - 2.0).abs() < 1e-9),
        "the order is reversed: {fresh:?}"
    );
    Ok(())
}

#[test]
fn what_the_spread_forbids_is_counted() -> Result<()> {
    for (shortfall, counted) in [("relax", (true, false)), ("accept", (false, true))] {
        let folder = tempfile::tempdir()?;
        let mask = format!(
            r#"{{"policy": {{"name": "high"}}, "rate": 0.5, "spread": {{"share": 0.1, "window": 10}}, "shortfall": "{shortfall}"}}"#
        );
        let mut online = open(folder.path(), OnlineMode::Running, &mask)?;
        let now = Now { step: 0, tokens: 0 };
        let Chosen { budget, .. } =
            online.choose(&mut batch(), (&model(), &config()), now, (2, &Device::flex()))?;
        assert_eq!((budget.relaxed > 0, budget.short > 0), counted, "{shortfall}: {budget:?}");
    }
    Ok(())
}
