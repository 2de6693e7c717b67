//! Figures of a test of which every request is known: one time each.

use jiff::Timestamp;

use super::{Latency, LoadTest};

/// Requests as they are read, in any order.
#[derive(Clone, Debug)]
pub(super) struct Samples {
    times_ms: Vec<f64>,
    errors: u64,
    /// Of the earliest request's beginning and the latest one's end.
    first_ms: f64,
    last_ms: f64,
    users: Option<u64>,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// On any clock.
    pub begin_ms: f64,
    pub took_ms: f64,
    pub failed: bool,
    /// Users at that time.
    pub users: Option<u64>,
}

impl Default for Samples {
    fn default() -> Samples {
        Samples {
            times_ms: Vec::new(),
            errors: 0,
            first_ms: f64::INFINITY,
            last_ms: f64::NEG_INFINITY,
            users: None,
        }
    }
}

impl Samples {
    pub fn add(&mut self, sample: Sample) {
        self.times_ms.push(sample.took_ms);
        self.errors += u64::from(sample.failed);
        self.first_ms = self.first_ms.min(sample.begin_ms);
        self.last_ms = self.last_ms.max(sample.begin_ms + sample.took_ms);
        self.users = self.users.max(sample.users);
    }

    pub fn is_empty(&self) -> bool {
        self.times_ms.is_empty()
    }

    /// When the first request began, if the clock counts from 1970.
    pub fn start(&self) -> Option<String> {
        let time = Timestamp::from_millisecond(self.first_ms as i64).ok()?;
        Some(time.to_string())
    }

    /// The test lasts from `begin_ms` or the first request's beginning to the last one's end.
    pub fn test(mut self, tool: &str, begin_ms: Option<f64>) -> LoadTest {
        self.times_ms.sort_by(f64::total_cmp);
        // The nearest rank: a time that was really measured.
        let at = |share: f64| {
            let rank = (share * self.times_ms.len() as f64).ceil().max(1.0) as usize;
            self.times_ms.get(rank - 1).copied()
        };
        let requests = self.times_ms.len() as u64;
        let seconds = (self.last_ms - begin_ms.unwrap_or(self.first_ms)) / 1e3;
        LoadTest {
            tool: tool.into(),
            duration_seconds: (seconds > 0.0).then_some(seconds),
            peak_concurrency: self.users,
            requests: Some(requests),
            throughput_per_second: if seconds > 0.0 {
                requests as f64 / seconds
            } else {
                0.0
            },
            latency: Latency {
                p50_ms: at(0.5),
                p95_ms: at(0.95),
                p99_ms: at(0.99),
                max_ms: at(1.0),
            },
            errors: Some(self.errors),
            error_rate: (requests > 0).then(|| self.errors as f64 / requests as f64),
            ..LoadTest::default()
        }
    }
}
