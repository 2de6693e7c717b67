//! Stacks seen a moment ago: hot code is hit over and over, and means the same each time.
//!
//! In: a sample as the kernel walked it, and what names the meaning of its process's addresses. Out: what the same sample meant
//! before. A fixed number of slots, each for the stacks whose hash falls on it, so that memory is bounded.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use crate::profile::{StackEnd, StackIx, Why};
use crate::sampling::{RawSample, UserStack};

/// Some hundred bytes each.
const SLOTS: usize = 4096;

/// What a stack meant.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    pub stack: StackIx,
    pub end: StackEnd,
    /// Binaries it runs through.
    pub binaries: Vec<u32>,
}

#[derive(Debug)]
struct Recent {
    key: Box<[u64]>,
    meaning: Meaning,
}

#[derive(Debug)]
pub(super) struct RecentStacks {
    slots: Vec<Option<Recent>>,
    hasher: RandomState,
    /// The key of the sample asked for last; empty when it is not to be remembered.
    key: Vec<u64>,
}

impl Default for RecentStacks {
    fn default() -> Self {
        RecentStacks {
            slots: std::iter::repeat_with(|| None).take(SLOTS).collect(),
            hasher: RandomState::default(),
            key: Vec::new(),
        }
    }
}

impl RecentStacks {
    /// What the same sample meant before.
    pub fn find(&mut self, sample: &RawSample, generation: Option<(u64, u64)>) -> Option<&Meaning> {
        self.key.clear();
        if let Some(generation) = generation {
            write_key(sample, generation, &mut self.key);
        }
        let slot = self.slots[self.slot()].as_ref()?;
        (!self.key.is_empty() && *slot.key == *self.key).then_some(&slot.meaning)
    }

    /// Remembers what the sample asked for last means.
    pub fn remember(&mut self, meaning: Meaning) {
        if !self.key.is_empty() {
            let slot = self.slot();
            let key = self.key.as_slice().into();
            self.slots[slot] = Some(Recent { key, meaning });
        }
    }

    fn slot(&self) -> usize {
        self.hasher.hash_one(&self.key) as usize % SLOTS
    }
}

/// All that a meaning depends on; nothing for a sample that came with a copy, or whose meaning may change.
fn write_key(sample: &RawSample, generation: (u64, u64), key: &mut Vec<u64>) {
    let UserStack::Walked(walked) = &sample.user else {
        return;
    };
    let code = match walked.end {
        StackEnd::Root => 0,
        StackEnd::Truncated(Why::TableEvicted | Why::Warming) => return,
        StackEnd::Truncated(why) => why as u64,
    };
    if walked.copy.is_some() {
        return;
    }
    let how = code | u64::from(walked.bridged) << 8 | u64::from(walked.space) << 32;
    let (mappings, generated) = generation;
    key.extend([mappings, generated, how, sample.kernel.len() as u64]);
    key.extend(sample.kernel.iter().map(|addr| addr.0));
    key.extend(walked.frames.iter().map(|addr| addr.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::RuntimeAddr;
    use crate::sampling::WalkedStack;

    fn sample(kernel: &[u64], user: &[u64]) -> RawSample {
        let addrs = |list: &[u64]| list.iter().map(|addr| RuntimeAddr(*addr)).collect();
        let walked = WalkedStack::by_frame_pointers(addrs(user), StackEnd::Root);
        RawSample {
            pid: 1,
            tid: 1,
            period: 1,
            kernel: addrs(kernel),
            user: UserStack::Walked(walked),
        }
    }

    #[test]
    fn only_the_very_same_stack_of_the_same_mappings_is_known_again() {
        let mut recent = RecentStacks::default();
        let meaning = Meaning {
            stack: StackIx::EMPTY,
            end: StackEnd::Root,
            binaries: vec![7],
        };
        let asked = sample(&[1], &[2, 3]);
        let five = Some((5, 0));
        assert!(recent.find(&asked, five).is_none());
        recent.remember(meaning);
        assert_eq!(recent.find(&asked, five).expect("known").binaries, [7]);
        assert!(recent.find(&asked, Some((6, 0))).is_none());
        assert!(recent.find(&asked, Some((5, 1))).is_none());
        assert!(recent.find(&asked, None).is_none());
        assert!(recent.find(&sample(&[1, 2], &[3]), five).is_none());
        assert!(recent.find(&sample(&[1], &[2]), five).is_none());
        let mut absent = asked;
        absent.user = UserStack::Absent;
        assert!(recent.find(&absent, five).is_none());
    }
}
