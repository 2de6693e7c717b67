//! `perfprof capacity`: what a service uses of what it may use. Reads counters, takes no samples.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::args::CapacityArgs;
use super::plan::existing_process;
use super::planning;
use super::record::install_signals;
use super::status::Log;
use super::stdout::print;
use super::stop::{Exit, Failure};
use super::words;
use crate::artifacts::{ArtifactRoot, CapacityOutput, Document, publish_capacity};
use crate::capacity::{self, Capacity};
use crate::profile::CapacityFacts;
use crate::recorder::StopSignals;
use crate::render::units;
use crate::sys::usage::{monotonic_ns, unix_ns};
use crate::target::cgroup::Cgroup;
use crate::target::gauges::Gauges;
use crate::target::process;

/// Between readings.
const EVERY: Duration = Duration::from_millis(100);

/// Between looks at which processes there are: as often as readings where a look costs little, and at least this often.
const LOOK_AT_LEAST_NS: u64 = 1_000_000_000;

/// A look takes at most one part in this many of the time. It reads a file per process of the node.
const LOOK_SHARE: u64 = 50;

/// Who is measured.
#[derive(Debug)]
enum Measured {
    Pids(Vec<u32>),
    Cgroup(Box<Cgroup>),
    Node,
}

pub(super) fn run(args: &CapacityArgs, log: &Log) -> Result<Exit, Failure> {
    let mut planning = planning::of(&args.planning)?;
    let measured = Measured::of(args)?;
    let service = match &args.service {
        Some(name) if name.trim().is_empty() => {
            return Err(Failure::message(Exit::Usage, "`--service` needs a name"));
        }
        Some(name) => name.clone(),
        None => measured.name(),
    };
    let root = ArtifactRoot::open(&args.artifacts).map_err(words::not_written)?;
    root.check_writable().map_err(words::not_written)?;
    let stop = install_signals()?;

    log.info(format!("measuring {service} for {} s", args.duration));
    let began = unix_ns();
    let facts = measured.read(Duration::from_secs_f64(args.duration), &stop, log);
    let bad_load = planning::take_load(&mut planning, args.planning.load_test.as_deref());
    let capacity = Capacity::planned(&service, &facts, &planning);
    let entry = capacity::json_entry_at(&capacity, units::timestamp(began).as_deref());
    let output = CapacityOutput {
        service,
        section: capacity::markdown_section(&capacity),
        chart: capacity::chart(&capacity, &facts.points),
        document: Document {
            file: "capacity-analysis.json",
            schema: capacity::SCHEMA,
            version: capacity::SCHEMA_VERSION.into(),
            entry: entry.clone(),
        },
    };
    let published = publish_capacity(&root, &output, began).map_err(words::not_written)?;
    published.notes.iter().for_each(|note| log.warning(note));
    log.block(&capacity::summary_markdown(&capacity));
    for file in &published.files {
        log.info(format!("wrote {}", file.display()));
    }
    if args.json {
        print(&format!("{:#}\n", capacity::document(vec![entry])))?;
    }
    match (bad_load, capacity.is_conclusive()) {
        (Some(failure), _) => Err(failure),
        (None, true) => Ok(Exit::Success),
        (None, false) => Ok(Exit::Inconclusive),
    }
}

impl Measured {
    fn of(args: &CapacityArgs) -> Result<Measured, Failure> {
        if args.all {
            return Ok(Measured::Node);
        }
        if let Some(path) = &args.cgroup {
            return cgroup_at(path);
        }
        if args.pids.is_empty() {
            return Err(Failure::message(Exit::Usage, "nothing to measure")
                .hint("name a target: `--pid PID`, `--cgroup PATH` or `--all`"));
        }
        for pid in &args.pids {
            existing_process(*pid)?;
        }
        Ok(Measured::Pids(args.pids.clone()))
    }

    /// For the report, when no other name is given.
    fn name(&self) -> String {
        match self {
            Measured::Node => "all".into(),
            Measured::Pids(pids) => {
                let first = pids.first().and_then(|pid| process::Stat::of(*pid).ok());
                first.map_or_else(|| "process".into(), |stat| stat.comm)
            }
            Measured::Cgroup(cgroup) => {
                let last = Path::new(cgroup.path()).file_name();
                last.map_or_else(
                    || "cgroup".into(),
                    |name| name.to_string_lossy().into_owned(),
                )
            }
        }
    }

    /// Its processes now; none for the whole node.
    fn pids(&self) -> Vec<u32> {
        match self {
            Measured::Node => Vec::new(),
            Measured::Pids(roots) => {
                process::with_descendants(roots).unwrap_or_else(|_| roots.clone())
            }
            Measured::Cgroup(cgroup) => cgroup.pids(),
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            Measured::Node => false,
            Measured::Pids(roots) => !roots.iter().any(|pid| process::is_alive(*pid)),
            Measured::Cgroup(cgroup) => {
                let place = cgroup.cpuacct.as_ref();
                place.is_some_and(|place| !place.dir.is_dir())
            }
        }
    }

    /// Reads the gauges each tenth of a second until the time is over, Ctrl-C, or the target's end.
    fn read(&self, length: Duration, stop: &StopSignals, log: &Log) -> CapacityFacts {
        let mut gauges = match self {
            Measured::Node => Gauges::open(&[]),
            Measured::Pids(roots) => Gauges::open(roots),
            Measured::Cgroup(cgroup) => Gauges::open_cgroup((**cgroup).clone()),
        };
        gauges.add_pids(&self.pids());
        let begin_ns = monotonic_ns();
        let (mut due_ns, mut look_ns) = (begin_ns, begin_ns);
        loop {
            gauges.read();
            let now_ns = monotonic_ns();
            let over = now_ns - begin_ns >= length.as_nanos() as u64;
            if over || stop.interrupted.load(Ordering::Relaxed) {
                return gauges.finish();
            }
            if now_ns >= look_ns {
                if self.has_ended() {
                    log.info("the target has ended");
                    return gauges.finish();
                }
                gauges.add_pids(&self.pids());
                let cost_ns = monotonic_ns() - now_ns;
                look_ns = now_ns + (cost_ns * LOOK_SHARE).min(LOOK_AT_LEAST_NS);
                let seconds = (now_ns - begin_ns) as f64 / 1e9;
                log.progress(&format!("{seconds:.0} of {:.0} s", length.as_secs_f64()));
            }
            let now_ns = monotonic_ns();
            // A reading that came late does not make the next ones follow at once.
            due_ns = (due_ns + EVERY.as_nanos() as u64).max(now_ns);
            std::thread::sleep(Duration::from_nanos(due_ns - now_ns));
        }
    }
}

fn cgroup_at(path: &Path) -> Result<Measured, Failure> {
    if let Some(cgroup) = Cgroup::at(path) {
        return Ok(Measured::Cgroup(Box::new(cgroup)));
    }
    let exit = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::NoTarget,
    };
    Err(
        Failure::message(exit, format!("no cgroup `{}`", path.display())).hint(
            "give a directory below /sys/fs/cgroup, or a path as in /proc/PID/cgroup; it begins with `/`",
        ),
    )
}
