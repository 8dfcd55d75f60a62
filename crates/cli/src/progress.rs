//! Progress bars that show tokens/s and the time left, and lines in the log where there is no terminal.

use std::io::Write;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{
    HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle,
};

use crate::terminal::draw_target;

/// All bars of the process, so that log lines can be printed above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| MultiProgress::with_draw_target(draw_target()));

/// How often the log says how far the work is where no bar does.
const PAUSE: Duration = Duration::from_mins(1);

/// A bar over tokens. It draws on stderr, and only on a terminal; else the log has a line a minute.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// When the log told last; never, if the work has a log of its own.
    told: Option<Mutex<Instant>>,
}

impl Progress {
    /// A bar named `label` over `total` tokens.
    pub fn new(label: impl Into<String>, total: u64) -> Self {
        let style = "{msg:24!} {wide_bar:.cyan/dim} {percent:>3}% {human_pos}/{human_len} tokens \
                     {per_sec} left {eta}";
        Self::styled(label, ProgressBar::new(total), style)
    }

    /// A bar named `label` over tokens whose number is not known yet; see [`Progress::estimate`].
    pub fn estimated(label: impl Into<String>) -> Self {
        let style = "{msg:24!} {wide_bar:.cyan/dim} {percent:>3}% {human_pos}/~{human_len} tokens \
                     {per_sec} left {eta}";
        Self::styled(label, ProgressBar::no_length(), style)
    }

    /// Estimates the number of all tokens: those counted so far came out of `done` of `all` units of the input, e.g.
    /// bytes of its files.
    pub fn estimate(&self, done: u64, all: u64) {
        let tokens = self.bar.position() as f64;
        if done > 0 && tokens > 0.0 {
            self.bar.set_length((tokens * (all as f64 / done as f64).max(1.0)).round() as u64);
        }
    }

    /// Without lines in the log, for work that tells of itself.
    #[must_use]
    pub fn untold(self) -> Self {
        Self { told: None, ..self }
    }

    /// Counts `tokens` more tokens.
    pub fn inc(&self, tokens: u64) {
        self.bar.inc(tokens);
        if BARS.is_hidden() && self.told.as_ref().is_some_and(|told| is_due(told, Instant::now())) {
            tracing::info!("{}: {}", self.bar.message(), self.so_far());
        }
    }

    /// Work that an earlier run has done: it counts as done, but not towards the speed.
    pub fn resume_at(&self, tokens: u64) {
        self.bar.set_position(tokens);
        self.bar.reset_eta();
    }

    /// Changes the label, e.g. to show the loss.
    pub fn label(&self, label: impl Into<String>) {
        self.bar.set_message(label.into());
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// `12 % of 457,490 tokens, 8.5 k/s, 40s left`, as far as it is known.
    fn so_far(&self) -> String {
        let (done, speed) = (self.bar.position(), speed(self.bar.per_sec()));
        match self.bar.length().filter(|all| *all > 0) {
            Some(all) => {
                let (percent, left) = (100 * done / all, HumanDuration(self.bar.eta()));
                format!("{percent} % of {} tokens, {speed}, {left} left", HumanCount(all))
            }
            None => format!("{} tokens, {speed}", HumanCount(done)),
        }
    }

    fn styled(label: impl Into<String>, bar: ProgressBar, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).expect("the template is a valid one");
        // A stage that fails leaves no bar standing above its error.
        let bar = BARS.add(bar.with_message(label.into()).with_finish(ProgressFinish::AndClear));
        bar.set_style(style.with_key("per_sec", per_second));
        Self { bar, told: Some(Mutex::new(Instant::now())) }
    }
}

/// Whether it is time for another line, which then counts as told.
fn is_due(told: &Mutex<Instant>, now: Instant) -> bool {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    let is_due = now.duration_since(*told) >= PAUSE;
    if is_due {
        *told = now;
    }
    is_due
}

/// Hides all bars, for `--quiet`.
pub(crate) fn hide() {
    BARS.set_draw_target(ProgressDrawTarget::hidden());
}

/// Prints log lines above the bars.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Where stderr is closed nobody is left to tell.
        let _ = BARS.suspend(|| std::io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn per_second(state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write) {
    // The bar's own string cannot fail to grow.
    let _ = out.write_str(&speed(state.per_sec()));
}

fn speed(tokens: f64) -> String {
    if tokens >= 1e6 { format!("{:.2} M/s", tokens / 1e6) } else { format!("{:.1} k/s", tokens / 1e3) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_total_is_estimated_from_the_share_of_the_input() {
        let progress = Progress::estimated("tokenize");
        progress.estimate(0, 1000);
        progress.inc(300);
        progress.estimate(0, 1000);
        assert_eq!(progress.bar.length(), None, "nothing is known yet");
        progress.estimate(100, 1000);
        assert_eq!(progress.bar.length(), Some(3000));
        progress.inc(100);
        progress.estimate(1000, 1000);
        assert_eq!(progress.bar.length(), Some(400));
        progress.estimate(1001, 1000);
        assert_eq!(progress.bar.length(), Some(400), "a file that has grown");
    }

    #[test]
    fn the_log_tells_once_a_minute() {
        let progress = Progress::new("score", 2_000);
        let told = progress.told.as_ref().expect("tells");
        let began = *told.lock().expect("whole");
        let due = [59, 60, 61, 119, 120].map(|seconds| is_due(told, began + Duration::from_secs(seconds)));
        assert_eq!(due, [false, true, false, false, true]);
        std::thread::sleep(Duration::from_millis(20));
        progress.inc(500);
        let line = progress.so_far();
        assert!(line.starts_with("25 % of 2,000 tokens, ") && line.ends_with(" left"), "{line}");
        assert!(progress.untold().told.is_none());
    }

    #[test]
    fn an_estimated_total_gives_the_time_left() {
        let progress = Progress::estimated("tokenize");
        std::thread::sleep(Duration::from_millis(50));
        progress.inc(1_000);
        progress.estimate(1, 1_000);
        let left = progress.bar.eta();
        // 999,000 tokens at 1,000 in 50 ms are 50 s.
        assert!(left > Duration::from_secs(30), "{left:?}");
    }
}
