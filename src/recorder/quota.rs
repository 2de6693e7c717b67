//! Which code used a CPU quota up.
//!
//! In: ticks and the moments at which the quota stopped the target, in order of time. Out: the ticks of each period that
//! ended so. A period's beginning is not told by the kernel; a stop ends it, and so it began at most its length before.

use std::collections::{HashMap, VecDeque};

use super::waits::TakenStack;

/// A tick that may yet turn out to have used a quota up.
#[derive(Clone, Copy, Debug)]
struct RecentTick {
    at_ns: u64,
    taken: TakenStack,
    cpu_ns: u64,
}

/// The ticks of the last period, and those of periods that ended with the target stopped.
#[derive(Debug, Default)]
pub(super) struct QuotaPeriods {
    period_ns: u64,
    recent: VecDeque<RecentTick>,
    pub used_up: HashMap<TakenStack, (u64, u64)>,
}

impl QuotaPeriods {
    pub fn of_length(period_ns: u64) -> QuotaPeriods {
        QuotaPeriods {
            period_ns,
            ..QuotaPeriods::default()
        }
    }

    pub fn tick(&mut self, at_ns: u64, taken: TakenStack, cpu_ns: u64) {
        self.forget(at_ns);
        self.recent.push_back(RecentTick {
            at_ns,
            taken,
            cpu_ns,
        });
    }

    /// The quota has stopped the target.
    pub fn throttled(&mut self, at_ns: u64) {
        self.forget(at_ns);
        for tick in self.recent.drain(..) {
            let weight = self.used_up.entry(tick.taken).or_default();
            weight.0 += 1;
            weight.1 += tick.cpu_ns;
        }
    }

    fn forget(&mut self, now_ns: u64) {
        let from_ns = now_ns.saturating_sub(self.period_ns);
        while self.recent.front().is_some_and(|tick| tick.at_ns < from_ns) {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{StackEnd, StackIx, ThreadIx};

    #[test]
    fn only_ticks_of_the_period_before_a_stop_count() {
        let taken = |thread| TakenStack {
            thread: ThreadIx(thread),
            stack: StackIx::EMPTY,
            end: StackEnd::Root,
        };
        let mut periods = QuotaPeriods::of_length(100);
        periods.tick(10, taken(0), 5);
        periods.tick(150, taken(1), 5);
        periods.tick(160, taken(1), 5);
        periods.throttled(170);
        periods.throttled(172);
        periods.tick(180, taken(2), 5);
        periods.tick(300, taken(2), 5);
        assert_eq!(periods.used_up.len(), 1);
        assert_eq!(periods.used_up[&taken(1)], (2, 10));
    }
}
