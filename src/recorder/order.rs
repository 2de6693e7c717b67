//! Events in order of time, although they come from several rings.
//!
//! Each ring is in order by itself. What a CPU wrote before we read its ring is in the batch; what it wrote after is in
//! the next. So once all rings have been read, no later batch can bring an event older than the newest of the batch
//! before the last: a batch is let go when the next one is complete. (The same argument as `perf`'s finished rounds.)

use crate::sampling::{Event, Timed};

/// Events held back until their order is certain.
#[derive(Debug, Default)]
pub(super) struct TimeOrder {
    waiting: Vec<Timed>,
    /// Newest time stamp of the last batch.
    horizon_ns: u64,
}

impl TimeOrder {
    /// Takes a batch, one reading of all rings, and hands on what is certain.
    pub(super) fn batch(&mut self, batch: &mut Vec<Timed>, sink: impl FnMut(Timed)) {
        let newest = batch.iter().map(|timed| timed.time_ns).max();
        self.waiting.append(batch);
        let certain_ns = match newest {
            Some(newest) => {
                let before = self.horizon_ns;
                self.horizon_ns = before.max(newest);
                before
            }
            // All rings were empty: whatever comes is newer than all we have.
            None => u64::MAX,
        };
        self.release(certain_ns, sink);
    }

    /// Whether an event that says more of processes than is known is waiting.
    pub(super) fn holds_back_news(&self) -> bool {
        let is_news = |timed: &Timed| {
            matches!(
                timed.event,
                Event::Mapped { .. } | Event::Named { exec: true, .. } | Event::Forked { .. }
            )
        };
        self.waiting.iter().any(is_news)
    }

    /// Hands on everything: the rings are silent.
    pub(super) fn finish(&mut self, sink: impl FnMut(Timed)) {
        self.release(u64::MAX, sink);
    }

    fn release(&mut self, up_to_ns: u64, sink: impl FnMut(Timed)) {
        self.waiting.sort_by_key(|timed| timed.time_ns);
        let certain = self
            .waiting
            .partition_point(|timed| timed.time_ns <= up_to_ns);
        self.waiting.drain(..certain).for_each(sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time_ns: u64) -> Timed {
        Timed {
            time_ns,
            event: Event::Exited { pid: 1, tid: 1 },
        }
    }

    #[test]
    fn an_event_that_a_slow_ring_brings_late_still_comes_in_order() {
        let mut order = TimeOrder::default();
        let mut seen = Vec::new();
        order.batch(&mut vec![at(10), at(30)], |t| seen.push(t.time_ns));
        order.batch(&mut vec![at(20), at(50)], |t| seen.push(t.time_ns));
        assert_eq!(seen, [10, 20, 30]);
        order.batch(&mut Vec::new(), |t| seen.push(t.time_ns));
        assert_eq!(seen, [10, 20, 30, 50]);
        order.batch(&mut vec![at(60)], |t| seen.push(t.time_ns));
        order.finish(|t| seen.push(t.time_ns));
        assert_eq!(seen, [10, 20, 30, 50, 60]);
    }
}
