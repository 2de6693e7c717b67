//! False alarms: recordings of one and the same program, dealt to two sides and compared.
//!
//! The sides are neighbours in time, or take turns as in `perfprof ci run` (A B, B A, …). Comparisons of one kind overlap where
//! the pool is small, so they are fewer independent trials than their number; the interval takes them for independent.

use std::path::PathBuf;

use super::asking::Question;
use super::pool::{self, Recorded};
use super::proportion::Proportion;
use super::{Options, folder};
use crate::bench::book::{Book, Target};

/// Of each of the five kinds: 200 together.
const COMPARISONS: usize = 40;

/// The highest share of comparisons that may tell anything.
const MOST: f64 = 0.05;

struct Kind {
    name: &'static str,
    runs: usize,
    words: &'static [&'static str],
    file: fn(&Recorded) -> &PathBuf,
}

const WORK: &[&str] = &["--work-before", "1", "--work-after", "1"];

const KINDS: [Kind; 5] = [
    Kind {
        name: "cost of work, 1 run a side",
        runs: 1,
        words: WORK,
        file: |one| &one.pprof,
    },
    Kind {
        name: "cost of work, 3 runs in turns",
        runs: 3,
        words: WORK,
        file: |one| &one.pprof,
    },
    Kind {
        name: "cost of work, 5 runs in turns",
        runs: 5,
        words: WORK,
        file: |one| &one.pprof,
    },
    Kind {
        name: "cores, 3 runs in turns",
        runs: 3,
        words: &[],
        file: |one| &one.pprof,
    },
    Kind {
        name: "shares (folded), 3 runs in turns",
        runs: 3,
        words: &[],
        file: |one| &one.folded,
    },
];

pub(super) fn run(options: &Options, book: &mut Book) -> anyhow::Result<()> {
    println!("false alarms: one program against itself");
    let pool = pool::recordings(options.pool, options.reuse)?;
    let mut all = Proportion { hits: 0, of: 0 };
    for kind in &KINDS {
        let mut told = Proportion { hits: 0, of: 0 };
        let (mut inconclusive, mut functions) = (0, 0);
        for start in starts(pool.len() - 2 * kind.runs + 1) {
            let answer = question(kind, &pool[start..]).ask(&folder().join("scratch"))?;
            let alarms = answer.alarms();
            told.of += 1;
            told.hits += usize::from(!alarms.is_empty());
            functions += answer.functions().len();
            inconclusive += usize::from(answer.document["verdict"] == "inconclusive");
            if !alarms.is_empty() {
                println!("  from recording {start}: {}", alarms.join(", "));
            }
        }
        println!(
            "  {:34} {told}; {:.0} functions each; {inconclusive} inconclusive as a whole",
            kind.name,
            functions as f64 / told.of as f64
        );
        all.hits += told.hits;
        all.of += told.of;
    }
    println!("  {:34} {all}", "all");
    let figure = format!("false alarms, share of {} comparisons", all.of);
    book.row_alone(&figure, &[all.share()], Target::AtMost(MOST));
    Ok(())
}

/// Beginnings of windows, spread evenly over those that there are.
fn starts(windows: usize) -> impl Iterator<Item = usize> {
    let count = COMPARISONS.min(windows);
    (0..count).map(move |number| number * windows / count)
}

fn question(kind: &Kind, window: &[Recorded]) -> Question {
    let mut sides = [Vec::new(), Vec::new()];
    for (round, pair) in window.chunks(2).take(kind.runs).enumerate() {
        for (place, one) in pair.iter().enumerate() {
            sides[(place + round) % 2].push((kind.file)(one).clone());
        }
    }
    let [before, after] = sides;
    Question {
        before,
        after,
        words: kind.words.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_and_windows_are_spread() {
        let pool: Vec<Recorded> = (0..6)
            .map(|number| Recorded {
                pprof: format!("{number}").into(),
                folded: "folded".into(),
            })
            .collect();
        let asked = question(&KINDS[1], &pool);
        let names =
            |side: &[PathBuf]| -> String { side.iter().map(|p| p.display().to_string()).collect() };
        assert_eq!(
            (names(&asked.before), names(&asked.after)),
            ("034".into(), "125".into())
        );
        assert_eq!(starts(3).collect::<Vec<_>>(), [0, 1, 2]);
        let spread: Vec<usize> = starts(55).collect();
        assert_eq!((spread.len(), spread[0], spread[39]), (40, 0, 53));
    }
}
