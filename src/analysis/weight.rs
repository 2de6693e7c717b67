//! How much ticks stand for, added up per stack. The common ground of all rankings and shares.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::profile::{Profile, Sample, StackEnd, StackIx};

/// A number of ticks and the CPU time they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    pub ticks: u64,
    pub cpu_ns: u64,
}

impl AddAssign for Weight {
    fn add_assign(&mut self, other: Weight) {
        self.ticks = self.ticks.saturating_add(other.ticks);
        self.cpu_ns = self.cpu_ns.saturating_add(other.cpu_ns);
    }
}

impl From<&Sample> for Weight {
    fn from(sample: &Sample) -> Weight {
        Weight {
            ticks: sample.count,
            cpu_ns: sample.cpu_ns,
        }
    }
}

/// What shares are taken of: CPU time where the profile knows it (ticks need not stand for equal times), else ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    CpuTime,
    Ticks,
}

impl Measure {
    pub fn of(profile: &Profile) -> Measure {
        match profile.total_cpu_ns() {
            0 => Measure::Ticks,
            _ => Measure::CpuTime,
        }
    }

    pub fn read(self, weight: Weight) -> u64 {
        match self {
            Measure::CpuTime => weight.cpu_ns,
            Measure::Ticks => weight.ticks,
        }
    }
}

/// A stack as rankings tell them apart: by its frames, and a stack without any by how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum StackKey {
    Frames(StackIx),
    NoFrames(StackEnd),
}

impl From<&Sample> for StackKey {
    fn from(sample: &Sample) -> StackKey {
        match sample.stack {
            StackIx::EMPTY => StackKey::NoFrames(sample.end),
            stack => StackKey::Frames(stack),
        }
    }
}

/// Weights of equal stacks, over all threads and slices; in a fixed order.
pub(super) fn by_stack(profile: &Profile) -> BTreeMap<StackKey, Weight> {
    let mut weights: BTreeMap<StackKey, Weight> = BTreeMap::new();
    for sample in &profile.samples {
        *weights.entry(sample.into()).or_default() += sample.into();
    }
    weights
}

/// `part` over `whole` as a share; 0 where the whole is nothing.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}
