//! The queues of all sinks on disk: a folder per sink, a file per batch, a budget over all.
//!
//! In: bytes of batches, and what became of them. Out: the batches that wait, in order of age, and figures. It knows
//! nothing of backends.
//!
//! A file is called by a number that all folders share and that only grows, so that the oldest of all is known. Only one
//! process has the folders, by a lock that ends with it. A batch that is being sent is not dropped for the budget, so that
//! none counts as dropped and sent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::Flock;

use super::figures::{DropReason, SinkFigures};
use super::folder;

/// Batches in one folder; more than that are dropped, oldest first, however small they are.
const MAX_ITEMS: usize = 50_000;

/// Which sink: its place in the list that the queue was opened with.
pub(super) type SinkIx = usize;

#[derive(Debug)]
pub(super) struct Queue {
    folders: Vec<PathBuf>,
    budget_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while a batch is written, so that the temporary name has one writer.
    writer: Mutex<()>,
    _lock: Flock<File>,
}

#[derive(Debug)]
struct State {
    lines: Vec<Line>,
    used_bytes: u64,
    next_number: u64,
    /// No new batches; workers end when they have sent theirs, or by this time.
    stop_at: Option<Instant>,
    workers: usize,
}

/// The batches of one sink.
#[derive(Debug, Default)]
struct Line {
    /// Sizes by number.
    waiting: BTreeMap<u64, u64>,
    sending: Option<u64>,
    figures: SinkFigures,
}

impl Queue {
    /// Takes the folder `root` and what lies in it. `sinks` are names of folders. Folders of sinks that are no longer among them
    /// are emptied.
    pub(super) fn open(root: &Path, sinks: &[String], budget_bytes: u64) -> io::Result<Queue> {
        folder::create(root)?;
        let lock = folder::lock(root)?;
        folder::remove_strangers(root, sinks)?;
        let folders: Vec<PathBuf> = sinks.iter().map(|name| root.join(name)).collect();
        let mut lines = Vec::new();
        for (name, folder) in sinks.iter().zip(&folders) {
            folder::create(folder)?;
            let (waiting, damaged) = folder::list(folder)?;
            let mut figures = SinkFigures {
                sink: name.clone(),
                ..SinkFigures::default()
            };
            if damaged > 0 {
                figures.drop_for(DropReason::Damaged, damaged);
            }
            lines.push(Line {
                waiting,
                sending: None,
                figures,
            });
        }
        // The folders themselves are to be there after a power cut.
        File::open(root)?.sync_all()?;
        let numbers = lines
            .iter()
            .filter_map(|line| line.waiting.last_key_value());
        let last = numbers.map(|(number, _)| *number).max();
        let state = State {
            used_bytes: lines.iter().flat_map(|line| line.waiting.values()).sum(),
            lines,
            next_number: last.map_or(0, |last| last.saturating_add(1)),
            stop_at: None,
            workers: sinks.len(),
        };
        let queue = Queue {
            folders,
            budget_bytes,
            state: Mutex::new(state),
            changed: Condvar::new(),
            writer: Mutex::new(()),
            _lock: lock,
        };
        // The budget may be a smaller one than last time.
        queue.make_room(&mut queue.state(), 0);
        Ok(queue)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a batch for every sink. It is durable for those whose write did not fail; the first error of others is
    /// returned, and counted with each of them.
    pub(super) fn offer(&self, bytes: &[u8]) -> io::Result<()> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let size = bytes.len() as u64;
        let mut result = Ok(());
        for sink in 0..self.folders.len() {
            if let Err(error) = self.offer_to(sink, bytes, size) {
                result = result.and(Err(error));
            }
        }
        result
    }

    fn offer_to(&self, sink: SinkIx, bytes: &[u8], size: u64) -> io::Result<()> {
        let number = {
            let mut state = self.state();
            if !self.make_room(&mut state, size) {
                let error = io::Error::new(
                    ErrorKind::QuotaExceeded,
                    format!(
                        "a batch of {size} bytes has no room in a push budget of {} bytes",
                        self.budget_bytes
                    ),
                );
                state.lines[sink].fail(DropReason::Budget, &error);
                return Err(error);
            }
            state.used_bytes += size;
            let number = state.next_number;
            state.next_number += 1;
            number
        };
        let written = folder::write(&self.folders[sink], number, bytes);
        let mut state = self.state();
        match written {
            Ok(()) => {
                state.lines[sink].waiting.insert(number, size);
                self.changed.notify_all();
                Ok(())
            }
            Err(error) => {
                state.used_bytes -= size;
                state.lines[sink].fail(DropReason::Disk, &error);
                Err(error)
            }
        }
    }

