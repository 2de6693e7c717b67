//! What was typed, and what it means: targets that exist, outputs that can be written, choices with their reasons.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{
    ModeArg, OutputArgs, RecordArgs, RunningArgs, SamplerArg, TargetArgs, UnwindArg,
};
use super::choose::{self, Chosen, SamplerKind};
use super::stop::{Exit, Failure};
use super::{planning, selecting, symbols};
use crate::capacity::Planning;
use crate::sampling::{Scope, can_open};
use crate::symbolize::options::SymbolOptions;
use crate::sys::perf::{StackSource, Trigger};
use crate::target::process::{self, Stat};

/// A file format, chosen by a file's extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Pprof,
    Folded,
    Svg,
    Speedscope,
}

impl Format {
    pub const ALL: [Format; 4] = [
        Format::Pprof,
        Format::Folded,
        Format::Svg,
        Format::Speedscope,
    ];

    pub fn extension(self) -> &'static str {
        match self {
            Format::Pprof => "pb.gz",
            Format::Folded => "folded",
            Format::Svg => "svg",
            Format::Speedscope => "speedscope.json",
        }
    }

    fn of(path: &Path) -> Option<Format> {
        let name = path.to_str()?.rsplit('/').next()?;
        Format::ALL.into_iter().find(|format| {
            let stem = name.strip_suffix(format.extension());
            stem.is_some_and(|stem| stem.len() > 1 && stem.ends_with('.'))
        })
    }
}

/// Where results go.
#[derive(Clone, Debug)]
pub(super) struct Outputs {
    pub artifacts: PathBuf,
    pub files: Vec<(Format, PathBuf)>,
    pub per_thread: bool,
    pub short_names: bool,
    /// The files hold waits, not time on a CPU.
    pub waits_asked: bool,
    /// What the capacity analysis is to work out.
    pub planning: Planning,
}

impl Outputs {
    pub fn of(args: &OutputArgs) -> Result<Outputs, Failure> {
        let files = args.output.iter().map(|path| {
            let format = Format::of(path).ok_or_else(|| unknown_format(path))?;
            check_writable(path)?;
            Ok((format, path.clone()))
        });
        Ok(Outputs {
            artifacts: args.artifacts.clone(),
            files: files.collect::<Result<_, Failure>>()?,
            per_thread: args.per_thread,
            short_names: args.short_names,
            waits_asked: false,
            planning: Planning::default(),
        })
    }
}

fn unknown_format(path: &Path) -> Failure {
    let known: Vec<String> = Format::ALL
        .iter()
        .map(|f| format!(".{}", f.extension()))
        .collect();
    Failure::message(
        Exit::Usage,
        format!(
            "the extension of `{}` names no output format",
            path.display()
        ),
    )
    .hint(format!("use one of {}", known.join(", ")))
}

/// An output that cannot be written is found before the recording, not after it.
fn check_writable(path: &Path) -> Result<(), Failure> {
    let refused = |why: String| {
        Failure::message(
            Exit::NotWritten,
            format!("cannot write `{}`: {why}", path.display()),
        )
    };
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(refused("it is a directory".into())),
        Ok(meta) if !meta.is_file() && !meta.is_symlink() => {
            return Err(refused("it is not a regular file".into()));
        }
        _ => {}
    }
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    nix::unistd::access(parent, nix::unistd::AccessFlags::W_OK)
        .map_err(|errno| refused(format!("`{}`: {}", parent.display(), errno.desc())))
}

/// Who is to be recorded.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Command(Vec<OsString>),
    Running(Scope),
}

/// What of a thread's time is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// Also what threads wait for.
    pub waits: bool,
    /// It was named on the command line, so that nothing less will do.
    pub insisted: bool,
    pub why: String,
}

impl Mode {
    fn of(asked: Option<ModeArg>, sampler: SamplerKind) -> Result<Mode, Failure> {
        let waits = match asked {
            Some(ModeArg::OnCpu) => false,
            Some(ModeArg::OffCpu | ModeArg::All) => true,
            None => sampler == SamplerKind::Bpf,
        };
        if waits && sampler != SamplerKind::Bpf {
            return Err(Failure::message(
                Exit::Usage,
                "waits are recorded by the bpf sampler only, and `--sampler perf` or `--unwind dwarf-copy` asks for another",
            )
            .hint("use `--mode on-cpu`, or leave the sampler out"));
        }
        Ok(Mode {
            waits,
            insisted: asked.is_some_and(|asked| asked != ModeArg::OnCpu),
            why: match (asked, waits) {
                (Some(_), _) => "asked for by --mode",
                (None, true) => "BPF is permitted",
                (None, false) => "only the bpf sampler records waits",
            }
            .into(),
        })
    }
}

