//! Speed: two profiles with a million samples and a hundred thousand distinct stacks, compared with pictures.
//!
//! Stacks are random walks down a call graph, 20 to 40 deep. A few are taken often and most rarely, as in real services.
//! After the change one function in a hundred costs a fifth less, and one stack in fifty is another.

use std::fs;

use anyhow::Context;
use fastrand::Rng;

use super::asking::Question;
use super::made_up::{self, Program, Row};
use super::{Options, folder};
use crate::bench::book::{Book, Target};
use crate::bench::running::clear;

const SAMPLES: usize = 1_000_000;
const STACKS: usize = 100_000;
const FUNCTIONS: u32 = 5_000;
/// Five minutes in slices of a tenth of a second.
const SLICES: u32 = 3_000;
/// Callees of a function: a walk down the graph branches so often.
const CALLEES: u32 = 4;

const MOST_SECONDS: f64 = 5.0;
const MOST_BYTES: f64 = 500e6;

pub(super) fn run(options: &Options, book: &mut Book) -> anyhow::Result<()> {
    println!("speed: {SAMPLES} samples and {STACKS} distinct stacks a side, with pictures");
    let files = folder().join("speed");
    clear(&files)?;
    let mut rng = Rng::with_seed(1);
    let [before, after] = [program(&mut rng, 0), program(&mut rng, STACKS / 50)];
    let mut paths = Vec::new();
    for (name, program) in [("before", &before), ("after", &after)] {
        let path = files.join(name).with_extension("pb.gz");
        let rows = draw(name == "after", program, &mut rng);
        made_up::write(&path, program, &rows, SLICES, 0)?;
        let bytes = fs::metadata(&path).context("a profile is gone")?.len();
        println!(
            "  {name}: {} rows, {:.1} MB",
            rows.len(),
            bytes as f64 / 1e6
        );
        paths.push(path);
    }
    let question = Question {
        before: vec![paths[0].clone()],
        after: vec![paths[1].clone()],
        words: vec!["--work-before", "1", "--work-after", "1"],
    };
    for _ in 0..options.rounds {
        let answer = question.ask(&folder().join("scratch"))?;
        for (figure, value) in [
            ("wall, s", answer.wall_seconds),
            ("CPU, s", answer.cpu_seconds),
            ("peak RSS, MB", answer.rss_bytes as f64 / 1e6),
            ("functions tested", answer.functions().len() as f64),
        ] {
            book.note(figure, "perfprof", value);
        }
    }
    println!("  load average {}", super::load_average());
    for figure in ["wall, s", "CPU, s", "peak RSS, MB", "functions tested"] {
        book.print(figure);
    }
    for (figure, target) in [
        ("wall, s", Target::AtMost(MOST_SECONDS)),
        ("CPU, s", Target::None),
        ("peak RSS, MB", Target::AtMost(MOST_BYTES / 1e6)),
    ] {
        let values = book.series(figure, "perfprof").to_vec();
        book.row_alone(figure, &values, target);
    }
    Ok(())
}

/// Stacks of a call graph that is always the same; the first `other` of them are others.
fn program(rng: &mut Rng, other: usize) -> Program {
    let functions =
        (0..FUNCTIONS).map(|number| format!("service::module_{}::function_{number}", number % 97));
    let mut walks = Rng::with_seed(7);
    let mut seen = std::collections::HashSet::new();
    let mut stacks = Vec::new();
    while stacks.len() < STACKS {
        let stack = walk(&mut walks);
        if seen.insert(stack.clone()) {
            stacks.push(stack);
        }
    }
    let mut replaced = 0;
    while replaced < other {
        let stack = walk(rng);
        if seen.insert(stack.clone()) {
            stacks[replaced * (STACKS / other)] = stack;
            replaced += 1;
        }
    }
    Program {
        functions: functions.collect(),
        stacks,
    }
}

/// From `main` down to a leaf.
fn walk(rng: &mut Rng) -> Vec<u32> {
    let depth = rng.usize(20..=40);
    let mut stack = vec![0u32];
    while stack.len() < depth {
        let caller = stack[stack.len() - 1];
        // The first callee is called most.
        let callee = rng.u32(..CALLEES).min(rng.u32(..CALLEES));
        stack.push((caller * CALLEES + callee + 1) * 31 % FUNCTIONS);
    }
    stack
}

/// Every stack at least once; the more, the earlier it stands in a random order.
fn draw(changed: bool, program: &Program, rng: &mut Rng) -> Vec<Row> {
    let cheaper = |stack: &[u32]| changed && stack.iter().any(|function| function % 100 == 42);
    let mut rows = Vec::with_capacity(SAMPLES);
    let mut tick = |stack: usize, rng: &mut Rng| {
        rows.push(Row {
            stack: stack as u32,
            slice: rng.u32(..SLICES),
            ticks: 1,
        });
    };
    for (number, _) in program.stacks.iter().enumerate() {
        tick(number, rng);
    }
    for _ in STACKS..SAMPLES {
        // Density falls as the inverse of the rank.
        let rank = (STACKS as f64).powf(rng.f64()) as usize % STACKS;
        let stack = (rank * 7919 + 13) % STACKS;
        if !(cheaper(&program.stacks[stack]) && rng.f64() < 0.2) {
            tick(stack, rng);
        }
    }
    rows.sort_unstable();
    rows.dedup_by(|next, kept| {
        let same = (next.stack, next.slice) == (kept.stack, kept.slice);
        if same {
            kept.ticks += next.ticks;
        }
        same
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_as_many_distinct_stacks_as_it_says_and_draws_all_of_them() {
        let program = program(&mut Rng::with_seed(1), 10);
        let distinct: std::collections::HashSet<&Vec<u32>> = program.stacks.iter().collect();
        assert_eq!(distinct.len(), STACKS);
        assert!(
            program
                .stacks
                .iter()
                .all(|stack| (20..=40).contains(&stack.len()))
        );
        let rows = draw(false, &program, &mut Rng::with_seed(2));
        let ticks: usize = rows.iter().map(|row| row.ticks as usize).sum();
        assert_eq!(ticks, SAMPLES);
        let drawn: std::collections::HashSet<u32> = rows.iter().map(|row| row.stack).collect();
        assert_eq!(drawn.len(), STACKS);
    }
}
