//! Sentences about a recording and its failures: for the log, for the report, and the advice that goes with an error.

use std::ffi::OsString;

use super::choose::SamplerKind;
use super::plan::{RecordPlan, Target};
use super::stop::{Exit, Failure};
use crate::artifacts::ArtifactError;
use crate::profile::{Accounting, Recording};
use crate::recorder::{EvictedTable, JvmAsked, KernelWalks, Recorded, RunError, StopReason};
use crate::sampling::{SamplingError, SamplingPlan, Scope};
use crate::sys::perf::{StackSource, Trigger};
use crate::target::capabilities::Capability;
use crate::target::host::Host;
use crate::target::jit::MapProblems;

pub(super) fn event(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::HardwareCycles => "cycles",
        Trigger::CpuClock | Trigger::Dummy => "cpu-clock",
    }
}

pub(super) fn sampler(kind: SamplerKind) -> &'static str {
    match kind {
        SamplerKind::Bpf => "bpf",
        SamplerKind::Perf => "perf",
    }
}

pub(super) fn unwind(stack: StackSource) -> String {
    match stack {
        StackSource::Copy { bytes } => format!("dwarf-copy ({bytes} bytes)"),
        StackSource::Tables { .. } => "dwarf".into(),
        StackSource::CallChain | StackSource::None => "fp".into(),
    }
}

pub(super) fn stopped_by(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Duration => "duration",
        StopReason::Interrupted => "interrupted",
        StopReason::TargetExited => "target exited",
        StopReason::Cut => "duration",
    }
}

/// The log line at the start.
pub(super) fn begins(plan: &RecordPlan, sampling: &SamplingPlan) -> String {
    let until = match plan.duration {
        Some(duration) => format!("for {:.1} s", duration.as_secs_f64()),
        None => "until Ctrl-C or its end".into(),
    };
    format!(
        "recording {} at {} Hz ({}, {} sampler, {}) {until}",
        scope(&sampling.scope),
        plan.frequency_hz,
        event(plan.event.what),
        sampler(plan.sampler.what),
        unwind(plan.stack.what),
    )
}

pub(super) fn scope(scope: &Scope) -> String {
    match scope {
        Scope::All => "everything".into(),
        Scope::Name(name) => format!("processes named `{name}`"),
        Scope::Selected(list) => list.what.clone(),
        Scope::Pids { roots, tree } => {
            let pids: Vec<String> = roots.iter().map(u32::to_string).collect();
            let family = if *tree { " with descendants" } else { "" };
            format!("PID {}{family}", pids.join(", "))
        }
    }
}

/// What walking in the kernel took, for the log.
pub(super) fn kernel_walks(walks: &KernelWalks) -> String {
    let (w, u) = (walks.walks, walks.upload);
    let per_walk = |count: u64| count as f64 / w.walks.max(1) as f64;
    let hits = 100.0 * w.cache_hits as f64 / (w.cache_hits + w.cache_misses).max(1) as f64;
    format!(
        "kernel walks: {} stacks, {:.1} frames, {:.2} reads and {:.2} searches a stack, {hits:.2} % of rules remembered; {} stacks copied; \
         {} tables, {} rows, {:.1} MB, {} address spaces, built in {:.3} s, {} uploads failed",
        w.walks,
        per_walk(w.frames),
        per_walk(w.reads),
        per_walk(w.cache_misses),
        w.copies,
        u.tables,
        u.rows,
        u.heap_bytes as f64 / 1e6,
        u.address_spaces,
        u.build_ns as f64 / 1e9,
        walks.failed,
    )
}

/// Binaries without a table for want of memory, and the share of samples that cost.
pub(super) fn without_table(walks: &KernelWalks, samples: u64) -> Vec<String> {
    let sentence = |table: &EvictedTable| {
        format!(
            "The unwind table of `{}` ({:.1} MB) had no room within --unwind-memory {} times: {:.1} % of samples met it \
             missing, and had their stack copied as far as there was room.",
            table.path,
            table.table_bytes as f64 / 1e6,
            table.times,
            100.0 * table.samples as f64 / samples.max(1) as f64
        )
    };
    let cost_samples = |table: &&EvictedTable| table.samples > 0;
    walks
        .evicted
        .iter()
        .filter(cost_samples)
        .map(sentence)
        .collect()
}

/// More maps than this are not named one by one.
const MAX_MAPS_NAMED: usize = 5;

/// What is wrong with the maps of generated code.
pub(super) fn maps_of_generated_code(problems: &MapProblems) -> Vec<String> {
    let refused = problems.refused.iter().map(|(pid, path, why)| {
        format!(
            "The map of generated code `{path}` of PID {pid} is not used, or not all of it: {why}."
        )
    });
    let bad = problems.bad_lines.iter().map(|(pid, path, lines)| {
        format!(
            "{lines} lines of `{path}`, the map of generated code of PID {pid}, are not understood."
        )
    });
    let mut sentences: Vec<String> = refused.chain(bad).collect();
    let surplus = sentences.len().saturating_sub(MAX_MAPS_NAMED);
    sentences.truncate(MAX_MAPS_NAMED);
    if surplus > 0 {
        sentences.push(format!(
            "So it is with {surplus} more maps of generated code."
        ));
    }
    if problems.not_followed > 0 {
        sentences.push(format!(
            "The generated code of {} processes is not named: there are too many of them.",
            problems.not_followed
        ));
    }
    sentences
}

