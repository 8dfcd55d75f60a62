//! One job: what entropies are made from, the model that makes them, and the parts they lie in.

use std::path::PathBuf;

use anyhow::Result;
use burn::tensor::Device;
use entromask_artifact::{Input, Kind, Manifest, Output, OutputSpec, Recipe, Shard, Tool, Workbench, tool};
use entromask_cli::{Progress, check_interrupt};
use entromask_encoder::MaskedLm;
use entromask_fault::Fault;
use entromask_tables::{Entropies, footer_key};

use crate::part::{Part, Reader};
use crate::pass::Work;
use crate::scorer::Scorer;
use crate::stats::Stats;
use crate::vocabulary::Source;
use crate::{Compute, Config, FORMAT, Paths, model, tokenizer};

/// Missing parts that are named one by one.
const NAMED: usize = 20;

/// What is to be scored, by what and how.
pub(crate) struct Job<'a> {
    config: &'a Config,
    paths: &'a Paths,
    compute: &'a Compute,
    tokens: Manifest,
    inputs: Vec<Input>,
    /// The model has another tokenizer than the corpus.
    carried: bool,
}

/// A model on its device.
pub(crate) struct Teacher {
    model: MaskedLm,
    device: Device,
    mask_id: u32,
    reader: Reader,
    dir: PathBuf,
}

impl<'a> Job<'a> {
    /// Reads what decides the artifact's key.
    pub(crate) fn load(config: &'a Config, paths: &'a Paths, compute: &'a Compute) -> Result<Self> {
        config.validate()?;
        let tokens = Manifest::load(&paths.tokens, Kind::Tokens)?;
        let mut inputs = vec![Input::artifact("tokens", &tokens, &paths.tokens), model::input(&paths.model)?];
        let own = tokenizer::foreign(&paths.model, &paths.tokens, &tokens.stats["special"])?;
        if let Some(files) = &own {
            inputs.push(Input::files("teacher_tokenizer", &paths.model, files, "check `--model`")?);
        }
        Ok(Self { config, paths, compute, tokens, inputs, carried: own.is_some() })
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        let config = self.config.semantic(&self.compute.dtype, self.carried)?;
        Ok(Recipe { kind: Kind::Entropy, format: FORMAT, config, inputs: self.inputs.clone() })
    }

    /// The parts of the corpus that `shard` has, or all of them, with their numbers.
    pub(crate) fn parts(&self, shard: Option<Shard>) -> Vec<(usize, &Output)> {
        let all = self.tokens.parts("part").enumerate();
        all.filter(|(index, _)| shard.is_none_or(|shard| shard.has(*index))).collect()
    }

    /// Compares the corpus's files with their digests.
    pub(crate) fn verify(&self, shard: Option<Shard>) -> Result<()> {
        self.parts(shard).into_iter().try_for_each(|(_, part)| part.verify(&self.paths.tokens))
    }

    pub(crate) fn reader(&self) -> Result<Reader> {
        Reader::new(&self.paths.tokens, &self.paths.model, self.carried)
    }

    /// Loads the model.
    pub(crate) fn teacher(&self) -> Result<Teacher> {
        let device = entromask_device::open(&self.compute.device, &self.compute.dtype)?;
        let reader = self.reader()?;
        if !self.carried {
            self.warn_without_tokenizer();
            model::check_vocabulary(&self.paths.model, reader.shape(), &self.tokens, &self.paths.tokens)?;
        }
        let mask_id =
            reader.mask_id().map_or_else(|| model::mask_id(&self.tokens, &self.paths.tokens), Ok)?;
        model::check_mask(&self.paths.model, reader.shape(), mask_id)?;
        let (model, _) = MaskedLm::from_pretrained(&self.paths.model, &device)?;
        Ok(Teacher { model, device, mask_id, reader, dir: self.paths.model.clone() })
    }

    fn warn_without_tokenizer(&self) {
        if Source::find(&self.paths.model).is_none() {
            let model = self.paths.model.display();
            tracing::warn!("{model}: no tokenizer; its token ids are taken to be those of the corpus");
        }
    }

