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
/// What is left to a client that nobody is working for: to say what it wants, or to take its answer.
const MOMENT: Duration = Duration::from_millis(500);

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

    /// Lets those that are being answered have their answer, within that time; and those that have come only now, or are being
    /// sent what was answered, a moment.
    pub async fn see_off(&mut self, within: Duration) {
        let until = Instant::now() + within;
        let mut last_busy = Instant::now();
        while Instant::now() < until {
            self.present.retain(|(_, task)| !task.is_finished());
            if self.present.is_empty() {
                return;
            }
            if self
                .present
                .iter()
                .any(|(busy, _)| busy.0.load(Ordering::Relaxed))
            {
                last_busy = Instant::now();
            } else if last_busy.elapsed() >= MOMENT {
                return;
            }
            tokio::time::sleep(STEP).await;
        }
    }
}
