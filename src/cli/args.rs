//! What was typed: one struct per command, with help that names units and defaults.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod agent;
mod compare;
mod measurements;

use super::workflow_args::{EvidenceArgs, GateArgs, InitArgs};
use crate::capacity::TARGET_UTILIZATION;
use crate::symbolize::WORKER_COMMAND;
pub(super) use agent::{AgentArgs, PushArgs};
pub(super) use compare::{CiArgs, CiRunArgs, CompareArgs, JudgingArgs, PlanArgs};
pub(super) use measurements::{
    BaselineArgs, BaselineSaveArgs, BaselineShowArgs, FiguresArgs, LoadTestArgs, TrendArgs,
};

/// A Linux sampling profiler that says how much of the truth it saw.
#[derive(Debug, Parser)]
#[command(name = "perfprof", version, about, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub verbosity: Verbosity,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub(super) struct Verbosity {
    /// Print errors and warnings only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print details
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Record a running service, or a command, and write a report
    Record(Box<RecordArgs>),
    /// Write reports again from recorded profiles, perfprof's own or another tool's
    Report(ReportArgs),
    /// Name frames of a recorded profile that have no name or line yet, and write its reports
    Symbolize(SymbolizeArgs),
    /// Measure what a service uses of what it may use, and say what runs out first
    Capacity(CapacityArgs),
    /// Bring results of a load test into one form, beside those of other scenarios
    LoadTest(LoadTestArgs),
    /// The figures that later measurements are compared with
    #[command(subcommand)]
    Baseline(BaselineArgs),
    /// Compare the newest figures with the mean of the earlier ones
    Trend(TrendArgs),
    /// Say whether hot paths got better or worse between two sets of runs, with error bars
    Compare(CompareArgs),
    /// Say how long to record so that a comparison finds a change of a given size
    Plan(PlanArgs),
    /// For continuous integration
    #[command(subcommand)]
    Ci(CiArgs),
    /// Ask whether the next phase of the workflow may begin, and what is missing
    Gate(GateArgs),
    /// List everything in the artifact root with its hash, verify it, bundle it
    Evidence(EvidenceArgs),
    /// Write a gate config to begin with
    Init(InitArgs),
    /// Record all day beside a service: windows on disk, figures and profiles over HTTP, pushed on to where they are kept
    Agent(Box<AgentArgs>),
    /// Say what can be measured here, and what is missing
    Doctor(DoctorArgs),
    /// Show what perfprof knows of a program, or of itself
    #[command(subcommand)]
    Show(ShowArgs),
    /// Read ELF and DWARF for the perfprof that started this one
    #[command(name = WORKER_COMMAND, hide = true)]
    SymbolWorker(SymbolWorkerArgs),
}

#[derive(Debug, Args)]
pub(super) struct SymbolWorkerArgs {
    /// Bytes of memory for what is read
    pub memory_bytes: u64,
}

#[derive(Debug, Subcommand)]
pub(super) enum ShowArgs {
    /// The unwind table compiled from a program's call frame information
    Rows(RowsArgs),
    /// The BPF programs, and what this kernel's verifier had to do to accept them
    Programs,
}

#[derive(Debug, Args)]
pub(super) struct RowsArgs {
    /// Program or library
    #[arg(value_name = "BINARY")]
    pub binary: PathBuf,
    /// Only the rule at this address, hexadecimal, as the file numbers addresses
    #[arg(value_name = "ADDR", value_parser = hexadecimal)]
    pub addr: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub planning: PlanningArgs,
    /// Name of the report's section [default: the command name of the target]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Ask for this half-width of the hottest path's 95 % interval, as a share: 0.01 is one percentage point
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub precision: Option<f64>,
}

#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    #[command(flatten)]
    pub running: RunningArgs,
    /// Command to start and record, after `--`
    #[arg(last = true, value_name = "CMD", conflicts_with = "RunningArgs")]
    pub command: Vec<OsString>,
}

