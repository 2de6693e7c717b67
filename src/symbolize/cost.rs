//! What naming costs besides this process.

/// CPU time and memory of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub cpu_ns: u64,
    /// Peaks of all workers, added up: no more was in use at any time.
    pub max_rss_bytes: u64,
}

impl Cost {
    pub(super) fn and(self, other: Cost) -> Cost {
        Cost {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            max_rss_bytes: self.max_rss_bytes + other.max_rss_bytes,
        }
    }

    /// Of processes that ran one after the other.
    pub(super) fn then(self, next: Cost) -> Cost {
        Cost {
            cpu_ns: self.cpu_ns + next.cpu_ns,
            max_rss_bytes: self.max_rss_bytes.max(next.max_rss_bytes),
        }
    }
}
