//! Where artifacts lie.
//!
//! All paths begin with the kind of artifact and the corpus, as those of the Makefile do; what follows names every choice
//! that bears on the content.

use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use toml::Value;

use crate::grid::{Axis, Catalogue, Choice, Dtype, Grid, Teacher, Transfer};

/// Names of artifacts below a data folder.
pub(super) struct Names<'a> {
    pub grid: &'a Grid,
    pub data: &'a Path,
    pub catalogue: &'a Catalogue,
}

impl<'a> Names<'a> {
    /// A configuration, as an argument.
    pub fn config(&self, kind: &str, name: &str) -> String {
        text(&self.catalogue.path(kind, name))
    }

    pub fn tokens_folder(&self, choice: &Choice) -> PathBuf {
        self.data.join("tokens").join(tokens_name(choice))
    }

    pub fn entropy_folder(&self, choice: &Choice) -> PathBuf {
        self.data.join("entropy").join(tokens_name(choice))
    }

    /// Masks of `strategy` that are chosen as `how` says, for so many epochs from one on.
    pub fn masks_folder(
        &self,
        choice: &Choice,
        strategy: &str,
        how: &str,
        [first, count]: [u64; 2],
    ) -> PathBuf {
        let seeded = format!("{how}{}-s{}", self.variant(choice, strategy), choice.seed);
        let corpus = self.data.join("masks").join(tokens_name(choice));
        corpus.join(seeded).join(format!("epochs-{first}-{count}"))
    }

    /// Below the models of the corpus: shape, recipe, guidance and horizon, then the masks and the seed.
    pub fn model_folder(&self, choice: &Choice, masks: &str) -> PathBuf {
        let guide = if choice.distillation.is_empty() {
            String::new()
        } else {
            format!("-from-{}{}", self.teacher_folder(choice), transfer(choice))
        };
        let recipe = typed(choice.recipe(), choice);
        let above = format!("{}-{recipe}{guide}-e{}", choice.student, choice.epochs);
        let corpus = self.data.join("models").join(tokens_name(choice));
        corpus.join(above).join(format!("{masks}-s{}", choice.seed))
    }

    /// Another kind of artifact about the model in `folder`.
    pub fn about(&self, folder: &Path, kind: &str) -> PathBuf {
        let below = folder.strip_prefix(self.data.join("models")).unwrap_or(folder);
        self.data.join(kind).join(below)
    }

    /// The teacher as the Makefile calls it, by its file's name or by its folder, with what the grid decides about its training.
    pub fn teacher_folder(&self, choice: &Choice) -> String {
        let name =
            Path::new(&choice.teacher).file_name().unwrap_or_default().to_string_lossy().replace('=', "-");
        match self.catalogue.teacher(&choice.teacher) {
            Ok(Teacher::Own { epochs, .. }) => {
                format!("{name}-{}-e{}", typed(&choice.train, choice), epochs.unwrap_or(choice.epochs))
            }
            _ if self.catalogue.path("teacher", &choice.teacher).is_file() => name,
            _ => from_elsewhere(&choice.teacher),
        }
    }

    /// Rate and schedule of masks of `strategy`, where they are not those of its file.
    pub fn variant(&self, choice: &Choice, strategy: &str) -> String {
        let rate = choice.rate.map(|rate| format!("-p{rate}")).unwrap_or_default();
        let keys: Vec<_> =
            self.schedule(choice, strategy).map(|(key, value)| format!("{key}={value}")).collect();
        if keys.is_empty() {
            return rate;
        }
        let digest = blake3::hash(keys.join("\n").as_bytes()).to_hex();
        format!("{rate}-{}-{}", choice.schedule, &digest[..8])
    }

    /// What the schedule of masking sets for masks of `strategy`: the random masks of a beginning do not have what the policy
    /// of the choice's own has, so that they are the same whatever becomes of it.
    pub fn schedule(
        &self,
        choice: &Choice,
        strategy: &str,
    ) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        let own = strategy == choice.strategy;
        let set = self.grid.schedules.get(&choice.schedule).into_iter().flatten();
        set.filter(move |(key, _)| own || !key.starts_with("policy."))
    }
}

/// A model's folder as the Makefile calls it, so that its scores are shared: by its name and, since folders of different models often have
/// the same one, by its place.
fn from_elsewhere(folder: &str) -> String {
    let place = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
    let mut plain = PathBuf::new();
    for part in place.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    let name = plain.file_name().unwrap_or_default().to_string_lossy().replace('=', "-");
    let digest = Sha256::digest(plain.as_os_str().as_encoded_bytes());
    let [a, b, c, d] = [0, 1, 2, 3].map(|place| digest[place]);
    format!("{name}-{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// The corpus, or the share of it.
pub(super) fn tokens_name(choice: &Choice) -> String {
    if choice.data < 1.0 { format!("{}-x{}", choice.corpus, choice.data) } else { choice.corpus.clone() }
}

/// When the teacher begins, unless it is there from the beginning.
pub(super) fn transfer(choice: &Choice) -> String {
    match choice.transfer {
        Transfer::Complete => String::new(),
        _ => format!("-{}-{}", choice.get(Axis::Transfer), choice.init_fraction),
    }
}

/// What `name` makes in the type of the choice's matrix products.
pub(super) fn typed(name: &str, choice: &Choice) -> String {
    match choice.dtype {
        Dtype::F32 => name.into(),
        Dtype::Bf16 => format!("{name}-bf16"),
    }
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf %s /models/bert-base-uncased | sha256sum`
    #[test]
    fn a_teacher_from_elsewhere_is_called_as_in_the_makefile() {
        for folder in ["/models/bert-base-uncased", "/models/other/../bert-base-uncased/"] {
            assert_eq!(from_elsewhere(folder), "bert-base-uncased-7d8e81a5");
        }
        assert!(from_elsewhere("/models/lr=1e-3").starts_with("lr-1e-3-"));
    }
}