/// Processes that run already, or will.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "RunningArgs", multiple = true)]
pub(super) struct RunningArgs {
    /// Process to record, with its threads and what it starts; repeatable
    #[arg(long = "pid", short = 'p', value_name = "PID")]
    pub pids: Vec<u32>,
    /// With --pid: also record the processes already descended from it
    #[arg(long, requires = "pids")]
    pub tree: bool,
    /// Record all processes with this command name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["pids", "cgroup", "container", "pod", "all"])]
    pub comm: Option<String>,
    /// Record a cgroup with all below: a directory below /sys/fs/cgroup, or a path as in /proc/PID/cgroup
    #[arg(long, value_name = "PATH", conflicts_with_all = ["pids", "container", "pod", "all"])]
    pub cgroup: Option<PathBuf>,
    /// Record a container, by its ID (12 digits are enough) or its name: NAME, POD/NAME or NAMESPACE/POD/NAME
    #[arg(long, value_name = "ID|NAME", conflicts_with_all = ["pids", "pod", "all"])]
    pub container: Option<String>,
    /// Record a pod, by its UID or its name (NAME or NAMESPACE/NAME); without either, the one that perfprof runs in
    #[arg(long, value_name = "UID|NAME", num_args = 0..=1, require_equals = true, default_missing_value = "",
          conflicts_with_all = ["pids", "all"])]
    pub pod: Option<String>,
    /// Record everything on all CPUs
    #[arg(long, conflicts_with = "pids")]
    pub all: bool,
}

#[derive(Debug, Args)]
pub(super) struct SamplingArgs {
    /// Samples per second of CPU time
    #[arg(long, short = 'F', value_name = "HZ", default_value_t = 199,
          value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub frequency: u32,
    /// What is recorded: time on a CPU, or also what threads wait for. `off-cpu` records as `all` does and puts the waits
    /// into the files that were asked for [default: all where BPF is permitted, else on-cpu]
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,
    /// Seconds to record [default: until Ctrl-C or the target's exit]
    #[arg(long, short = 'd', value_name = "SECONDS", value_parser = positive_seconds)]
    pub duration: Option<f64>,
    /// What makes a sample: hardware cycles where they exist, else the CPU clock
    #[arg(long, value_enum, default_value_t = EventArg::Auto)]
    pub event: EventArg,
    /// Where samples are taken: in a BPF program, or by perf events alone
    #[arg(long, value_enum, default_value_t = SamplerArg::Auto)]
    pub sampler: SamplerArg,
    /// How user stacks are walked
    #[arg(long, value_enum, default_value_t = UnwindArg::Auto)]
    pub unwind: UnwindArg,
    /// Bytes of user stack to copy per sample with --unwind dwarf-copy
    #[arg(long, value_name = "BYTES", default_value_t = 65_528,
          value_parser = clap::value_parser!(u32).range(512..=65_528))]
    pub stack_bytes: u32,
    /// Memory for unwind tables with --unwind dwarf, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 128,
          value_parser = clap::value_parser!(u32).range(2..=16_384))]
    pub unwind_memory: u32,
    /// Have each Java virtual machine of the target (JDK 17 and later) write a perf map, so that its code has names
    #[arg(long)]
    pub jvm_perfmap: bool,
    /// Leave out kernel frames and the time spent in the kernel
    #[arg(long)]
    pub no_kernel: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct SymbolArgs {
    /// Folder with debug files: by build ID (.build-id/xx/yyyy.debug) or by name; repeatable
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
    /// Fetch missing debug files by build ID from these servers [without URL: those of $DEBUGINFOD_URLS, or else of
    /// /etc/debuginfod]; repeatable
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub debuginfod: Vec<String>,
    /// Seconds a debuginfod server may take for one file
    #[arg(long, value_name = "SECONDS", default_value_t = 90.0, value_parser = positive_seconds)]
    pub debuginfod_timeout: f64,
    /// Memory for debug information while it is read, in MiB, shared by two workers; mapped files do not count
    #[arg(long, value_name = "MIB", default_value_t = 512,
          value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub symbol_memory: u32,
    /// Seconds that reading the names of one binary may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = positive_seconds)]
    pub symbol_timeout: f64,
    /// Look all names up anew, and keep none on disk for the next recording of the same build
    #[arg(long)]
    pub no_symbol_cache: bool,
}

