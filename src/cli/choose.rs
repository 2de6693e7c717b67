//! Which event, which sampler, which unwinder: the choice and its reason, both for the report.

use crate::sampling::can_open;
use crate::sys::perf::{StackSource, Trigger};

use super::args::{EventArg, SamplerArg, SamplingArgs, UnwindArg};
use super::stop::{Exit, Failure};

/// A choice and why it was made.
#[derive(Clone, Debug)]
pub(super) struct Chosen<T> {
    pub what: T,
    pub why: String,
}

impl<T> Chosen<T> {
    pub(super) fn new(what: T, why: impl Into<String>) -> Chosen<T> {
        Chosen {
            what,
            why: why.into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SamplerKind {
    Bpf,
    Perf,
}

/// Hardware cycles where they exist, else the CPU clock.
pub(super) fn event(asked: EventArg, kernel: bool) -> Result<Chosen<Trigger>, Failure> {
    let has_cycles = || can_open(Trigger::HardwareCycles, kernel);
    match asked {
        EventArg::CpuClock => Ok(Chosen::new(Trigger::CpuClock, "asked for by --event")),
        EventArg::Auto if has_cycles() => {
            Ok(Chosen::new(Trigger::HardwareCycles, "the CPU counts cycles"))
        }
        EventArg::Auto => {
            Ok(Chosen::new(Trigger::CpuClock, "no hardware cycle counter can be opened here"))
        }
        EventArg::Cycles if has_cycles() => {
            Ok(Chosen::new(Trigger::HardwareCycles, "asked for by --event"))
        }
        EventArg::Cycles => Err(Failure::message(
            Exit::NotPermitted,
            "failed to open a hardware cycle counter: this machine has none, or it is not permitted",
        )
        .hint("use `--event cpu-clock`, or run `perfprof doctor`")),
    }
}

/// Stack copies of the size asked for: what serves where a BPF program cannot walk.
pub(super) fn copied(args: &SamplingArgs) -> StackSource {
    StackSource::Copy {
        bytes: args.stack_bytes & !7,
    }
}

/// Sampler and unwinder together, because not every pair exists.
pub(super) fn sampler(
    args: &SamplingArgs,
) -> Result<(Chosen<SamplerKind>, Chosen<StackSource>), Failure> {
    use SamplerKind::{Bpf, Perf};
    let asked = |what: &str| format!("asked for by {what}");
    let copy = copied(args);
    let fp = StackSource::CallChain;
    let tables = StackSource::Tables {
        budget_bytes: u64::from(args.unwind_memory) << 20,
    };
    let complete = "gives complete stacks on binaries without frame pointers";
    Ok(match (args.sampler, args.unwind) {
        (SamplerArg::Perf, UnwindArg::Dwarf) => {
            return Err(Failure::message(
                Exit::Usage,
                "`--sampler perf` cannot be used with `--unwind dwarf`, which walks in a BPF program",
            )
            .hint("leave one of the two out, or use `--unwind dwarf-copy`"));
        }
        (SamplerArg::Auto, UnwindArg::Dwarf) => (
            Chosen::new(Bpf, "dwarf needs it"),
            Chosen::new(tables, asked("--unwind")),
        ),
        (SamplerArg::Bpf, UnwindArg::Dwarf) => (
            Chosen::new(Bpf, asked("--sampler")),
            Chosen::new(tables, asked("--unwind")),
        ),
        (SamplerArg::Bpf, UnwindArg::DwarfCopy) => {
            return Err(Failure::message(
                Exit::Usage,
                "`--sampler bpf` cannot be used with `--unwind dwarf-copy`",
            )
            .hint("leave one of the two out"));
        }
        (SamplerArg::Auto, UnwindArg::Auto) => (
            Chosen::new(Bpf, "dwarf needs it"),
            Chosen::new(tables, complete),
        ),
        (SamplerArg::Perf, UnwindArg::Auto) => (
            Chosen::new(Perf, asked("--sampler")),
            Chosen::new(copy, complete),
        ),
        (SamplerArg::Bpf, UnwindArg::Auto) => (
            Chosen::new(Bpf, asked("--sampler")),
            Chosen::new(tables, complete),
        ),
        (SamplerArg::Auto, UnwindArg::Fp) => (
            Chosen::new(Bpf, "filters in the kernel, no event per thread"),
            Chosen::new(fp, asked("--unwind")),
        ),
        (sampler, UnwindArg::Fp) => {
            let kind = if sampler == SamplerArg::Bpf {
                Bpf
            } else {
                Perf
            };
            (
                Chosen::new(kind, asked("--sampler")),
                Chosen::new(fp, asked("--unwind")),
            )
        }
        (_, UnwindArg::DwarfCopy) => {
            let why = if args.sampler == SamplerArg::Perf {
                asked("--sampler")
            } else {
                "dwarf-copy needs it".into()
            };
            (Chosen::new(Perf, why), Chosen::new(copy, asked("--unwind")))
        }
    })
}
