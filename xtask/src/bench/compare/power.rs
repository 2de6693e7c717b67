//! Power: a change of known size, drawn again and again, and how often it is found.
//!
//! The made-up service spends its time in one path that changes and in 30 others that do not; a tick falls on a stack by
//! chance, independently of the others, or in bursts: every third of a second has one kind of request, and the changed path
//! takes most of its time in some of them. More samples are a longer recording. Found means: the path is *improved*.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use fastrand::Rng;

use super::asking::Question;
use super::made_up::{self, Program, Row};
use super::proportion::Proportion;
use super::{Options, folder};
use crate::bench::book::{Book, Target};
use crate::bench::running::clear;

/// Comparisons for each round that is asked for: 100 with the usual five.
const COMPARISONS_PER_ROUND: usize = 20;
const OTHERS: u32 = 30;
const CHANGED: &str = "app::changed";
/// One core at 500 Hz.
const TICKS_PER_SLICE: f64 = 50.0;
/// Slices that have one kind of request.
const BURST: u32 = 3;

/// How ticks come, and in how many runs.
#[derive(Clone, Copy, Debug)]
struct Design {
    name: &'static str,
    runs: usize,
    bursts: bool,
}

const DESIGNS: [Design; 3] = [
    Design {
        name: "1 run",
        runs: 1,
        bursts: false,
    },
    Design {
        name: "5 runs in turns",
        runs: 5,
        bursts: false,
    },
    Design {
        name: "1 run, in bursts",
        runs: 1,
        bursts: true,
    },
];

pub(super) fn run(options: &Options, book: &mut Book) -> anyhow::Result<()> {
    let comparisons = options.rounds * COMPARISONS_PER_ROUND;
    println!("power: {comparisons} comparisons a point, all of made-up profiles");
    for design in DESIGNS {
        let large = Change {
            before: 0.30,
            after: 0.24,
            words: &["--work-before", "1", "--work-after", "1"],
        };
        let found = large.found(15_000.0, design, comparisons)?;
        println!(
            "  30 % to 24 % of CPU, 15,000 samples, {}: found in {found}",
            design.name
        );
        let figure = format!("30 % to 24 % found, {}", design.name);
        // So many ticks in bursts are fewer independent ones, which nobody has promised to be enough.
        let target = match design.bursts {
            true => Target::None,
            false => Target::AtLeast(0.95),
        };
        book.row_alone(&figure, &[found.share()], target);
    }
    for design in DESIGNS {
        let small = Change {
            before: 0.10,
            after: 0.09,
            words: &[
                "--work-before",
                "1",
                "--work-after",
                "1",
                "--tolerance",
                "5%",
            ],
        };
        let planned = small.planned(design)?;
        let needed = small.needed(planned, design, comparisons)?;
        let ratio = needed / planned;
        println!(
            "  10 % to 9 %, {}: 80 % are found with {needed:.0} samples, planned {planned:.0}: {ratio:.2} times",
            design.name
        );
        // Farther from 1, on either side.
        let figure = format!("10 % to 9 %, samples needed and planned, {}", design.name);
        book.row_alone(&figure, &[ratio.max(1.0 / ratio)], Target::AtMost(1.5));
    }
    Ok(())
}

struct Change {
    /// CPU time of the path for a unit of work; the others' is 1 minus `before` on both sides.
    before: f64,
    after: f64,
    words: &'static [&'static str],
}

impl Change {
    /// How many of so many comparisons find it, with so many samples on the before side.
    fn found(
        &self,
        samples: f64,
        design: Design,
        comparisons: usize,
    ) -> anyhow::Result<Proportion> {
        let mut found = Proportion { hits: 0, of: 0 };
        for number in 0..comparisons {
            let answer = self
                .question(samples, design, number as u64)?
                .ask(&scratch())?;
            found.of += 1;
            found.hits += usize::from(answer.verdict_of(CHANGED) == Some("improved"));
        }
        Ok(found)
    }

    /// Both sides, recorded into files.
    fn question(&self, samples: f64, design: Design, seed: u64) -> anyhow::Result<Question> {
        let mut rng = Rng::with_seed(seed << 20 ^ samples as u64);
        let files = folder().join("power");
        clear(&files)?;
        let program = program();
        let mut sides = [Vec::new(), Vec::new()];
        for run in 0..design.runs {
            for (side, path) in [self.before, self.after].into_iter().enumerate() {
                let file = files.join(format!("{side}-{run}.pb.gz"));
                let samples = samples / design.runs as f64;
                let rows = draw(path, 1.0 - self.before, samples, design.bursts, &mut rng);
                // A B, B A, …
                let turn = (side + run) % 2;
                let started = (run * 2 + turn) as u64 * 3600;
                made_up::write(&file, &program, &rows, slices(samples), started)?;
                sides[side].push(file);
            }
        }
        let [before, after] = sides;
        Ok(Question {
            before,
            after,
            words: self.words.to_vec(),
        })
    }

