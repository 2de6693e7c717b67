//! Settings from a file: each key is a flag's name, so that whatever is said of a flag is true of the file.
//!
//! In: YAML, a mapping of names to a word, a list of words, or true and false. Out: the same arguments as if they had been typed
//! before those that were.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow};
use clap::Parser;
use serde::Deserialize;

use crate::cli::args::{AgentArgs, Cli, Command};
use crate::cli::stop::{Exit, Failure};

const MAX_BYTES: u64 = 1 << 20;
const COMMAND: &str = "agent";

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Setting {
    Flag(bool),
    Words(Vec<Word>),
    Word(Word),
}

/// YAML has numbers; a flag takes what was written.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Whole(i64),
    Number(f64),
    Text(String),
}

impl Word {
    fn text(&self) -> String {
        match self {
            Word::Whole(number) => number.to_string(),
            Word::Number(number) => number.to_string(),
            Word::Text(text) => text.clone(),
        }
    }
}

/// The arguments, with those of the file if one is named.
pub(super) fn with_file(typed: AgentArgs) -> Result<AgentArgs, Failure> {
    match typed.config {
        Some(_) => again(),
        None => Ok(typed),
    }
}

/// Reads what was typed, and the file it names, once more.
pub(super) fn again() -> Result<AgentArgs, Failure> {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let args = parse(typed.clone())?;
    let Some(path) = &args.config else {
        return Ok(args);
    };
    let words = words(path).map_err(|error| Failure::new(Exit::BadInput, error))?;
    let command = typed.iter().position(|word| word == COMMAND).unwrap_or(0);
    let (before, after) = typed.split_at(command + 1);
    let all = before
        .iter()
        .cloned()
        .chain(words)
        .chain(after.iter().cloned());
    parse(all.collect()).map_err(|failure| {
        let error = failure
            .error
            .context(format!("in `{}`, or in what was typed", path.display()));
        Failure {
            error,
            exit: Exit::BadInput,
            hint: failure.hint,
        }
    })
}

fn parse(words: Vec<OsString>) -> Result<AgentArgs, Failure> {
    // What follows the first paragraph is for who types.
    let wrong = |error: String| {
        let error = error.split("\n\n").next().unwrap_or_default();
        Failure::message(Exit::Usage, error.trim_start_matches("error: ").trim())
    };
    match Cli::try_parse_from(words)
        .map_err(|error| wrong(error.to_string()))?
        .command
    {
        Command::Agent(args) => Ok(*args),
        _ => Err(wrong("not the agent's arguments".into())),
    }
}

fn words(path: &Path) -> anyhow::Result<Vec<OsString>> {
    let mut text = String::new();
    let doing = || format!("failed to read `{}`", path.display());
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        .with_context(doing)?;
    let settings: BTreeMap<String, Setting> = match text.trim().is_empty() {
        true => BTreeMap::new(),
        false => serde_saphyr::from_str(&text)
            .map_err(|error| anyhow!("{}", error.without_snippet()))
            .with_context(doing)?,
    };
    let mut words = Vec::new();
    for (name, setting) in settings {
        if name == "config" || name.starts_with('-') {
            return Err(anyhow!("`{name}` cannot be set in a file")).with_context(doing);
        }
        let flag = format!("--{}", name.replace('_', "-"));
        let mut add = |word: &Word| words.push(OsString::from(format!("{flag}={}", word.text())));
        match &setting {
            Setting::Flag(true) => words.push(flag.into()),
            Setting::Flag(false) => {}
            Setting::Word(word) => add(word),
            Setting::Words(list) => list.iter().for_each(&mut add),
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> anyhow::Result<Vec<OsString>> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        words(file.path())
    }

    #[test]
    fn keys_are_flags() {
        let yaml = "window: 30s\nfrequency: 49\nmax_cpu: 0.5%\nlabel: [team=shop, tier=1]\nno-kernel: true\nkeep-capabilities: false\npod: true\n";
        let words = of(yaml).expect("all of it");
        let mut expected = [
            "--frequency=49",
            "--label=team=shop",
            "--label=tier=1",
            "--max-cpu=0.5%",
            "--no-kernel",
            "--pod",
            "--window=30s",
        ];
        expected.sort_unstable();
        let mut words: Vec<String> = words
            .into_iter()
            .map(|w| w.into_string().expect("text"))
            .collect();
        words.sort_unstable();
        assert_eq!(words, expected);
        assert!(of("").expect("nothing").is_empty());
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for bad in [
            "- a",
            "config: x",
            "--frequency: 3",
            "label: {a: b}",
            "window: [[1]]",
            "\t:",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
