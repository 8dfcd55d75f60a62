//! How long the rest will take.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use entromask_artifact::Manifest;
use entromask_report::number::duration;

use crate::plan::{Plan, Program};

/// What stages took, by what they have in common.
pub(super) struct Estimate<'a> {
    plan: &'a Plan,
    jobs: usize,
    seconds: Mutex<BTreeMap<(Program, &'a str), Vec<f64>>>,
}

impl<'a> Estimate<'a> {
    /// Begins with the stages that earlier runs have made.
    pub fn new(plan: &'a Plan, jobs: usize) -> Self {
        let estimate = Self { plan, jobs, seconds: Mutex::default() };
        (0..plan.stages.len()).for_each(|index| estimate.made(index));
        estimate
    }

    /// Takes note of what a stage took, as its manifest says.
    pub fn made(&self, index: usize) {
        let stage = &self.plan.stages[index];
        if let Ok(manifest) = Manifest::load_any(&stage.out) {
            let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
            seconds.entry((stage.program, &stage.class)).or_default().push(manifest.cost.seconds);
        }
    }

    /// `; about 2 h 10 min left`, for the stages that are `open`. Where nothing like a stage was made yet, its program's
    /// other stages have to do; where there are none, the time is a lower bound and says so.
    pub fn left(&self, open: impl Fn(usize) -> bool) -> String {
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let mean = |wanted: &dyn Fn(&(Program, &str)) -> bool| {
            let found: Vec<_> =
                seconds.iter().filter(|(key, _)| wanted(key)).flat_map(|(_, all)| all).collect();
            (!found.is_empty()).then(|| found.iter().copied().sum::<f64>() / found.len() as f64)
        };
        let of = |index: usize| {
            let stage = &self.plan.stages[index];
            mean(&|key| *key == (stage.program, stage.class.as_str()))
                .or_else(|| mean(&|key| key.0 == stage.program))
        };
        let estimates: Vec<_> = (0..self.plan.stages.len()).filter(|&index| open(index)).map(of).collect();
        if estimates.iter().all(Option::is_none) {
            return String::new();
        }
        let total = estimates.iter().flatten().sum::<f64>() / self.jobs as f64;
        let about = if estimates.iter().all(Option::is_some) { "about" } else { "more than" };
        format!("; {about} {} left", duration(total))
    }
}
