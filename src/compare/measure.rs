//! What a path's cost is measured by, chosen from what both sides know.
//!
//! Shares mislead: when one path halves, all others grow in share. CPU time per second misleads less, but a service that
//! uses all the CPU it can get behaves like shares. CPU time per unit of work is what a user pays.

use super::Run;

/// How costs are measured; the first that is known on both sides decides verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// CPU seconds (or ticks, where CPU time is not known) per unit of work.
    Cost,
    /// CPU seconds per second.
    Cores,
    /// Share of the profile, 0 to 1.
    Share,
}

impl Measure {
    /// The best one all runs of both sides know.
    pub fn of(before: &[Run], after: &[Run]) -> Measure {
        let all = |known: fn(&Run) -> bool| before.iter().chain(after).all(known);
        if all(|run| run.work.is_some()) {
            Measure::Cost
        } else if all(|run| run.cpu_seconds().is_some() && run.seconds().is_some()) {
            Measure::Cores
        } else {
            Measure::Share
        }
    }

    /// Stable, as in the JSON.
    pub fn id(self) -> &'static str {
        match self {
            Measure::Cost => "cost",
            Measure::Cores => "cores",
            Measure::Share => "share",
        }
    }
}
