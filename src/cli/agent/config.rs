//! Settings from a file: each key is a flag's name, so that whatever is said of a flag is true of the file.
//!
//! In: YAML, a mapping of names to a word, a list of words, or true and false. Out: the same arguments as if they had been typed
//! before those that were.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, CommandFactory, Parser};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use crate::cli::args::{AgentArgs, Cli, Command};
use crate::cli::stop::{Exit, Failure};

const MAX_BYTES: u64 = 1 << 20;
const COMMAND: &str = "agent";

/// What stands at a key. Numbers keep their spelling: a flag takes what was written.
#[derive(Debug, PartialEq)]
enum Setting {
    Words(Vec<String>),
    Word(String),
}

/// The same before it is known what of it is a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only what kind of value it is matters")]
enum Shape {
    Words(Vec<Scalar>),
    Word(Scalar),
}

/// Whatever is no list and no mapping.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only what kind of value it is matters")]
enum Scalar {
    Flag(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

/// Reads settings whose shapes are known.
struct Shaped<'a>(&'a BTreeMap<String, Shape>);

impl<'de> DeserializeSeed<'de> for Shaped<'_> {
    type Value = Vec<(String, Setting)>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Shaped<'_> {
    type Value = Vec<(String, Setting)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names of flags and what they are set to")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut settings = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let setting = match self.0.get(&name) {
                Some(Shape::Words(_)) => Setting::Words(map.next_value()?),
                _ => Setting::Word(map.next_value()?),
            };
            settings.push((name, setting));
        }
        Ok(settings)
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
        let lines = error.trim_start_matches("error: ").split_whitespace();
        Failure::message(Exit::Usage, lines.collect::<Vec<_>>().join(" "))
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
    let mut words = Vec::new();
    let command = Cli::command();
    let agent = command.find_subcommand(COMMAND).expect("it is one");
    for (name, setting) in settings(&text).with_context(doing)? {
        let flag = name.replace('_', "-");
        let arg = agent
            .get_arguments()
            .find(|arg| arg.get_long() == Some(flag.as_str()) && flag != "config")
            .ok_or_else(|| anyhow!("`{name}` is no setting of the agent"))
            .with_context(doing)?;
        let set = |word: &str| OsString::from(format!("--{flag}={word}"));
        match &setting {
            Setting::Words(list) => words.extend(list.iter().map(|word| set(word))),
            Setting::Word(word) => match (takes(arg), switch(word)) {
                (Takes::Nothing | Takes::Perhaps, Some(true)) => {
                    words.push(format!("--{flag}").into());
                }
                (Takes::Nothing | Takes::Perhaps, Some(false)) => {}
                (Takes::Nothing, None) => {
                    return Err(anyhow!("`{name}` is `true` or `false`, not `{word}`"))
                        .with_context(doing);
                }
                (Takes::Perhaps, None) | (Takes::Word, _) => words.push(set(word)),
            },
        }
    }
    Ok(words)
}

/// All settings of a file, in its order.
fn settings(text: &str) -> anyhow::Result<Vec<(String, Setting)>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |error: serde_saphyr::Error| anyhow!("{}", error.without_snippet());
    let shapes: BTreeMap<String, Shape> = serde_saphyr::from_str(text).map_err(wrong)?;
    let read =
        serde_saphyr::with_deserializer_from_str(text, |from| Shaped(&shapes).deserialize(from));
    read.map_err(wrong)
}

/// Whether a flag takes a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Perhaps,
    Word,
}

fn takes(arg: &Arg) -> Takes {
    match (arg.get_action(), arg.get_num_args()) {
        (ArgAction::SetTrue, _) => Takes::Nothing,
        (_, Some(range)) if range.min_values() == 0 => Takes::Perhaps,
        _ => Takes::Word,
    }
}

/// YAML 1.1 knows more words for true and false than YAML 1.2.
fn switch(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
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
            "quiet: true",
            "no-kernel: perhaps",
            "window:",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_taken_as_they_are_written() {
        let yaml = "comm: 1.10\nservice: 0x10\nkubernetes-api: off\nnode-name: yes\nlabel: [a=1.0, 1.20]\nno-kernel: on\npod: \"007\"\n";
        let words = of(yaml).expect("all of it");
        let expected = [
            "--comm=1.10",
            "--service=0x10",
            "--kubernetes-api=off",
            "--node-name=yes",
            "--label=a=1.0",
            "--label=1.20",
            "--no-kernel",
            "--pod=007",
        ];
        assert_eq!(words, expected.map(OsString::from));
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        let typed = ["perfprof", "agent", "--pid", "1", "--comm", "x", "--all"];
        let failure = parse(typed.map(OsString::from).into()).expect_err("too many targets");
        let said = failure.error.to_string();
        assert!(said.contains("--pid") && said.contains("--comm"), "{said}");
        assert!(!said.contains('\n'), "{said}");
        let said = format!("{:#}", of("quiet: true").expect_err("of all commands"));
        assert!(
            said.contains("`quiet` is no setting of the agent"),
            "{said}"
        );
    }
}
