//! One worker process as its owner sees it: what it knows, what it was the end of, and what it is replaced for.
//!
//! In: addresses of a binary. Out: what stands there, from the cache on disk or from the process. A process that dies or does
//! not answer is replaced, and its binary named by symbol tables only, then not at all.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Cache, Entry};
use super::cost::Cost;
use super::debug_files::SearchPath;
use super::naming::{Done, Job, Sources};
use super::pace::Pace;
use super::wire::{self, Answer, Candidate, Check, NameRequest, Named, Request};
use super::{Found, FoundFunction};
use crate::profile::{BuildId, ElfAddr, Unresolved};
use crate::sys::confined::Confined;
use crate::target::binary::Binary;
use crate::target::process::thread_cpu_ns;

/// How often it is looked whether a worker must still be waited for.
const STEP: Duration = Duration::from_millis(100);

/// After so many binaries that were the end of a process, of no further one more than the symbol tables is read: each may
/// have taken the whole time that is allowed.
const MAX_FATAL: usize = 3;

/// A file that never answers takes no CPU time: so many times longer by the clock on the wall is waited.
const WALL_FACTOR: u32 = 10;

/// Longest pause within a message.
const MAX_STALL: Duration = Duration::from_secs(600);

/// A worker process and what it knows.
#[derive(Debug)]
pub(super) struct Worker {
    memory_bytes: u64,
    timeout: Duration,
    process: Option<Confined>,
    known: HashSet<u32>,
    /// Binaries whose debug information was the end of a worker.
    fatal: HashSet<u32>,
    /// Binaries of which something is to be said: what was missing may be there the next time.
    spoiled: HashSet<u32>,
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
    pub fn new(memory_bytes: u64, timeout: Duration, pace: Arc<Pace>) -> Worker {
        Worker {
            memory_bytes,
            timeout,
            process: None,
            known: HashSet::new(),
            fatal: HashSet::new(),
            spoiled: HashSet::new(),
            entries: HashMap::new(),
            running_cost: Cost::default(),
            ended: Cost::default(),
            pace,
        }
    }

    pub fn cost(&self) -> Cost {
        self.ended.then(self.running_cost)
    }

    /// Ends the process and gives back its memory; the next question starts another.
    pub fn rest(&mut self) {
        if let Some(process) = self.process.take() {
            self.pace.ends(process.pid());
        }
        self.known.clear();
        self.ended = self.ended.then(std::mem::take(&mut self.running_cost));
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Confined::pid)
    }

    pub fn name_all(&mut self, jobs: Vec<Job>, sources: &Sources) -> Vec<(Done, Vec<String>)> {
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
            if !notes.is_empty() {
                self.spoiled.insert(binary.ix);
            }
            self.remember(binary.ix, &addrs, &new);
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

    /// Keeps what was found.
    fn remember(&mut self, binary: u32, addrs: &[ElfAddr], found: &[Found]) {
        let Some((_, entry)) = self.entries.get_mut(&binary) else {
            return;
        };
        for (addr, found) in addrs.iter().zip(found) {
            match found {
                Found::Functions(functions) => entry.add(*addr, functions.clone()),
                Found::Nothing(Unresolved::NoSymbol) => entry.add(*addr, Vec::new()),
                Found::Nothing(_) => {}
            }
        }
    }

    pub fn store(&self, cache: &Cache) {
        for (ix, (build_id, entry)) in &self.entries {
            if !self.spoiled.contains(ix) {
                cache.store(*build_id, entry);
            }
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
        if self.is_given_up() && !self.known.contains(&binary.ix) {
            notes.push(format!(
                "Debug information of `{}` is not read: that of {MAX_FATAL} other binaries was the end of their reader.",
                binary.path
            ));
        }
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

    fn is_given_up(&self) -> bool {
        self.fatal.len() >= MAX_FATAL
    }

    /// What to say of a worker that has ended over a binary.
    fn buried(&mut self, binary: &Binary, why: &io::Error) -> String {
        self.rest();
        let is_first = self.fatal.insert(binary.ix);
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
        let then = if is_first {
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
        let symbols_only = self.fatal.contains(&binary.ix) || self.is_given_up();
        if symbols_only {
            self.spoiled.insert(binary.ix);
        }
        let new = !self.known.contains(&binary.ix);
        let files = match new {
            true => files_of(binary, search)?,
            false => Vec::new(),
        };
        let (timeout, pace) = (self.timeout, self.pace.clone());
        let process = self.running()?;
        let (candidates, files): (Vec<Candidate>, Vec<File>) = files.into_iter().unzip();
        let request = Request::Name(NameRequest {
            program: binary.ix,
            new,
            path: binary.path.clone(),
            files: candidates,
            addrs: addrs.iter().map(|addr| addr.0).collect(),
            build_id: binary.build_id.map(|id| id.to_string()),
            symbols_only,
        });
        let channel = &mut process.channel;
        wire::send(channel, &request, &files.iter().collect::<Vec<_>>())?;
        loop {
            await_word(process, timeout, &pace)?;
            let channel = &mut process.channel;
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
            started.channel.set_timeout(Some(MAX_STALL))?;
            self.pace.begins(started.pid());
            self.process = Some(started);
        }
        self.process
            .as_mut()
            .ok_or_else(|| io::Error::other("just started"))
    }
}

/// Waits for the worker to say something, for as much of its own CPU time as is allowed: on a busy machine it may get
/// little. Time in which it may run only when nobody else wants to does not count.
fn await_word(process: &Confined, timeout: Duration, pace: &Pace) -> io::Result<()> {
    let used = || Duration::from_nanos(thread_cpu_ns(process.pid(), process.pid()).unwrap_or(0));
    let (mut since, before) = (Instant::now(), used());
    while !process.channel.wait(STEP)? {
        if pace.is_idle() {
            since = Instant::now();
        }
        let busy = used().saturating_sub(before) > timeout;
        if busy || since.elapsed() > timeout * WALL_FACTOR {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
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
