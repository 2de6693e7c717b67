//! Names for addresses of binaries, by a few worker processes between which the work is spread.
//!
//! In: binaries and addresses, as often as there are new ones. Out: what stands at each.

use std::collections::HashMap;
use std::sync::Arc;

use super::cache::Cache;
use super::cost::Cost;
use super::debug_files::SearchPath;
use super::options::SymbolOptions;
use super::pace::Pace;
use super::progress::Progress;
use super::worker_process::Worker;
use super::{Found, Naming};
use crate::profile::ElfAddr;
use crate::target::binary::Binary;

/// More workers than this gain little: most names are found while recording, few recordings have several large binaries,
/// and the memory that is allowed is shared between them.
const MAX_WORKERS: usize = 2;

/// More notes than this are not kept: nobody reads them.
const MAX_NOTES: usize = 100;

/// Addresses of one binary.
pub(super) struct Job<'a> {
    pub binary: &'a Arc<Binary>,
    pub addrs: Vec<ElfAddr>,
}

/// What a job brought, one result for each address.
pub(super) struct Done {
    pub binary: u32,
    pub addrs: Vec<ElfAddr>,
    pub found: Vec<Found>,
}

/// All workers, and what they have said so far.
#[derive(Debug)]
pub(super) struct Workers {
    all: Vec<Worker>,
    sources: Sources,
    /// The worker that knows a binary.
    knows: HashMap<u32, usize>,
    notes: Vec<String>,
    pace: Arc<Pace>,
}

/// Where names come from besides the workers.
#[derive(Debug)]
pub(super) struct Sources {
    pub search: SearchPath,
    pub cache: Option<Cache>,
    pub progress: Progress,
}

impl Workers {
    pub fn new(options: &SymbolOptions, progress: Progress) -> Workers {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let count = cpus.clamp(1, MAX_WORKERS);
        let memory_bytes = options.memory_bytes / count as u64;
        let pace = Arc::new(Pace::default());
        let worker = |_| Worker::new(memory_bytes, options.worker_timeout, pace.clone());
        let mut notes = Vec::new();
        let cache = options.use_cache.then(Cache::of_user).flatten();
        let cache = cache.and_then(|cache| cache.map_err(|why| notes.push(format!("{why}."))).ok());
        let search = SearchPath::new(options);
        Workers {
            all: (0..count).map(worker).collect(),
            sources: Sources {
                search,
                cache,
                progress,
            },
            knows: HashMap::new(),
            notes,
            pace,
        }
    }

    pub fn pace(&self) -> Arc<Pace> {
        self.pace.clone()
    }

    /// Names all addresses of all jobs.
    pub fn name(&mut self, jobs: Vec<Job>) -> Vec<Done> {
        jobs.iter()
            .for_each(|job| self.sources.progress.wants(job.addrs.len()));
        let mut queues: Vec<Vec<Job>> = self.all.iter().map(|_| Vec::new()).collect();
        for (job, worker) in self.assigned(jobs) {
            queues[worker].push(job);
        }
        let sources = &self.sources;
        let answers = std::thread::scope(|scope| {
            let busy = self.all.iter_mut().zip(queues);
            let running: Vec<_> = busy
                .filter(|(_, queue)| !queue.is_empty())
                .map(|(worker, queue)| scope.spawn(move || worker.name_all(queue, sources)))
                .collect();
            let joined = running.into_iter().map(|thread| thread.join());
            joined.collect::<Vec<_>>()
        });
        let mut done = Vec::new();
        for answer in answers {
            let Ok(answer) = answer else {
                self.note(vec![
                    "Naming failed in perfprof itself: some frames have no names for that.".into(),
                ]);
                continue;
            };
            for (one, notes) in answer {
                self.note(notes);
                done.push(one);
            }
        }
        done
    }

    /// Each once: every batch of a binary may find the same.
    fn note(&mut self, notes: Vec<String>) {
        for note in notes {
            if self.notes.len() < MAX_NOTES && !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Ends the processes until there is something to ask.
    pub fn rest(&mut self) {
        self.all.iter_mut().for_each(Worker::rest);
    }

    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.all.iter().filter_map(Worker::pid)
    }

    /// What the processes have used so far.
    pub fn cost(&self) -> Cost {
        let costs = self.all.iter().map(Worker::cost);
        costs.fold(Cost::default(), Cost::and)
    }

    /// Ends all processes.
    pub fn finish(self) -> Naming {
        let cost = self.cost();
        if let Some(cache) = &self.sources.cache {
            self.all.iter().for_each(|worker| worker.store(cache));
        }
        let mut notes = self.notes;
        notes.extend(self.sources.search.notes());
        Naming { notes, cost }
    }

    /// The worker for each job: the one that knows its binary already, else the one with least to read.
    fn assigned<'a>(&mut self, mut jobs: Vec<Job<'a>>) -> Vec<(Job<'a>, usize)> {
        let bytes = |job: &Job| {
            let file = job.binary.file.as_ref();
            file.and_then(|file| file.metadata().ok())
                .map_or(0, |m| m.len())
        };
        jobs.sort_by_cached_key(|job| (std::cmp::Reverse(bytes(job)), job.binary.ix));
        let mut load = vec![0; self.all.len()];
        let mut assigned = Vec::with_capacity(jobs.len());
        for job in jobs {
            let least = (0..load.len()).min_by_key(|ix| load[*ix]).unwrap_or(0);
            let worker = *self.knows.entry(job.binary.ix).or_insert(least);
            load[worker] += bytes(&job);
            assigned.push((job, worker));
        }
        assigned
    }
}
