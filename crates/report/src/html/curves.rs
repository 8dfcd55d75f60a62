//! The plots of a training run.

use crate::metrics::{Metrics, Step, Validation};
use crate::number::short;

use super::plot::{Line, Plot, Scale, Tick, band, dots, line, on_axis, plain};

/// Ticks of the long axis.
const X_TICKS: usize = 6;

/// A run's log with what is known about its rounds.
pub(crate) struct Curves {
    pub metrics: Metrics,
    /// The last step of each round that is there.
    pub round_ends: Vec<u64>,
    /// The number of the first of these.
    pub first_round: usize,
    /// ln of the vocabulary's size: the loss of a model that knows nothing.
    pub ln_vocabulary: Option<f64>,
}

impl Curves {
    /// Training and validation loss over tokens, all rounds as one curve. `None` without a log.
    pub fn loss(&self) -> Option<Plot> {
        let (train, valid) = (self.train(), self.valid(|v| v.valid_loss));
        if train.len() + valid.len() < 2 {
            return None;
        }
        let guess = self.ln_vocabulary.filter(|_| train.iter().chain(&valid).any(|point| point.1 > 6.0));
        let (x, y) = (self.x(), Scale::around(train.iter().chain(&valid).map(|point| point.1).chain(guess)));
        let lines = vec![
            band(&train, x, y),
            line("train", &train, x, y),
            line("valid", &valid, x, y),
            dots(&valid, x, y),
        ];
        let guides =
            guess.map(|loss| Tick { at: y.percent(loss), label: format!("ln V = {loss:.2}: a blind guess") });
        let mut plot = self.plot("loss", "Loss", loss_in_words(&train, &valid), x, lines);
        plot.y = y.ticks(6, plain);
        plot.guides = guides.into_iter().collect();
        plot.spans = self.spans(x);
        Some(plot)
    }

    /// What else the validations measured, and the learning rate.
    pub fn others(&self) -> Vec<Plot> {
        let accuracy = self.valid(|v| 100.0 * v.valid_accuracy);
        let perplexity = self.valid(|v| v.valid_perplexity);
        let rate: Vec<_> = self.metrics.steps.iter().map(|step| (step.tokens as f64, step.lr)).collect();
        let highest = Scale::from_zero(accuracy.iter().map(|point| point.1));
        let mut plots = Vec::new();
        if accuracy.len() > 1 {
            let (scale, log) = (highest, Scale::log(perplexity.iter().map(|point| point.1)));
            plots.push(self.small("accuracy", "Accuracy, %", &accuracy, scale, plain));
            plots.push(self.small("perplexity", "Perplexity, log scale", &perplexity, log, on_axis));
        }
        if rate.iter().any(|point| point.1 > 0.0) {
            let scale = Scale::from_zero(rate.iter().map(|point| point.1));
            plots.push(self.small("rate", "Learning rate", &rate, scale, scientific));
        }
        plots
    }

    pub(crate) fn is_validated(&self) -> bool {
        !self.metrics.validations.is_empty()
    }

    pub(crate) fn is_distilled(&self) -> bool {
        self.metrics.steps.iter().any(Step::is_distilled)
    }

    fn small(
        &self,
        id: &'static str,
        title: &'static str,
        points: &[(f64, f64)],
        y: Scale,
        format: fn(f64) -> String,
    ) -> Plot {
        let x = self.x();
        let mut lines = vec![line("valid", points, x, y)];
        if points.len() == self.metrics.validations.len() {
            lines.push(dots(points, x, y));
        }
        let ends = points.first().zip(points.last());
        let words = ends.map_or_else(String::new, |(first, last)| {
            let tokens = short(last.0);
            format!("{title}: from {} to {} over {tokens} tokens", format(first.1), format(last.1))
        });
        let mut plot = self.plot(id, title, words, x, lines);
        plot.x = x.ticks(3, on_axis);
        plot.y = y.ticks(4, format);
        plot
    }

    fn plot(&self, id: &'static str, title: &'static str, label: String, x: Scale, lines: Vec<Line>) -> Plot {
        let (marks, ticks) = (self.marks(x), x.ticks(X_TICKS, on_axis));
        Plot { id, title, label, lines, x: ticks, y: vec![], marks, spans: vec![], guides: vec![] }
    }

    fn x(&self) -> Scale {
        Scale::from_zero(self.metrics.steps.iter().map(|step| step.tokens as f64))
    }

