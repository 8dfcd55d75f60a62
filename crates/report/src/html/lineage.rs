//! What a model came from: its rounds, their masks and entropies, the corpus, the teacher.

use std::path::{Path, PathBuf};

use entromask_artifact::{Input, Kind, Manifest};
use entromask_fault::Fault;
use serde_json::Value;

use crate::trace::{Located, locate, scorer};

/// The role under which a round names the one before.
const EARLIER: &str = "continue_from";

/// All stages behind a model.
#[derive(Clone, Debug)]
pub(crate) struct Lineage {
    /// In the order in which they ran.
    pub stages: Vec<Stage>,
    /// Models of the rounds, the first one first; the last is the model itself.
    pub rounds: Vec<Artifact>,
    /// What could not be followed, and why.
    pub notes: Vec<String>,
    /// Nothing that the pipeline made is gone, so that all stages are there.
    pub is_whole: bool,
}

/// An artifact and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub dir: PathBuf,
    pub manifest: Manifest,
}

/// One stage.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub group: Group,
    pub artifact: Artifact,
}

/// What a stage belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Corpus,
    Teacher,
    Round(usize),
    FineTuning,
}

/// How the masks were chosen, over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Without a model: at random, or by another policy that needs no entropies.
    Policy,
    /// By the entropies of the model that is trained.
    Own,
    /// By the entropies of another model.
    Teacher,
    /// By the entropies of the model that is trained, while it is.
    Online,
}

impl Artifact {
    /// The artifact that the stage used as `role`, if it is there and unchanged.
    pub fn source(&self, role: &str) -> Option<Self> {
        let (dir, manifest) = locate(self.manifest.input(role)?, &self.dir).found()?;
        Some(Self { dir, manifest })
    }
}

impl Lineage {
    /// Follows the manifests from the model in `dir` back.
    ///
    /// # Errors
    /// A [`Fault`] of class input if there is no model of ours. What is behind it may be gone: that is noted.
    pub fn follow(dir: &Path) -> anyhow::Result<Self> {
        let manifest = Manifest::load(dir, Kind::Model).map_err(|error| {
            if dir.join("config.json").exists() && !dir.join(entromask_artifact::MANIFEST).exists() {
                return Fault::input(format!("{}: a model without a manifest has no history", dir.display()))
                    .remedy("name a model that the pipeline made; `inspect` shows any model")
                    .into();
            }
            error
        })?;
        let mut lineage = Self { stages: vec![], rounds: vec![], notes: vec![], is_whole: true };
        lineage.find_rounds(Artifact { dir: dir.into(), manifest });
        let (rounds, first) = (lineage.rounds.clone(), lineage.first_round());
        rounds.iter().zip(first..).for_each(|(model, round)| lineage.add_model(model, Group::Round(round)));
        Ok(lineage)
    }

    /// The artifacts of `kind` in the order in which they were made, without the teacher's.
    pub fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Stage> {
        self.stages
            .iter()
            .filter(move |stage| stage.artifact.manifest.kind == kind && stage.group != Group::Teacher)
    }

    /// The model that came out.
    pub fn model(&self) -> &Artifact {
        self.rounds.last().expect("the model itself is one")
    }

    /// How the masks were chosen.
    pub fn strategy(&self) -> Strategy {
        let model = self.model();
        if model.manifest.config["online"].is_object() {
            return Strategy::Online;
        }
        let entropy = self.used(model, "masks").and_then(|masks| self.used(masks, "entropy"));
        match entropy.and_then(|entropy| scorer(&entropy.manifest)) {
            Some(model) if self.is_own(model) => Strategy::Own,
            Some(_) => Strategy::Teacher,
            None => Strategy::Policy,
        }
    }

    /// Whether the rounds are there from the first one on.
    pub fn has_first_round(&self) -> bool {
        self.rounds[0].manifest.input(EARLIER).is_none()
    }

    /// The number of the first round that is there: as many epochs as one has are before it for each that is gone.
    pub fn first_round(&self) -> usize {
        let stats = &self.rounds[0].manifest.stats;
        let epochs = |name: &str| stats[name].as_u64().filter(|_| !self.has_first_round());
        let (before, end) = (epochs("first_epoch").unwrap_or(0), epochs("end_epoch").unwrap_or(0));
        before.checked_div(end.saturating_sub(before)).unwrap_or(0) as usize
    }