    /// Scores the parts of a shard, or all, that are not there yet; says how many these were.
    pub(crate) fn score(&self, teacher: &Teacher, bench: &Workbench, shard: Option<Shard>) -> Result<usize> {
        let (scorer, parts) = (teacher.scorer(self.config), self.parts(shard));
        let mut made = 0;
        for (index, output) in &parts {
            check_interrupt()?;
            let part = teacher.reader.read(output)?;
            if self.finished(&part, bench, *index).is_none() {
                let label = format!("score {}/{}", index + 1, self.parts(None).len());
                self.score_part(&scorer, &part, &label, *index, bench)?;
                made += 1;
            }
        }
        Ok(made)
    }

    fn score_part(
        &self,
        scorer: &Scorer<'_>,
        part: &Part,
        label: &str,
        index: usize,
        bench: &Workbench,
    ) -> Result<()> {
        let progress = Progress::new(label, part.work(self.config, scorer.shape()).tokens);
        let entropies = part.score(scorer, |tokens| {
            progress.inc(tokens);
            check_interrupt()
        })?;
        bench.write(&part_name(bench, index), |path| entropies.write(path, &bench.footer()))?;
        progress.finish();
        Ok(())
    }

    /// The scores of part `index`, if they are there and whole.
    fn finished(&self, part: &Part, bench: &Workbench, index: usize) -> Option<Entropies> {
        let path = bench.finished(&part_name(bench, index))?;
        let measures: Vec<&str> = self.config.measures.iter().map(|measure| measure.name()).collect();
        let ours = footer_key(&path).ok()?.is_some_and(|key| key == bench.key());
        let scores = Entropies::read_measures(&path, &measures).ok()?;
        (ours && part.fits(&scores)).then_some(scores)
    }

    /// What all parts say, and what they took.
    ///
    /// # Errors
    /// An input fault that names the parts that are not there.
    pub(crate) fn sum_up(&self, reader: &Reader, bench: &Workbench) -> Result<(Stats, Work)> {
        let (mut stats, mut work) = (Stats::new(reader.shape().vocab_size, self.carried), Work::default());
        let mut missing = Vec::new();
        for (index, output) in self.parts(None) {
            let part = reader.read(output)?;
            match self.finished(&part, bench, index) {
                Some(scores) => stats.add(&scores),
                None => missing.push(part_name(bench, index)),
            }
            work = work.plus(part.work(self.config, reader.shape()));
        }
        if missing.is_empty() { Ok((stats, work)) } else { Err(self.unfinished(&missing)) }
    }

    /// Refuses a sample of no tokens.
    pub(crate) fn check_sample(&self, stats: &Stats) -> Result<()> {
        if stats.scored() > 0 || !self.config.is_sample() {
            return Ok(());
        }
        let tokens = self.paths.tokens.display();
        Err(Fault::usage(format!("{tokens}: no token to score in the sample"))
            .remedy("take a larger `fraction` or more `rows`")
            .into())
    }

    /// The files of the artifact.
    pub(crate) fn outputs(&self, bench: &Workbench) -> Vec<OutputSpec> {
        let parts = self.parts(None).into_iter();
        parts.map(|(index, part)| OutputSpec::part(part_name(bench, index), part.rows.unwrap_or(0))).collect()
    }

    fn unfinished(&self, missing: &[String]) -> anyhow::Error {
        let (count, all, out) = (missing.len(), self.parts(None).len(), self.paths.out.display());
        let rest = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
        let named = missing[..count.min(NAMED)].join(", ") + &rest;
        Fault::input(format!("{out}: {count} of {all} parts are missing or damaged: {named}"))
            .remedy("run the shards that make them, then --finalize again")
            .into()
    }
}

impl Teacher {
    pub(crate) fn scorer<'t>(&'t self, config: &'t Config) -> Scorer<'t> {
        let model = (&self.model, self.reader.shape());
        Scorer::new(config, model, &self.device, self.mask_id, &self.dir)
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }
}

/// This program, as manifests name it.
pub(crate) fn this_tool() -> Tool {
    tool("entromask-score", env!("CARGO_PKG_VERSION"), &entromask_device::compiled())
}

fn part_name(bench: &Workbench, index: usize) -> String {
    bench.part_name("part", index)
}
