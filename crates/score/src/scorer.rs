//! Scoring the rows of one part.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Tensor;
use entromask_encoder::{Buffers, EncoderConfig, Filling, Wanted};
use entromask_kernels::Pending;
use entromask_tables::{Entropies, Tokens};
use rayon::prelude::*;

use crate::batches::{CPU_BATCH_TOKENS, GPU_BATCH_TOKENS, batches, chunk_positions};
use crate::config::{Conditioning, Config};
use crate::draft::Draft;
use crate::finite::{self, first_bad, sums};
use crate::pass::{Pass, chunks};
use crate::predictor::{Fused, OnDevice, Predictor};
use crate::queue::Queue;
use crate::scores::{Scored, Scores, needs_details};
use crate::watch::Watch;

/// A model ready to score.
pub(crate) struct Scorer<'a> {
    config: &'a Config,
    shape: &'a EncoderConfig,
    model: &'a Predictor,
    mask_id: u32,
    /// The model's folder.
    dir: &'a Path,
}

impl<'a> Scorer<'a> {
    pub(crate) fn new(
        config: &'a Config,
        (model, shape): (&'a Predictor, &'a EncoderConfig),
        mask_id: u32,
        dir: &'a Path,
    ) -> Self {
        Self { config, shape, model, mask_id, dir }
    }

    pub(crate) fn config(&self) -> &Config {
        self.config
    }

    /// The scores of what `passes` mask of a part, of which `draft` may have some; `watch` is told the tokens of each batch of
    /// them, and may end the work.
    ///
    /// # Errors
    /// An input fault that names the place if the model computes what is not finite.
    pub(crate) fn score(
        &self,
        part: &Tokens,
        passes: &[Pass],
        draft: &mut Draft<'_>,
        watch: &impl Watch,
    ) -> Result<Entropies> {
        let unscored = Scores::unscored(part, &self.config.measures, self.shape.vocab_size);
        let mut scores = unscored.resume(draft.found().and_then(|path| self.read(&path)));
        // Whole chunks, so that the others are cut as they would be without a draft: a device's last bits follow its batches.
        let (done, todo): (Vec<_>, Vec<_>) =
            chunks(passes, self.chunk_positions(passes)).partition(|chunk| scores.has(chunk));
        if !done.is_empty() {
            watch.resume_at(done.into_iter().map(tokens).sum());
        }
        for chunk in todo {
            match self.measure(part, chunk, watch) {
                Ok(measured) => scores.fill(chunk, &measured),
                Err(error) => {
                    draft.keep(|path, footer| scores.so_far().write(path, footer));
                    return Err(error);
                }
            }
            draft.grew(|path, footer| scores.so_far().write(path, footer));
        }
        Ok(scores.finish())
    }

    fn read(&self, path: &Path) -> Option<Entropies> {
        let measures: Vec<&str> = self.config.measures.iter().map(|measure| measure.name()).collect();
        Entropies::read_measures(path, &measures).ok()
    }

    fn measure(&self, part: &Tokens, chunk: &[Pass], watch: &impl Watch) -> Result<Vec<Scored>> {
        let (batches, count) = (self.batches(chunk), |batch: &[Pass]| watch.count(tokens(batch)));
        let measured = match self.model {
            Predictor::Cpu(model) => self.measure_fused(model, part, &batches, count),
            Predictor::Device(model) => self.measure_on_device(model, part, &batches, count),
        }?;
        self.check(part, chunk, measured.iter().map(Scored::is_finite))?;
        Ok(measured)
    }

    fn chunk_positions(&self, passes: &[Pass]) -> usize {
        match self.model {
            Predictor::Cpu(_) => {
                let longest = passes.iter().map(|pass| pass.positions.len()).max().unwrap_or(0);
                chunk_positions(longest, self.shape.embedding_size())
            }
            Predictor::Device(_) => 1 << 20,
        }
    }