    /// Whether a model is one of the rounds, which may be gone: the round after it still names it.
    fn is_own(&self, model: &Input) -> bool {
        let is = |round: &Artifact| round.manifest.content == model.content;
        let follows = |round: &Artifact| {
            round.manifest.input(EARLIER).is_some_and(|earlier| earlier.content == model.content)
        };
        self.rounds.iter().any(|round| is(round) || follows(round))
    }

    /// What the masks that `model` used as `role` were chosen by, if they are there.
    pub fn mask_config(&self, model: &Artifact, role: &str) -> Option<&Value> {
        Some(&self.used(model, role)?.manifest.config)
    }

    /// The artifact among the stages that `artifact` used as `role`.
    fn used(&self, artifact: &Artifact, role: &str) -> Option<&Artifact> {
        let content = &artifact.manifest.input(role)?.content;
        self.stages.iter().map(|stage| &stage.artifact).find(|found| found.manifest.content == *content)
    }

    /// Whether a teacher's predictions were part of the objective.
    pub fn is_distilled(&self) -> bool {
        ["teacher", "targets"].iter().any(|role| self.model().manifest.input(role).is_some())
    }

    fn find_rounds(&mut self, model: Artifact) {
        let mut next = Some(model);
        while let Some(model) = next {
            next = self.source(&model, EARLIER);
            self.rounds.insert(0, model);
        }
    }

    /// Adds a model and what it was trained on, before it.
    fn add_model(&mut self, model: &Artifact, group: Group) {
        let corpus = if group == Group::Teacher { Group::Teacher } else { Group::Corpus };
        if let Some(tokens) = self.source(model, "tokens") {
            self.add(tokens, corpus);
        }
        for role in ["teacher", "init"] {
            if let Some(other) = self.source(model, role) {
                self.add_model(&other, Group::Teacher);
            }
        }
        for role in ["init_masks", "masks"] {
            if let Some(masks) = self.source(model, role) {
                self.add_masks(masks, group);
            }
        }
        if let Some(targets) = self.source(model, "targets") {
            if let Some(teacher) = self.source(&targets, "teacher") {
                self.add_model(&teacher, Group::Teacher);
            }
            self.add(targets, group);
        }
        self.add(model.clone(), group);
    }

    fn add_masks(&mut self, masks: Artifact, group: Group) {
        // What the entropies are held against is not what masks are chosen by.
        for (role, group) in [("reference", Group::Teacher), ("entropy", group)] {
            if let Some(entropy) = self.source(&masks, role) {
                self.add_entropy(entropy, group);
            }
        }
        self.add(masks, group);
    }

    fn add_entropy(&mut self, entropy: Artifact, group: Group) {
        let scorer = scorer(&entropy.manifest).filter(|model| !self.is_own(model));
        let role = scorer.map(|model| model.role.clone());
        if let Some(teacher) = role.and_then(|role| self.source(&entropy, &role)) {
            self.add_model(&teacher, Group::Teacher);
        }
        self.add(entropy, group);
    }

    /// Adds a stage, once. One that the run shares with its teacher counts as the run's.
    pub fn add(&mut self, artifact: Artifact, group: Group) {
        let same = |stage: &&mut Stage| stage.artifact.manifest.key == artifact.manifest.key;
        match self.stages.iter_mut().find(same) {
            Some(stage) if stage.group == Group::Teacher => stage.group = group,
            Some(_) => {}
            None => self.stages.push(Stage { group, artifact }),
        }
    }

    /// The input `role` of an artifact; what stands in the way is noted.
    fn source(&mut self, artifact: &Artifact, role: &str) -> Option<Artifact> {
        let input = artifact.manifest.input(role)?;
        let located = locate(input, &artifact.dir);
        self.is_whole &= matches!(located, Located::Found(..) | Located::External(_));
        let trouble = match &located {
            Located::External(path) => Some(format!("{role}: {} is not from this pipeline", path.display())),
            other => other.trouble(input),
        };
        if let Some(trouble) = trouble.filter(|trouble| !self.notes.contains(trouble)) {
            self.notes.push(trouble);
        }
        let (dir, manifest) = located.found()?;
        Some(Artifact { dir, manifest })
    }
}
