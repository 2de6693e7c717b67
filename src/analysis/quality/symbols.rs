//! Coverage metric 4: frames with a function name, and native user frames with file and line. Each frame counts with
//! the ticks that went through it, once per activation.

use super::metric::{Metric, ModuleGap, Reason};
use super::modules::Gaps;
use crate::analysis::debug_packages;
use crate::analysis::weight::{StackKey, by_stack, ratio};
use crate::profile::{BuildId, Frame, FrameKind, MappingKind, Profile, Unresolved};

const UNIT: &str = "frames, weighted by ticks";
const NO_LINE: &str = "no-line-table";

/// The metrics `symbols` and `source_lines`.
pub(super) fn measure(
    profile: &Profile,
    symbols: Option<f64>,
    source_lines: Option<f64>,
) -> (Metric, Metric) {
    let ticks = ticks_by_frame(profile);
    let frames = || profile.frames.iter().zip(ticks.iter().copied());
    let native = || frames().filter(|(frame, _)| is_native_user(profile, frame));
    (
        named(profile, frames(), symbols),
        with_lines(profile, native(), source_lines),
    )
}

fn named<'a>(
    profile: &Profile,
    frames: impl Iterator<Item = (&'a Frame, u64)>,
    threshold: Option<f64>,
) -> Metric {
    let (mut whole, mut missing) = (0, 0);
    let mut by_reason = [0; Unresolved::ALL.len()];
    let mut gaps = Gaps::default();
    for (frame, ticks) in frames.filter(|(_, ticks)| *ticks > 0) {
        whole += ticks;
        let Some(reason) = frame.unresolved else {
            continue;
        };
        missing += ticks;
        by_reason[reason as usize] += ticks;
        let mapping = frame.mapping.map(|ix| profile.mapping(ix));
        gaps.add(mapping, reason.id(), ticks);
    }
    let reasons = Unresolved::ALL.into_iter().map(|reason| Reason {
        id: reason.id().to_owned(),
        explanation: explain(reason).to_owned(),
        count: by_reason[reason as usize],
        share: ratio(by_reason[reason as usize], whole),
    });
    let counts = ((whole - missing) as f64, whole as f64);
    let mut metric =
        Metric::ratio("symbols", UNIT, counts, threshold).with_reasons(reasons.collect());
    metric.modules = gaps.worst(whole, |module, build_id, reason| {
        Unresolved::from_id(reason)
            .map_or_else(String::new, |r| remedy(profile, r, module, build_id))
    });
    metric.or_remedy(first_remedy)
}

fn with_lines<'a>(
    profile: &Profile,
    frames: impl Iterator<Item = (&'a Frame, u64)>,
    threshold: Option<f64>,
) -> Metric {
    let (mut whole, mut missing) = (0, 0);
    let mut gaps = Gaps::default();
    for (frame, ticks) in frames.filter(|(_, ticks)| *ticks > 0) {
        whole += ticks;
        if !has_line(profile, frame) {
            missing += ticks;
            gaps.add(frame.mapping.map(|ix| profile.mapping(ix)), NO_LINE, ticks);
        }
    }
    let reason = Reason {
        id: NO_LINE.to_owned(),
        explanation: "no line table covers the address".to_owned(),
        count: missing,
        share: ratio(missing, whole),
    };
    let counts = ((whole - missing) as f64, whole as f64);
    let mut metric =
        Metric::ratio("source_lines", UNIT, counts, threshold).with_reasons(vec![reason]);
    metric.modules = gaps.worst(whole, |module, build_id, _| {
        debug_packages::remedy(profile, module, build_id)
    });
    metric.or_remedy(first_remedy)
}

fn ticks_by_frame(profile: &Profile) -> Vec<u64> {
    let mut ticks = vec![0; profile.frames.len()];
    for (key, weight) in by_stack(profile) {
        if let StackKey::Frames(stack) = key {
            for frame in profile.stacks.leaf_to_root(stack) {
                ticks[frame.0 as usize] += weight.ticks;
            }
        }
    }
    ticks
}

