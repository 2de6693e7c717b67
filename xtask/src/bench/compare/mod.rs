//! `cargo xtask bench compare`: whether `perfprof compare` can be believed, and what it costs.
//!
//! | part | question | file |
//! |---|---|---|
//! | `alarms` | how often is a real program told from itself, on this machine as it is now? | `alarms.rs`, `pool.rs` |
//! | `power` | is a known change found, and does `perfprof plan` know how many samples that takes? | `power.rs`, `made_up.rs` |
//! | `speed` | what do two large profiles take to compare, pictures and all? | `speed.rs`, `made_up.rs` |
//!
//! Everything is asked of the built binary by files, as users do. Alarms are of recordings made in this run; power and
//! speed need a known truth and are of made-up ones.

mod alarms;
mod asking;
mod made_up;
mod pool;
mod power;
mod proportion;
mod speed;

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::book::Book;
use crate::target_dir;

const PARTS: [&str; 3] = ["alarms", "power", "speed"];

/// What the words behind `bench compare` ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Repetitions of `speed`; comparisons of `power`, in twenties.
    pub(super) rounds: usize,
    /// Recordings for `alarms`.
    pub(super) pool: usize,
    /// Take the recordings of the last run instead of new ones.
    pub(super) reuse: bool,
    /// Empty: all.
    pub(super) parts: Vec<String>,
}

impl Options {
    /// Of the words that are no `--rounds`.
    pub(super) fn parse(rounds: usize, words: &[String]) -> anyhow::Result<Options> {
        let mut options = Options {
            rounds,
            pool: pool::USUAL_SIZE,
            reuse: false,
            parts: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--pool" => {
                    let number = words.next().context("--pool needs a number")?;
                    options.pool = match number.parse() {
                        Ok(size) if (pool::LEAST_SIZE..=1000).contains(&size) => size,
                        _ => bail!(
                            "`{number}` is not a number of recordings from {} to 1000",
                            pool::LEAST_SIZE
                        ),
                    };
                }
                "--reuse" => options.reuse = true,
                part if PARTS.contains(&part) => options.parts.push(part.to_string()),
                other => bail!(
                    "`bench compare` has no part `{other}`, only {}",
                    PARTS.join(", ")
                ),
            }
        }
        Ok(options)
    }

    fn asks_for(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|asked| asked == part)
    }
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    super::build_perfprof()?;
    let mut book = Book::default();
    if options.asks_for("alarms") {
        alarms::run(options, &mut book)?;
    }
    if options.asks_for("power") {
        power::run(options, &mut book)?;
    }
    if options.asks_for("speed") {
        speed::run(options, &mut book)?;
    }
    println!("\nload average now: {}", load_average());
    book.print_table();
    Ok(())
}

/// Where profiles stand; kept until the next run.
fn folder() -> PathBuf {
    target_dir().join("bench/compare")
}

/// The machine is part of the figures.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let figures: Vec<&str> = text.split_whitespace().take(3).collect();
    figures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_parts_and_the_pool() {
        let parse = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
            Options::parse(5, &words)
        };
        let all = parse(&[]).expect("valid");
        assert!(PARTS.iter().all(|part| all.asks_for(part)));
        let some = parse(&["alarms", "--pool", "20", "--reuse"]).expect("valid");
        assert_eq!((some.pool, some.reuse), (20, true));
        assert!(some.asks_for("alarms") && !some.asks_for("speed"));
        for bad in [&["x"][..], &["--pool"], &["--pool", "3"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
