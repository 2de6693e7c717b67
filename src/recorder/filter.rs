//! Which processes are the target, as seen from user space.
//!
//! The kernel filters samples; side-band records come for everything. Following a stranger's mappings would open its
//! files for nothing.

use std::collections::HashSet;

use crate::sampling::Scope;

#[derive(Debug)]
pub(super) enum TargetFilter {
    /// Everything but the idle task of each CPU, which is PID 0.
    All,
    Pids(HashSet<u32>),
    Name {
        name: String,
        pids: HashSet<u32>,
    },
}

impl TargetFilter {
    /// `alive` are the target's processes as listed after the sampler was armed.
    pub(super) fn new(scope: &Scope, alive: &[u32]) -> TargetFilter {
        let pids = alive.iter().copied().collect();
        match scope {
            Scope::All => TargetFilter::All,
            Scope::Pids { .. } | Scope::Selected(_) => TargetFilter::Pids(pids),
            Scope::Name(name) => TargetFilter::Name {
                name: name.clone(),
                pids,
            },
        }
    }

    pub(super) fn contains(&self, pid: u32) -> bool {
        match self {
            TargetFilter::All => pid != 0,
            TargetFilter::Pids(pids) | TargetFilter::Name { pids, .. } => pids.contains(&pid),
        }
    }

    /// A process (or a thread of it) was created by another. Answers whether that made it part of the target.
    pub(super) fn forked(&mut self, pid: u32, parent_pid: u32) -> bool {
        match self {
            TargetFilter::All => false,
            TargetFilter::Pids(pids) | TargetFilter::Name { pids, .. } => {
                pids.contains(&parent_pid) && pids.insert(pid)
            }
        }
    }

    /// A process is part of the target from now on.
    pub(super) fn joined(&mut self, pid: u32) {
        if let TargetFilter::Pids(pids) | TargetFilter::Name { pids, .. } = self {
            pids.insert(pid);
        }
    }

    /// The main thread of a process got a name.
    pub(super) fn named(&mut self, pid: u32, new_name: &str) {
        if let TargetFilter::Name { name, pids } = self {
            if name == new_name {
                pids.insert(pid);
            } else {
                pids.remove(&pid);
            }
        }
    }

    /// The process is gone and its number may come again.
    pub(super) fn ended(&mut self, pid: u32) {
        if let TargetFilter::Pids(pids) | TargetFilter::Name { pids, .. } = self {
            pids.remove(&pid);
        }
    }
}