    /// Drops the oldest until `more` bytes have room; `false` when they cannot have it.
    fn make_room(&self, state: &mut State, more: u64) -> bool {
        loop {
            let full = state.used_bytes.saturating_add(more) > self.budget_bytes;
            let crowded = state
                .lines
                .iter()
                .position(|line| line.waiting.len() >= MAX_ITEMS);
            let oldest = match (full, crowded) {
                (true, _) => (0..state.lines.len())
                    .filter_map(|sink| Some((state.lines[sink].oldest_idle()?, sink)))
                    .min(),
                (false, Some(sink)) => state.lines[sink].oldest_idle().map(|n| (n, sink)),
                (false, None) => return true,
            };
            let Some((number, sink)) = oldest else {
                return false;
            };
            self.remove(state, sink, number);
            state.lines[sink].figures.drop_for(DropReason::Budget, 1);
        }
    }

    /// Takes a batch out of the queue and off the disk.
    fn remove(&self, state: &mut State, sink: SinkIx, number: u64) {
        let size = state.lines[sink].waiting.remove(&number).unwrap_or(0);
        state.used_bytes -= size;
        // One that cannot be removed comes again with the next start; at least once is what is promised.
        let _ = fs::remove_file(folder::path(&self.folders[sink], number));
    }

    /// Waits until `choose` takes one of the batches that wait (numbers in order of age); it is then being sent. `None`
    /// when the worker is to end.
    pub(super) fn take(
        &self,
        sink: SinkIx,
        mut choose: impl FnMut(&[u64]) -> Option<u64>,
    ) -> Option<u64> {
        let mut state = self.state();
        loop {
            let stopping = state.stop_at;
            if stopping.is_some_and(|at| Instant::now() >= at) {
                return None;
            }
            let waiting: Vec<u64> = state.lines[sink].waiting.keys().copied().collect();
            if let Some(number) = choose(&waiting) {
                state.lines[sink].sending = Some(number);
                return Some(number);
            }
            if stopping.is_some() {
                return None;
            }
            state = self.wait_on(state, None);
        }
    }

    fn wait_on<'a>(
        &self,
        state: MutexGuard<'a, State>,
        at_most: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match at_most {
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                let waited = self.changed.wait_timeout(state, time);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// The bytes of a batch that is being sent; an error where the file is not there, is no file, or is too large.
    pub(super) fn read(&self, sink: SinkIx, number: u64) -> io::Result<Vec<u8>> {
        folder::read(&self.folders[sink], number)
    }

    /// The batch arrived.
    pub(super) fn sent(&self, sink: SinkIx, number: u64, left_out: u64, note: Option<String>) {
        let mut state = self.state();
        self.remove(&mut state, sink, number);
        let line = &mut state.lines[sink];
        line.sending = None;
        line.figures.sent += 1;
        if left_out > 0 {
            line.figures.drop_for(DropReason::PartlyRejected, left_out);
        }
        if note.is_some() {
            line.figures.last_error = note;
        }
    }

    /// The batch never will arrive.
    pub(super) fn dropped(&self, sink: SinkIx, number: u64, reason: DropReason, why: String) {
        let mut state = self.state();
        self.remove(&mut state, sink, number);
        let line = &mut state.lines[sink];
        line.sending = None;
        line.figures.drop_for(reason, 1);
        line.figures.last_error = Some(why);
    }

    /// The batch waits again. Returns all that wait.
    pub(super) fn failed(&self, sink: SinkIx, why: String) -> Vec<u64> {
        let mut state = self.state();
        let line = &mut state.lines[sink];
        line.sending = None;
        line.figures.failures += 1;
        line.figures.last_error = Some(why);
        line.waiting.keys().copied().collect()
    }

    /// Waits for `time`, or until the queue is stopped; `false` when it is.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.stop_at.is_some() || left.is_zero() {
                return state.stop_at.is_none();
            }
            state = self.wait_on(state, Some(left));
        }
    }

    /// Time that a request may take: `usual`, or what is left until the end.
    pub(super) fn time_for_request(&self, usual: Duration) -> Duration {
        let stop_at = self.state().stop_at;
        let left = stop_at.map(|at| at.saturating_duration_since(Instant::now()));
        // No time at all would mean no limit to some.
        left.map_or(usual, |left| left.min(usual))
            .max(Duration::from_millis(1))
    }

    /// From now on workers only send what waits, each until the first failure, and until `deadline` has passed.
    pub(super) fn stop(&self, deadline: Duration) {
        let at = Instant::now() + deadline;
        let mut state = self.state();
        let at = state.stop_at.map_or(at, |earlier| earlier.min(at));
        state.stop_at = Some(at);
        self.changed.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state().stop_at.is_some()
    }

    /// A worker has ended.
    pub(super) fn worker_ended(&self) {
        self.state().workers -= 1;
        self.changed.notify_all();
    }

    /// Waits until all workers have ended, or the time given to [`Queue::stop`] is over; whether they have.
    pub(super) fn wait_for_workers(&self) -> bool {
        let mut state = self.state();
        loop {
            let left = state
                .stop_at
                .map(|at| at.saturating_duration_since(Instant::now()));
            if state.workers == 0 || left.is_some_and(|left| left.is_zero()) {
                return state.workers == 0;
            }
            state = self.wait_on(state, left);
        }
    }

    pub(super) fn figures(&self) -> Vec<SinkFigures> {
        let state = self.state();
        let figures = state.lines.iter().map(|line| SinkFigures {
            queued_items: line.waiting.len() as u64,
            queued_bytes: line.waiting.values().sum(),
            ..line.figures.clone()
        });
        figures.collect()
    }
}

