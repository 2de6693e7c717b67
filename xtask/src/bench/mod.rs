//! `cargo xtask bench`: what recording costs, measured in this run, on this machine.
//!
//! `record` holds `perfprof record` as users get it against `perf record`; `unwind` holds the unwinder inside the kernel
//! against its peers, figure by figure; `symbols` the way from the last sample to named outputs; `waits` asks what it costs
//! that waits are accounted for; `compare` whether comparisons can be believed, and `soak` whether the agent can run all day. In all of them, recorders take turns, so that a machine that drifts drifts for all. Trust
//! the ratios within one run; the absolute figures are this machine's.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::setup::{self, Purpose};
use crate::{cargo, must_succeed, target_dir};

mod book;
mod compare;
mod generated_crate;
mod measure;
mod peers;
mod record;
mod running;
mod samply;
mod soak;
mod spread;
mod symbols;
mod unwind;
mod waits;

const DEFAULT_ROUNDS: usize = 5;

/// What the words after `bench` ask for.
#[derive(Debug, PartialEq)]
enum Asked {
    Record { rounds: usize },
    Unwind { rounds: usize, only: Vec<String> },
    Symbols { rounds: usize, only: Vec<String> },
    Waits { rounds: usize },
    Compare(compare::Options),
    Soak(soak::Options),
}

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    match parse(words)? {
        Asked::Record { rounds } => record::run(rounds),
        Asked::Unwind { rounds, only } => unwind::run(rounds, &only),
        Asked::Symbols { rounds, only } => symbols::run(rounds, &only),
        Asked::Waits { rounds } => waits::run(rounds),
        Asked::Compare(options) => compare::run(&options),
        Asked::Soak(options) => soak::run(&options),
    }
}

fn parse(words: &[&str]) -> anyhow::Result<Asked> {
    if let ["soak", rest @ ..] = words {
        return Ok(Asked::Soak(soak::Options::parse(rest)?));
    }
    let (figure, rest) = match words {
        [
            figure @ ("record" | "unwind" | "symbols" | "waits" | "compare"),
            rest @ ..,
        ] => (*figure, rest),
        rest => ("record", rest),
    };
    let (mut rounds, mut only) = (DEFAULT_ROUNDS, Vec::new());
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match (*word, figure) {
            ("--rounds", _) => rounds = number(rest.next().context("--rounds needs a number")?)?,
            (word, "record" | "waits") => rounds = number(word)?,
            (word, _) => only.push(word.to_string()),
        }
    }
    Ok(match figure {
        "unwind" => Asked::Unwind { rounds, only },
        "symbols" => Asked::Symbols { rounds, only },
        "waits" => Asked::Waits { rounds },
        "compare" => Asked::Compare(compare::Options::parse(rounds, &only)?),
        _ => Asked::Record { rounds },
    })
}

fn number(word: &str) -> anyhow::Result<usize> {
    match word.parse() {
        Ok(rounds) if (1..=100).contains(&rounds) => Ok(rounds),
        _ => bail!("`{word}` is not a number from 1 to 100"),
    }
}

/// Builds what is measured.
fn build_perfprof() -> anyhow::Result<()> {
    setup::run(&[Purpose::Build])?;
    must_succeed(&mut cargo(&["build", "--release", "--bin", "perfprof"]))
}

fn perfprof() -> PathBuf {
    target_dir().join("release/perfprof")
}

/// Where a recording's files stand until the next one.
fn run_folder() -> PathBuf {
    target_dir().join("bench/run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_the_benchmark_its_rounds_and_its_parts() {
        let record = |rounds| Asked::Record { rounds };
        assert_eq!(parse(&[]).expect("valid"), record(5));
        assert_eq!(parse(&["3"]).expect("valid"), record(3));
        assert_eq!(parse(&["record", "2"]).expect("valid"), record(2));
        let unwind = parse(&["unwind", "redis", "--rounds", "1", "w1"]).expect("valid");
        let only = vec!["redis".to_string(), "w1".to_string()];
        assert_eq!(unwind, Asked::Unwind { rounds: 1, only });
        let symbols = parse(&["symbols", "rustc", "--rounds", "2"]).expect("valid");
        let only = vec!["rustc".to_string()];
        assert_eq!(symbols, Asked::Symbols { rounds: 2, only });
        let waits = parse(&["waits", "--rounds", "3"]).expect("valid");
        assert_eq!(waits, Asked::Waits { rounds: 3 });
        let soak = parse(&["soak"]).expect("valid");
        assert_eq!(soak, Asked::Soak(soak::Options::default()));
        for bad in [
            &["soak", "5"][..],
            &["x"],
            &["waits", "x"],
            &["0"],
            &["--rounds"],
            &["unwind", "--rounds", "x"],
            &["compare", "x"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
