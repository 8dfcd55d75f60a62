//! From choices to stages. The calls are those of the Makefile, with seeds, rates and the like besides.

use std::path::{Path, PathBuf};

use super::names::{Names, text, tokens_name, transfer, typed};
use super::{Account, Program, RunStages, Stage};
use crate::grid::{Axis, Catalogue, Choice, Dtype, Grid, Source, Teacher, Transfer};

/// The seed of a teacher that the pipeline trains: there is one teacher, whatever the seed of the student.
const TEACHER_SEED: u64 = 1;

/// The strategy of a beginning, and of teachers that the pipeline trains.
const RANDOM: &str = "random";

/// Stages so far.
pub(super) struct Builder<'a> {
    grid: &'a Grid,
    catalogue: &'a Catalogue,
    names: Names<'a>,
    pub stages: Vec<Stage>,
    /// The first path that two different commands would make.
    pub conflict: Option<PathBuf>,
}

/// What was done for a run so far.
type Timeline = Vec<(Account, usize)>;

/// A stage before it has a number.
struct Draft {
    program: Program,
    out: PathBuf,
    inputs: Vec<PathBuf>,
    args: Vec<String>,
    class: String,
}

/// Masks to make.
struct Selection<'a> {
    strategy: &'a str,
    choice: &'a Choice,
    /// Artifact to choose by.
    entropy: Option<&'a Path>,
    /// First epoch, and how many.
    epochs: [u64; 2],
    /// How they are chosen, as a part of the path.
    folder: &'a str,
}

impl<'a> Builder<'a> {
    pub fn new(grid: &'a Grid, data: &'a Path, catalogue: &'a Catalogue) -> Self {
        Self { grid, catalogue, names: Names { grid, data, catalogue }, stages: Vec::new(), conflict: None }
    }

    /// The stages of a run; those that are there already are taken.
    pub fn run(&mut self, choice: &Choice) -> anyhow::Result<RunStages> {
        let mut done = Timeline::new();
        self.tokens(choice, &mut done)?;
        let teacher = self.teacher(choice, &mut done)?;
        let model = match choice.source {
            Source::None => self.random(choice, teacher.as_deref(), &mut done),
            Source::Teacher => self.by_teacher(choice, teacher.as_deref(), &mut done),
            Source::Own => self.by_itself(choice, teacher.as_deref(), &mut done),
        };
        let names = self.grid.glue.clone();
        let glue = names.into_iter().map(|name| {
            let stage = self.glue(choice, &name, model);
            (name, stage)
        });
        let glue = glue.collect();
        Ok(RunStages { timeline: done, model, glue })
    }

    fn random(&mut self, choice: &Choice, teacher: Option<&Path>, done: &mut Timeline) -> usize {
        let masks = self.random_masks(choice, [0, choice.epochs], done, Account::Selection);
        let name = format!("{}{}", choice.strategy, self.names.variant(choice, &choice.strategy));
        let (folder, more) =
            (self.names.model_folder(choice, &name), Further { teacher, ..Further::default() });
        self.train(choice, &folder, &masks, &more, done)
    }

    fn by_teacher(&mut self, choice: &Choice, teacher: Option<&Path>, done: &mut Timeline) -> usize {
        let model = teacher.expect("a teacher was made");
        let own = self.names.teacher_folder(choice);
        let score = typed(&choice.score, choice);
        let out = self.names.entropy_folder(choice).join(&own).join(&score);
        let entropy = self.score(choice, model, out, done);
        let epochs = [0, choice.epochs];
        let folder = format!("{}-by-{own}-{score}", choice.strategy);
        let selection = Selection {
            strategy: &choice.strategy,
            choice,
            entropy: Some(&entropy),
            epochs,
            folder: &folder,
        };
        let masks = self.masks(&selection, done, Account::Selection);
        let later = choice.transfer != Transfer::Complete;
        let first = later.then(|| self.random_masks(choice, epochs, done, Account::Selection));
        let until = transfer(choice);
        let name = format!("{folder}{until}{}", self.names.variant(choice, &choice.strategy));
        let folder = self.names.model_folder(choice, &name);
        let guide = (!choice.distillation.is_empty()).then_some(model);
        let more = Further { teacher: guide, first: first.as_deref(), ..Further::default() };
        self.train(choice, &folder, &masks, &more, done)
    }

