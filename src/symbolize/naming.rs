//! Names for addresses of binaries, by worker processes.
//!
//! In: binaries and addresses, as often as there are new ones. Out: what stands at each. The work is spread over a few
//! workers; one that dies or does not answer is replaced, and its binary named by symbol tables only, then not at all.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cache::{Cache, Entry};
use super::debug_files::SearchPath;
use super::options::SymbolOptions;
use super::progress::Progress;
use super::wire::{self, Answer, Candidate, Check, NameRequest, Named, Request};
use super::{Found, FoundFunction, Naming};
use crate::profile::{BuildId, ElfAddr, Unresolved};
use crate::sys::confined::{Confined, run_when_idle};
use crate::target::binary::Binary;
use crate::target::capabilities::{CapSet, Capability};

/// More workers than this gain little: few recordings have so many large binaries.
const MAX_WORKERS: usize = 4;

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

fn may_set_priorities() -> bool {
    CapSet::own().has(Capability::SysNice)
}

/// CPU time and memory of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub cpu_ns: u64,
    /// Peaks of all workers, added up: no more was in use at any time.
    pub max_rss_bytes: u64,
}

impl Cost {
    fn and(self, other: Cost) -> Cost {
        Cost {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            max_rss_bytes: self.max_rss_bytes + other.max_rss_bytes,
        }
    }

    /// Of processes that ran one after the other.
    fn then(self, next: Cost) -> Cost {
        Cost {
            cpu_ns: self.cpu_ns + next.cpu_ns,
            max_rss_bytes: self.max_rss_bytes.max(next.max_rss_bytes),
        }
    }
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
struct Sources {
    search: SearchPath,
    cache: Option<Cache>,
    progress: Progress,
}

/// Whether workers run like others or only on CPUs that would be idle.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<PaceNow>);

#[derive(Debug, Default)]
struct PaceNow {
    idle: bool,
    /// Processes that run.
    pids: Vec<u32>,
}

impl Pace {
    pub fn set_idle(&self, idle: bool) {
        // Whoever may not take it back must not begin with it.
        let idle = idle && may_set_priorities();
        let Ok(mut now) = self.0.lock() else { return };
        now.idle = idle;
        for pid in &now.pids {
            run_when_idle(*pid, idle);
        }
    }

    fn begins(&self, pid: u32) {
        let Ok(mut now) = self.0.lock() else { return };
        now.pids.push(pid);
        if now.idle {
            run_when_idle(pid, true);
        }
    }

