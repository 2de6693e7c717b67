//! Coverage metric 3: stacks that reach the root of their thread.

use std::collections::BTreeMap;

use super::metric::{Metric, Reason};
use super::modules::Gaps;
use crate::analysis::weight::ratio;
use crate::profile::{Profile, StackEnd, StackIx, Why};

const ID: &str = "stacks";
const UNIT: &str = "ticks";

pub(super) fn measure(profile: &Profile, threshold: Option<f64>) -> Metric {
    let whole = profile.total_count();
    let mut by_why: BTreeMap<Why, u64> = BTreeMap::new();
    let mut gaps = Gaps::default();
    for sample in &profile.samples {
        if let StackEnd::Truncated(why) = sample.end {
            *by_why.entry(why).or_default() += sample.count;
            let outermost = outermost_mapping(profile, sample.stack);
            gaps.add(outermost, why.id(), sample.count);
        }
    }
    let broken: u64 = by_why.values().sum();
    if whole > 0 && by_why.get(&Why::NotStated) == Some(&whole) {
        let why = "the tool that recorded the profile does not say whether stacks are complete";
        return Metric::missing(ID, UNIT, threshold, why);
    }
    let counts = ((whole - broken) as f64, whole as f64);
    let reasons = by_why.iter().map(|(why, count)| Reason {
        id: why.id().to_owned(),
        explanation: why.explain().to_owned(),
        count: *count,
        share: ratio(*count, whole),
    });
    let mut metric = Metric::ratio(ID, UNIT, counts, threshold).with_reasons(reasons.collect());
    metric.modules = gaps.worst(whole, |module, _, reason| remedy(module, reason));
    metric.or_remedy(|metric| metric.modules.first().map(|gap| gap.remedy.clone()))
}

/// The mapping of the outermost known frame, where the walk broke off.
fn outermost_mapping(profile: &Profile, stack: StackIx) -> Option<&crate::profile::Mapping> {
    let frame = profile.stacks.leaf_to_root(stack).last()?;
    profile.frame(frame).mapping.map(|ix| profile.mapping(ix))
}

fn remedy(module: &str, reason: &str) -> String {
    let why = Why::ALL.into_iter().find(|why| why.id() == reason);
    match why {
        Some(Why::TooDeep) => {
            "the recursion is deeper than any profiler keeps; self time is still right".to_owned()
        }
        Some(Why::CopyTooShort) => {
            "record with `--unwind fp` if the target has frame pointers: it copies no stack".to_owned()
        }
        Some(Why::Warming) => {
            "record for longer: a new process, or one that has just mapped a library, lacks unwind tables for a moment; where that goes on and on, `--unwind dwarf-copy` needs none".to_owned()
        }
        Some(Why::TableEvicted) => "raise `--unwind-memory`".to_owned(),
        Some(Why::NoUnwindInfo | Why::Bridged) => format!(
            "build `{module}` with `-fasynchronous-unwind-tables`, or with `-fno-omit-frame-pointer` and record with `--unwind fp`"
        ),
        Some(Why::FramePointerLost) => format!(
            "record with `--unwind dwarf-copy`, or build `{module}` with `-fno-omit-frame-pointer`"
        ),
        Some(Why::UnknownMapping) => {
            "generated code that moves, or memory that was mapped a moment ago; try `--unwind dwarf-copy`".to_owned()
        }
        Some(Why::Jit) => {
            "let the runtime keep frame pointers in generated code (`node --perf-basic-prof`, `java -XX:+PreserveFramePointer`) and record with `--unwind fp`".to_owned()
        }
        Some(Why::BinaryUnreadable) => {
            format!("keep `{module}` readable and in place while recording")
        }
        Some(Why::NoRegisters) => {
            "exiting threads and 32-bit code have no registers to start from; on kernels before 5.15 `--sampler perf` has them for ticks in kernel code".to_owned()
        }
        Some(Why::NotStated) => "record with perfprof".to_owned(),
        Some(Why::NotTaken) => "record for longer".to_owned(),
        Some(Why::UnreadableStack | Why::BadFrame | Why::UnsupportedRule) | None => {
            format!("try another `--unwind` method on `{module}`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned;

    #[test]
    fn truncated_stacks_are_blamed_on_the_binary_where_they_broke_off() {
        let metric = measure(&canned::server(), Some(0.95));
        assert_eq!(metric.ok, Some(true));
        let ids: Vec<&str> = metric.reasons.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["frame-pointer-lost", "no-registers"]);
        assert_eq!(metric.modules[0].module, "/usr/lib/libfoo.so");
        assert_eq!(metric.modules[0].count, canned::TRUNCATED_TICKS);
        assert_eq!(metric.modules[1].module, "[unknown]");
        assert!(metric.modules[0].remedy.contains("libfoo.so"));
    }
}
