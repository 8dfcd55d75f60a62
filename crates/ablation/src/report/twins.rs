//! Runs of different choices that come to one and the same result: some file decides what the grid meant to.

use std::path::PathBuf;

use super::findings::{Findings, RunFindings};

/// What a run comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    /// What tells its choices from others.
    pub label: String,
    pub seed: u64,
    /// Where its model is: what differs in fine-tuning only has one there.
    pub folder: PathBuf,
    /// What its model is known by: a key, a content; nothing if it is not known.
    pub model: Vec<String>,
    /// The keys of its fine-tunings, as far as they are known.
    pub glue: Vec<String>,
}

/// Which runs of a report are one and the same, in words. Different recipes that make the same bits do not differ either.
pub(crate) fn of(findings: &Findings) -> Vec<String> {
    let made = |run: &RunFindings| Made {
        label: findings.systems[run.system].label.clone(),
        seed: run.seed,
        folder: run.model.clone(),
        model: run.key.iter().chain(&run.content).cloned().collect(),
        glue: run.glue.values().map(|scores| scores.key.clone()).collect(),
    };
    in_words(&findings.runs.iter().map(made).collect::<Vec<_>>())
}

/// Which runs are one and the same, a text for each pair of labels.
pub(crate) fn in_words(runs: &[Made]) -> Vec<String> {
    let mut twins: Vec<((&str, &str), Vec<String>)> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        for other in runs[..index].iter().filter(|other| other.is_twin(run)) {
            let (labels, seed) = ((other.label.as_str(), run.label.as_str()), run.seed.to_string());
            match twins.iter_mut().find(|(found, _)| *found == labels) {
                Some((_, seeds)) => seeds.push(seed),
                None => twins.push((labels, vec![seed])),
            }
        }
    }
    let words = |((one, other), seeds): &((&str, &str), Vec<String>)| {
        format!(
            "{one} and {other} (seed {}) are one and the same, so some file that they name decides what the grid varies",
            seeds.join(", ")
        )
    };
    twins.iter().map(words).collect()
}

impl Made {
    /// A run of the same seed is one of other choices, or else the grid had it once.
    fn is_twin(&self, other: &Self) -> bool {
        let shares = |own: &[String], theirs: &[String]| own.iter().any(|digest| theirs.contains(digest));
        let is_one_model = self.folder != other.folder && shares(&self.model, &other.model);
        self.seed == other.seed && (is_one_model || shares(&self.glue, &other.glue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(label: &str, seed: u64, model: &str, glue: &str) -> Made {
        let folder = format!("models/{}", label.split(',').next().unwrap_or_default()).into();
        Made { label: label.into(), seed, folder, model: vec![model.into()], glue: vec![glue.into()] }
    }

    #[test]
    fn runs_of_one_result_are_named_by_pair() {
        let runs = [
            made("complete", 1, "m1", "g1"),
            made("complete", 2, "m2", "g2"),
            made("late", 1, "m1", "g1"),
            made("late", 2, "m2", "g2"),
            made("other", 1, "m3", "g3"),
        ];
        let said = in_words(&runs);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("complete and late (seed 1, 2) are one and the same"), "{said:?}");
    }

    /// Runs that differ in fine-tuning only share their model, and what is not known is nothing.
    #[test]
    fn a_shared_model_is_no_twin_and_a_shared_result_is() {
        let [plain, frozen] = [made("a", 1, "m", "g1"), made("a, body frozen", 1, "m", "g2")];
        assert!(in_words(&[plain.clone(), frozen.clone()]).is_empty());
        assert_eq!(in_words(&[plain.clone(), Made { glue: plain.glue.clone(), ..frozen.clone() }]).len(), 1);
        let unknown =
            |made: Made| Made { model: vec![], glue: vec![], folder: made.label.clone().into(), ..made };
        assert!(in_words(&[unknown(plain), unknown(frozen)]).is_empty());
    }
}