    fn batches<'p>(&self, chunk: &'p [Pass]) -> Vec<&'p [Pass]> {
        let usual = match self.model {
            Predictor::Cpu(_) => CPU_BATCH_TOKENS,
            Predictor::Device(_) => GPU_BATCH_TOKENS,
        };
        batches(chunk, |pass| pass.length, self.config.run.batch_tokens.unwrap_or(usual), self.filling())
    }

    fn filling(&self) -> Filling {
        Filling::of(self.shape, matches!(self.model, Predictor::Cpu(_)))
    }

    /// Batches side by side on all cores, since each is computed on one.
    fn measure_fused(
        &self,
        fused: &Fused,
        part: &Tokens,
        batches: &[&[Pass]],
        count: impl Fn(&[Pass]) -> Result<()> + Sync,
    ) -> Result<Vec<Scored>> {
        let rows: Vec<_> = batches.iter().map(|batch| self.inputs(part, batch)).collect();
        let wanted: Vec<_> = rows.iter().zip(batches).map(|(rows, batch)| wanted(rows, batch)).collect();
        let projected = fused.model.project(&wanted.concat());
        let states = batches.par_iter().zip(&wanted).map_init(Buffers::default, |buffers, (batch, rows)| {
            count(batch)?;
            Ok(fused.model.states_from(projected.as_ref(), rows, buffers))
        });
        let states: Vec<f32> = states.collect::<Result<Vec<_>>>()?.concat();
        let width = self.shape.embedding_size();
        let sums = states.par_chunks_exact(width).map(|state| state.iter().map(|value| value.abs()).sum());
        let sums: Vec<f32> = sums.collect();
        let good = sums.into_iter().map(|sum| fused.limit.holds(sum));
        self.check(part, batches.iter().copied().flatten(), good)?;
        let targets: Vec<u32> = batches.iter().flat_map(|batch| targets(part, batch)).collect();
        Ok(if needs_details(&self.config.measures) {
            let all = fused.head.measure_details(&states, &targets).into_iter();
            all.map(|(measures, details)| Scored { measures, details: Some(details) }).collect()
        } else {
            let all = fused.head.measure(&states, &targets).into_iter();
            all.map(|measures| Scored { measures, details: None }).collect()
        })
    }

    /// Fails where something is not `good`; these go over all positions of `passes`, in order.
    fn check<'p>(
        &self,
        part: &Tokens,
        passes: impl IntoIterator<Item = &'p Pass>,
        good: impl Iterator<Item = bool>,
    ) -> Result<()> {
        let bad = first_bad(&part.row, passes.into_iter(), good);
        bad.map_or(Ok(()), |place| Err(finite::fault(self.dir, place).into()))
    }

    /// The device is asked for some batches before what it computed is read: reading waits for all that it was asked for.
    fn measure_on_device(
        &self,
        model: &OnDevice,
        part: &Tokens,
        batches: &[&[Pass]],
        count: impl Fn(&[Pass]) -> Result<()>,
    ) -> Result<Vec<Scored>> {
        let (mut scored, mut queue) = (Vec::new(), Queue::default());
        let mut rest = batches;
        while !rest.is_empty() {
            let (some, later) = rest.split_at(queue.batches().min(rest.len()));
            let began = Instant::now();
            scored.extend(self.measure_together(model, part, some)?);
            some.iter().try_for_each(|batch| count(batch))?;
            queue.took(began.elapsed());
            rest = later;
        }
        Ok(scored)
    }

    fn measure_together(&self, model: &OnDevice, part: &Tokens, batches: &[&[Pass]]) -> Result<Vec<Scored>> {
        let launch = |batch: &&[Pass]| {
            let states = self.states(model, part, batch);
            let targets: Vec<u32> = targets(part, batch).collect();
            (sums(&states), model.head.launch(&states, &targets, needs_details(&self.config.measures)))
        };
        let (sums, pending): (Vec<_>, Vec<_>) = batches.iter().map(launch).unzip();
        let measured = Pending::read(pending)?.into_iter().flatten();
        let good = finite::read(sums)?.into_iter().map(|sum| model.limit.holds(sum));
        self.check(part, batches.iter().copied().flatten(), good)?;
        Ok(measured.map(|(measures, details)| Scored { measures, details }).collect())
    }

    /// What the decoder sees at the positions of a batch, one after the other: `[positions, hidden_size]`.
    fn states(&self, on: &OnDevice, part: &Tokens, batch: &[Pass]) -> Tensor<2> {
        let rows = self.inputs(part, batch);
        on.model.transform(on.model.states_at(&wanted(&rows, batch), self.filling(), &on.device))
    }

    fn inputs(&self, part: &Tokens, batch: &[Pass]) -> Vec<Vec<u32>> {
        batch.iter().map(|pass| self.input(part, pass)).collect()
    }

    /// The row as the model sees it.
    fn input(&self, part: &Tokens, pass: &Pass) -> Vec<u32> {
        let mut ids = part.input_ids.row(pass.row).to_vec();
        if self.config.conditioning != Conditioning::Unmasked {
            pass.positions.iter().for_each(|&position| ids[position as usize] = self.mask_id);
        }
        ids
    }
}

