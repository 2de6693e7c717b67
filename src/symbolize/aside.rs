//! Naming while recording, on CPU time that nobody else wants.
//!
//! In: frames as they are first seen. Out: a namer that knows most of them when the recording ends. The workers run only
//! when a CPU would be idle, so that the target is not slowed down; at the end of the recording they run like others.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::namer::Namer;
use super::naming::Workers;
use super::options::SymbolOptions;
use super::pace::Pace;
use super::progress::Progress;
use crate::recorder::RawFrame;
use crate::target::binary::Binary;

/// Frames that were seen first, and all binaries so far.
#[derive(Debug)]
struct Batch {
    frames: Vec<RawFrame>,
    binaries: Vec<Arc<Binary>>,
}

/// Naming that goes on beside the recording.
#[derive(Debug)]
pub struct Aside {
    batches: Sender<Batch>,
    namer: JoinHandle<Namer>,
    pace: Arc<Pace>,
    progress: Progress,
    /// Frames that wait for the next batch.
    waiting: Vec<RawFrame>,
    begun: Instant,
    next: Duration,
}

/// Shortest time between two batches.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// And which part of the recording so far: each batch reads the heads of all units again, and new frames become rare.
const INTERVAL_PART: u32 = 4;

impl Aside {
    pub fn start(options: &SymbolOptions) -> Aside {
        let (batches, received) = channel();
        let progress = Progress::default();
        let workers = Workers::new(options, progress.clone());
        let pace = workers.pace();
        pace.set_idle(true);
        let namer = thread::spawn(move || name_all(Namer::new(workers), &received));
        Aside {
            batches,
            namer,
            pace,
            progress,
            waiting: Vec::new(),
            begun: Instant::now(),
            next: Duration::ZERO,
        }
    }

    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Names frames by and by. `binaries` are all so far, where there are frames.
    pub fn name(&mut self, frames: &[RawFrame], binaries: &[Arc<Binary>]) {
        self.waiting.extend_from_slice(frames);
        let elapsed = self.begun.elapsed();
        // Without new frames there may be new binaries, which have not been told.
        if frames.is_empty() || elapsed < self.next {
            return;
        }
        self.next = elapsed + MIN_INTERVAL.max(elapsed / INTERVAL_PART);
        let batch = Batch {
            frames: std::mem::take(&mut self.waiting),
            binaries: binaries.to_vec(),
        };
        // The thread ends only when this end is dropped; had it panicked, `finish` would notice.
        let _ = self.batches.send(batch);
    }

    /// The recording is over: whatever is left is named without regard to others.
    pub(super) fn finish(self, options: &SymbolOptions) -> Namer {
        let Aside {
            batches,
            namer,
            pace,
            progress,
            ..
        } = self;
        pace.set_idle(false);
        drop(batches);
        namer
            .join()
            .unwrap_or_else(|_| Namer::new(Workers::new(options, progress)))
    }
}

fn name_all(mut namer: Namer, batches: &Receiver<Batch>) -> Namer {
    while let Ok(Batch {
        mut frames,
        mut binaries,
    }) = batches.recv()
    {
        while let Ok(more) = batches.try_recv() {
            frames.extend(more.frames);
            binaries = more.binaries;
        }
        namer.name_early(&frames, &binaries);
    }
    namer
}