    fn ends(&self, pid: u32) {
        let Ok(mut now) = self.0.lock() else { return };
        now.pids.retain(|other| *other != pid);
    }
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
            joined
                .flat_map(Result::unwrap_or_default)
                .collect::<Vec<_>>()
        });
        let mut done = Vec::with_capacity(answers.len());
        for (one, notes) in answers {
            self.notes.extend(notes);
            done.push(one);
        }
        done
    }

    /// Ends all processes.
    pub fn finish(self) -> Naming {
        let costs = self.all.iter().map(Worker::cost);
        let cost = costs.fold(Cost::default(), Cost::and);
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

/// A worker process and what it knows.
#[derive(Debug)]
struct Worker {
    memory_bytes: u64,
    timeout: Duration,
    process: Option<Confined>,
    known: HashSet<u32>,
    /// Binaries whose debug information was the end of a worker.
    fatal: HashSet<u32>,
    /// What is known on disk of its binaries, or will be.
    entries: HashMap<u32, (BuildId, Entry)>,
    /// Of the process that runs, as of its last answer, and of those before it.
    running_cost: Cost,
    ended: Cost,
    pace: Arc<Pace>,
}

/// How often a binary is tried: with debug information, and without.
const ATTEMPTS: usize = 2;

impl Worker {
    fn new(memory_bytes: u64, timeout: Duration, pace: Arc<Pace>) -> Worker {
        Worker {
            memory_bytes,
            timeout,
            process: None,
            known: HashSet::new(),
            fatal: HashSet::new(),
            entries: HashMap::new(),
            running_cost: Cost::default(),
            ended: Cost::default(),
            pace,
        }
    }

    fn cost(&self) -> Cost {
        self.ended.then(self.running_cost)
    }

    fn name_all(&mut self, jobs: Vec<Job>, sources: &Sources) -> Vec<(Done, Vec<String>)> {
        jobs.into_iter()
            .map(|job| self.name(job, sources))
            .collect()
    }

    fn name(&mut self, job: Job, sources: &Sources) -> (Done, Vec<String>) {
        let Job { binary, mut addrs } = job;
        sources.progress.begins(&binary.path);
        let mut found = self.remembered(binary, &mut addrs, sources);
        let mut notes = Vec::new();
        if !addrs.is_empty() {
            let new = self.read(binary, &addrs, &sources.search, &mut notes);
            self.remember(binary.ix, &addrs, &new, &notes);
            found.extend(addrs.into_iter().zip(new));
        }
        sources.progress.has(found.len());
        let (addrs, found) = found.into_iter().unzip();
        let binary = binary.ix;
        (
            Done {
                binary,
                addrs,
                found,
            },
            notes,
        )
    }

    /// Takes from `addrs` what an earlier recording has found out.
    fn remembered(
        &mut self,
        binary: &Binary,
        addrs: &mut Vec<ElfAddr>,
        sources: &Sources,
    ) -> Vec<(ElfAddr, Found)> {
        let (Some(cache), Some(build_id)) = (&sources.cache, binary.build_id) else {
            return Vec::new();
        };
        let files = || files_of(binary, &sources.search).unwrap_or_default();
        let entry = self
            .entries
            .entry(binary.ix)
            .or_insert_with(|| (build_id, cache.load(build_id, &files())));
        let mut found = Vec::new();
        // A server may know more than was known then.
        let suffices = |functions: &&Vec<FoundFunction>| {
            !sources.search.asks_servers() || functions.iter().any(|function| function.line > 0)
        };
        addrs.retain(|addr| match entry.1.get(*addr).filter(suffices) {
            Some(functions) => {
                found.push((*addr, found_functions(functions.clone())));
                false
            }
            None => true,
        });
        found
    }

    /// Keeps what was found, unless there is something to say of it: what was missing may be there the next time.
    fn remember(&mut self, binary: u32, addrs: &[ElfAddr], found: &[Found], notes: &[String]) {
        let Some((_, entry)) = self.entries.get_mut(&binary) else {
            return;
        };
        if !notes.is_empty() {
            return;
        }
        for (addr, found) in addrs.iter().zip(found) {
            match found {
                Found::Functions(functions) => entry.add(*addr, functions.clone()),
                Found::Nothing(Unresolved::NoSymbol) => entry.add(*addr, Vec::new()),
                Found::Nothing(_) => {}
            }
        }
    }

    fn store(&self, cache: &Cache) {
        for (build_id, entry) in self.entries.values() {
            cache.store(*build_id, entry);
        }
    }

    /// What the worker's process says of addresses of a binary.
    fn read(
        &mut self,
        binary: &Binary,
        addrs: &[ElfAddr],
        search: &SearchPath,
        notes: &mut Vec<String>,
    ) -> Vec<Found> {
        for _ in 0..ATTEMPTS {
            match self.ask(binary, addrs, search) {
                Ok(mut named) => {
                    notes.append(&mut named.notes);
                    return found(&named, addrs.len());
                }
                Err(why) => notes.push(self.buried(binary, &why)),
            }
        }
        vec![Found::Nothing(Unresolved::BadFile); addrs.len()]
    }

    /// What to say of a worker that has ended over a binary.
    fn buried(&mut self, binary: &Binary, why: &io::Error) -> String {
        if let Some(process) = self.process.take() {
            self.pace.ends(process.pid());
        }
        self.known.clear();
        self.ended = self.ended.then(std::mem::take(&mut self.running_cost));
        let again = self.fatal.insert(binary.ix);
        let how = match why.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                "took longer than `--symbol-timeout`".to_owned()
            }
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => {
                "ended the process that read it (damaged, or larger than `--symbol-memory`)"
                    .to_owned()
            }
            _ => format!("failed: {why}"),
        };
        let then = if again {
            "its debug information is not used"
        } else {
            "its frames have no names"
        };
        format!("Naming frames of `{}` {how}: {then}.", binary.path)
    }

    fn ask(
        &mut self,
        binary: &Binary,
        addrs: &[ElfAddr],
        search: &SearchPath,
    ) -> io::Result<Named> {
        let symbols_only = self.fatal.contains(&binary.ix);
        let new = !self.known.contains(&binary.ix);
        let files = match new {
            true => files_of(binary, search)?,
            false => Vec::new(),
        };
        let channel = &mut self.running()?.channel;
        let (candidates, files): (Vec<Candidate>, Vec<File>) = files.into_iter().unzip();
        let request = Request::Name(NameRequest {
            program: binary.ix,
            new,
            files: candidates,
            addrs: addrs.iter().map(|addr| addr.0).collect(),
            build_id: binary.build_id.map(|id| id.to_string()),
            symbols_only,
        });
        wire::send(channel, &request, &files.iter().collect::<Vec<_>>())?;
        loop {
            match wire::receive(channel)? {
                (Answer::Named(named), _) => {
                    self.known.insert(binary.ix);
                    self.running_cost = Cost {
                        cpu_ns: named.cpu_ns,
                        max_rss_bytes: named.max_rss_bytes,
                    };
                    return Ok(named);
                }
                (Answer::Wanted(wanted), _) => {
                    let found = search.wanted(binary, &wanted);
                    let (candidates, files): (Vec<Candidate>, Vec<File>) =
                        found.into_iter().unzip();
                    let files: Vec<&File> = files.iter().collect();
                    wire::send(channel, &Request::Files(candidates), &files)?;
                }
            }
        }
    }

    fn running(&mut self) -> io::Result<&mut Confined> {
        if self.process.is_none() {
            let memory = self.memory_bytes.to_string();
            let started = Confined::start(&[super::WORKER_COMMAND, &memory])?;
            started.channel.set_timeout(Some(self.timeout))?;
            self.pace.begins(started.pid());
            self.process = Some(started);
        }
        self.process
            .as_mut()
            .ok_or_else(|| io::Error::other("just started"))
    }
}

