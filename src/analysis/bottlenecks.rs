//! Code and waits in one list: where the time of the service's threads goes, the most first.
//!
//! In: an analysis. Out: functions by the CPU time they used themselves, call chains by the time they waited, the run queue
//! and the quota. Waiting for work is no bottleneck and is left out. All times are of threads: two threads that wait for a
//! second are two seconds.

use super::Analysis;
use crate::profile::Cause;

/// What kind of time an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A function ran.
    Code,
    /// A call chain waited for something that was not there yet.
    Wait(Cause),
    /// Threads were ready and had no CPU.
    RunQueue,
    /// Threads were ready and the CPU quota was used up.
    Throttled,
}

impl Kind {
    /// Stable, as in the JSON.
    pub fn id(self) -> &'static str {
        match self {
            Kind::Code => "code",
            Kind::Wait(_) => "wait",
            Kind::RunQueue => "run-queue",
            Kind::Throttled => "throttled",
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Bottleneck {
    pub kind: Kind,
    /// The function that ran, or the program's own function that waited; empty where it is not one function.
    pub function: String,
    pub ns: u64,
    /// Of the wall-clock time of all threads, without what they waited for work; `None` where that is not known.
    pub share: Option<f64>,
}

/// Entries that are kept.
const ENTRIES: usize = 30;

/// The list of one service.
pub fn ranked(analysis: &Analysis) -> Vec<Bottleneck> {
    let mut list: Vec<Bottleneck> = Vec::new();
    let mut add = |kind, function: &str, ns| {
        list.push(Bottleneck {
            kind,
            function: function.to_owned(),
            ns,
            share: None,
        });
    };
    for path in &analysis.hot.by_self {
        add(Kind::Code, &path.name, path.self_weight.cpu_ns);
    }
    if let Some(waits) = &analysis.waits {
        for total in &waits.causes {
            match total.cause {
                Cause::Runnable => add(Kind::RunQueue, "", total.ns),
                Cause::Throttled => add(Kind::Throttled, "", total.ns),
                _ => {}
            }
        }
        let busy = waits.paths.iter().filter(|path| !path.idle);
        for path in busy.filter(|path| path.cause.is_blocked()) {
            add(Kind::Wait(path.cause), &path.function, path.ns);
        }
    }
    list.retain(|entry| entry.ns > 0);
    list.sort_by_key(|entry| std::cmp::Reverse(entry.ns));
    list.truncate(ENTRIES);
    let whole_ns = time_without_idle(analysis);
    for entry in &mut list {
        entry.share = whole_ns.map(|whole_ns| entry.ns as f64 / whole_ns as f64);
    }
    list
}

/// Wall-clock time of all threads less what they waited for work.
fn time_without_idle(analysis: &Analysis) -> Option<u64> {
    let wall_ns = analysis.books.as_ref()?.all.wall_ns;
    let causes = &analysis.waits.as_ref()?.causes;
    let idle_ns: u64 = causes.iter().map(|total| total.idle_ns).sum();
    Some(wall_ns.saturating_sub(idle_ns)).filter(|ns| *ns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Thresholds, canned};

    #[test]
    fn code_and_waits_stand_in_one_list_and_idle_time_in_none() {
        let analysis = Analysis::of(&canned::waiting_server(), &Thresholds::default());
        let list = ranked(&analysis);
        let kinds: Vec<&str> = list.iter().map(|entry| entry.kind.id()).collect();
        for kind in ["code", "wait", "run-queue", "throttled"] {
            assert!(kinds.contains(&kind), "{kinds:?}");
        }
        assert!(list.windows(2).all(|pair| pair[0].ns >= pair[1].ns));
        assert!(
            !list
                .iter()
                .any(|entry| entry.kind == Kind::Wait(Cause::Poll))
        );
        assert!(
            list.iter()
                .all(|entry| entry.share.is_some_and(|share| share <= 1.0))
        );
    }
}