impl Line {
    /// The oldest that is not being sent.
    fn oldest_idle(&self) -> Option<u64> {
        let mut numbers = self.waiting.keys().copied();
        numbers.find(|number| self.sending != Some(*number))
    }

    fn fail(&mut self, reason: DropReason, error: &io::Error) {
        self.figures.drop_for(reason, 1);
        self.figures.last_error = Some(error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(folder: &Path, budget_bytes: u64) -> Queue {
        let sinks = ["parca".to_string(), "otlp-http".to_string()];
        Queue::open(folder, &sinks, budget_bytes).expect("a good folder")
    }

    fn take(queue: &Queue, sink: SinkIx) -> Option<u64> {
        queue.take(sink, |waiting| waiting.first().copied())
    }

    #[test]
    fn batches_come_back_in_order_after_a_restart_and_leave_when_settled() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let queue = open(folder.path(), 1000);
        for text in ["one", "two", "three"] {
            queue.offer(text.as_bytes()).expect("room");
        }
        let error = Queue::open(folder.path(), &[], 1).expect_err("one process at a time");
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        drop(queue);
        fs::write(folder.path().join("parca").join("unfinished.tmp"), "x").expect("writable");
        let queue = open(folder.path(), 1000);
        let first = take(&queue, 0).expect("three wait");
        assert_eq!(queue.read(0, first).expect("there"), b"one");
        queue.sent(0, first, 0, None);
        let second = take(&queue, 0).expect("two wait");
        assert_eq!(queue.read(0, second).expect("there"), b"two");
        queue.dropped(0, second, DropReason::Rejected, "no".into());
        let [parca, otlp] = &queue.figures()[..] else {
            panic!("two sinks")
        };
        assert_eq!(
            (parca.queued_items, parca.sent, parca.queued_bytes),
            (1, 1, 5)
        );
        assert_eq!(parca.dropped, BTreeMap::from([(DropReason::Rejected, 1)]));
        assert_eq!(otlp.queued_items, 3);
        assert_eq!(
            fs::read_dir(folder.path().join("parca"))
                .expect("there")
                .count(),
            1
        );
    }

    #[test]
    fn over_budget_the_oldest_of_all_goes_unless_it_is_being_sent() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let queue = open(folder.path(), 50);
        queue.offer(&[0; 10]).expect("room");
        queue.offer(&[1; 10]).expect("room");
        let sending = take(&queue, 0).expect("two wait");
        queue.offer(&[2; 10]).expect("room after one is dropped");
        let figures = queue.figures();
        let items: Vec<u64> = figures.iter().map(|f| f.queued_items).collect();
        assert_eq!(items, [3, 2]);
        assert_eq!(figures[1].dropped[&DropReason::Budget], 1);
        assert_eq!(queue.read(0, sending).expect("kept"), [0; 10]);
        let error = queue.offer(&[3; 60]).expect_err("larger than the budget");
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        assert!(queue.figures().iter().all(|f| f.last_error.is_some()));
        drop(queue);
        let queue = open(folder.path(), 20);
        let left: u64 = queue.figures().iter().map(|f| f.queued_bytes).sum();
        assert!(left <= 20, "{left}");
    }

    #[test]
    fn folders_of_other_sinks_are_emptied_and_links_are_not_followed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (old, parca) = (
            folder.path().join("pyroscope-2"),
            folder.path().join("parca"),
        );
        fs::create_dir_all(&old).expect("folder");
        fs::create_dir_all(&parca).expect("folder");
        folder::write(&old, 5, b"x").expect("writable");
        let precious = folder.path().join("precious");
        fs::write(&precious, "x").expect("writable");
        symlink(&precious, folder::path(&parca, 1)).expect("link");
        symlink(&precious, parca.join("unfinished.tmp")).expect("link");
        fs::write(parca.join("notes.txt"), "x").expect("writable");
        let queue = open(folder.path(), 1000);
        assert!(!old.exists());
        assert_eq!(queue.figures()[0].dropped[&DropReason::Damaged], 1);
        queue.offer(b"y").expect("room");
        assert_eq!(fs::read(&precious).expect("still there"), b"x");
        assert!(parca.join("notes.txt").exists());
    }
}
