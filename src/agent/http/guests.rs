//! Connections at a time: bounded, and the one that keeps us waiting longest makes room.
//!
//! In: connections as they come. Out: at most so many at a time. A client that says nothing, or does not take its answer, holds
//! a place only as long as nobody else wants it; what is being answered is never given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// How often the last answers are looked after.
const STEP: Duration = Duration::from_millis(20);

/// Whether a request of a connection is being answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    pub fn set(&self, busy: bool) {
        self.0.store(busy, Ordering::Relaxed);
    }
}

/// All connections, oldest first.
#[derive(Debug)]
pub(super) struct Guests {
    most: usize,
    present: VecDeque<(Busy, AbortHandle)>,
}

impl Guests {
    pub fn new(most: usize) -> Guests {
        Guests {
            most,
            present: VecDeque::new(),
        }
    }

    /// Takes one more in, at the cost of the oldest that is not being answered; of itself where all are.
    pub fn take_in(&mut self, busy: Busy, task: AbortHandle) {
        self.present.retain(|(_, task)| !task.is_finished());
        self.present.push_back((busy, task));
        if self.present.len() <= self.most {
            return;
        }
        let idle = |(busy, _): &(Busy, AbortHandle)| !busy.0.load(Ordering::Relaxed);
        let oldest = self.present.iter().position(idle);
        let last = self.present.len() - 1;
        if let Some((_, task)) = self.present.remove(oldest.unwrap_or(last)) {
            task.abort();
        }
    }

    /// Lets those that are being answered have their answer, within that time.
    pub async fn see_off(&self, within: Duration) {
        let busy = |(busy, _): &&(Busy, AbortHandle)| busy.0.load(Ordering::Relaxed);
        let answered: Vec<_> = self.present.iter().filter(busy).collect();
        let until = Instant::now() + within;
        while Instant::now() < until && !answered.iter().all(|(_, task)| task.is_finished()) {
            tokio::time::sleep(STEP).await;
        }
    }
}
