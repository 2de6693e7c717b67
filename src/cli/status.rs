//! What the user sees while a command runs, on standard error: log lines, and on a terminal a progress line.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::args::Verbosity;
use super::stop::Failure;

/// Prints status. Every outside string must be escaped by the caller; [`Log`] replaces control characters once more.
#[derive(Debug)]
pub(super) struct Log {
    quiet: bool,
    verbose: bool,
    terminal: bool,
    /// A progress line stands on the terminal and must be cleared first.
    line_open: AtomicBool,
}

impl Log {
    pub fn new(verbosity: &Verbosity) -> Log {
        Log {
            quiet: verbosity.quiet,
            verbose: verbosity.verbose,
            terminal: std::io::stderr().is_terminal(),
            line_open: AtomicBool::new(false),
        }
    }

    /// Says nothing but errors and warnings.
    pub fn silent() -> Log {
        Log {
            quiet: true,
            verbose: false,
            terminal: false,
            line_open: AtomicBool::new(false),
        }
    }

    /// Whether to show progress in one line that changes.
    pub fn has_progress_line(&self) -> bool {
        self.terminal && !self.quiet
    }

    /// Whether colours make sense.
    pub fn colour(&self) -> bool {
        self.terminal && std::env::var_os("NO_COLOR").is_none()
    }

    pub fn info(&self, message: impl Display) {
        if !self.quiet {
            self.line(&message.to_string());
        }
    }

    pub fn detail(&self, message: impl Display) {
        if self.verbose {
            message.to_string().lines().for_each(|line| self.line(line));
        }
    }

    pub fn warning(&self, message: impl Display) {
        self.line(&format!("warning: {message}"));
    }

    /// A block that is laid out already, such as the summary.
    pub fn block(&self, text: &str) {
        if !self.quiet {
            self.clear();
            let _ = write!(std::io::stderr(), "{text}");
        }
    }

    /// Replaces the progress line.
    pub fn progress(&self, text: &str) {
        if self.has_progress_line() {
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", printable(text));
            let _ = std::io::stderr().flush();
            self.line_open.store(true, Ordering::Relaxed);
        }
    }

    /// An error, its causes and what to do.
    pub fn failure(&self, failure: &Failure) {
        self.line(&format!("error: {}", failure.error));
        for cause in failure.error.chain().skip(1) {
            self.line(&format!("cause: {cause}"));
        }
        if let Some(hint) = &failure.hint {
            self.line(&format!("hint:  {hint}"));
        }
    }

    fn line(&self, text: &str) {
        self.clear();
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{}", printable(text));
    }

    fn clear(&self) {
        if self.line_open.swap(false, Ordering::Relaxed) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Text of others must neither move the cursor nor make lines of its own: control characters are shown as escapes.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_escape_codes_cannot_move_the_cursor() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}\nc"), "a\\u{1b}[2Jb\\u{9b}\\nc");
    }
}