/// The binary itself where it is at hand, and where else its names may be.
fn files_of(binary: &Binary, search: &SearchPath) -> io::Result<Vec<(Candidate, File)>> {
    let mut files = Vec::new();
    if let Some(file) = &binary.file {
        let itself = Candidate {
            path: binary.path.clone(),
            check: Check::Itself,
        };
        files.push((itself, file.try_clone()?));
    }
    files.extend(search.candidates(binary));
    Ok(files)
}

fn found_functions(functions: Vec<FoundFunction>) -> Found {
    match functions.is_empty() {
        true => Found::Nothing(Unresolved::NoSymbol),
        false => Found::Functions(functions),
    }
}

/// The worker's answer, checked: it has read what others wrote.
fn found(named: &Named, count: usize) -> Vec<Found> {
    if named.unreadable {
        return vec![Found::Nothing(Unresolved::BadFile); count];
    }
    let text = |position: u32| {
        named
            .texts
            .get(position as usize)
            .cloned()
            .unwrap_or_default()
    };
    let nothing = Found::Nothing(Unresolved::NoSymbol);
    let mut found: Vec<Found> = named
        .frames
        .iter()
        .take(count)
        .map(|functions| {
            let functions = functions.iter().map(|function| FoundFunction {
                name: text(function.name),
                linkage_name: text(function.linkage_name),
                file: text(function.file),
                line: function.line,
            });
            found_functions(functions.collect())
        })
        .collect();
    found.resize(count, nothing);
    found
}
