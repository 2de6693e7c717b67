//! How far naming is, for those who wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Shared by the workers and whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    wanted: AtomicU64,
    named: AtomicU64,
    /// Path of a binary that is being read.
    binary: Mutex<String>,
}

impl Progress {
    pub(super) fn begins(&self, binary: &str) {
        if let Ok(mut current) = self.0.binary.lock() {
            binary.clone_into(&mut current);
        }
    }

    pub(super) fn wants(&self, addrs: usize) {
        self.0.wanted.fetch_add(addrs as u64, Ordering::Relaxed);
    }

    pub(super) fn has(&self, addrs: usize) {
        self.0.named.fetch_add(addrs as u64, Ordering::Relaxed);
    }

    /// Addresses looked up so far, all that are known to be wanted, and a binary that is being read.
    pub fn now(&self) -> (u64, u64, String) {
        let binary = self.0.binary.lock().map(|path| path.clone());
        (
            self.0.named.load(Ordering::Relaxed),
            self.0.wanted.load(Ordering::Relaxed),
            binary.unwrap_or_default(),
        )
    }
}
