//! One run of one side: a profile, and what is known of the work that was done meanwhile.

use std::sync::OnceLock;

use crate::analysis::{Coverage, Measure as Weighing, Thresholds};
use crate::profile::Profile;

/// The kernel's own CPU time is taken for a run's whole where samples stand for about as much. Farther apart, one of
/// both is wrong, and samples at least agree with themselves.
const ACCOUNTED_RANGE: std::ops::RangeInclusive<f64> = 0.8..=1.25;

/// A profile of one side.
#[derive(Debug)]
pub struct Run {
    /// Its file, as given.
    pub label: String,
    pub profile: Profile,
    /// Units of work (requests, iterations) done while it was recorded.
    pub work: Option<f64>,
    /// Where the amount of work is from: a flag, a load test.
    pub work_source: Option<String>,
    coverage: OnceLock<Coverage>,
}

impl Run {
    /// A run of which it is not known how much work it did.
    pub fn new(label: String, profile: Profile) -> Run {
        Run {
            label,
            profile,
            work: None,
            work_source: None,
            coverage: OnceLock::new(),
        }
    }

    /// CPU time of the whole, seconds; `None` where the profile only counts ticks.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let sampled = match Weighing::of(&self.profile) {
            Weighing::CpuTime => self.profile.total_cpu_ns() as f64 / 1e9,
            Weighing::Ticks => return None,
        };
        let accounted = self.profile.accounting.cpu_ns().map(|ns| ns as f64 / 1e9);
        match accounted {
            Some(cpu) if cpu > 0.0 && ACCOUNTED_RANGE.contains(&(sampled / cpu)) => Some(cpu),
            _ => Some(sampled),
        }
    }

    /// Wall-clock length of the recording.
    pub fn seconds(&self) -> Option<f64> {
        let seconds = self.profile.recording.duration_ns as f64 / 1e9;
        (seconds > 0.0).then_some(seconds)
    }

    pub fn started_unix_ns(&self) -> Option<u64> {
        Some(self.profile.recording.started_unix_ns).filter(|ns| *ns > 0)
    }

    /// How far the profile can be trusted, by the usual thresholds.
    pub fn coverage(&self) -> &Coverage {
        // How sure the hottest path's share is, is not asked: the comparison has intervals of its own.
        let compute = || Coverage::with_hottest(&self.profile, &Thresholds::default(), None);
        self.coverage.get_or_init(compute)
    }
}

/// Whether both sides are the same recordings: then nothing can differ, however little was recorded.
pub(super) fn same_recordings(before: &[Run], after: &[Run]) -> bool {
    let same = |(a, b): (&Run, &Run)| {
        let (a, b) = (&a.profile, &b.profile);
        a.samples == b.samples
            && a.functions == b.functions
            && a.frames == b.frames
            && a.threads == b.threads
    };
    before.len() == after.len() && before.iter().zip(after).all(same)
}

/// Puts both sides in the order of time, and says whether they took turns: then each before run belongs to the after run
/// beside it.
pub(super) fn in_pairs(sides: &mut [Vec<Run>; 2]) -> bool {
    for side in sides.iter_mut() {
        side.sort_by_key(Run::started_unix_ns);
    }
    let starts = |side: &[Run]| {
        side.iter()
            .map(Run::started_unix_ns)
            .collect::<Option<Vec<u64>>>()
    };
    match (starts(&sides[0]), starts(&sides[1])) {
        (Some(b), Some(a)) => b.len() == a.len() && b.len() >= 2 && take_turns(&b, &a),
        _ => false,
    }
}

/// Whether each pair is over before the next begins: A B A B, or A B B A.
fn take_turns(before: &[u64], after: &[u64]) -> bool {
    let pairs: Vec<(u64, u64)> = before
        .iter()
        .zip(after)
        .map(|(b, a)| (*b.min(a), *b.max(a)))
        .collect();
    let distinct = pairs.iter().all(|(first, second)| first != second);
    distinct && pairs.windows(2).all(|pair| pair[0].1 < pair[1].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_turns_is_told_by_the_starts() {
        assert!(take_turns(&[1, 3, 5], &[2, 4, 6]));
        assert!(take_turns(&[1, 4, 5], &[2, 3, 6]));
        assert!(!take_turns(&[1, 2, 3], &[4, 5, 6]));
        assert!(!take_turns(&[1, 3], &[1, 3]));
    }
}
