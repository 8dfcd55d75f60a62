//! Which stage is next.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use entromask_cli::interrupted;

use super::Outcome;
use super::process::Exit;
use crate::plan::Plan;

/// How long a worker sleeps before it looks whether the user asked to stop.
const NAP: Duration = Duration::from_millis(200);

/// The stages that are left. Of those that are ready the first one is next, so that runs are finished in the order of the
/// grid.
pub(super) struct Queue<'a> {
    plan: &'a Plan,
    states: Mutex<Vec<State>>,
    changed: Condvar,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Done,
    Failed(String),
    Skipped,
    Stopped,
}

impl<'a> Queue<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        Self { plan, states: Mutex::new(vec![State::Waiting; plan.stages.len()]), changed: Condvar::new() }
    }

    /// The next stage, as soon as one is ready; none when all is done or the user asked to stop.
    pub fn next(&self) -> Option<usize> {
        let mut states = self.lock();
        loop {
            if interrupted() {
                return None;
            }
            let waits = |index: &usize| states[*index] == State::Waiting;
            let mut waiting = (0..states.len()).filter(waits).peekable();
            waiting.peek()?;
            let ready = |index: &usize| self.plan.needs(*index).all(|needed| states[needed] == State::Done);
            if let Some(index) = waiting.find(ready) {
                states[index] = State::Running;
                return Some(index);
            }
            states = self.changed.wait_timeout(states, NAP).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes note of what became of a stage; `exit` is none where its program could not be called.
    pub fn finish(&self, index: usize, exit: Option<&Exit>) {
        let mut states = self.lock();
        states[index] = match exit {
            Some(Exit::Done) => State::Done,
            Some(Exit::Interrupted) => State::Stopped,
            Some(Exit::Failed(said)) => State::Failed(said.clone()),
            None => State::Failed("its program could not be called".into()),
        };
        if states[index] != State::Done {
            // Stages come after what they need, so that one pass finds all that follow.
            for later in index + 1..states.len() {
                let lost =
                    |needed: usize| !matches!(states[needed], State::Done | State::Waiting | State::Running);
                if states[later] == State::Waiting && self.plan.needs(later).any(lost) {
                    states[later] = State::Skipped;
                }
            }
        }
        self.changed.notify_all();
    }

    /// How many stages are done when `index` is, and how many there are.
    pub fn count_with(&self, index: usize) -> (usize, usize) {
        let states = self.lock();
        let done = (0..states.len()).filter(|&stage| stage == index || states[stage] == State::Done).count();
        (done, states.len())
    }

    /// Whether a stage is still to be made when `index` is.
    pub fn is_open(&self, stage: usize, index: usize) -> bool {
        stage != index && matches!(self.lock()[stage], State::Waiting | State::Running)
    }

    pub fn outcome(&self, interrupted: bool) -> Outcome {
        let mut outcome = Outcome { interrupted, ..Outcome::default() };
        for (index, state) in self.lock().iter().enumerate() {
            match state {
                State::Failed(said) => outcome.failed.push((index, said.clone())),
                State::Skipped => outcome.skipped.push(index),
                _ => {}
            }
        }
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Program, Stage};

    /// 0 ← 1 ← 2, and 3 by itself.
    fn plan() -> Plan {
        let stage = |out: &str, inputs: &[&str]| Stage {
            program: Program::Select,
            out: out.into(),
            inputs: inputs.iter().map(Into::into).collect(),
            args: vec![],
            class: String::new(),
        };
        Plan {
            stages: vec![stage("a", &[]), stage("b", &["a"]), stage("c", &["b"]), stage("d", &[])],
            runs: vec![],
        }
    }

    #[test]
    fn a_stage_waits_for_what_it_needs() {
        let plan = plan();
        let queue = Queue::new(&plan);
        assert_eq!((queue.next(), queue.next()), (Some(0), Some(3)));
        queue.finish(3, Some(&Exit::Done));
        queue.finish(0, Some(&Exit::Done));
        assert_eq!(queue.next(), Some(1));
        assert_eq!(queue.count_with(1), (3, 4));
        queue.finish(1, Some(&Exit::Done));
        assert_eq!(queue.next(), Some(2));
        queue.finish(2, Some(&Exit::Done));
        assert_eq!((queue.next(), queue.outcome(false)), (None, Outcome::default()));
    }

    #[test]
    fn a_failure_takes_along_what_follows_and_nothing_else() {
        let plan = plan();
        let queue = Queue::new(&plan);
        assert_eq!(queue.next(), Some(0));
        queue.finish(0, Some(&Exit::Failed("no".into())));
        assert_eq!(queue.next(), Some(3));
        queue.finish(3, Some(&Exit::Done));
        assert_eq!(queue.next(), None);
        let outcome = queue.outcome(false);
        assert_eq!((outcome.failed, outcome.skipped), (vec![(0, "no".into())], vec![1, 2]));
    }
}
