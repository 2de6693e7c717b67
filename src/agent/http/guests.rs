//! Connections at a time: bounded, and the one that keeps us waiting longest makes room.
//!
//! In: connections as they come. Out: at most so many at a time. A client that says nothing, or does not take its answer, holds
//! a place only as long as nobody else wants it; what is being answered is never given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

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
}
