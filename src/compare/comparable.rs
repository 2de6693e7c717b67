//! Whether two sides may be compared at all: what was recorded differently makes differences of its own.
//!
//! In: the runs. Out: what differs, one [`Incomparable`] each, and doubts about runs that may be compared. A fact that a
//! profile does not state (another tool's) is no difference.

use super::Run;
use crate::analysis::stats::MIN_BLOCKS;
use crate::analysis::{Coverage, Verdict as Trust};
use crate::profile::{Origin, Recording};

/// Coverage may differ by this much between the sides before it passes for a change of the service.
const COVERAGE_MAY_DIFFER: f64 = 0.05;

/// A difference in how both sides were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incomparable {
    /// One sentence with both values.
    pub reason: String,
    pub remedy: String,
}

/// What keeps these runs from being compared, the same side's among each other, too.
pub fn check(before: &[Run], after: &[Run]) -> Vec<Incomparable> {
    let mut found = facts(before, after);
    found.extend(coverage(before, after));
    found
}

/// A fact of a recording, empty where it does not say.
type Fact = fn(&Recording) -> String;

const FACTS: [(&str, &str, Fact); 4] = [
    ("event", "record both sides with the same `--event`", |r| {
        r.event.clone()
    }),
    (
        "way of unwinding",
        "record both sides with the same `--unwind`",
        |r| r.unwind.clone(),
    ),
    (
        "tool",
        "record both sides with the same tool",
        |r| match &r.origin {
            Origin::Perfprof => "perfprof".into(),
            Origin::Foreign { format, .. } => format.clone(),
        },
    ),
    (
        "kernel frames",
        "record both sides with `--no-kernel`, or neither",
        |r| match &r.origin {
            Origin::Perfprof if r.kernel_stacks => "recorded".into(),
            Origin::Perfprof => "left out".into(),
            Origin::Foreign { .. } => String::new(),
        },
    ),
];

fn facts(before: &[Run], after: &[Run]) -> Vec<Incomparable> {
    let mut found = Vec::new();
    for (what, remedy, fact) in FACTS {
        let mut values: Vec<(String, &str)> = before
            .iter()
            .chain(after)
            .map(|run| (fact(&run.profile.recording), run.label.as_str()))
            .filter(|(value, _)| !value.is_empty())
            .collect();
        values.dedup_by(|b, a| a.0 == b.0);
        if let [(one, first), (other, second), ..] = values.as_slice() {
            found.push(Incomparable {
                reason: format!(
                    "the {what} differs: `{one}` in `{first}`, `{other}` in `{second}`"
                ),
                remedy: remedy.to_owned(),
            });
        }
    }
    found
}

fn coverage(before: &[Run], after: &[Run]) -> Vec<Incomparable> {
    let (before, after) = (means(before), means(after));
    let pairs = before.iter().zip(&after);
    pairs
        .filter_map(|((id, before), (_, after))| {
            let (before, after) = ((*before)?, (*after)?);
            ((before - after).abs() > COVERAGE_MAY_DIFFER).then(|| Incomparable {
                reason: format!(
                    "coverage differs: `{id}` is {:.1} % before and {:.1} % after, so up to {:.1} points of any change are of the \
                     recording and not of the service",
                    before * 100.0,
                    after * 100.0,
                    (before - after).abs() * 100.0
                ),
                remedy: "bring the worse side's coverage up; its own report says how".into(),
            })
        })
        .collect()
}

/// Coverage metrics that bend the picture of costs, each as the mean of a side's runs, weighted by samples.
fn means(side: &[Run]) -> Vec<(&'static str, Option<f64>)> {
    let coverages: Vec<(&Coverage, f64)> = side
        .iter()
        .map(|run| (run.coverage(), run.profile.total_count() as f64))
        .collect();
    let mean = |read: fn(&Coverage) -> Option<f64>| {
        let known: Option<Vec<(f64, f64)>> = coverages
            .iter()
            .map(|(coverage, weight)| Some((read(coverage)?, *weight)))
            .collect();
        let known = known?;
        let weight: f64 = known.iter().map(|(_, weight)| weight).sum();
        Some(
            known
                .iter()
                .map(|(value, weight)| value * weight)
                .sum::<f64>()
                / weight,
        )
    };
    vec![
        ("stacks", mean(|c| c.stacks.value)),
        ("symbols", mean(|c| c.symbols.value)),
        ("delivery", mean(|c| c.delivery.value)),
    ]
}

/// Runs whose own coverage does not suffice, one sentence each. Another tool's profile says nothing of its coverage.
pub(super) fn doubts(before: &[Run], after: &[Run]) -> Vec<String> {
    let of_run = |run: &Run| match (&run.profile.recording.origin, &run.coverage().verdict) {
        (Origin::Perfprof, Trust::Inconclusive { reasons }) => Some(format!(
            "`{}` is inconclusive by itself: {}",
            run.label,
            reasons.join("; ")
        )),
        _ => None,
    };
    before.iter().chain(after).filter_map(of_run).collect()
}

/// Recordings that were given more than once, one sentence each: they are no evidence of their own. Two sides that are the
/// same in all are another question, with an answer.
pub(super) fn given_twice(runs: [&[Run]; 2]) -> Vec<String> {
    if super::run::same_recordings(runs[0], runs[1]) {
        return Vec::new();
    }
    let all: Vec<&Run> = runs.iter().flat_map(|side| side.iter()).collect();
    let twice = all.iter().enumerate().filter_map(|(ix, run)| {
        let again = all[..ix].iter().find(|other| other.label == run.label)?;
        Some(format!(
            "`{}` was given more than once, which makes it no better evidence",
            again.label
        ))
    });
    twice.collect()
}

/// One run a side says how sure it is by its blocks of time; a recording of less than a second has too few of them. One
/// sentence each.
pub(super) fn too_short(runs: [&[Run]; 2]) -> Vec<String> {
    if runs.iter().all(|side| side.len() >= 2) {
        return Vec::new();
    }
    let short = |run: &&Run| {
        run.profile.recording.slice_ns > 0 && (run.profile.slice_count() as usize) < MIN_BLOCKS
    };
    let told = |run: &Run| {
        format!(
            "`{}` is shorter than a second, and a side has no other run to show how runs differ",
            run.label
        )
    };
    runs.iter()
        .flat_map(|side| side.iter())
        .filter(short)
        .map(told)
        .collect()
}
