//! Samples the kernel did not take because it throttled the event.
//!
//! In: throttle and unthrottle records. Out: an estimate, throttled time × rate. The kernel throttles an event that
//! ticks more often within a scheduler tick than `kernel.perf_event_max_sample_rate` allows.

use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct ThrottleClock {
    since: HashMap<u64, u64>,
    throttled_ns: u64,
}

impl ThrottleClock {
    /// An event (by its stream number) was stopped or let go.
    pub(super) fn record(&mut self, stream_id: u64, time_ns: u64, on: bool) {
        if on {
            self.since.entry(stream_id).or_insert(time_ns);
        } else if let Some(since) = self.since.remove(&stream_id) {
            self.throttled_ns += time_ns.saturating_sub(since);
        }
    }

    pub(super) fn missed(&self, frequency_hz: u32) -> u64 {
        (self.throttled_ns as f64 * f64::from(frequency_hz) / 1e9).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_second_at_100_hz_is_fifty_samples() {
        let mut clock = ThrottleClock::default();
        clock.record(1, 1_000_000_000, true);
        clock.record(2, 1_100_000_000, true);
        clock.record(1, 1_500_000_000, false);
        assert_eq!(clock.missed(100), 50);
    }
}