/// A validated recording, before anything is touched.
#[derive(Debug)]
pub(super) struct RecordPlan {
    pub target: Target,
    pub service: String,
    pub event: Chosen<Trigger>,
    pub sampler: Chosen<SamplerKind>,
    /// It was named on the command line, or is the only one for what was, so no other may stand in.
    pub sampler_insisted: bool,
    pub stack: Chosen<StackSource>,
    /// Instead of tables, where the bpf sampler cannot be used.
    pub second_best: StackSource,
    pub frequency_hz: u32,
    pub kernel: bool,
    pub jvm_perfmap: bool,
    pub mode: Mode,
    pub duration: Option<Duration>,
    pub precision: Option<f64>,
    pub symbols: SymbolOptions,
    pub outputs: Outputs,
    /// Where a load test that runs meanwhile leaves its result.
    pub load_test: Option<PathBuf>,
    pub warnings: Vec<String>,
}

/// Precision to plan for when none is asked: one percentage point.
pub(super) const DEFAULT_PRECISION: f64 = 0.01;

impl RecordPlan {
    pub fn of(mut args: RecordArgs) -> Result<RecordPlan, Failure> {
        let target = target(&args.target)?;
        if let (None, Target::Running(Scope::Selected(list))) = (&args.service, &target) {
            args.service = selecting::service(&args.target.running, list);
        }
        RecordPlan::for_target(args, target)
    }

    /// The same for a target that is known already.
    pub fn for_target(args: RecordArgs, target: Target) -> Result<RecordPlan, Failure> {
        let outputs = Outputs {
            waits_asked: args.sampling.mode == Some(ModeArg::OffCpu),
            planning: planning::of(&args.planning)?,
            ..Outputs::of(&args.output)?
        };
        let (symbols, mut warnings) = symbols::options(&args.symbols)?;
        if args
            .service
            .as_ref()
            .is_some_and(|name| name.trim().is_empty())
        {
            return Err(Failure::message(Exit::Usage, "`--service` needs a name"));
        }
        let service = args.service.unwrap_or_else(|| default_service(&target));
        let (sampler, stack) = choose::sampler(&args.sampling)?;
        let may_see_kernel = can_open(Trigger::CpuClock, true);
        if !may_see_kernel && !args.sampling.no_kernel {
            warnings.push(
                "Kernel frames and the time spent in the kernel are not recorded, because it is not permitted; \
                 `perfprof doctor` says what would permit it."
                    .into(),
            );
        }
        let kernel = may_see_kernel && !args.sampling.no_kernel;
        Ok(RecordPlan {
            target,
            service,
            event: choose::event(args.sampling.event, kernel)?,
            mode: Mode::of(args.sampling.mode, sampler.what)?,
            sampler,
            sampler_insisted: args.sampling.sampler != SamplerArg::Auto
                || args.sampling.unwind == UnwindArg::Dwarf,
            stack,
            second_best: choose::copied(&args.sampling),
            frequency_hz: args.sampling.frequency,
            kernel,
            jvm_perfmap: args.sampling.jvm_perfmap,
            duration: args.sampling.duration.map(Duration::from_secs_f64),
            precision: args.precision,
            symbols,
            outputs,
            load_test: args.planning.load_test,
            warnings,
        })
    }
}

fn target(args: &TargetArgs) -> Result<Target, Failure> {
    match args.command.is_empty() {
        false => Ok(Target::Command(args.command.clone())),
        true => running(&args.running).map(Target::Running),
    }
}

/// Processes that run already: there must be some.
fn running(args: &RunningArgs) -> Result<Scope, Failure> {
    if args.all {
        return Ok(Scope::All);
    }
    if let Some(name) = &args.comm {
        return named(name);
    }
    if let Some(selection) = selecting::selection(args) {
        let list = selecting::list(&selecting::selector(
            selection,
            Vec::new(),
            selecting::own_pod(),
        )?);
        return match list.pids().is_empty() {
            false => Ok(Scope::Selected(list)),
            true => Err(
                Failure::message(Exit::NoTarget, selecting::there_are_none(&list))
                    .hint(selecting::what_is_seen()),
            ),
        };
    }
    if args.pids.is_empty() {
        return Err(
            Failure::message(Exit::Usage, "nothing to record").hint(format!(
                "name a target: {}, or `-- CMD ARGS…`",
                selecting::FLAGS
            )),
        );
    }
    let mut roots = args.pids.clone();
    roots.sort_unstable();
    roots.dedup();
    for pid in &roots {
        check_process(*pid)?;
    }
    Ok(Scope::Pids {
        roots,
        tree: args.tree,
    })
}

/// The kernel keeps 15 bytes of a command name.
const MAX_COMM_BYTES: usize = 15;