    /// Round 0 trains on random masks and is the same for all strategies; each further round scores with the model of the
    /// one before.
    fn by_itself(&mut self, choice: &Choice, teacher: Option<&Path>, done: &mut Timeline) -> usize {
        let length = choice.epochs / (choice.rounds + 1);
        let [variant, random] =
            [&choice.strategy, RANDOM].map(|strategy| self.names.variant(choice, strategy));
        let masks = self.random_masks(choice, [0, length], done, Account::Selection);
        let first = self.names.model_folder(choice, &format!("first-{length}{random}"));
        let mut model = self.train(choice, &first, &masks, &Further { teacher, ..Further::default() }, done);
        let Choice { strategy, score, rounds, .. } = choice;
        let name = format!("{strategy}-by-itself-{score}-r{rounds}x{length}{variant}");
        let folder = self.names.model_folder(choice, &name);
        for round in 1..=choice.rounds {
            let earlier = self.stages[model].out.clone();
            // The model of round 0 is shared by all strategies, and so is what it says.
            let scored = if round == 1 { first.join(score) } else { folder.join(format!("round-{round}")) };
            let entropy = self.score(choice, &earlier, self.names.about(&scored, "entropy"), done);
            let epochs = [round * length, length];
            let selection = Selection { strategy, choice, entropy: Some(&entropy), epochs, folder: "" };
            let folder = folder.join(format!("round-{round}"));
            let masks = self.select(&selection, self.names.about(&folder, "masks"), done, Account::Selection);
            let more = Further { teacher, continued: Some(&earlier), ..Further::default() };
            model = self.train(choice, &folder, &masks, &more, done);
        }
        model
    }

    fn tokens(&mut self, choice: &Choice, done: &mut Timeline) -> anyhow::Result<()> {
        let mut args = vec!["--config".into(), self.names.config("corpus", &choice.corpus)];
        if choice.data < 1.0 {
            let of = self.catalogue.train_fraction(&choice.corpus)?;
            args.extend(set("train_fraction", choice.data * of));
        }
        let draft = Draft {
            program: Program::Tokenize,
            out: self.names.tokens_folder(choice),
            inputs: Vec::new(),
            args,
            class: tokens_name(choice),
        };
        self.add(draft, done, Account::Corpus);
        Ok(())
    }

    /// The model that scores or teaches.
    fn teacher(&mut self, choice: &Choice, done: &mut Timeline) -> anyhow::Result<Option<PathBuf>> {
        if choice.teacher.is_empty() {
            return Ok(None);
        }
        let (student, epochs) = match self.catalogue.teacher(&choice.teacher)? {
            Teacher::Folder(folder) => return Ok(Some(folder)),
            Teacher::Own { student, epochs } => (student, epochs.unwrap_or(choice.epochs)),
        };
        let own = teachers_choice(choice, student, epochs);
        let masks = self.random_masks(&own, [0, epochs], done, Account::Teacher);
        let folder = self.names.model_folder(&own, RANDOM);
        let mut timeline = Timeline::new();
        let model = self.train(&own, &folder, &masks, &Further::default(), &mut timeline);
        done.push((Account::Teacher, model));
        Ok(Some(folder))
    }

    fn score(&mut self, choice: &Choice, model: &Path, out: PathBuf, done: &mut Timeline) -> PathBuf {
        let tokens = self.names.tokens_folder(choice);
        let mut args = vec!["--config".into(), self.names.config("score", &choice.score)];
        args.extend(products(choice));
        args.extend(["--tokens".into(), text(&tokens), "--model".into(), text(model)]);
        let scorer = if choice.source == Source::Own { &choice.student } else { &choice.teacher };
        let draft = Draft {
            program: Program::Score,
            out: out.clone(),
            args,
            inputs: vec![tokens, model.into()],
            class: typed(scorer, choice),
        };
        self.add(draft, done, Account::Scoring);
        out
    }

    /// Masks of a strategy that needs no entropies, or of the beginning of one that does.
    fn random_masks(
        &mut self,
        choice: &Choice,
        epochs: [u64; 2],
        done: &mut Timeline,
        account: Account,
    ) -> PathBuf {
        let strategy = if choice.source == Source::None { &choice.strategy } else { RANDOM };
        let selection = Selection { strategy, choice, entropy: None, epochs, folder: strategy };
        self.masks(&selection, done, account)
    }

    fn masks(&mut self, selection: &Selection, done: &mut Timeline, account: Account) -> PathBuf {
        let Selection { strategy, choice, folder, epochs, .. } = *selection;
        let out = self.names.masks_folder(choice, strategy, folder, epochs);
        self.select(selection, out, done, account)
    }

    fn select(
        &mut self,
        selection: &Selection,
        out: PathBuf,
        done: &mut Timeline,
        account: Account,
    ) -> PathBuf {
        let Selection { strategy, choice, entropy, epochs, .. } = selection;
        let tokens = self.names.tokens_folder(choice);
        let mut args =
            vec!["--config".into(), self.names.config("mask", strategy), "--tokens".into(), text(&tokens)];
        let mut inputs = vec![tokens];
        if let Some(entropy) = entropy {
            args.extend(["--entropy".into(), text(entropy)]);
            inputs.push(entropy.to_path_buf());
        }
        args.extend(set("seed", choice.seed));
        args.extend(choice.rate.iter().flat_map(|rate| set("rate", rate)));
        let schedule = self.names.schedule(choice, strategy);
        args.extend(schedule.flat_map(|(key, value)| set(key, value)));
        args.extend([set("first_epoch", epochs[0]), set("epochs", epochs[1])].into_iter().flatten());
        let class = tokens_name(choice);
        self.add(Draft { program: Program::Select, out: out.clone(), inputs, args, class }, done, account);
        out
    }