#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Folder for the report and everything else that is written
    #[arg(long, value_name = "DIR", default_value = ".artifacts/performance")]
    pub artifacts: PathBuf,
    /// Also write this file; the extension chooses the format: .pb.gz, .folded, .svg, .speedscope.json; repeatable
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Put the thread's name second in folded stacks
    #[arg(long)]
    pub per_thread: bool,
    /// Leave template and type arguments out of the names that are shown: `std::vector<…>::push_back`; the profile and
    /// the JSON documents keep them
    #[arg(long)]
    pub short_names: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Profiles: pprof (.pb.gz), folded stacks or the output of `perf script`
    #[arg(required = true, value_name = "PROFILE")]
    pub profiles: Vec<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Name of the report's section [default: as recorded, or the file's name]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct SymbolizeArgs {
    /// Profile recorded by perfprof (.pb.gz)
    #[arg(value_name = "PROFILE")]
    pub profile: PathBuf,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct CapacityArgs {
    /// Process to measure, with its threads and all it has started and starts; repeatable. Its cgroup is measured where
    /// that is the service's own
    #[arg(long = "pid", short = 'p', value_name = "PID", conflicts_with_all = ["cgroup", "all"])]
    pub pids: Vec<u32>,
    /// Measure a cgroup: a directory below /sys/fs/cgroup, or a path as in /proc/PID/cgroup
    #[arg(long, value_name = "PATH", conflicts_with = "all")]
    pub cgroup: Option<PathBuf>,
    /// Measure the whole node
    #[arg(long)]
    pub all: bool,
    /// Seconds to measure; Ctrl-C ends it earlier
    #[arg(long, short = 'd', value_name = "SECONDS", default_value_t = 60.0, value_parser = positive_seconds)]
    pub duration: f64,
    #[command(flatten)]
    pub planning: PlanningArgs,
    /// Name of the section [default: the command name of the process, or the last part of the cgroup's path]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Folder for what is written
    #[arg(long, value_name = "DIR", default_value = ".artifacts/performance")]
    pub artifacts: PathBuf,
    /// Print the JSON document to standard output, too
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanningArgs {
    /// Share of the CPU limit that is to be used at p95; what is left is for bursts and for a lost replica
    #[arg(long, value_name = "SHARE", default_value_t = TARGET_UTILIZATION, value_parser = share)]
    pub target_utilization: f64,
    /// Instances that share the load now, to work out how many it takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub replicas: Option<u32>,
    /// Result of a load test that runs meanwhile, for the cost of a request; read when the measurement ends, so let the
    /// test end before: any file that `perfprof load-test` reads, or {"throughput_per_second": N}; the throughput is that
    /// of all --replicas together
    #[arg(long, value_name = "FILE")]
    pub load_test: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print JSON to standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ModeArg {
    OnCpu,
    OffCpu,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum EventArg {
    Auto,
    Cycles,
    CpuClock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SamplerArg {
    Auto,
    Bpf,
    Perf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum UnwindArg {
    /// Complete stacks also without frame pointers
    Auto,
    /// Frame pointers
    Fp,
    /// .eh_frame rules, walked inside the kernel
    Dwarf,
    /// .eh_frame rules, walked over a copy of the stack
    DwarfCopy,
}

/// A day is the longest recording that makes sense in one profile.
const MAX_SECONDS: f64 = 86_400.0;

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("not a number between 0 and 1".into()),
    }
}

/// `3%` or `0.03`.
fn percentage(text: &str) -> Result<f64, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|value| value / 100.0),
        None => text.parse::<f64>(),
    };
    match parsed {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("not a share between 0 and 1, as 3% or 0.03".into()),
    }
}

fn amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(amount) if amount > 0.0 && amount.is_finite() => Ok(amount),
        _ => Err("not a number above 0".into()),
    }
}

fn hexadecimal(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).map_err(|e| e.to_string())
}

fn positive_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MAX_SECONDS => Ok(seconds),
        Ok(_) => Err(format!("must be above 0 and at most {MAX_SECONDS} seconds")),
        Err(_) => Err("not a number of seconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_odd_durations_are_refused() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        for bad in ["0", "-1", "abc", "NaN", "inf", "1e9"] {
            assert!(positive_seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(positive_seconds("0.5"), Ok(0.5));
        assert_eq!((percentage("3%"), percentage("0.03")), (Ok(0.03), Ok(0.03)));
        for bad in ["0", "3", "100%", "-5%", "NaN", "%", ""] {
            assert!(percentage(bad).is_err(), "{bad}");
        }
        assert!(amount("0").is_err() && amount("inf").is_err());
    }
}
