//! The only way to make a [`Profile`]: interns threads, mappings, functions, frames and stacks, adds up equal samples,
//! and keeps the number of time slices bounded.

use std::collections::HashMap;
use std::hash::Hash;

use super::{
    Accounting, Frame, FrameIx, FrameKind, Function, FunctionIx, Mapping, MappingIx, Profile,
    Recording, Sample, StackEnd, StackIx, StackTree, Thread, ThreadIx, Waits,
};

/// More slices than this are merged two by two: enough blocks for any statistics, and a bounded file for a recording
/// that runs all night.
const MAX_SLICES: u32 = 512;

/// A table whose equal entries share an index.
#[derive(Debug)]
struct Interner<T> {
    items: Vec<T>,
    index: HashMap<T, u32>,
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn new() -> Interner<T> {
        Interner {
            items: Vec::new(),
            index: HashMap::new(),
        }
    }

    fn intern(&mut self, item: T) -> u32 {
        if let Some(ix) = self.index.get(&item) {
            return *ix;
        }
        let ix = self.items.len() as u32;
        self.items.push(item.clone());
        self.index.insert(item, ix);
        ix
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    slice: u32,
    thread: ThreadIx,
    stack: StackIx,
    end: StackEnd,
}

/// Collects a profile piece by piece.
#[derive(Debug)]
pub struct ProfileBuilder {
    threads: Interner<Thread>,
    mappings: Interner<Mapping>,
    functions: Interner<Function>,
    frames: Interner<Frame>,
    stacks: StackTree,
    weights: HashMap<Key, (u64, u64)>,
    waits: Option<Waits>,
}

impl Default for ProfileBuilder {
    fn default() -> Self {
        ProfileBuilder {
            threads: Interner::new(),
            mappings: Interner::new(),
            functions: Interner::new(),
            frames: Interner::new(),
            stacks: StackTree::default(),
            weights: HashMap::new(),
            waits: None,
        }
    }
}

impl ProfileBuilder {
    pub fn thread(&mut self, thread: Thread) -> ThreadIx {
        ThreadIx(self.threads.intern(thread))
    }

    pub fn mapping(&mut self, mapping: Mapping) -> MappingIx {
        MappingIx(self.mappings.intern(mapping))
    }

    pub fn function(&mut self, function: Function) -> FunctionIx {
        FunctionIx(self.functions.intern(function))
    }

    pub fn frame(&mut self, frame: Frame) -> FrameIx {
        debug_assert!(
            !frame.lines.is_empty(),
            "a frame has at least its address as a name"
        );
        FrameIx(self.frames.intern(frame))
    }

    pub fn frame_kind(&self, frame: FrameIx) -> FrameKind {
        self.frames.items[frame.0 as usize].kind
    }

    /// Name of the function that has the frame's code, the one others may be inlined into.
    pub fn outermost_name(&self, frame: FrameIx) -> &str {
        let line = self.frames.items[frame.0 as usize].lines.last();
        line.map_or("", |line| {
            &self.functions.items[line.function.0 as usize].name
        })
    }

    pub fn stack(&mut self, root_to_leaf: impl IntoIterator<Item = FrameIx>) -> StackIx {
        self.stacks.intern(root_to_leaf)
    }

    /// Nodes of the stack tree so far, for readers of unknown files that must stay within bounds.
    pub fn stack_nodes(&self) -> usize {
        self.stacks.node_count()
    }

    /// Adds `sample` to those equal in slice, thread, stack and end.
    pub fn sample(&mut self, sample: Sample) {
        let Sample {
            slice,
            thread,
            stack,
            end,
            count,
            cpu_ns,
        } = sample;
        let weight = self
            .weights
            .entry(Key {
                slice,
                thread,
                stack,
                end,
            })
            .or_default();
        weight.0 += count;
        weight.1 += cpu_ns;
    }

    /// Sets what is known of the time off the CPU: by this builder's threads and stacks, in any order.
    pub fn waits(&mut self, waits: Waits) {
        self.waits = Some(waits);
    }

    /// Finishes the profile. `recording.slice_ns` is the slice length the samples were added with; it grows by powers
    /// of two when the recording was long.
    pub fn build(self, mut recording: Recording, accounting: Accounting) -> Profile {
        let waited = self.waits.iter().flat_map(|waits| &waits.samples);
        let slices = self.weights.keys().map(|key| key.slice);
        let shift = slice_shift(slices.chain(waited.map(|sample| sample.slice)));
        recording.slice_ns <<= shift;
        let mut weights: HashMap<Key, (u64, u64)> = HashMap::with_capacity(self.weights.len());
        for (key, (count, cpu_ns)) in self.weights {
            let weight = weights
                .entry(Key {
                    slice: key.slice >> shift,
                    ..key
                })
                .or_default();
            weight.0 += count;
            weight.1 += cpu_ns;
        }
        let mut samples: Vec<Sample> = weights
            .into_iter()
            .map(
                |(
                    Key {
                        slice,
                        thread,
                        stack,
                        end,
                    },
                    (count, cpu_ns),
                )| Sample {
                    slice,
                    thread,
                    stack,
                    end,
                    count,
                    cpu_ns,
                },
            )
            .collect();
        samples.sort_unstable_by_key(|s| (s.slice, s.thread, s.stack, s.end));
        Profile {
            recording,
            accounting,
            threads: self.threads.items,
            mappings: self.mappings.items,
            functions: self.functions.items,
            frames: self.frames.items,
            stacks: self.stacks,
            samples,
            waits: self.waits.map(|waits| waits.settled(shift)),
        }
    }
}

/// How often the slice length must double so that at most [`MAX_SLICES`] remain.
fn slice_shift(slices: impl Iterator<Item = u32>) -> u32 {
    let last = slices.max().unwrap_or(0);
    (0..32)
        .find(|shift| last >> shift < MAX_SLICES)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(builder: &mut ProfileBuilder, slice: u32) {
        let thread = builder.thread(Thread {
            pid: 1,
            tid: 1,
            name: "t".into(),
            process: "p".into(),
        });
        builder.sample(Sample {
            slice,
            thread,
            stack: StackIx::EMPTY,
            end: StackEnd::Root,
            count: 1,
            cpu_ns: 10,
        });
    }

    #[test]
    fn merging_slices_loses_no_tick() {
        let mut builder = ProfileBuilder::default();
        (0..3000).for_each(|slice| sample(&mut builder, slice));
        let recording = Recording {
            slice_ns: 100,
            duration_ns: 300_000,
            ..Recording::default()
        };
        let profile = builder.build(recording, Accounting::default());
        assert_eq!(
            (profile.total_count(), profile.total_cpu_ns()),
            (3000, 30_000)
        );
        assert_eq!(profile.recording.slice_ns, 800);
        assert_eq!(profile.slice_count(), 375);
    }
}
