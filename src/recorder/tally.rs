//! Stacks counted by thread, time slice and ending, with addresses but no names yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::quality::RandomState;

use super::off_cpu::OffCpuTally;
use crate::profile::{
    ElfAddr, FrameIx, FrameKind, ProfileBuilder, Sample, StackEnd, StackIx, StackTree, Thread,
    ThreadIx,
};

/// In what a frame's code stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// A binary, by [`crate::target::binary::Binary::ix`].
    Binary(u32),
    /// Generated code, by [`crate::target::jit::PlaceIx`].
    Jit(u32),
    Kernel,
    /// User code where no mapping is known.
    Unmapped,
}

/// A frame before it has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawFrame {
    pub code: Code,
    /// The address to look up: in the binary's own address space; of the running kernel or process otherwise.
    pub addr: ElfAddr,
}

impl RawFrame {
    /// The binary it is in, by [`crate::target::binary::Binary::ix`].
    pub fn binary(&self) -> Option<u32> {
        match self.code {
            Code::Binary(ix) => Some(ix),
            _ => None,
        }
    }
}

/// One group of equal ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    slice: u32,
    thread: ThreadIx,
    stack: StackIx,
    end: StackEnd,
}

/// Below these a wait or a waking is the scheduler's and our own work.
const SCHEDULER: [&str; 2] = ["__schedule", "try_to_wake_up"];

/// How the kernel's functions begin that run a program at a tracepoint.
const HOOKS: [&str; 2] = ["__traceiter_sched_", "bpf_trace_run"];

/// Takes off, at the leaf of a stack given root first, what only the taking of the stack has put there: the program that
/// took it, down to the scheduler's function that it hangs on.
fn leave_out_scheduler(builder: &ProfileBuilder, frames: &mut Vec<FrameIx>) {
    let is = |ix: &FrameIx, what: &dyn Fn(&str) -> bool| {
        builder.frame_kind(*ix) == FrameKind::Kernel && what(builder.outermost_name(*ix))
    };
    let took_it = |name: &str| HOOKS.iter().any(|hook| name.starts_with(hook));
    let Some(hook) = frames.iter().position(|ix| is(ix, &took_it)) else {
        return;
    };
    let scheduler = |ix: &FrameIx| is(ix, &|name| SCHEDULER.contains(&name));
    let first = frames[..hook].iter().rposition(scheduler).unwrap_or(hook);
    frames.truncate(first);
}

/// All ticks of a recording.
#[derive(Debug, Default)]
pub struct Tally {
    frames: Vec<RawFrame>,
    frame_ix: HashMap<RawFrame, FrameIx, RandomState>,
    stacks: StackTree,
    threads: Vec<Thread>,
    thread_ix: HashMap<Thread, ThreadIx>,
    weights: HashMap<Key, (u64, u64), RandomState>,
    ticks: u64,
    complete: u64,
    /// Where it was recorded.
    pub(super) off_cpu: Option<OffCpuTally>,
}

impl Tally {
    pub fn thread(&mut self, thread: Thread) -> ThreadIx {
        if let Some(ix) = self.thread_ix.get(&thread) {
            return *ix;
        }
        let ix = ThreadIx(self.threads.len() as u32);
        self.threads.push(thread.clone());
        self.thread_ix.insert(thread, ix);
        ix
    }

    /// Interns a stack given leaf first.
    pub fn stack(&mut self, leaf_to_root: &[RawFrame]) -> StackIx {
        let mut stack = StackIx::EMPTY;
        for frame in leaf_to_root.iter().rev() {
            let next = FrameIx(self.frames.len() as u32);
            let ix = *self.frame_ix.entry(*frame).or_insert(next);
            if ix == next {
                self.frames.push(*frame);
            }
            stack = self.stacks.push(stack, ix);
        }
        stack
    }

    /// Counts one tick.
    pub fn tick(
        &mut self,
        slice: u32,
        thread: ThreadIx,
        stack: StackIx,
        end: StackEnd,
        cpu_ns: u64,
    ) {
        let key = Key {
            slice,
            thread,
            stack,
            end,
        };
        self.add(key, 1, cpu_ns);
    }

    fn add(&mut self, key: Key, count: u64, cpu_ns: u64) {
        let weight = self.weights.entry(key).or_default();
        weight.0 += count;
        weight.1 += cpu_ns;
        self.ticks += count;
        self.complete += if key.end == StackEnd::Root { count } else { 0 };
    }

    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Ticks whose stack reached its root.
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// Every distinct frame, in order of first sight.
    pub fn frames(&self) -> &[RawFrame] {
        &self.frames
    }

    /// The addresses in generated code, and the places they stand in.
    pub(super) fn generated_code(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.frames.iter().filter_map(|frame| match frame.code {
            Code::Jit(place) => Some((place, frame.addr.0)),
            _ => None,
        })
    }

    pub(super) fn processes_seen(&self) -> usize {
        let pids: BTreeSet<u32> = self.threads.iter().map(|thread| thread.pid).collect();
        pids.len()
    }

    /// Spreads the ticks over several tallies, by thread. Only of tallies without waits.
    pub fn split<G: Ord>(&self, group_of: impl Fn(&Thread) -> G) -> BTreeMap<G, Tally> {
        let mut groups: BTreeMap<G, Tally> = BTreeMap::new();
        for (key, (count, cpu_ns)) in &self.weights {
            let thread = &self.threads[key.thread.0 as usize];
            let part = groups.entry(group_of(thread)).or_default();
            let mut frames: Vec<RawFrame> = self
                .stacks
                .root_to_leaf(key.stack)
                .map(|frame| self.frames[frame.0 as usize])
                .collect();
            frames.reverse();
            let (thread, stack) = (part.thread(thread.clone()), part.stack(&frames));
            part.add(
                Key {
                    thread,
                    stack,
                    ..*key
                },
                *count,
                *cpu_ns,
            );
        }
        groups
    }

    pub fn threads_seen(&self) -> usize {
        self.threads.len()
    }

    pub(super) fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// Whether waits were recorded.
    pub fn has_waits(&self) -> bool {
        self.off_cpu.is_some()
    }

    /// Moves all ticks into `builder`. `named` holds the frame of the profile for each raw frame, by position; `settle`
    /// has the last word on a stack (root first) and on how it ended, now that names are known.
    pub fn pour_into(
        self,
        builder: &mut ProfileBuilder,
        named: &[FrameIx],
        settle: impl Fn(&ProfileBuilder, StackEnd, &mut Vec<FrameIx>) -> StackEnd,
    ) {
        let threads: Vec<ThreadIx> = self
            .threads
            .into_iter()
            .map(|t| builder.thread(t))
            .collect();
        let stack_of = |builder: &mut ProfileBuilder, stack: StackIx, end: StackEnd| {
            let mut frames: Vec<FrameIx> = self
                .stacks
                .root_to_leaf(stack)
                .map(|raw| named[raw.0 as usize])
                .collect();
            let end = settle(builder, end, &mut frames);
            leave_out_scheduler(builder, &mut frames);
            (builder.stack(frames), end)
        };
        for (key, (count, cpu_ns)) in self.weights {
            let (stack, end) = stack_of(builder, key.stack, key.end);
            let thread = threads[key.thread.0 as usize];
            builder.sample(Sample {
                slice: key.slice,
                thread,
                stack,
                end,
                count,
                cpu_ns,
            });
        }
        if let Some(off_cpu) = self.off_cpu {
            let waits = off_cpu.named(&threads, |stack, end| stack_of(builder, stack, end));
            builder.waits(waits);
        }
    }
}
