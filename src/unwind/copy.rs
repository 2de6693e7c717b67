//! Walks a copied stack by the rules of `.eh_frame`, through framehop.
//!
//! One unwinder serves all processes with equal mappings (a server's workers), found by the mappings' generation.
//!
//! framehop falls back to frame pointers where it finds no rules, and takes a zero frame pointer for the end of the
//! stack. That is a guess, so its word is not enough here: the walk counts as complete only when [`RootJudge`] knows
//! the outermost function as a thread's first.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{Error, ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder};

use crate::profile::{FrameAddr, RuntimeAddr, StackEnd, Why};
use crate::target::binary::{Binary, Problem, Section};
use crate::target::mappings::{MappedRegion, Mappings};

use super::root::RootJudge;

/// Longest stack kept; the BPF sampler's limit is the same.
const MAX_FRAMES: usize = 512;

/// Unwinders kept at a time. A generation that is not used any more makes room when the limit is reached.
const MAX_UNWINDERS: usize = 256;

/// framehop's cache tells unwinders apart by a 16-bit number that grows with each module added; the cache is emptied
/// before the number comes around.
const MODULES_PER_CACHE: usize = 60_000;

/// Section bytes that unwinders of several processes share.
#[derive(Clone, Debug, Default)]
struct SharedBytes(Arc<[u8]>);

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

type ProcessUnwinder = UnwinderX86_64<SharedBytes>;

/// A stack as a tick found it.
#[derive(Clone, Copy, Debug)]
pub struct StackCopy<'a> {
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
    /// Memory from `sp` upwards.
    pub bytes: &'a [u8],
    /// The copy was cut at its limit, so the stack may go on.
    pub full: bool,
}

impl StackCopy<'_> {
    fn read(&self, addr: u64) -> Result<u64, ()> {
        let offset = usize::try_from(addr.checked_sub(self.sp).ok_or(())?).map_err(|_| ())?;
        let bytes = self
            .bytes
            .get(offset..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(())?;
        Ok(u64::from_ne_bytes(*bytes))
    }

    fn ends_before(&self, addr: u64) -> bool {
        addr >= self.sp.saturating_add(self.bytes.len() as u64)
    }
}

/// Walks copied stacks of any process.
#[derive(Default)]
pub struct CopyUnwinder {
    by_generation: HashMap<u64, ProcessUnwinder>,
    cache: CacheX86_64,
    modules_added: usize,
}

impl std::fmt::Debug for CopyUnwinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyUnwinder")
            .field("unwinders", &self.by_generation.len())
            .finish()
    }
}

impl CopyUnwinder {
    /// Appends the frames of `stack`, leaf first, to `frames` and says how the walk ended.
    pub fn walk(
        &mut self,
        mappings: &Mappings,
        stack: &StackCopy,
        judge: &mut RootJudge,
        frames: &mut Vec<FrameAddr>,
    ) -> StackEnd {
        self.make_ready(mappings);
        let unwinder = &self.by_generation[&mappings.generation()];
        let regs = UnwindRegsX86_64::new(stack.ip, stack.sp, stack.bp);
        let mut read_stack = |addr| stack.read(addr);
        let mut iter = unwinder.iter_frames(stack.ip, regs, &mut self.cache, &mut read_stack);
        let first = frames.len();
        loop {
            let frame = match iter.next() {
                Ok(Some(FrameAddress::InstructionPointer(ip))) => FrameAddr::Exact(RuntimeAddr(ip)),
                Ok(Some(FrameAddress::ReturnAddress(ra))) => {
                    FrameAddr::Return(RuntimeAddr(ra.into()))
                }
                Ok(None) => {
                    return end_of_walk(mappings, frames[first..].last(), None, stack, judge);
                }
                Err(error) => {
                    let outermost = frames[first..].last();
                    return end_of_walk(mappings, outermost, Some(error), stack, judge);
                }
            };
            let lookup = frame.lookup_addr();
            if frames.len() > first && mappings.find(lookup).is_none() {
                // An address outside all code is no caller: the last rule was a guess that failed.
                let outermost = frames[first..].last();
                return end_of_walk(mappings, outermost, None, stack, judge);
            }
            frames.push(frame);
            if frames.len() - first >= MAX_FRAMES {
                return StackEnd::Truncated(Why::TooDeep);
            }
        }
    }
}