fn named(name: &str) -> Result<Scope, Failure> {
    if name.is_empty() || name.len() > MAX_COMM_BYTES {
        return Err(Failure::message(
            Exit::Usage,
            format!("`--comm {name}` cannot match: a command name has 1 to {MAX_COMM_BYTES} bytes"),
        ));
    }
    let found = process::with_name(name).map_err(|e| Failure::new(Exit::Failed, e))?;
    if found.is_empty() {
        return Err(Failure::message(
            Exit::NoTarget,
            format!("no process has the command name `{name}`"),
        )
        .hint("`ps -eo pid,comm` lists command names"));
    }
    Ok(Scope::Name(name.to_owned()))
}

/// A process that exists, has not ended and may be looked at.
pub(super) fn check_process(pid: u32) -> Result<(), Failure> {
    existing_process(pid)?;
    match std::fs::read(format!("/proc/{pid}/maps")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Failure::new(
            Exit::NotPermitted,
            anyhow::Error::new(error)
                .context(format!("not permitted to read the mappings of PID {pid}")),
        )
        .hint("run as root or as the target's user, or grant CAP_SYS_PTRACE and CAP_PERFMON; see `perfprof doctor`")),
        _ => Ok(()),
    }
}

/// A process that exists, has not ended and is none of the kernel's.
pub(super) fn existing_process(pid: u32) -> Result<(), Failure> {
    let no_target = |message: String| Failure::message(Exit::NoTarget, message);
    let stat = Stat::of(pid).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_target(format!("no process with PID {pid}")).hint(
            "PIDs are those of this PID namespace; in a pod, `shareProcessNamespace: true` shows the others",
        ),
        kind => Failure::new(
            match kind {
                io::ErrorKind::PermissionDenied => Exit::NotPermitted,
                _ => Exit::NoTarget,
            },
            anyhow::Error::new(error).context(format!("failed to look at PID {pid}")),
        ),
    })?;
    if let Some(leader) = leader_of(pid).filter(|leader| *leader != pid) {
        return Err(
            no_target(format!("TID {pid} is a thread of PID {leader}")).hint(format!(
                "`--pid {leader}` takes the whole process, with all its threads"
            )),
        );
    }
    if stat.has_ended() {
        return Err(no_target(format!(
            "PID {pid} (`{}`) is a zombie: it has ended, and its parent {} has not noticed",
            stat.comm, stat.ppid
        )));
    }
    if stat.is_kernel_thread() {
        return Err(
            no_target(format!("PID {pid} (`{}`) is a kernel thread", stat.comm))
                .hint("it has no code of a service; `--all` records the kernel's work, too"),
        );
    }
    Ok(())
}

/// `/proc` shows a thread under its own number, too, though it does not list it.
fn leader_of(tid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// The command name of the target.
fn default_service(target: &Target) -> String {
    match target {
        Target::Command(command) => {
            let name = command
                .first()
                .map(|program| Path::new(program).file_name());
            name.flatten()
                .map_or_else(|| "command".into(), |n| n.to_string_lossy().into_owned())
        }
        Target::Running(Scope::All) => "all".into(),
        Target::Running(Scope::Name(name)) => name.clone(),
        Target::Running(Scope::Selected(list)) => list.what.clone(),
        Target::Running(Scope::Pids { roots, .. }) => {
            let first = roots.first().and_then(|pid| Stat::of(*pid).ok());
            first.map_or_else(|| "process".into(), |stat| stat.comm)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_no_process_and_its_process_is_named() {
        let own = std::process::id();
        assert_eq!(leader_of(own), Some(own));
        let refused = std::thread::spawn(|| {
            let tid = nix::unistd::gettid().as_raw() as u32;
            (tid, existing_process(tid))
        });
        let (tid, refused) = refused.join().expect("ran");
        let refused = refused.expect_err("a thread is no process");
        assert_eq!(refused.exit, Exit::NoTarget);
        let expected = format!("TID {tid} is a thread of PID {own}");
        assert_eq!(refused.error.to_string(), expected);
        assert!(
            refused
                .hint
                .is_some_and(|hint| hint.contains(&format!("--pid {own}")))
        );
    }

    #[test]
    fn the_extension_chooses_the_format() {
        let format = |path: &str| Format::of(Path::new(path));
        assert_eq!(format("a/b.pb.gz"), Some(Format::Pprof));
        assert_eq!(format("x.speedscope.json"), Some(Format::Speedscope));
        assert_eq!(format("x.folded"), Some(Format::Folded));
        assert_eq!(format("x.svg"), Some(Format::Svg));
        for bad in ["x.svg/", "x.json", "svg", ".svg", "x.gz", "x", "x.pb"] {
            assert_eq!(format(bad), None, "{bad}");
        }
    }
}