    fn train(&self) -> Vec<(f64, f64)> {
        self.metrics.steps.iter().map(|step| (step.tokens as f64, step.cross_entropy())).collect()
    }

    fn valid(&self, value: fn(&Validation) -> f64) -> Vec<(f64, f64)> {
        self.metrics.validations.iter().map(|v| (v.tokens as f64, value(v))).collect()
    }

    /// Tokens at which each round ended.
    fn ends(&self) -> Vec<f64> {
        self.round_ends
            .iter()
            .filter_map(|&step| self.metrics.tokens_at(step))
            .map(|tokens| tokens as f64)
            .collect()
    }

    fn marks(&self, x: Scale) -> Vec<Tick> {
        let ends = self.ends();
        let between = &ends[..ends.len().saturating_sub(1)];
        between.iter().map(|&tokens| Tick { at: x.percent(tokens), label: String::new() }).collect()
    }

    /// The names of the rounds in the middle of their spans; only numbers if there are many.
    fn spans(&self, x: Scale) -> Vec<Tick> {
        let ends = self.ends();
        if ends.len() < 2 {
            return vec![];
        }
        let begins = std::iter::once(0.0).chain(ends.iter().copied());
        let name = |index: usize| match (index, self.first_round + index) {
            (0, round) if round > 0 => format!("rounds 0 to {round}"),
            (index, round) if ends.len() > 5 && index > 0 => round.to_string(),
            (_, round) => format!("round {round}"),
        };
        let span = |(index, (from, to)): (usize, (f64, &f64))| Tick {
            at: x.percent(f64::midpoint(from, *to)),
            label: name(index),
        };
        begins.zip(&ends).enumerate().map(span).collect()
    }
}

fn loss_in_words(train: &[(f64, f64)], valid: &[(f64, f64)]) -> String {
    let course = |name: &str, points: &[(f64, f64)]| {
        let (first, last) = points.first().zip(points.last())?;
        Some(format!("{name} loss goes from {:.2} to {:.2} nats", first.1, last.1))
    };
    let tokens = train.last().map_or(0.0, |point| point.0);
    let courses: Vec<_> =
        [course("training", train), course("validation", valid)].into_iter().flatten().collect();
    format!("Over {} tokens, {}", short(tokens), courses.join(", "))
}

/// `5e-4`; 0 stays 0.
fn scientific(value: f64) -> String {
    if value == 0.0 { "0".into() } else { format!("{value:.1e}").replace(".0e", "e") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Step;

    fn curves(steps: u64) -> Curves {
        let step =
            |step: u64| Step { step, tokens: step * 100, loss: 10.0 / step as f64 + 5.0, ce: None, lr: 1e-3 };
        let validation = |step: u64| Validation {
            step,
            tokens: step * 100,
            valid_loss: 10.3,
            valid_accuracy: 0.05,
            valid_perplexity: 30_000.0,
            flops: None,
        };
        let metrics = Metrics {
            steps: (1..=steps).map(step).collect(),
            validations: (0..=steps / 10).map(validation).collect(),
        };
        Curves { metrics, round_ends: vec![10, 20], first_round: 0, ln_vocabulary: Some(10.326) }
    }

    #[test]
    fn rounds_are_marked_where_they_end() {
        let plot = curves(20).loss().expect("a log");
        assert_eq!((plot.marks.len(), plot.marks[0].at), (1, 50.0));
        let names: Vec<_> = plot.spans.iter().map(|span| (span.at, span.label.as_str())).collect();
        assert_eq!(names, [(25.0, "round 0"), (75.0, "round 1")]);
        assert_eq!(plot.guides[0].label, "ln V = 10.33: a blind guess");
        assert!(plot.label.contains("training loss goes from 15.00"), "{}", plot.label);
    }

    #[test]
    fn an_empty_log_has_no_plots() {
        let curves =
            Curves { metrics: Metrics::default(), round_ends: vec![], first_round: 0, ln_vocabulary: None };
        assert!(curves.loss().is_none() && curves.others().is_empty());
    }

    #[test]
    fn numbers_on_axes_are_short() {
        assert_eq!([plain(10.0), plain(0.25), plain(7.5)], ["10", "0.25", "7.5"]);
        assert_eq!([scientific(0.0), scientific(5e-4), scientific(0.00025)], ["0", "5e-4", "2.5e-4"]);
    }
}
