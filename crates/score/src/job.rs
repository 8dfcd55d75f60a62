//! One job: what entropies are made from, the model that makes them, and the parts they lie in.

use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{Input, Kind, Manifest, Output, OutputSpec, Recipe, Shard, Tool, Workbench, tool};
use entromask_cli::{Progress, check_interrupt};
use entromask_encoder::MaskedLm;
use entromask_encoder::tokenizer::{self, Source};
use entromask_fault::Fault;
use entromask_tables::{Entropies, footer_key};

use crate::draft::Draft;
use crate::overlap::{Writer, overlap};
use crate::part::{Part, Reader};
use crate::pass::Work;
use crate::predictor::Predictor;
use crate::scorer::Scorer;
use crate::stats::Stats;
use crate::tokenizer::{Once, TeacherTokenizer};
use crate::watch::Bar;
use crate::{Compute, Config, Paths, model};

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
    /// And that has special tokens of other roles than the usual ones.
    once: Once,
}

/// A model on its device.
pub(crate) struct Teacher {
    model: Predictor,
    mask_id: u32,
    reader: Reader,
    dir: PathBuf,
}

/// The scores of a part and what they took.
struct Done {
    scores: Entropies,
    work: Work,
}

/// A part that was scored now.
struct Made {
    index: usize,
    done: Done,
}

/// A part of the corpus when its turn comes.
#[expect(clippy::large_enum_variant, reason = "there are three at a time")]
enum Found {
    Done(Done),
    Todo { part: Part, index: usize, work: Work },
}

/// What parts say, in order, and what they took.
pub(crate) struct Total {
    pub(crate) stats: Stats,
    pub(crate) work: Work,
    /// Parts that were scored now.
    pub(crate) made: usize,
}

impl<'a> Job<'a> {
    /// Reads what decides the artifact's key.
    pub(crate) fn load(config: &'a Config, paths: &'a Paths, compute: &'a Compute) -> Result<Self> {
        config.validate()?;
        let tokens = Manifest::load(&paths.tokens, Kind::Tokens)?;
        model::verify_tokenizer(&tokens, &paths.tokens)?;
        let mut inputs = vec![Input::artifact("tokens", &tokens, &paths.tokens), model::input(&paths.model)?];
        let own = tokenizer::foreign(&paths.model, &paths.tokens, &tokens.stats["special"])?;
        if let Some(files) = &own {
            inputs.push(Input::files("teacher_tokenizer", &paths.model, files, "check `--model`")?);
        }
        let carried = own.is_some();
        let once = if carried { TeacherTokenizer::load(&paths.model)?.once } else { Once::default() };
        Ok(Self { config, paths, compute, tokens, inputs, carried, once })
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        let mut config = self.config.semantic(&self.compute.dtype, self.carried)?;
        let marks = [
            (self.once.special, "special", "all"),
            (self.once.dropout, "dropout", "none"),
            (self.once.around, "around", "any text"),
        ];
        for (_, key, value) in marks.into_iter().filter(|(is_other, ..)| *is_other) {
            config[key] = value.into();
        }
        Ok(Recipe { kind: Kind::Entropy, config, inputs: self.inputs.clone() })
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
        let (device, products) = entromask_device::open_to_score(&self.compute.device, &self.compute.dtype)?;
        let reader = self.reader()?;
        if self.carried {
            self.tell_that_scores_are_carried();
        } else {
            self.warn_without_tokenizer();
            model::check_vocabulary(&self.paths.model, reader.shape(), &self.tokens, &self.paths.tokens)?;
        }
        let mask_id =
            reader.mask_id().map_or_else(|| model::mask_id(&self.tokens, &self.paths.tokens), Ok)?;
        model::check_mask(&self.paths.model, reader.shape(), mask_id)?;
        let (model, _) = MaskedLm::from_pretrained(&self.paths.model, &device)?;
        let model = Predictor::new(model.with_products(products), reader.shape(), device)?;
        Ok(Teacher { model, mask_id, reader, dir: self.paths.model.clone() })
    }

    fn tell_that_scores_are_carried(&self) {
        let (model, rule) = (self.paths.model.display(), self.config.carry.name());
        tracing::info!(
            "{model}: another tokenizer than the corpus's; scores of its tokens go to those of the corpus by the bytes that \
             both cover (carry = \"{rule}\")"
        );
    }

    fn warn_without_tokenizer(&self) {
        if Source::find(&self.paths.model).is_none() {
            let model = self.paths.model.display();
            tracing::warn!("{model}: no tokenizer; its token ids are taken to be those of the corpus");
        }
    }

