//! How complete a baseline is, and how old.

use jiff::Timestamp;

use super::Baseline;

/// Required metrics that are there, over all that are required.
#[derive(Clone, Debug, PartialEq)]
pub struct Completeness {
    /// 0 to 1; 1 where nothing is required.
    pub score: f64,
    pub present: usize,
    pub required: usize,
    pub missing: Vec<Missing>,
}

/// A metric that a service lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub service: String,
    pub metric: String,
}

/// In seconds; negative for what was measured after "now".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Age {
    pub oldest_seconds: f64,
    pub newest_seconds: f64,
}

impl Baseline {
    pub fn completeness<S: AsRef<str>, M: AsRef<str>>(
        &self,
        services: &[S],
        metrics: &[M],
    ) -> Completeness {
        let mut missing = Vec::new();
        for service in services.iter().map(AsRef::as_ref) {
            for metric in metrics.iter().map(AsRef::as_ref) {
                if self.get(service, metric).is_none() {
                    missing.push(Missing {
                        service: service.to_owned(),
                        metric: metric.to_owned(),
                    });
                }
            }
        }
        let required = services.len() * metrics.len();
        let present = required - missing.len();
        Completeness {
            score: match required {
                0 => 1.0,
                _ => present as f64 / required as f64,
            },
            present,
            required,
            missing,
        }
    }

    /// Of all figures; `None` without any.
    pub fn age(&self, now: Timestamp) -> Option<Age> {
        self.age_where(now, |_, _| true)
    }

    /// Of the figures that are chosen by service and metric.
    pub fn age_where(&self, now: Timestamp, chosen: impl Fn(&str, &str) -> bool) -> Option<Age> {
        let all = self.measurements().iter();
        let chosen = all.filter(|m| chosen(&m.service, &m.metric));
        let ages = chosen.map(|m| now.duration_since(m.timestamp).as_secs_f64());
        ages.fold(None, |age: Option<Age>, seconds| {
            let age = age.unwrap_or(Age {
                oldest_seconds: seconds,
                newest_seconds: seconds,
            });
            Some(Age {
                oldest_seconds: age.oldest_seconds.max(seconds),
                newest_seconds: age.newest_seconds.min(seconds),
            })
        })
    }
}
