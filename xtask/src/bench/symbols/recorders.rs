//! One recording of 5 s by each tool, and what its end took.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::flame_graph;
use super::subjects::Busy;
use crate::bench::peers::{Peers, Permitted, WITH_TRACEFS};
use crate::bench::running::{Ended, Running, clear, last_words, size_of_tree};
use crate::bench::{perfprof, run_folder, samply};

const HZ: &str = "999";
/// lightswitch wants a prime number.
const LIGHTSWITCH_HZ: &str = "997";
const WINDOW: Duration = Duration::from_secs(5);

/// A gzipped pprof without samples is smaller.
const LEAST_PROFILE_BYTES: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// With an empty cache of symbols.
    Perfprof,
    /// With the cache that the one before has left.
    PerfprofWarm,
    /// Names in its file, nothing drawn.
    Samply,
    Lightswitch,
    /// Copies of stacks, names without inlined functions, a flame graph.
    PerfPlain,
    /// The same with inlined functions.
    PerfInlined,
}

/// What followed the interrupt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) seconds: f64,
    /// The largest resident size of the recorder, from its beginning.
    pub(super) rss_bytes: f64,
}

impl Took {
    pub(super) const NOTHING: Took = Took {
        seconds: f64::NAN,
        rss_bytes: f64::NAN,
    };
}

impl Tool {
    pub(super) const ALL: [Tool; 6] = [
        Tool::Perfprof,
        Tool::PerfprofWarm,
        Tool::Samply,
        Tool::Lightswitch,
        Tool::PerfPlain,
        Tool::PerfInlined,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Tool::Perfprof => "perfprof",
            Tool::PerfprofWarm => "perfprof, warm",
            Tool::Samply => "samply, names only",
            Tool::Lightswitch => "lightswitch",
            Tool::PerfPlain => "perf without inlining",
            Tool::PerfInlined => "perf with inlining",
        }
    }

    pub(super) fn is_there(self, peers: &Peers) -> bool {
        match self {
            Tool::Perfprof | Tool::PerfprofWarm => true,
            Tool::Samply => peers.samply.is_some(),
            Tool::Lightswitch => peers.lightswitch.is_some(),
            Tool::PerfPlain | Tool::PerfInlined => peers.perf && peers.inferno.is_some(),
        }
    }

    fn command(self, peers: &Peers, pid: &str, folder: &Path) -> anyhow::Result<Command> {
        let missing = || format!("{} is not installed", self.name());
        Ok(match self {
            Tool::Perfprof | Tool::PerfprofWarm => {
                let mut command = Command::new(perfprof());
                command.args(["--quiet", "record", "--pid", pid, "-F", HZ, "--artifacts"]);
                command.arg(folder.join("artifacts"));
                command.env("XDG_CACHE_HOME", cache());
                command
            }
            Tool::Samply => {
                let mut command = Command::new(peers.samply.as_ref().with_context(missing)?);
                command.args(["record", "--save-only", "--unstable-presymbolicate"]);
                command
                    .args(["-r", HZ, "-p", pid, "-o"])
                    .arg(folder.join("samply.json.gz"));
                command
            }
            Tool::Lightswitch => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh"]);
                command.arg(peers.lightswitch.as_ref().with_context(missing)?);
                command.args(["--pids", pid, "--sample-freq", LIGHTSWITCH_HZ]);
                command
                    .args(["--profile-format", "pprof", "--profile-path"])
                    .arg(folder);
                command
            }
            Tool::PerfPlain | Tool::PerfInlined => {
                let mut command = Command::new("perf");
                command.args(["record", "-q", "-e", "cpu-clock", "-F", HZ, "-p", pid]);
                command
                    .args(["--call-graph", "dwarf", "-o"])
                    .arg(folder.join("perf.data"));
                command
            }
        })
    }
}

/// Where everybody writes: memory, where there is a file system of it. perfprof waits until its files are safe
/// (fsync(2)) and its peers do not; what others do to the disk meanwhile would be measured.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory.join("perfprof-bench"),
        false => run_folder(),
    }
}

/// Apart from the folder of a recording, which is cleared before each.
fn cache() -> PathBuf {
    scratch().with_extension("cache")
}

/// Gives the memory back.
pub(super) fn clean_up() {
    for folder in [scratch(), cache()] {
        // It may never have been made.
        let _ = fs::remove_dir_all(folder);
    }
}

pub(super) fn record(tool: Tool, peers: &Peers, mut busy: Busy) -> anyhow::Result<Took> {
    let folder = scratch();
    clear(&folder)?;
    if tool == Tool::Perfprof {
        clear(&cache())?;
    }
    let mut command = tool.command(peers, &busy.pid().to_string(), &folder)?;
    command.current_dir(&folder);
    let permitted = (tool == Tool::Samply).then(Permitted::open);
    let mut running = Running::start(&mut command, &folder.join("log"))?;
    running.wait_until_armed()?;
    drop(permitted);
    thread::sleep(WINDOW);
    busy.pause()?;
    let ended = running.stop()?;
    let mut rss_bytes = ended.rss_bytes;
    if let (Tool::PerfPlain | Tool::PerfInlined, Some(inferno)) = (tool, &peers.inferno) {
        let inlined = tool == Tool::PerfInlined;
        rss_bytes = rss_bytes.max(flame_graph::draw(inferno, &folder, inlined)?);
    }
    let seconds = ended.stopped.elapsed().as_secs_f64();
    check(tool, &ended, &folder)?;
    Ok(Took {
        seconds,
        rss_bytes: rss_bytes as f64,
    })
}

/// Whether there are samples at all.
fn check(tool: Tool, ended: &Ended, folder: &Path) -> anyhow::Result<()> {
    let words = || last_words(&folder.join("log"));
    match tool {
        Tool::Perfprof | Tool::PerfprofWarm => {
            // 5: complete, and below a threshold of trust.
            let code = ended.status.code();
            ensure!(matches!(code, Some(0 | 5)), "{}: {}", ended.status, words());
            let profile = size_of_tree(&folder.join("artifacts"), ".pb.gz")?;
            ensure!(
                profile > LEAST_PROFILE_BYTES,
                "its profile has {profile} bytes"
            );
        }
        Tool::Samply => {
            let samples = samply::read(folder)?.samples();
            ensure!(samples > 0.0, "its profile is empty: {}", words());
            let names = folder.join("samply.json.syms.json");
            ensure!(
                fs::metadata(names).is_ok(),
                "it has written no names: {}",
                words()
            );
        }
        Tool::Lightswitch => {
            let bytes = size_of_tree(folder, "")? - size_of_tree(folder, "log")?;
            ensure!(
                bytes > LEAST_PROFILE_BYTES,
                "its profile is empty ({bytes} bytes): {}",
                words()
            );
        }
        // Drawing has failed where there were none.
        Tool::PerfPlain | Tool::PerfInlined => {}
    }
    Ok(())
}