    /// Scores the parts of a shard, or all, that are not there yet. The next part is read and the last is written while one
    /// is scored.
    ///
    /// # Errors
    /// An input fault if a part of the corpus or the model is damaged; interrupted.
    pub(crate) fn score(&self, teacher: &Teacher, bench: &Workbench, shard: Option<Shard>) -> Result<Total> {
        let (scorer, mut total) = (teacher.scorer(self.config), self.total(&teacher.reader));
        let read = |(index, output)| self.find(&teacher.reader, bench, index, output);
        let work = |found, writer: &Writer| self.account((&scorer, bench), found, &mut total, writer);
        let write = |made: Made| made.write(bench);
        overlap(self.parts(shard).into_iter(), read, work, write)?;
        Ok(total)
    }

    /// Part `index` as an earlier run has finished it, or ready to be scored.
    fn find(&self, reader: &Reader, bench: &Workbench, index: usize, output: &Output) -> Result<Found> {
        check_interrupt()?;
        if let Some(done) = self.finished(reader, bench, index, output)? {
            return Ok(Found::Done(done));
        }
        let part = reader.read(output, self.config)?;
        Ok(Found::Todo { work: part.work(self.config, reader.shape()), part, index })
    }

    /// Counts the scores of a part, which are made first if need be; gives what is to be written.
    fn account(
        &self,
        (scorer, bench): (&Scorer<'_>, &Workbench),
        found: Found,
        total: &mut Total,
        writer: &Writer,
    ) -> Result<Option<Made>> {
        match found {
            Found::Done(done) => {
                total.add(&done);
                Ok(None)
            }
            Found::Todo { part, index, work } => {
                let done =
                    Done { scores: self.score_part(scorer, bench, &part, (index, work), writer)?, work };
                let made = Made { index, done };
                total.add(&made.done);
                total.made += 1;
                Ok(Some(made))
            }
        }
    }

    fn score_part(
        &self,
        scorer: &Scorer<'_>,
        bench: &Workbench,
        part: &Part,
        (index, work): (usize, Work),
        writer: &Writer,
    ) -> Result<Entropies> {
        let label = format!("score {}/{}", index + 1, self.parts(None).len());
        let (progress, name) = (Progress::new(label, work.tokens), part_name(bench, index));
        let bar = Bar { progress: &progress, writer: Some(writer) };
        let made = part.score(scorer, &mut Draft::of(bench, &name), &bar)?;
        progress.finish();
        Ok(made)
    }

    /// The scores of part `index`, if they are there and whole. What was noted beside them saves reading the corpus.
    fn finished(
        &self,
        reader: &Reader,
        bench: &Workbench,
        index: usize,
        output: &Output,
    ) -> Result<Option<Done>> {
        let name = part_name(bench, index);
        let Some(scores) = bench.finished(&name).and_then(|path| self.read_scores(&path, bench)) else {
            return Ok(None);
        };
        if let Some(work) = bench.noted(&name).as_ref().and_then(Work::from_facts) {
            return Ok(Some(Done { scores, work }));
        }
        let part = reader.read(output, self.config)?;
        let work = part.work(self.config, reader.shape());
        Ok(part.fits(&scores).then_some(Done { scores, work }))
    }

    fn read_scores(&self, path: &Path, bench: &Workbench) -> Option<Entropies> {
        let measures: Vec<&str> = self.config.measures.iter().map(|measure| measure.name()).collect();
        let ours = footer_key(path).ok()?.is_some_and(|key| key == bench.key());
        Entropies::read_measures(path, &measures).ok().filter(|_| ours)
    }

    /// What all parts say, and what they took.
    ///
    /// # Errors
    /// An input fault that names the parts that are not there.
    pub(crate) fn sum_up(&self, reader: &Reader, bench: &Workbench) -> Result<Total> {
        let (mut total, mut missing) = (self.total(reader), Vec::new());
        for (index, output) in self.parts(None) {
            check_interrupt()?;
            match self.finished(reader, bench, index, output)? {
                Some(done) => total.add(&done),
                None => missing.push(part_name(bench, index)),
            }
        }
        if missing.is_empty() { Ok(total) } else { Err(self.unfinished(&missing)) }
    }

    fn total(&self, reader: &Reader) -> Total {
        let stats = Stats::new(reader.shape().vocab_size, self.carried);
        Total { stats, work: Work::default(), made: 0 }
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

impl Made {
    fn write(&self, bench: &Workbench) -> Result<()> {
        let Done { scores, work } = &self.done;
        let name = part_name(bench, self.index);
        bench.write_noting(&name, work.to_facts(), |path| scores.write(path, &bench.footer()))
    }
}

impl Total {
    fn add(&mut self, done: &Done) {
        self.stats.add(&done.scores);
        self.work = self.work.plus(done.work);
    }
}

impl Teacher {
    pub(crate) fn scorer<'t>(&'t self, config: &'t Config) -> Scorer<'t> {
        let model = (&self.model, self.reader.shape());
        Scorer::new(config, model, self.mask_id, &self.dir)
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
