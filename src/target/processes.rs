//! The processes and threads of a recording, followed through time.
//!
//! In: `/proc` for those alive at attach, then side-band events in order of time. Out: names and mappings of a process
//! as they were when a tick hit it. Also follows processes that are not (yet) targets, because the kernel's records
//! come before we know.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use crate::profile::{FileOffset, MappingKind, RuntimeAddr};

use super::binaries::Binaries;
use super::jit::{GeneratedCode, SpaceIx, trampolines};
use super::mappings::{MappedRegion, Mappings, Region};
use super::process;

/// Ended processes that are still known: a service that starts a thousand a second has them for a second.
const MAX_ENDED: usize = 1024;

/// A process as known so far.
#[derive(Debug, Default)]
pub struct Process {
    pub mappings: Rc<Mappings>,
    pub is_kernel_thread: bool,
    /// Where its generated code is known, if it has any.
    pub jit: Option<SpaceIx>,
    /// When its program began, on the monotonic clock; 0 where that was not seen.
    began_ns: u64,
    /// Of all threads, also of those that have ended: their last ticks may still be on the way.
    names: HashMap<u32, String>,
    alive: HashSet<u32>,
}

impl Process {
    fn add_thread(&mut self, tid: u32, name: String) {
        self.names.insert(tid, name);
        self.alive.insert(tid);
    }

    /// The command name of one of its threads.
    pub fn thread_name(&self, tid: u32) -> Option<&str> {
        self.names.get(&tid).map(String::as_str)
    }
}

/// All processes seen.
#[derive(Debug, Default)]
pub struct Processes {
    by_pid: HashMap<u32, Process>,
    /// Ended, oldest first.
    ended: VecDeque<u32>,
    pub binaries: Binaries,
    pub generated: GeneratedCode,
    /// Ever seen, for the report.
    pids_seen: BTreeSet<u32>,
}

