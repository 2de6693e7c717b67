//! Which batch to try next: the oldest, unless it alone is what fails.
//!
//! In: which batches are queued, and how sending them went. Out: the next one, and the verdict that one is poison. A
//! backend that is away or busy fails at every batch, which says nothing of any; so a batch is poison only when others
//! arrive while it does not. To find out, after a few failures another batch, any one, is tried between two attempts.
//! Failures that a backend explains by its own state (`Retry::busy`) are not told to this module.

use std::collections::HashMap;

/// Failures in a row after which others are tried, too.
const FAILURES_UNTIL_OTHERS: u32 = 3;
/// So often a batch must fail with another one delivered just before.
const STRIKES: u32 = 5;

#[derive(Debug)]
pub(super) struct Patience {
    random: fastrand::Rng,
    /// By batch: failures.
    failed: HashMap<u64, Failures>,
    tried_head: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    attempts: u32,
    strikes: u32,
    /// Another batch was delivered since its last failure.
    other_arrived: bool,
}

impl Patience {
    pub(super) fn new(random: fastrand::Rng) -> Patience {
        Patience {
            random,
            failed: HashMap::new(),
            tried_head: false,
        }
    }

    /// One of `queued`, which is in order of age.
    pub(super) fn choose(&mut self, queued: &[u64]) -> Option<u64> {
        let (head, others) = queued.split_first()?;
        let attempts = self.failed.get(head).map_or(0, |f| f.attempts);
        if attempts < FAILURES_UNTIL_OTHERS || others.is_empty() || !self.tried_head {
            self.tried_head = true;
            return Some(*head);
        }
        self.tried_head = false;
        Some(others[self.random.usize(..others.len())])
    }

    pub(super) fn settled(&mut self, number: u64) {
        self.failed.remove(&number);
    }

    pub(super) fn delivered(&mut self, number: u64) {
        self.settled(number);
        for failures in self.failed.values_mut() {
            failures.other_arrived = true;
        }
    }

    /// Whether the batch that has failed once more is poison.
    pub(super) fn failed(&mut self, number: u64, queued: &[u64]) -> bool {
        // What was dropped for the budget is not remembered for ever.
        self.failed
            .retain(|known, _| queued.binary_search(known).is_ok() || *known == number);
        let failures = self.failed.entry(number).or_default();
        failures.attempts = failures.attempts.saturating_add(1);
        if std::mem::take(&mut failures.other_arrived) {
            failures.strikes += 1;
        }
        failures.strikes >= STRIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends until nothing is left or `rounds` are over; `fails` says what the backend does. Returns what arrived, in
    /// order, and what was given up.
    fn run(mut queued: Vec<u64>, rounds: usize, fails: impl Fn(u64) -> bool) -> [Vec<u64>; 2] {
        let mut patience = Patience::new(fastrand::Rng::with_seed(7));
        let (mut arrived, mut poison) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let Some(number) = patience.choose(&queued) else {
                break;
            };
            if !fails(number) {
                patience.delivered(number);
                arrived.push(number);
            } else if patience.failed(number, &queued) {
                patience.settled(number);
                poison.push(number);
            } else {
                continue;
            }
            queued.retain(|one| *one != number);
        }
        [arrived, poison]
    }

    #[test]
    fn poison_is_given_up_when_others_arrive_even_two_in_a_row() {
        let [arrived, poison] = run((0..20).collect(), 100, |number| number < 2);
        assert_eq!(poison, [0, 1]);
        assert_eq!(arrived.len(), 18);
    }

    #[test]
    fn a_backend_that_is_away_makes_no_poison() {
        let [arrived, poison] = run((0..20).collect(), 5000, |_| true);
        assert_eq!((arrived.len(), poison.len()), (0, 0));
        let [arrived, poison] = run(vec![5], 5000, |_| true);
        assert_eq!((arrived.len(), poison.len()), (0, 0));
    }

    #[test]
    fn the_oldest_goes_first() {
        let [arrived, _] = run((0..5).collect(), 100, |_| false);
        assert_eq!(arrived, [0, 1, 2, 3, 4]);
    }
}