fn tokens(passes: &[Pass]) -> u64 {
    passes.iter().map(|pass| pass.length as u64).sum()
}

fn targets<'p>(part: &'p Tokens, batch: &'p [Pass]) -> impl Iterator<Item = u32> + 'p {
    batch.iter().flat_map(|pass| {
        pass.positions.iter().map(|&position| part.input_ids.row(pass.row)[position as usize])
    })
}

/// The `rows` of a batch as the model reads them, and where its states are wanted.
fn wanted<'a>(rows: &'a [Vec<u32>], batch: &'a [Pass]) -> Vec<Wanted<'a>> {
    let pairs = rows.iter().zip(batch);
    pairs
        .map(|(ids, pass)| Wanted { input_ids: ids, token_type_ids: &[], positions: &pass.positions })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use burn::tensor::Device;
    use entromask_artifact::{Kind, Recipe, Workbench, tool};
    use entromask_encoder::MaskedLm;
    use entromask_tables::Ragged;
    use serde_json::json;

    use super::*;
    use crate::config::{Measure, Run};
    use crate::folds::passes;
    use crate::watch::Patience;

    fn part(rows: u32) -> Tokens {
        let ids = (0..rows).map(|row| (0..4 + row % 9).map(|s| (row * 31 + s * 7) % 60).collect::<Vec<_>>());
        let input_ids = Ragged::from_rows(ids);
        let word = Ragged::from_rows(input_ids.iter().map(|ids| {
            let last = ids.len() - 1;
            (0..ids.len()).map(|s| (s > 0 && s < last).then_some(s as u16)).collect::<Vec<_>>()
        }));
        Tokens { row: (0..u64::from(rows)).collect(), input_ids, word, ..Tokens::default() }
    }

    fn shape(initializer_range: f64) -> EncoderConfig {
        EncoderConfig {
            vocab_size: 60,
            hidden_size: 16,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 24,
            max_position_embeddings: 12,
            initializer_range,
            ..EncoderConfig::default()
        }
    }

    fn passes_over(config: &Config, part: &Tokens) -> Vec<Pass> {
        let of_row = |row: usize| {
            let sets = passes(config, part.row[row], part.word.row(row), None);
            let length = part.input_ids.len_of(row);
            sets.into_iter().map(move |positions| Pass { row, length, positions: positions.into() })
        };
        (0..part.rows()).flat_map(of_row).collect()
    }

    /// Who asks to stop does not wait for what else is to be scored.
    #[test]
    fn work_ends_between_two_batches() {
        let (shape, device) = (shape(0.5), Device::flex());
        let model = MaskedLm::init(&shape, 1, &device);
        let fused = Predictor::new(model.clone(), &shape, device.clone()).expect("reads");
        let plain = Predictor::Device(Box::new(OnDevice::new(model, device).expect("reads")));
        // A batch of each pass.
        let config = Config { run: Run { batch_tokens: Some(1) }, ..Config::default() };
        let part = part(9);
        let passes = passes_over(&config, &part);
        for model in [fused, plain] {
            let begun = AtomicU64::new(0);
            let stop = |_| match begun.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(()),
                _ => anyhow::bail!("stopped"),
            };
            let scorer = Scorer::new(&config, (&model, &shape), 4, Path::new("model"));
            let error = scorer.score(&part, &passes, &mut Draft::none(), &stop).expect_err("is stopped");
            assert_eq!(error.to_string(), "stopped");
            let most = 1 + rayon::current_num_threads().max(1) as u64;
            assert!(begun.into_inner() <= most, "of {} passes", passes.len());
        }
    }

    #[test]
    fn what_was_scored_before_an_end_is_not_scored_again() -> Result<()> {
        let (shape, device) = (shape(0.5), Device::flex());
        let model = Predictor::new(MaskedLm::init(&shape, 1, &device), &shape, device)?;
        let config = Config { measures: [Measure::Margin].into(), ..Config::default() };
        let scorer = Scorer::new(&config, (&model, &shape), 4, Path::new("model"));
        // Three chunks on the CPU.
        let part = part(8_000);
        let passes = passes_over(&config, &part);
        let all = tokens(&passes);
        let whole = scorer.score(&part, &passes, &mut Draft::none(), &Patience::of(all))?;

        let folder = tempfile::tempdir()?;
        let recipe =
            |seed: u64| Recipe { kind: Kind::Entropy, config: json!({"seed": seed}), inputs: vec![] };
        let open = |seed| Workbench::open(folder.path(), recipe(seed), tool("test", "0", &[]));
        let (bench, first) = (open(1)?, Patience::of(all / 2));
        let name = bench.part_name("part", 0);
        let error = scorer.score(&part, &passes, &mut Draft::of(&bench, &name), &first);
        assert_eq!(error.expect_err("is stopped").to_string(), "stopped");
        let draft = Entropies::read(&Draft::of(&bench, &name).found().expect("is kept"))?;
        let kept = draft.entropy.values.iter().flatten().count();
        assert!(kept > 0 && kept < whole.entropy.values.iter().flatten().count(), "{kept}");

        let second = Patience::of(all);
        assert_eq!(scorer.score(&part, &passes, &mut Draft::of(&bench, &name), &second)?, whole);
        assert!(second.resumed() > 0 && second.resumed() + second.counted() == all, "{second:?} of {all}");
        drop(bench);
        let other = open(2)?;
        assert_eq!(Draft::of(&other, &other.part_name("part", 0)).found(), None, "of another recipe");
        Ok(())
    }

    /// What a GPU computes, computed on the CPU.
    #[test]
    fn the_plain_path_gives_what_the_fused_one_gives() {
        // With weights this large, logits reach tens of thousands.
        for (initializer_range, measures) in
            [(0.5, vec![]), (0.5, ALL.to_vec()), (300.0, ALL.to_vec()), (0.5, vec![Measure::Normalized])]
        {
            let shape = shape(initializer_range);
            let (config, device) =
                (Config { measures: measures.into_iter().collect(), ..Config::default() }, Device::flex());
            let model = MaskedLm::init(&shape, 1, &device);
            let fused = Predictor::new(model.clone(), &shape, device.clone()).expect("reads");
            let plain = Predictor::Device(Box::new(OnDevice::new(model, device).expect("reads")));
            let [fused, plain] = [fused, plain].map(|model| {
                let scorer = Scorer::new(&config, (&model, &shape), 4, Path::new("model"));
                let (part, counted) = (part(9), AtomicU64::new(0));
                let passes = passes_over(&config, &part);
                let count = |tokens| {
                    counted.fetch_add(tokens, Ordering::Relaxed);
                    Ok(())
                };
                let found = scorer.score(&part, &passes, &mut Draft::none(), &count).expect("scores");
                assert_eq!(counted.into_inner(), passes.iter().map(|pass| pass.length as u64).sum::<u64>());
                found
            });
            assert_eq!(fused.measures.keys().collect::<Vec<_>>(), plain.measures.keys().collect::<Vec<_>>());
            close(&fused.entropy, &plain.entropy, 60f32.ln());
            close(&fused.surprisal, &plain.surprisal, f32::MAX);
            for (name, column) in &fused.measures {
                let most = if ["margin", "normalized"].contains(&name.as_str()) { 1.0 } else { 60f32.ln() };
                close(column, &plain.measures[name], most);
            }
        }
    }

    const ALL: [Measure; 4] = [Measure::MinEntropy, Measure::Renyi2, Measure::Margin, Measure::Normalized];

    fn close(fused: &Ragged<Option<f32>>, plain: &Ragged<Option<f32>>, most: f32) {
        assert_eq!(fused.values.iter().flatten().count(), 54);
        for (fused, plain) in fused.values.iter().zip(&plain.values) {
            assert_eq!(fused.is_some(), plain.is_some());
            if let (Some(fused), Some(plain)) = (fused, plain) {
                let allowed = 1e-4 * plain.abs().max(1.0);
                assert!((fused - plain).abs() < allowed, "{fused} is not {plain}");
                assert!((0.0..=most).contains(fused) && (0.0..=most).contains(plain), "{fused} {plain}");
            }
        }
    }
}
