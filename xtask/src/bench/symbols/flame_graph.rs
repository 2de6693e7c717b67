//! perf's way to a flame graph: `perf script`, folded and drawn by inferno, all three at a time.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::bench::running::peak_rss_of_all;

const POLL: Duration = Duration::from_millis(5);

/// Nobody waits that long for a profile.
const LIMIT: Duration = Duration::from_secs(150);

/// Draws `flame.svg` from the `perf.data` beside it. Out: the largest resident size of `perf script` and of what it has
/// started (it asks `addr2line` for inlined functions), bytes.
pub(super) fn draw(inferno: &Path, folder: &Path, inlined: bool) -> anyhow::Result<u64> {
    let mut script = Command::new("perf");
    script
        .arg("script")
        .args((!inlined).then_some("--no-inline"));
    script
        .arg("-i")
        .arg(folder.join("perf.data"))
        .stdin(Stdio::null());
    let mut script = Ended(spawn(script.stdout(Stdio::piped()))?);
    let mut fold = Command::new(inferno);
    fold.stdin(
        script
            .0
            .stdout
            .take()
            .context("standard output is a pipe")?,
    );
    let mut fold = Ended(spawn(fold.stdout(Stdio::piped()))?);
    let mut draw = Command::new(inferno.with_file_name("inferno-flamegraph"));
    draw.stdin(fold.0.stdout.take().context("standard output is a pipe")?);
    let svg = folder.join("flame.svg");
    let mut draw = Ended(spawn(
        draw.stdout(File::create(&svg).context("failed to create a file")?),
    )?);
    let (begin, mut peak) = (Instant::now(), 0);
    let status = loop {
        peak = peak.max(peak_rss_of_all(script.0.id()));
        if let Some(status) = draw.0.try_wait()? {
            break status;
        }
        ensure!(
            begin.elapsed() < LIMIT,
            "not done after {} s",
            LIMIT.as_secs()
        );
        thread::sleep(POLL);
    };
    ensure!(status.success(), "`inferno-flamegraph` ended with {status}");
    ensure!(script.0.wait()?.success(), "`perf script` failed");
    ensure!(fs::metadata(svg)?.len() > 0, "the flame graph is empty");
    Ok(peak)
}

/// Killed when dropped, where it has not ended.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stderr(Stdio::null()).spawn();
    child.with_context(|| format!("failed to run `{name}`"))
}
