//! What a program that failed said last.

/// The error that it ended with; the message of its first panic, which others may follow from; or its last line.
pub(super) fn last_words(said: &str) -> Option<String> {
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    trouble(said).or_else(|| Some(last.into()))
}

/// The error that it ended with, or the message of its first panic.
pub(super) fn trouble(said: &str) -> Option<String> {
    error_in(said).or_else(|| panic_in(said))
}

/// An error that nothing else follows, of one line or several.
fn error_in(said: &str) -> Option<String> {
    const OTHERS: [&str; 6] = ["INFO ", "WARN ", "DEBUG ", "TRACE ", "note: ", "stack backtrace:"];
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let begin = lines.iter().rposition(|line| line.starts_with("ERROR "))?;
    let lines = &lines[begin..];
    let end = lines.iter().position(|line| OTHERS[4..].iter().any(|other| line.starts_with(other)));
    let lines = &lines[..end.unwrap_or(lines.len())];
    let goes_on = lines.iter().any(|line| OTHERS.iter().any(|other| line.starts_with(other)));
    (!goes_on).then(|| lines.join(" ")["ERROR ".len()..].to_owned())
}

/// `thread 'main' panicked at src/main.rs:1:2:` and the line after it. What follows is advice on backtraces.
fn panic_in(said: &str) -> Option<String> {
    let mut lines = said.lines().map(str::trim);
    let place = lines.find(|line| line.starts_with("thread '") && line.contains(" panicked at "))?;
    Some(format!("{place} {}", lines.next().unwrap_or_default()).trim_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "INFO reads the tokens\n\nthread 'main' (4711) panicked at crates/score/src/run.rs:12:5:\n\
        index out of bounds: the len is 3 but the index is 3\n\
        note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\
        note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.\n";
    const MESSAGE: &str = "thread 'main' (4711) panicked at crates/score/src/run.rs:12:5: index out of bounds: \
        the len is 3 but the index is 3";

    #[test]
    fn a_panic_is_told_by_its_message() {
        assert_eq!(last_words(PANIC).as_deref(), Some(MESSAGE));
        let second = format!("{PANIC}\nthread 'main' panicked at a.rs:1:1:\na scoped thread panicked\n");
        assert_eq!(last_words(&second).as_deref(), Some(MESSAGE), "the first is the cause");
        let cut = "thread 'main' panicked at a.rs:1:1:";
        assert_eq!(last_words(cut).as_deref(), Some(cut));
    }

    #[test]
    fn an_error_is_told_without_its_level() {
        let long = "INFO a\nERROR first line\n  second line with detail\n";
        assert_eq!(last_words(long).as_deref(), Some("first line second line with detail"));
        let within = "INFO a\nERROR f: the server said ERROR 404\nnote: run with more\n";
        assert_eq!(last_words(within).as_deref(), Some("f: the server said ERROR 404"));
        let caught = "ERROR a\nINFO goes on";
        assert_eq!(last_words(caught).as_deref(), Some("INFO goes on"));
        assert_eq!(
            last_words("INFO a\nERROR a.toml: no such file\n\n").as_deref(),
            Some("a.toml: no such file")
        );
        let both = format!("{PANIC}ERROR a thread panicked\n");
        assert_eq!(last_words(&both).as_deref(), Some("a thread panicked"), "it was caught");
        assert_eq!(last_words("says nothing of errors\n").as_deref(), Some("says nothing of errors"));
        assert_eq!(last_words(" \n"), None);
    }
}