    /// What `perfprof plan` says, with as many paths as are really tested, and a profile where ticks are not independent.
    fn planned(&self, design: Design) -> anyhow::Result<f64> {
        let question = self.question(30_000.0, design, 0)?;
        let paths = question.ask(&scratch())?.functions().len();
        let profile = design.bursts.then(|| question.before[0].as_path());
        plan(
            self.before,
            1.0 - self.after / self.before,
            (paths, design.runs),
            profile,
        )
    }

    /// The number of samples with which 80 of 100 are found: by halving the interval around what was planned.
    fn needed(&self, planned: f64, design: Design, comparisons: usize) -> anyhow::Result<f64> {
        let (mut low, mut high) = (planned / 4.0, planned * 4.0);
        for _ in 0..6 {
            let middle = (low * high).sqrt();
            let found = self.found(middle, design, comparisons)?;
            println!("    {middle:.0} samples: {found}");
            match found.share() >= 0.8 {
                true => high = middle,
                false => low = middle,
            }
        }
        Ok((low * high).sqrt())
    }
}

fn plan(
    share: f64,
    change: f64,
    (paths, runs): (usize, usize),
    profile: Option<&Path>,
) -> anyhow::Result<f64> {
    let mut command = Command::new(crate::bench::perfprof());
    command.args(["plan", "--json", "--power", "0.8"]);
    command.args([
        "--share",
        &share.to_string(),
        "--change",
        &format!("{change:.6}"),
    ]);
    command.args(["--paths", &paths.to_string(), "--runs", &runs.to_string()]);
    if let Some(profile) = profile {
        command.arg("--profile").arg(profile);
    }
    let output = command.output().context("failed to run perfprof")?;
    ensure!(
        output.status.success(),
        "perfprof plan: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("the plan is no JSON")?;
    let effect = &document["design_effect"];
    println!("    planned with {paths} paths and a design effect of {effect:.2}");
    document["samples_per_side"]
        .as_f64()
        .context("the plan names no number of samples")
}

fn scratch() -> PathBuf {
    folder().join("scratch")
}

/// `main` calls the path that changes, two functions below it, and the others with one each.
fn program() -> Program {
    let mut functions: Vec<String> = [
        "main",
        "app::serve",
        CHANGED,
        "app::changed::a",
        "app::changed::b",
    ]
    .map(String::from)
    .into();
    let mut stacks = vec![vec![0, 1, 2, 3], vec![0, 1, 2, 4]];
    for other in 0..OTHERS {
        functions.push(format!("app::other_{other}"));
        stacks.push(vec![0, 1, functions.len() as u32 - 1]);
    }
    Program { functions, stacks }
}

/// Ticks of one run: `samples` when path and others together take 1.
fn draw(path: f64, others: f64, samples: f64, bursts: bool, rng: &mut Rng) -> Vec<Row> {
    let length = slices(samples);
    let mut counts = vec![vec![0u32; length as usize]; 2 + OTHERS as usize];
    // Others decline from the first on, as in real profiles.
    let weight = |other: u32| 1.0 / f64::from(other + 2);
    let all: f64 = (0..OTHERS).map(weight).sum();
    let mut of_burst = 1.0;
    for slice in 0..length {
        if slice % BURST == 0 {
            // One request in four uses the path much, the others little; 1 on average.
            of_burst = match (bursts, rng.f64() < 0.25) {
                (false, _) => 1.0,
                (true, true) => 1.6,
                (true, false) => 0.8,
            };
        }
        let here = path * of_burst;
        for _ in 0..whole(samples * (here + others) / f64::from(length), rng) {
            let mut at = rng.f64() * (here + others);
            let stack = if at < here {
                rng.usize(..2)
            } else {
                at = (at - here) / others * all;
                let drawn = (0..OTHERS).find(|other| {
                    at -= weight(*other);
                    at < 0.0
                });
                2 + drawn.unwrap_or(0) as usize
            };
            counts[stack][slice as usize] += 1;
        }
    }
    let mut rows = Vec::new();
    for (stack, slices) in counts.iter().enumerate() {
        for (slice, ticks) in slices.iter().enumerate().filter(|(_, ticks)| **ticks > 0) {
            rows.push(Row {
                stack: stack as u32,
                slice: slice as u32,
                ticks: *ticks,
            });
        }
    }
    rows
}

/// Length of a run.
fn slices(samples: f64) -> u32 {
    (samples / TICKS_PER_SLICE).ceil() as u32
}

/// A whole number that is `expected` on average.
fn whole(expected: f64, rng: &mut Rng) -> u32 {
    (expected + rng.f64()).floor() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_ticks_have_the_share_that_was_asked_for() {
        for bursts in [false, true] {
            let rows = draw(0.3, 0.7, 100_000.0, bursts, &mut Rng::with_seed(1));
            let ticks = |of: fn(&Row) -> bool| -> f64 {
                rows.iter()
                    .filter(|row| of(row))
                    .map(|row| f64::from(row.ticks))
                    .sum()
            };
            let (all, path) = (ticks(|_| true), ticks(|row| row.stack < 2));
            // 667 bursts of weight 1.6 or 0.8 add a standard error of 1.3 % to that of the ticks, 0.5 %.
            let tolerance = if bursts { 0.017 } else { 0.006 };
            assert!((path / all - 0.3).abs() < tolerance, "{path} of {all}");
        }
    }
}
