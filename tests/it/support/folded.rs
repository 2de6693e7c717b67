//! A folded file as the tests see it, parsed here anew: the product's own reader must not vouch for its own writer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Stacks, root first, with their number of samples.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    pub(crate) stacks: BTreeMap<Vec<String>, u64>,
}

impl Folded {
    pub(crate) fn read(path: &Path) -> Folded {
        let text = fs::read_to_string(path)
            .unwrap_or_else(|e| panic!("failed to read `{}`: {e}", path.display()));
        let mut folded = Folded::default();
        for line in text.lines() {
            let (stack, count) = line
                .rsplit_once(' ')
                .unwrap_or_else(|| panic!("no count in folded line `{line}`"));
            let frames = stack.split(';').map(str::to_string).collect();
            let count: u64 = count.parse().expect("a folded count is a number");
            *folded.stacks.entry(frames).or_default() += count;
        }
        folded
    }

    pub(crate) fn total(&self) -> u64 {
        self.stacks.values().sum()
    }

    /// The stacks of the process of that name.
    pub(crate) fn of_process(&self, name: &str) -> Folded {
        self.only(|frames| frames[0] == name)
    }

    /// The stacks that reach their root.
    pub(crate) fn complete(&self) -> Folded {
        self.only(|frames| !frames.iter().any(|frame| frame.contains("[truncated: ")))
    }

    /// The stacks that satisfy `test`.
    pub(crate) fn only(&self, test: impl Fn(&[String]) -> bool) -> Folded {
        let stacks = self.stacks.iter().filter(|(frames, _)| test(frames));
        Folded {
            stacks: stacks
                .map(|(frames, count)| (frames.clone(), *count))
                .collect(),
        }
    }

    /// Samples whose stack satisfies `test`.
    pub(crate) fn count_where(&self, test: impl Fn(&[String]) -> bool) -> u64 {
        let matching = self.stacks.iter().filter(|(frames, _)| test(frames));
        matching.map(|(_, count)| count).sum()
    }

    /// Samples with `name` in some frame.
    pub(crate) fn with(&self, name: &str) -> u64 {
        self.count_where(|frames| frames.iter().any(|frame| frame.contains(name)))
    }

    /// Samples in which `inner` stands, directly or not, below `outer` on the way from root to leaf.
    pub(crate) fn with_below(&self, outer: &str, inner: &str) -> u64 {
        self.count_where(|frames| {
            let at = frames.iter().position(|frame| frame.contains(outer));
            at.is_some_and(|at| frames[at + 1..].iter().any(|frame| frame.contains(inner)))
        })
    }

    /// Samples whose stack carries a reason frame for a missing root.
    pub(crate) fn truncated(&self) -> u64 {
        self.with("[truncated: ")
    }
}

/// How far a share `p` measured from `n` samples may lie from the truth: four standard deviations, one failure in
/// about 16 000 by chance.
pub(crate) fn tolerance(p: f64, n: u64) -> f64 {
    4.0 * (p * (1.0 - p) / n as f64).sqrt()
}

/// Checks the share `part / all` against `truth` within [`tolerance`]. Of `cpu_time`, the CPU time that samples stand for,
/// what lacks to 1 may all have been in one of the parts: while the host holds a virtual CPU, the scheduler counts on
/// and the timer cannot tick, and a program that keeps a ratio by its own books then makes up for it in the other part.
#[track_caller]
pub(crate) fn assert_share(what: &str, part: u64, all: u64, truth: f64, cpu_time: f64) {
    assert!(all > 0, "{what}: no samples at all");
    let unseen = (1.0 - cpu_time).max(0.0);
    let (measured, within) = (part as f64 / all as f64, tolerance(truth, all) + unseen);
    assert!(
        (measured - truth).abs() <= within,
        "{what}: measured {measured:.4}, truth {truth:.4} ± {within:.4}, n = {all}"
    );
}
