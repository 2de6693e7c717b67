//! One recording of the steady workload, measured from outside: what the target paid per unit of work, and what the
//! recorder used. The recorder's own figures are not asked.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::running::{Running, children_cpu_seconds, clear, size_of_tree};
use crate::workload::Workload;

/// Samples a second and thread: enough for a cost that can be told from noise.
const HZ: &str = "997";

/// Between the two readings of the target's books.
const WINDOW: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorder {
    Perfprof,
    /// `perf record --call-graph dwarf`, then `perf script`: the tool nearest to ours, to readable stacks.
    Perf,
}

/// What a recorder used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) samples: u64,
    /// User and system time of all its processes.
    pub(super) cpu_seconds: f64,
    /// The largest resident sizes (`VmHWM`) of the processes it recorded with, added up.
    pub(super) rss_bytes: u64,
    /// From the order to stop until readable stacks lie on the disk.
    pub(super) finish_seconds: f64,
    /// What it has written by the end of the recording; for perf the data file, not the text made from it.
    pub(super) written_bytes: u64,
}

/// CPU nanoseconds per unit of the target's work while nobody looks.
pub(super) fn alone(workload: &mut Workload) -> anyhow::Result<f64> {
    ns_per_unit(workload)
}

/// CPU nanoseconds per unit of the target's work under a recorder, and the recorder's cost.
pub(super) fn under(recorder: Recorder, workload: &mut Workload) -> anyhow::Result<(f64, Cost)> {
    let folder = super::run_folder();
    clear(&folder)?;
    let mut running = start(recorder, workload.pid(), &folder)?;
    running.wait_until_armed()?;
    let ns_per_unit = ns_per_unit(workload)?;
    let ended = running.stop()?;
    let written_bytes = size_of_tree(&folder, "")?;
    let before = children_cpu_seconds()?;
    let samples = match recorder {
        Recorder::Perfprof => folded_samples(&folder)?,
        Recorder::Perf => unwind_by_perf(&folder)?,
    };
    let cost = Cost {
        samples,
        cpu_seconds: ended.cpu_seconds + children_cpu_seconds()? - before,
        rss_bytes: ended.rss_bytes,
        finish_seconds: ended.stopped.elapsed().as_secs_f64(),
        written_bytes,
    };
    ensure!(cost.samples > 0, "{recorder:?} took no samples");
    Ok((ns_per_unit, cost))
}

fn ns_per_unit(workload: &mut Workload) -> anyhow::Result<f64> {
    let before = workload.truth_so_far()?;
    thread::sleep(WINDOW);
    let after = workload.truth_so_far()?;
    let grown = |figure: &str| -> anyhow::Result<f64> {
        let read = |truth: &serde_json::Value| truth[figure].as_f64();
        let (Some(before), Some(after)) = (read(&before), read(&after)) else {
            bail!("the workload does not say its `{figure}`");
        };
        Ok(after - before)
    };
    let units = grown("units")?;
    ensure!(units > 0.0, "the workload did nothing");
    Ok(grown("cpu_ns")? / units)
}

fn start(recorder: Recorder, pid: u32, folder: &Path) -> anyhow::Result<Running> {
    let pid = pid.to_string();
    let mut command = match recorder {
        Recorder::Perfprof => {
            let mut command = Command::new(super::perfprof());
            command.args(["record", "--quiet", "--pid", &pid, "-F", HZ, "--artifacts"]);
            command.arg(folder.join("artifacts"));
            command.arg("-o").arg(folder.join("out.folded"));
            command
        }
        Recorder::Perf => {
            let mut command = Command::new("perf");
            command.args(["record", "-q", "-e", "cpu-clock", "-F", HZ, "-p", &pid]);
            command
                .args(["--call-graph", "dwarf", "-o"])
                .arg(folder.join("perf.data"));
            command
        }
    };
    Running::start(&mut command, &folder.join("log"))
}

fn folded_samples(folder: &Path) -> anyhow::Result<u64> {
    let path = folder.join("out.folded");
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "`{}` was not written; see target/bench/run/log",
            path.display()
        )
    })?;
    let counts = text
        .lines()
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    Ok(counts.sum())
}

/// Makes stacks out of perf's copies; each sample begins with a line that is not indented.
fn unwind_by_perf(folder: &Path) -> anyhow::Result<u64> {
    let output = File::create(folder.join("perf.script")).context("failed to create a file")?;
    let status = Command::new("perf")
        .args(["script", "--no-inline", "-i"])
        .arg(folder.join("perf.data"))
        .stdout(output)
        .stderr(Stdio::null())
        .status()
        .context("failed to run `perf script`")?;
    ensure!(status.success(), "`perf script` ended with {status}");
    let text = fs::read(folder.join("perf.script")).context("failed to read what perf wrote")?;
    let heads = text
        .split(|byte| *byte == b'\n')
        .filter(|line| line.first().is_some_and(|byte| !byte.is_ascii_whitespace()));
    Ok(heads.count() as u64)
}