impl Processes {
    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.by_pid.get(&pid)
    }

    /// Those that are known.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.by_pid.keys().copied()
    }

    /// The process, read from `/proc` when no record has announced it.
    pub fn get_or_read(&mut self, pid: u32) -> &Process {
        if !self.by_pid.contains_key(&pid) {
            self.read(pid);
        }
        &self.by_pid[&pid]
    }

    /// Takes the mappings and thread names of a living process from `/proc`. One that is gone gets an empty entry.
    pub fn read(&mut self, pid: u32) {
        let stat = process::Stat::of(pid);
        let mut process = Process {
            is_kernel_thread: stat.is_ok_and(|stat| stat.is_kernel_thread()),
            ..Process::default()
        };
        for tid in process::threads(pid).unwrap_or_default() {
            if let Some(name) = process::thread_name(pid, tid) {
                process.add_thread(tid, name);
            }
        }
        let maps = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        let mut mappings = Mappings::default();
        for region in String::from_utf8_lossy(&maps)
            .lines()
            .filter_map(Region::parse)
        {
            self.map_into(&mut mappings, &mut process.jit, pid, &region);
        }
        process.mappings = Rc::new(mappings);
        self.pids_seen.insert(pid);
        self.by_pid.insert(pid, process);
    }

    /// A mapping appeared.
    pub fn mapped(&mut self, pid: u32, region: &Region) {
        if !self.by_pid.contains_key(&pid) {
            // The record was written before `/proc` was read or for a process never announced: `/proc` knows more.
            self.read(pid);
        }
        let known = self.by_pid.get(&pid);
        let (mut mappings, mut jit) = known
            .map(|p| (p.mappings.clone(), p.jit))
            .unwrap_or_default();
        self.map_into(Rc::make_mut(&mut mappings), &mut jit, pid, region);
        if let Some(process) = self.by_pid.get_mut(&pid) {
            (process.mappings, process.jit) = (mappings, jit);
        }
    }

    fn map_into(
        &mut self,
        mappings: &mut Mappings,
        jit: &mut Option<SpaceIx>,
        pid: u32,
        region: &Region,
    ) {
        let binary = self.binaries.of_region(pid, region);
        if binary.kind == MappingKind::Anonymous && region.may_be_generated() {
            let began_ns = self.by_pid.get(&pid).map_or(0, |p| p.began_ns);
            *jit = jit.or_else(|| self.generated.begin(pid, began_ns));
            if let (Some(space), Some(dump)) = (*jit, &binary.file) {
                self.generated.follow_dump(space, &binary.path, dump);
            }
            if let Some(distance) = self.distance_of_trampolines(*jit, pid, region) {
                self.map_arenas(mappings, region, distance);
                return;
            }
        }
        mappings.insert(MappedRegion {
            start: region.start,
            end: region.end,
            file_offset: region.file_offset,
            binary,
        });
    }

    /// Whether a region is filled with trampolines, and how far they are apart.
    fn distance_of_trampolines(
        &mut self,
        jit: Option<SpaceIx>,
        pid: u32,
        region: &Region,
    ) -> Option<usize> {
        let is_file = region.inode.is_some();
        if is_file || !self.generated.may_look_for_trampolines(jit?) {
            return None;
        }
        let found = trampolines::distance_in(pid, region);
        self.generated.looked_for_trampolines(jit?, found.is_some());
        found
    }

    /// Each arena of a region begins anew.
    fn map_arenas(&mut self, mappings: &mut Mappings, region: &Region, distance: usize) {
        let binary = self.binaries.arena(distance);
        let mut start = region.start;
        while start < region.end {
            let end = RuntimeAddr(start.0 + trampolines::ARENA_BYTES);
            mappings.insert(MappedRegion {
                start,
                end,
                file_offset: FileOffset(0),
                binary: binary.clone(),
            });
            start = end;
        }
    }

    /// A thread got a name; `exec` says that its process has a new program, and nothing mapped yet.
    pub fn named(&mut self, pid: u32, tid: u32, name: String, exec: bool, time_ns: u64) {
        let process = self.by_pid.entry(pid).or_default();
        if exec {
            if let Some(space) = process.jit {
                self.generated.end(space, pid);
            }
            *process = Process {
                began_ns: time_ns,
                ..Process::default()
            };
        }
        process.add_thread(tid, name);
        self.pids_seen.insert(pid);
    }

    /// A thread or a process was created; it begins with its parent's name and, as a process, its mappings.
    pub fn forked(&mut self, pid: u32, tid: u32, parent_pid: u32, parent_tid: u32, time_ns: u64) {
        let parent = self.by_pid.get(&parent_pid);
        let name = parent
            .and_then(|p| p.thread_name(parent_tid))
            .unwrap_or_default()
            .to_owned();
        if pid != parent_pid {
            let Some(parent) = parent else {
                return; // Not known yet; read from `/proc` when a tick hits it.
            };
            let mappings = parent.mappings.clone();
            let parent_code = parent.jit;
            let jit = parent_code.map(|code| self.generated.fork(code, pid, time_ns));
            self.by_pid.insert(
                pid,
                Process {
                    mappings,
                    jit,
                    ..Process::default()
                },
            );
            self.pids_seen.insert(pid);
        }
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.add_thread(tid, name);
        }
    }

    /// A thread ended. Answers whether it was the last one of its process, which is kept for a while: ticks that were
    /// taken as it ended come after this record.
    pub fn exited(&mut self, pid: u32, tid: u32) -> bool {
        let Some(process) = self.by_pid.get_mut(&pid) else {
            return false;
        };
        let gone = process.alive.remove(&tid) && process.alive.is_empty();
        if gone {
            if let Some(space) = process.jit {
                self.generated.end(space, pid);
            }
            self.ended.push_back(pid);
            self.forget_ended();
        }
        gone
    }

    fn forget_ended(&mut self) {
        while self.ended.len() > MAX_ENDED {
            let oldest = self.ended.pop_front();
            // Its number may have been given to a new process meanwhile.
            if let Some(pid) = oldest
                && self.by_pid.get(&pid).is_some_and(|p| p.alive.is_empty())
            {
                self.by_pid.remove(&pid);
            }
        }
    }

    pub fn pids_seen(&self) -> usize {
        self.pids_seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_shares_mappings_until_exec_and_is_forgotten_at_its_end() {
        let own = std::process::id();
        let mut processes = Processes::default();
        processes.read(own);
        processes.forked(900_001, 900_001, own, own, 0);
        let generation = |p: &Processes, pid| p.get(pid).expect("known").mappings.generation();
        assert_eq!(generation(&processes, 900_001), generation(&processes, own));
        processes.named(900_001, 900_001, "next".into(), true, 0);
        assert_eq!(
            processes
                .get(900_001)
                .expect("known")
                .mappings
                .regions()
                .count(),
            0
        );
        assert!(processes.exited(900_001, 900_001) && !processes.exited(900_001, 900_001));
        assert_eq!(
            processes.get(900_001).and_then(|p| p.thread_name(900_001)),
            Some("next")
        );
        for pid in 1_000_000..1_000_000 + MAX_ENDED as u32 {
            processes.forked(pid, pid, own, own, 0);
            assert!(processes.exited(pid, pid));
        }
        assert!(processes.get(900_001).is_none());
        assert!(
            processes
                .get(own)
                .expect("known")
                .mappings
                .regions()
                .count()
                > 2
        );
    }
}