/// What came of `--jvm-perfmap`.
pub(super) fn maps_of_jvms(jvms: &[JvmAsked]) -> Vec<String> {
    if jvms.is_empty() {
        return vec![
            "`--jvm-perfmap`: the target has no Java virtual machine (`libjvm.so`).".into(),
        ];
    }
    let sentence = |jvm: &JvmAsked| {
        let why = jvm.failure.as_ref()?;
        Some(format!(
            "The Java virtual machine with PID {} did not write its perf map: {why}. `jcmd {0} Compiler.perfmap` beside \
             it, or `-XX:+UnlockDiagnosticVMOptions -XX:+DumpPerfMapAtExit` on its command line, brings one, too.",
            jvm.pid
        ))
    };
    jvms.iter()
        .filter_map(sentence)
        .take(MAX_MAPS_NAMED)
        .collect()
}

/// What was recorded, for the report.
pub(super) fn target(target: &Target, sampling: &SamplingPlan, recorded: &Recorded) -> String {
    let processes = match recorded.processes_seen {
        1 => "1 process".into(),
        n => format!("{n} processes"),
    };
    match target {
        Target::Command(command) => {
            format!("`{}` ({processes})", command_line(command.iter().cloned()))
        }
        Target::Running(_) => format!("{} ({processes})", scope(&sampling.scope)),
    }
}

/// A command line that a shell reads back as the same words.
pub(super) fn command_line(words: impl IntoIterator<Item = OsString>) -> String {
    let quoted: Vec<String> = words
        .into_iter()
        .map(|w| quote(&w.to_string_lossy()))
        .collect();
    quoted.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else if word.chars().any(char::is_control) {
        // ANSI-C quoting, which bash and zsh read.
        let escaped: String = word.chars().flat_map(ansi_c).collect();
        format!("$'{escaped}'")
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn ansi_c(c: char) -> Vec<char> {
    match c {
        '\'' | '\\' => vec!['\\', c],
        c if c.is_control() => format!("\\x{:02x}", u32::from(c)).chars().collect(),
        c => vec![c],
    }
}

pub(super) fn not_written(error: ArtifactError) -> Failure {
    let hint = error.hint();
    Failure::new(Exit::NotWritten, error).hint(hint)
}

pub(super) fn run_failed(error: RunError, host: &Host) -> Failure {
    match error {
        RunError::Sampling(error) => sampling_failed(error, host),
        RunError::Release(_) => Failure::new(Exit::NoTarget, error),
    }
}

/// Why sampling failed, with what would make it work.
pub(super) fn sampling_failed(error: SamplingError, host: &Host) -> Failure {
    let paranoid = host
        .sysctls
        .perf_event_paranoid
        .map_or_else(|| "not readable".into(), |level| level.to_string());
    match &error {
        SamplingError::EventNotPermitted { .. } if is_filtered(host) => {
            Failure::new(Exit::NotPermitted, error).hint(
                "the capabilities are there, and a seccomp filter is on: it forbids perf_event_open. In Kubernetes \
                 `seccompProfile: {type: Unconfined}`, in podman and docker `--security-opt seccomp=unconfined`",
            )
        }
        SamplingError::EventNotPermitted { .. } => Failure::new(Exit::NotPermitted, error).hint(
            format!(
                "kernel.perf_event_paranoid is {paranoid}; run as root or grant CAP_PERFMON, or CAP_SYS_ADMIN where \
                 it is 3 or more; `perfprof doctor` has the exact command"
            ),
        ),
        SamplingError::BpfNotPermitted { .. } => Failure::new(Exit::NotPermitted, error).hint(
            "grant CAP_BPF and CAP_PERFMON (in a container also `seccompProfile: {type: Unconfined}`), or leave out \
             `--sampler bpf` and `--unwind dwarf`; `perfprof doctor` has the exact command",
        ),
        SamplingError::TargetEnded => Failure::new(Exit::NoTarget, error),
        SamplingError::TooManyEvents { .. } => Failure::new(Exit::NotPermitted, error)
            .hint("raise the limit of open files (`ulimit -n`), or run as root: then one event per CPU suffices"),
        SamplingError::Bpf { .. } => {
            Failure::new(Exit::NotPermitted, error).hint("leave out `--sampler bpf` and `--unwind dwarf`, or see `perfprof doctor`")
        }
        _ => Failure::new(Exit::NotPermitted, error).hint("`perfprof doctor` says what is missing"),
    }
}

/// Whether the kernel's own rules permit events, so that only a filter can have refused them.
fn is_filtered(host: &Host) -> bool {
    let has = |capability| host.capabilities.has(capability);
    let paranoid = host.sysctls.perf_event_paranoid.unwrap_or(2);
    let permits = has(Capability::SysAdmin) || (has(Capability::Perfmon) && paranoid <= 2);
    permits && host.seccomp == Some(2)
}

/// Not one tick hit the target: an error, because an empty profile looks like an idle service.
pub(super) fn no_samples(recording: &Recording, accounting: &Accounting) -> Failure {
    let used = match accounting.cpu_ns() {
        Some(cpu_ns) => format!("it used {:.3} s of CPU time", cpu_ns as f64 / 1e9),
        None => "its CPU time is not known".into(),
    };
    let lost = match accounting.lost {
        0 => String::new(),
        lost => format!("; {lost} samples were lost"),
    };
    Failure::message(
        Exit::Inconclusive,
        format!(
            "no samples of {} in {:.1} s: {used}{lost}",
            recording.target,
            recording.duration_ns as f64 / 1e9
        ),
    )
    .hint("record while the service is under load, for longer, or at a higher --frequency; --tree adds worker processes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_reads_back_as_the_same_words() {
        let words = ["perfprof", "--service", "it's a; test", ""].map(OsString::from);
        assert_eq!(
            command_line(words),
            r"perfprof --service 'it'\''s a; test' ''"
        );
    }
}