    fn train(
        &mut self,
        choice: &Choice,
        out: &Path,
        masks: &Path,
        more: &Further,
        done: &mut Timeline,
    ) -> usize {
        let tokens = self.names.tokens_folder(choice);
        let mut args = vec!["--config".into(), self.names.config("train", choice.recipe())];
        args.extend(["--student".into(), self.names.config("student", &choice.student)]);
        args.extend(products(choice));
        args.extend([set("epochs", choice.epochs), set("seed", choice.seed)].into_iter().flatten());
        if choice.transfer != Transfer::Complete {
            let phase = |key: &str| {
                let kind = set(&format!("{key}.mode"), choice.get(Axis::Transfer));
                kind.into_iter().chain(set(&format!("{key}.init_fraction"), choice.init_fraction))
            };
            args.extend(more.first.iter().flat_map(|_| phase("mask_transfer")));
            args.extend(more.teacher.iter().flat_map(|_| phase("transfer")));
        }
        let mut inputs = vec![tokens.clone(), masks.into()];
        args.extend(["--tokens".into(), text(&tokens), "--masks".into(), text(masks)]);
        let further =
            [("--init-masks", more.first), ("--teacher", more.teacher), ("--continue-from", more.continued)];
        for (flag, path) in further.into_iter().filter_map(|(flag, path)| Some((flag, path?))) {
            args.extend([flag.into(), text(path)]);
            inputs.push(path.into());
        }
        let class = format!("{} {} {}", choice.student, typed(choice.recipe(), choice), tokens_name(choice));
        let draft = Draft { program: Program::Pretrain, out: out.into(), inputs, args, class };
        self.add(draft, done, Account::Training)
    }

    fn glue(&mut self, choice: &Choice, name: &str, model: usize) -> usize {
        let model = self.stages[model].out.clone();
        let frozen =
            if choice.freezing.is_empty() { String::new() } else { format!("-freeze-{}", choice.freezing) };
        let out = self.names.about(&model, "glue").join(format!("{name}{frozen}"));
        let mut args =
            vec!["--config".into(), self.names.config("glue", name), "--model".into(), text(&model)];
        args.extend(products(choice));
        if !choice.freezing.is_empty() {
            args.extend(set("recipe.freeze", &choice.freezing));
        }
        // What a grid compares may lead to a choice, so only one half of the dev rows is looked at.
        args.extend(set("recipe.halves", true));
        let class = format!("{} {}", choice.student, typed(name, choice));
        let draft = Draft { program: Program::Glue, out, inputs: vec![model], args, class };
        self.add(draft, &mut Timeline::new(), Account::Training)
    }

    /// Numbers a stage, or finds it.
    fn add(&mut self, draft: Draft, done: &mut Timeline, account: Account) -> usize {
        let Draft { program, out, inputs, mut args, class } = draft;
        args.splice(0..0, ["--out".into(), text(&out)]);
        let stage = Stage { program, out, inputs, args, class };
        let index = self.stages.iter().position(|there| there.out == stage.out).unwrap_or(self.stages.len());
        match self.stages.get(index) {
            None => self.stages.push(stage),
            Some(there) if there.args != stage.args => {
                self.conflict = self.conflict.take().or(Some(stage.out));
            }
            Some(_) => {}
        }
        done.push((account, index));
        index
    }
}

/// What a training run may need besides tokens and masks.
#[derive(Default)]
struct Further<'a> {
    /// A model that guides.
    teacher: Option<&'a Path>,
    /// Masks to begin on.
    first: Option<&'a Path>,
    /// The round before.
    continued: Option<&'a Path>,
}

/// A teacher is trained as the plainest baseline would be.
fn teachers_choice(choice: &Choice, student: String, epochs: u64) -> Choice {
    Choice {
        seed: TEACHER_SEED,
        student,
        epochs,
        corpus: choice.corpus.clone(),
        data: choice.data,
        train: choice.train.clone(),
        dtype: choice.dtype,
        ..Choice::default()
    }
}

/// The type of matrix products, for stages that compute with a model.
fn products(choice: &Choice) -> Vec<String> {
    match choice.dtype {
        Dtype::F32 => Vec::new(),
        Dtype::Bf16 => vec!["--dtype".into(), "bf16".into()],
    }
}

fn set(key: &str, value: impl std::fmt::Display) -> [String; 2] {
    ["--set".into(), format!("{key}={value}")]
}
