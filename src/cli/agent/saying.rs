//! The agent's lines in the log, with the time: it runs for days.

use std::sync::Mutex;

use jiff::Timestamp;

use crate::agent::Say;
use crate::cli::status::Log;

/// Says what the agent has to say; the same warning again and again only once.
#[derive(Debug)]
pub(super) struct Saying<'a> {
    log: &'a Log,
    last: Mutex<String>,
}

impl<'a> Saying<'a> {
    pub fn new(log: &'a Log) -> Saying<'a> {
        Saying {
            log,
            last: Mutex::default(),
        }
    }
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Say for Saying<'_> {
    fn info(&self, message: String) {
        self.log.info(format!("{} {message}", now()));
    }

    fn warning(&self, message: String) {
        let mut last = self
            .last
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if *last != message {
            self.log.warning(format!("{} {message}", now()));
            *last = message;
        }
    }
}
