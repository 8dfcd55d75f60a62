//! A terminal that may go away while a stage works: nobody is left to read what cannot be drawn, and the work goes on.
//!
//! indicatif panics where its terminal fails, and so would a run of days when a connection drops.

use std::io::{IsTerminal, Result};

use console::Term;
use indicatif::{ProgressDrawTarget, TermLike};

/// How often a second bars are drawn at most.
const FRAMES: u8 = 20;

/// Where bars are drawn: stderr if it is a terminal that moves its cursor, else nowhere.
pub(crate) fn draw_target() -> ProgressDrawTarget {
    let is_dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
    if std::io::stderr().is_terminal() && !is_dumb {
        // Styles ask about stdout, of which only terminals of indicatif's own are an exception.
        console::set_colors_enabled(console::colors_enabled_stderr());
        ProgressDrawTarget::term_like_with_hz(Box::new(Unfailing(Term::buffered_stderr())), FRAMES)
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// Drawing on it never fails.
#[derive(Debug)]
struct Unfailing<T>(T);

impl<T: TermLike> TermLike for Unfailing<T> {
    fn width(&self) -> u16 {
        self.0.width()
    }

    fn height(&self) -> u16 {
        self.0.height()
    }

    fn move_cursor_up(&self, n: usize) -> Result<()> {
        self.0.move_cursor_up(n).or(Ok(()))
    }

    fn move_cursor_down(&self, n: usize) -> Result<()> {
        self.0.move_cursor_down(n).or(Ok(()))
    }

    fn move_cursor_right(&self, n: usize) -> Result<()> {
        self.0.move_cursor_right(n).or(Ok(()))
    }

    fn move_cursor_left(&self, n: usize) -> Result<()> {
        self.0.move_cursor_left(n).or(Ok(()))
    }

    fn write_line(&self, text: &str) -> Result<()> {
        self.0.write_line(text).or(Ok(()))
    }

    fn write_str(&self, text: &str) -> Result<()> {
        self.0.write_str(text).or(Ok(()))
    }

    fn clear_line(&self) -> Result<()> {
        self.0.clear_line().or(Ok(()))
    }

    fn flush(&self) -> Result<()> {
        self.0.flush().or(Ok(()))
    }
}