/// Code from a file in user space: only there a line table can be expected.
fn is_native_user(profile: &Profile, frame: &Frame) -> bool {
    let mapping = frame.mapping.map(|ix| profile.mapping(ix));
    frame.kind == FrameKind::User && mapping.is_some_and(|m| m.kind == MappingKind::File)
}

fn has_line(profile: &Profile, frame: &Frame) -> bool {
    let known = |line: &&crate::profile::Line| {
        line.line > 0 && !profile.function(line.function).file.is_empty()
    };
    frame.lines.iter().any(|line| known(&line))
}

fn first_remedy(metric: &Metric) -> Option<String> {
    metric
        .modules
        .first()
        .map(|gap: &ModuleGap| gap.remedy.clone())
}

fn explain(reason: Unresolved) -> &'static str {
    match reason {
        Unresolved::NoSymbol => "the file has no symbol that covers the address",
        Unresolved::FileGone => "the file was gone or replaced",
        Unresolved::FileRefused => "the file must not be read",
        Unresolved::BadFile => {
            "the file could not be read as ELF, or not in the time and memory allowed"
        }
        Unresolved::NoMapping => "the address lies in no known mapping",
        Unresolved::Jit => "generated code without a map",
        Unresolved::JitMapRefused => {
            "the map of generated code must not be read, or not to its end"
        }
        Unresolved::NotInJitMap => "the map of generated code does not name the address",
        Unresolved::KernelHidden => "the kernel hides its symbols",
    }
}

/// What would give frames in `module` that have no name for this reason one.
pub(in crate::analysis) fn remedy(
    profile: &Profile,
    reason: Unresolved,
    module: &str,
    build_id: Option<BuildId>,
) -> String {
    match reason {
        Unresolved::NoSymbol => debug_packages::remedy(profile, module, build_id),
        Unresolved::FileGone => format!(
            "restart the service so that it runs the `{module}` that is installed, or keep the old file until recording is over"
        ),
        Unresolved::FileRefused => format!(
            "grant CAP_SYS_PTRACE to see the files of other users' processes, and CAP_DAC_READ_SEARCH where `{module}` is for its owner only; `perfprof doctor` says what is missing"
        ),
        Unresolved::BadFile => format!(
            "see the warnings; where they say nothing of time or memory, check `{module}` with `readelf -a`"
        ),
        Unresolved::NoMapping => "record from the start with `perfprof record -- COMMAND`, so that every mapping is seen".to_owned(),
        Unresolved::JitMapRefused => "see the warnings of this report for why the map was refused; let the process itself write it, as a regular file".to_owned(),
        Unresolved::NotInJitMap => format!(
            "`{module}` does not tell of all generated code: let the runtime write it from its start, or record with `--jvm-perfmap`"
        ),
        Unresolved::Jit => "let the runtime write `/tmp/perf-PID.map` (`node --perf-basic-prof`, `jcmd PID Compiler.perfmap`, `python3 -X perf`)".to_owned(),
        Unresolved::KernelHidden => "run `sysctl kernel.kptr_restrict=0`, or grant CAP_SYSLOG".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned;

    #[test]
    fn the_worst_binary_comes_first_and_says_what_would_fix_it() {
        let (symbols, lines) = measure(&canned::server(), Some(0.8), None);
        assert_eq!(symbols.modules.len(), 1);
        assert_eq!(symbols.modules[0].count, canned::STRIPPED_TICKS);
        assert!(symbols.modules[0].remedy.contains("zlib1g-dbgsym=1:1.2.13"));
        assert_eq!(symbols.reasons[0].id, "no-symbol");
        let modules: Vec<&str> = lines.modules.iter().map(|m| m.module.as_str()).collect();
        assert_eq!(modules, ["/usr/lib/libz.so.1", "/usr/lib/libfoo.so"]);
        assert_eq!((lines.gating, lines.ok), (false, None));
    }

    #[test]
    fn every_reason_has_its_own_counter_and_words() {
        let profile = canned::server();
        for (index, reason) in Unresolved::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert!(!explain(reason).is_empty() && !remedy(&profile, reason, "m", None).is_empty());
        }
    }
}
