//! One `perfprof compare`, by files: what it concluded, and what it used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::bench::running::{Running, clear, last_words};

/// One comparison to be made.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub(super) before: Vec<PathBuf>,
    pub(super) after: Vec<PathBuf>,
    /// Further words of the command line.
    pub(super) words: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// `performance-comparison.json`.
    pub(super) document: Value,
    pub(super) wall_seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) rss_bytes: u64,
}

impl Question {
    /// Asks in a scratch folder, which keeps what was written until the next question.
    pub(super) fn ask(&self, scratch: &Path) -> anyhow::Result<Answer> {
        clear(scratch)?;
        let mut command = Command::new(crate::bench::perfprof());
        command.args(["--quiet", "compare", "--before"]);
        command.args(&self.before);
        command.arg("--after").args(&self.after);
        command.args(&self.words);
        command.arg("--artifacts").arg(scratch);
        let log = scratch.with_extension("log");
        let begin = Instant::now();
        let ended = Running::start(&mut command, &log)?.end()?;
        let wall_seconds = begin.elapsed().as_secs_f64();
        // A regression, or too little data, is an answer.
        let answered = matches!(ended.status.code(), Some(0 | 1 | 5));
        ensure!(answered, "perfprof compare: {}", last_words(&log));
        let text = fs::read(scratch.join("performance-comparison.json"))
            .context("no comparison was written")?;
        Ok(Answer {
            document: serde_json::from_slice(&text).context("the comparison is no JSON")?,
            wall_seconds,
            cpu_seconds: ended.cpu_seconds,
            rss_bytes: ended.rss_bytes,
        })
    }
}

impl Answer {
    /// What has a verdict other than unchanged or inconclusive: the whole, a function.
    pub(super) fn alarms(&self) -> Vec<String> {
        let told =
            |entry: &Value| matches!(entry["verdict"].as_str(), Some("improved" | "regressed"));
        let mut alarms = Vec::new();
        if told(&self.document) || told(&self.document["total"]) {
            alarms.push("the whole".to_string());
        }
        let functions = self.functions().iter().filter(|entry| told(entry));
        alarms.extend(functions.map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or("?").to_string();
            format!("{} {}", text("name"), text("verdict"))
        }));
        alarms
    }

    pub(super) fn verdict_of(&self, function: &str) -> Option<&str> {
        let entry = self
            .functions()
            .iter()
            .find(|entry| entry["name"] == function)?;
        entry["verdict"].as_str()
    }

    pub(super) fn functions(&self) -> &[Value] {
        self.document["functions"]
            .as_array()
            .map_or(&[], Vec::as_slice)
    }
}