impl CopyUnwinder {
    /// Makes the unwinder for these mappings unless there is one.
    fn make_ready(&mut self, mappings: &Mappings) {
        let generation = mappings.generation();
        if self.by_generation.contains_key(&generation) {
            return;
        }
        if self.by_generation.len() >= MAX_UNWINDERS {
            self.by_generation.clear();
        }
        self.modules_added += mappings.regions().count();
        if self.modules_added > MODULES_PER_CACHE {
            self.cache = CacheX86_64::new();
            self.modules_added = 0;
        }
        self.by_generation
            .insert(generation, unwinder_for(mappings));
    }
}

/// Names the end of a walk by its outermost frame and by what stopped it.
fn end_of_walk(
    mappings: &Mappings,
    outermost: Option<&FrameAddr>,
    error: Option<Error>,
    stack: &StackCopy,
    judge: &mut RootJudge,
) -> StackEnd {
    let Some(addr) = outermost.map(|frame| frame.lookup_addr()) else {
        return StackEnd::Truncated(Why::NoRegisters);
    };
    let Some(region) = mappings.find(addr) else {
        return StackEnd::Truncated(Why::UnknownMapping);
    };
    let has_rules = match region.elf_addr(addr) {
        Some(elf_addr) if judge.is_root(&region.binary, elf_addr) => return StackEnd::Root,
        Some(elf_addr) => judge.has_rules(&region.binary, elf_addr),
        None => false,
    };
    if let Some(Error::CouldNotReadStack(at)) = error
        && stack.full
        && stack.ends_before(at)
    {
        return StackEnd::Truncated(Why::CopyTooShort);
    }
    StackEnd::Truncated(why_without_root(&region.binary, has_rules, error))
}

fn why_without_root(binary: &Binary, has_rules: bool, error: Option<Error>) -> Why {
    use crate::profile::MappingKind::Anonymous;
    match (&binary.problem, binary.kind, has_rules) {
        (Some(Problem::Malformed(_) | Problem::Replaced | Problem::Unopened(_)), _, _) => {
            Why::BinaryUnreadable
        }
        (None, Anonymous, _) => Why::Jit,
        (None, _, false) => Why::NoUnwindInfo,
        (None, _, true) => match error {
            Some(Error::CouldNotReadStack(_)) => Why::UnreadableStack,
            _ => Why::BadFrame,
        },
    }
}

fn unwinder_for(mappings: &Mappings) -> ProcessUnwinder {
    let mut unwinder = ProcessUnwinder::new();
    mappings
        .regions()
        .filter_map(module_of)
        .for_each(|module| unwinder.add_module(module));
    unwinder
}

/// The region as framehop knows it: addresses relative to the file's lowest segment, moved by the load bias.
fn module_of(region: &MappedRegion) -> Option<Module<SharedBytes>> {
    let binary = &region.binary;
    let base_svma = binary.segments.iter().map(|s| s.vaddr).min()?;
    let base_avma = region.bias()?.wrapping_add(base_svma);
    let range = |section: &Section| section.vaddr..section.vaddr + section.bytes.len() as u64;
    let bytes = |section: &Section| SharedBytes(section.bytes.clone());
    let unwind = &binary.unwind;
    let info = ExplicitModuleSectionInfo {
        base_svma,
        text_svma: unwind.text.map(|(start, end)| start..end),
        eh_frame_svma: unwind.eh_frame.first().map(range),
        eh_frame: unwind.eh_frame.first().map(bytes),
        eh_frame_hdr_svma: unwind.eh_frame_hdr.as_ref().map(range),
        eh_frame_hdr: unwind.eh_frame_hdr.as_ref().map(bytes),
        debug_frame: unwind.debug_frame.as_ref().map(bytes),
        ..Default::default()
    };
    Some(Module::new(
        binary.path.clone(),
        region.start.0..region.end.0,
        base_avma,
        info,
    ))
}
