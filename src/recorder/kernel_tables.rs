//! Keeps the unwind tables in the kernel in step with what becomes known of processes, when the sampler walks by them.
//!
//! In: processes that have changed, and the stacks that come. Out: uploads, once per batch of events, so that a burst of
//! mappings is one upload; and how many samples ended where a table had found no room.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::sampling::{Sampler, WalkFigures};
use crate::target::mappings::Mappings;
use crate::target::processes::Processes;
use crate::unwind::{Eviction, UploadFigures, Uploader};

/// A binary whose table found no room, and what that cost.
#[derive(Clone, Debug)]
pub struct EvictedTable {
    pub path: String,
    pub table_bytes: u64,
    /// How often it had to give way.
    pub times: u64,
    /// Samples whose walk ended in it.
    pub samples: u64,
}

/// How walking in the kernel went.
#[derive(Clone, Debug, Default)]
pub struct KernelWalks {
    pub upload: UploadFigures,
    pub walks: WalkFigures,
    pub evicted: Vec<EvictedTable>,
    /// Processes whose mappings could not be brought into the kernel.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(super) struct KernelTables {
    uploader: Option<Uploader>,
    changed: BTreeSet<u32>,
    ended_in: HashMap<u32, u64>,
    failed: u64,
}

impl KernelTables {
    pub(super) fn of(sampler: &mut dyn Sampler) -> KernelTables {
        KernelTables {
            uploader: sampler.take_unwind_maps().map(Uploader::new),
            ..KernelTables::default()
        }
    }

    pub(super) fn are_used(&self) -> bool {
        self.uploader.is_some()
    }

    /// Samples are about to come.
    pub(super) fn build_aside(&mut self) {
        if let Some(uploader) = &mut self.uploader {
            uploader.build_aside();
        }
    }

    /// Whether tables are on their way.
    pub(super) fn is_building(&self) -> bool {
        self.uploader.as_ref().is_some_and(Uploader::is_building)
    }

    /// The mappings of a process may be others than before.
    pub(super) fn changed(&mut self, pid: u32) {
        if self.uploader.is_some() {
            self.changed.insert(pid);
        }
    }

    pub(super) fn ended(&mut self, pid: u32) {
        self.changed.remove(&pid);
        if let Some(uploader) = &mut self.uploader {
            uploader.forget(pid);
        }
    }

    /// A stack has come: its tables are in use, and one may be missing.
    pub(super) fn seen(&mut self, binaries: &[u32], missing: Option<u32>) {
        let Some(uploader) = &mut self.uploader else {
            return;
        };
        binaries.iter().for_each(|ix| uploader.seen(*ix));
        if let Some(ix) = missing {
            *self.ended_in.entry(ix).or_default() += 1;
            uploader.missed(ix);
        }
    }

    /// The mappings a stack was walked by in the kernel.
    pub(super) fn walked_by(&self, space: u32) -> Option<Rc<Mappings>> {
        self.uploader.as_ref()?.walked_by(space).cloned()
    }

    /// Uploads what has changed.
    pub(super) fn upload(&mut self, processes: &Processes) {
        let Some(uploader) = &mut self.uploader else {
            return;
        };
        for pid in std::mem::take(&mut self.changed) {
            let Some(process) = processes.get(pid) else {
                continue;
            };
            if !process.is_kernel_thread && uploader.sync(pid, &process.mappings).is_err() {
                self.failed += 1;
            }
        }
        if uploader.reload().is_err() {
            self.failed += 1;
        }
    }

    pub(super) fn finish(self, sampler: &dyn Sampler) -> Option<KernelWalks> {
        let uploader = self.uploader?;
        let evicted = |eviction: &Eviction| EvictedTable {
            path: eviction.path.clone(),
            table_bytes: eviction.table_bytes,
            times: eviction.times,
            samples: self.ended_in.get(&eviction.binary).copied().unwrap_or(0),
        };
        Some(KernelWalks {
            upload: uploader.figures(),
            walks: sampler.walk_figures().unwrap_or_default(),
            evicted: uploader.evictions().map(evicted).collect(),
            failed: self.failed,
        })
    }
}
