//! How long to wait before a backend is asked again.
//!
//! In: how often it has failed in a row, and what it asked for. Out: a time, by exponential back-off with full jitter, so
//! that a thousand agents do not come back at once. It does not wait itself.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// Jitter may be next to nothing, which would be a busy loop.
const SHORTEST: Duration = Duration::from_millis(50);
/// A backend that asks for more gets this.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub(super) fn new(random: fastrand::Rng) -> Backoff {
        Backoff {
            failures: 0,
            random,
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// After one more failure. What the backend asked for is the least; what jitter adds to it is at most [`FIRST`].
    pub(super) fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        match asked {
            Some(asked) => asked.min(LONGEST_ASKED) + FIRST.mul_f64(self.random.f64()),
            None => doubled
                .min(LONGEST)
                .mul_f64(self.random.f64())
                .max(SHORTEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_are_spread_over_all_of_it() {
        let longest = |failures: u32| {
            let waits = (0..400).map(|seed| {
                let mut backoff = Backoff::new(fastrand::Rng::with_seed(seed));
                for _ in 0..failures {
                    let _ = backoff.failed(None);
                }
                backoff.failed(None)
            });
            let waits: Vec<Duration> = waits.collect();
            let (min, max) = (waits.iter().min(), waits.iter().max());
            let (min, max) = (*min.expect("some"), *max.expect("some"));
            assert!(min < max / 10, "{min:?}..{max:?}");
            max
        };
        for (failures, cap) in [
            (0, 1.0),
            (1, 2.0),
            (5, 32.0),
            (8, 256.0),
            (9, 300.0),
            (99, 300.0),
        ] {
            let max = longest(failures).as_secs_f64();
            assert!((0.9 * cap..=cap).contains(&max), "{failures}: {max}");
        }
    }

    #[test]
    fn what_is_asked_for_is_kept_within_reason_and_success_begins_anew() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(1));
        let asked = backoff.failed(Some(Duration::from_secs(7))).as_secs_f64();
        assert!((7.0..=8.0).contains(&asked), "{asked}");
        let forever = backoff.failed(Some(Duration::MAX));
        assert!(forever <= LONGEST_ASKED + FIRST, "{forever:?}");
        backoff.succeeded();
        assert!(backoff.failed(None) <= FIRST);
    }
}
