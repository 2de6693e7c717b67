//! Every distinct address looked up once, wherever its names come from.
//!
//! In: raw frames, as often as there are new ones. Out: what was found at each.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::kernel::EarlyList;
use super::naming::{Job, Workers};
use super::{Found, Naming, Places, jit};
use crate::profile::{ElfAddr, MappingKind, Unresolved};
use crate::recorder::{Code, RawFrame};
use crate::target::binary::{Binary, Problem};

/// What was looked up so far.
#[derive(Debug)]
pub(super) struct Namer {
    workers: Workers,
    /// Once there are kernel frames.
    kernel_list: Option<EarlyList>,
    found: HashMap<RawFrame, Found, RandomState>,
}

impl Namer {
    pub fn new(workers: Workers) -> Namer {
        Namer {
            workers,
            kernel_list: None,
            found: HashMap::default(),
        }
    }

    /// Names those of `frames` that are new.
    pub fn name(&mut self, frames: &[RawFrame], places: &Places) {
        let mut jobs = Vec::new();
        for (code, addrs) in self.new_addrs(frames) {
            match code {
                Code::Kernel => {
                    let found = places.kernel.look_up(&addrs, self.kernel_list.as_ref());
                    self.keep(code, addrs, found);
                }
                Code::Unmapped => self.keep_nothing(code, addrs, Unresolved::NoMapping),
                Code::Jit(place) => {
                    let found = jit::look_up(places.generated, place, &addrs);
                    self.keep(code, addrs, found);
                }
                Code::Binary(ix) => jobs.push((ix, addrs)),
            }
        }
        self.name_binaries(jobs, places.binaries);
    }

    /// Names those of `frames` that are new and lie in binaries, which alone do not change what they mean; and gets ready
    /// for those that lie in the kernel.
    pub fn name_early(&mut self, frames: &[RawFrame], binaries: &[Arc<Binary>]) {
        self.get_kernel_list(frames);
        let in_binary = |(code, addrs)| match code {
            Code::Binary(ix) => Some((ix, addrs)),
            _ => None,
        };
        let jobs = self.new_addrs(frames).into_iter().filter_map(in_binary);
        let jobs = jobs.collect();
        self.name_binaries(jobs, binaries);
    }

    /// Keeps the kernel's list from when the first of its frames is seen.
    pub fn get_kernel_list(&mut self, frames: &[RawFrame]) {
        let in_kernel = |frame: &RawFrame| frame.code == Code::Kernel;
        if self.kernel_list.is_none() && frames.iter().any(in_kernel) {
            self.kernel_list = EarlyList::read();
        }
    }

    fn new_addrs(&self, frames: &[RawFrame]) -> HashMap<Code, Vec<ElfAddr>> {
        let mut by_code: HashMap<Code, Vec<ElfAddr>> = HashMap::new();
        for frame in frames {
            if !self.found.contains_key(frame) {
                by_code.entry(frame.code).or_default().push(frame.addr);
            }
        }
        by_code
    }

    fn name_binaries(&mut self, addrs: Vec<(u32, Vec<ElfAddr>)>, binaries: &[Arc<Binary>]) {
        let mut jobs = Vec::with_capacity(addrs.len());
        for (ix, addrs) in addrs {
            let binary = &binaries[ix as usize];
            match why_not(binary) {
                Some(reason) => self.keep_nothing(Code::Binary(ix), addrs, reason),
                None => jobs.push(Job { binary, addrs }),
            }
        }
        for done in self.workers.name(jobs) {
            self.keep(Code::Binary(done.binary), done.addrs, done.found);
        }
    }

    fn keep(&mut self, code: Code, addrs: Vec<ElfAddr>, found: Vec<Found>) {
        let frames = addrs.into_iter().map(|addr| RawFrame { code, addr });
        self.found.extend(frames.zip(found));
    }

    fn keep_nothing(&mut self, code: Code, addrs: Vec<ElfAddr>, reason: Unresolved) {
        let found = vec![Found::Nothing(reason); addrs.len()];
        self.keep(code, addrs, found);
    }

    /// What generated code is called may change, and where nothing was known there may be something.
    pub fn forget_generated_code(&mut self) {
        let lasting = |frame: &RawFrame| !matches!(frame.code, Code::Jit(_));
        self.found.retain(|frame, _| lasting(frame));
    }

    /// Addresses that are known.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    pub fn workers(&mut self) -> &mut Workers {
        &mut self.workers
    }

    pub fn found(&self, frame: &RawFrame) -> &Found {
        const UNKNOWN: &Found = &Found::Nothing(Unresolved::NoSymbol);
        self.found.get(frame).unwrap_or(UNKNOWN)
    }

    /// What came of all of it.
    pub fn finish(self) -> Naming {
        self.workers.finish()
    }
}

/// Why nothing can be looked up in a binary.
fn why_not(binary: &Binary) -> Option<Unresolved> {
    match (&binary.file, &binary.problem, binary.kind) {
        (Some(_), _, _) => None,
        (None, Some(Problem::Malformed(_)), _) => Some(Unresolved::BadFile),
        (None, Some(Problem::Refused(_)), _) => Some(Unresolved::FileRefused),
        (None, None, MappingKind::Anonymous) => Some(Unresolved::Jit),
        (None, _, _) => Some(Unresolved::FileGone),
    }
}
