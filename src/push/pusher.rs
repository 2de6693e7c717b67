//! The room's front door: a queue and a thread for each sink.
//!
//! In: batches. Out: durable ones, and figures. It does not know what is in them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::figures::SinkFigures;
use super::item;
use super::queue::{Queue, SinkIx};
use super::sink::Sink;
use super::tls::Trust;
use super::worker;
use super::{Batch, SinkConfig};

/// Sends batches to all its sinks until it is finished or dropped.
#[derive(Debug)]
pub struct Pusher {
    queue: Arc<Queue>,
}

impl Pusher {
    /// Takes `folder`, which is created where needed, and begins to send what lies in it from last time. All queues
    /// together hold at most `budget_bytes`. Fails where another process has the folder, or it cannot be written.
    pub fn start(folder: &Path, sinks: &[SinkConfig], budget_bytes: u64) -> io::Result<Pusher> {
        let names = names(sinks);
        let trust = match sinks.iter().any(|sink| sink.endpoint.secure) {
            true => Trust::of_machine(),
            false => Trust::default(),
        };
        let opened = sinks.iter().map(|config| Sink::open(config, &trust));
        let opened = opened.collect::<io::Result<Vec<Sink>>>()?;
        let queue = Arc::new(Queue::open(folder, &names, budget_bytes)?);
        let pusher = Pusher { queue };
        for (ix, sink) in opened.into_iter().enumerate() {
            pusher.spawn(ix, &names[ix], sink)?;
        }
        Ok(pusher)
    }

    fn spawn(&self, ix: SinkIx, name: &str, sink: Sink) -> io::Result<()> {
        let queue = self.queue.clone();
        let work = move || {
            let _ended = Ended(&queue);
            worker::run(&queue, ix, sink, fastrand::Rng::new());
        };
        let thread = thread::Builder::new().name(format!("push-{name}"));
        thread.spawn(work).map(drop)
    }

    /// Queues a batch for every sink; durable when it returns. An error says that it is not, for one sink at least; the
    /// figures say for which, and everything else goes on.
    pub fn offer(&self, batch: &Batch) -> io::Result<()> {
        batch
            .check()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.queue.offer(&item::encode(batch))
    }

    /// One entry per sink, in the order they were given.
    pub fn figures(&self) -> Vec<SinkFigures> {
        self.queue.figures()
    }

    /// Sends what it can within `deadline`, a sink until its first failure; the rest waits for the next start. Returns the
    /// last figures. A request that does not end in time is left behind.
    pub fn finish(self, deadline: Duration) -> Vec<SinkFigures> {
        self.queue.stop(deadline);
        self.queue.wait_for_workers();
        self.queue.figures()
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.queue.stop(Duration::ZERO);
    }
}

/// Tells the queue that a worker has ended, however that was.
struct Ended<'a>(&'a Queue);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.worker_ended();
    }
}

/// A name for each sink, by which its folder is found again: that of its kind, numbered from the second on.
fn names(sinks: &[SinkConfig]) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let name = |sink: &SinkConfig| {
        let count: &mut u32 = seen.entry(sink.kind).or_default();
        *count += 1;
        match *count {
            1 => sink.kind.id().to_owned(),
            number => format!("{}-{number}", sink.kind.id()),
        }
    };
    sinks.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::SinkKind;

    #[test]
    fn sinks_of_one_kind_are_numbered() {
        let sink = |kind| SinkConfig::new(kind, "http://a:1", Vec::new()).expect("good");
        let kinds = [SinkKind::Parca, SinkKind::OtlpHttp, SinkKind::Parca];
        let sinks: Vec<SinkConfig> = kinds.map(sink).into();
        assert_eq!(names(&sinks), ["parca", "otlp-http", "parca-2"]);
    }
}
