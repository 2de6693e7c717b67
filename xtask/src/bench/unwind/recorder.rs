//! The recorders, each with the words that make it record one process, and what it gave when it is stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::kernel_cost::has_ticked;
use crate::bench::peers::{Peers, Permitted, WITH_TRACEFS};
use crate::bench::running::{Ended, Running, clear, last_words, size_of_tree};
use crate::bench::samply;
use crate::bench::{perfprof, run_folder};

/// Also that of a stack copy in perf's default.
pub(super) const PERF_COPY_BYTES: u32 = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Perfprof,
    /// perf without stacks.
    PerfPlain,
    /// `perf -g`: frame pointers.
    PerfFp,
    /// perf with copies of so many bytes of stack, walked afterwards.
    PerfDwarf(u32),
    /// samply, names left to its viewer.
    Samply,
    /// samply with names in the file.
    SamplyNamed,
    /// `bpf_get_stackid` and a count, `xtask/bpf`.
    Floor,
    Lightswitch,
    Bpftrace,
}

/// Whom to record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    Pid(u32),
    /// A process and all descended from it, where the recorder can.
    Tree(u32),
    All,
}

#[derive(Debug)]
pub(super) struct Recording {
    tool: Tool,
    running: Running,
    folder: PathBuf,
}

/// What a finished recording gave.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) ended: Ended,
    pub(super) samples: f64,
    pub(super) folder: PathBuf,
}

impl Tool {
    pub(super) fn name(self) -> String {
        match self {
            Tool::Perfprof => "perfprof".into(),
            Tool::PerfPlain => "perf, no stacks".into(),
            Tool::PerfFp => "perf -g".into(),
            Tool::PerfDwarf(bytes) => format!("perf dwarf {}K", bytes.div_ceil(1024)),
            Tool::Samply => "samply".into(),
            Tool::SamplyNamed => "samply with names".into(),
            Tool::Floor => "bpf_get_stackid".into(),
            Tool::Lightswitch => "lightswitch".into(),
            Tool::Bpftrace => "bpftrace".into(),
        }
    }

    pub(super) fn is_there(self, peers: &Peers) -> bool {
        match self {
            Tool::Perfprof => true,
            Tool::PerfPlain | Tool::PerfFp | Tool::PerfDwarf(_) => peers.perf,
            Tool::Samply | Tool::SamplyNamed => peers.samply.is_some(),
            Tool::Floor => peers.floor.is_some(),
            Tool::Lightswitch => peers.lightswitch.is_some(),
            Tool::Bpftrace => peers.bpftrace,
        }
    }

    fn command(
        self,
        peers: &Peers,
        scope: Scope,
        hz: u32,
        folder: &Path,
    ) -> anyhow::Result<Command> {
        let hz = hz.to_string();
        let missing = || format!("{} is not installed", self.name());
        Ok(match self {
            Tool::Perfprof => {
                let mut command = Command::new(perfprof());
                command.args(["--quiet", "record", "--sampler", "bpf", "--unwind", "dwarf"]);
                command
                    .args(["-F", &hz, "--artifacts"])
                    .arg(folder.join("artifacts"));
                command.args(match scope {
                    Scope::Pid(pid) => vec!["--pid".into(), pid.to_string()],
                    Scope::Tree(pid) => vec!["--pid".into(), pid.to_string(), "--tree".into()],
                    Scope::All => vec!["--all".into()],
                });
                command
            }
            Tool::PerfPlain => perf(&[], scope, &hz, folder),
            Tool::PerfFp => perf(&["-g"], scope, &hz, folder),
            Tool::PerfDwarf(bytes) => {
                let graph = format!("dwarf,{bytes}");
                perf(&["--call-graph", &graph], scope, &hz, folder)
            }
            Tool::Samply | Tool::SamplyNamed => {
                let mut command = Command::new(peers.samply.as_ref().with_context(missing)?);
                command.args(["record", "--save-only", "-r", &hz, "-o"]);
                command
                    .arg(folder.join("samply.json.gz"))
                    .arg("-p")
                    .arg(scope.pid()?);
                if self == Tool::SamplyNamed {
                    command.arg("--unstable-presymbolicate");
                }
                command
            }
            Tool::Floor => {
                let floor = peers.floor.as_ref().with_context(missing)?;
                let mut command = Command::new(&floor.program);
                command.arg(&floor.object).arg(scope.pid()?).arg(&hz);
                command
            }
            Tool::Lightswitch => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh"]);
                command.arg(peers.lightswitch.as_ref().with_context(missing)?);
                command.args(["--pids", &scope.pid()?, "--sample-freq", &hz]);
                command
                    .args(["--profile-format", "pprof", "--profile-path"])
                    .arg(folder);
                command
            }
            Tool::Bpftrace => {
                let pid = scope.pid()?;
                let program = format!("profile:hz:{hz} /pid == {pid}/ {{ @[ustack] = count(); }}");
                let mut command = Command::new("bpftrace");
                command.args(["-e", &program]);
                command
            }
        })
    }
}

fn perf(graph: &[&str], scope: Scope, hz: &str, folder: &Path) -> Command {
    let mut command = Command::new("perf");
    command
        .args(["record", "-q", "-e", "cpu-clock", "-F", hz])
        .args(graph);
    match scope {
        Scope::All => command.arg("-a"),
        Scope::Pid(pid) | Scope::Tree(pid) => command.args(["-p", &pid.to_string()]),
    };
    command.arg("-o").arg(folder.join("perf.data"));
    command
}

impl Scope {
    fn pid(self) -> anyhow::Result<String> {
        match self {
            Scope::Pid(pid) | Scope::Tree(pid) => Ok(pid.to_string()),
            Scope::All => bail!("this recorder follows one process"),
        }
    }
}

impl Recording {
    /// Starts and waits until it records.
    pub(super) fn start(
        tool: Tool,
        peers: &Peers,
        scope: Scope,
        hz: u32,
    ) -> anyhow::Result<Recording> {
        Recording::start_with(tool, peers, scope, hz, &[])
    }

    pub(super) fn start_with(
        tool: Tool,
        peers: &Peers,
        scope: Scope,
        hz: u32,
        more: &[&str],
    ) -> anyhow::Result<Recording> {
        let folder = run_folder();
        clear(&folder)?;
        let mut command = tool.command(peers, scope, hz, &folder)?;
        command.args(more).current_dir(&folder);
        let permitted = matches!(tool, Tool::Samply | Tool::SamplyNamed).then(Permitted::open);
        let mut running = Running::start(&mut command, &folder.join("log"))?;
        match tool {
            Tool::Perfprof | Tool::Floor | Tool::Lightswitch | Tool::Bpftrace => {
                let pid = running.pid();
                let poll = Duration::from_millis(2);
                running.wait_until("runs its BPF program", poll, || has_ticked(pid))?;
            }
            _ => running.wait_until_armed()?,
        }
        drop(permitted);
        Ok(Recording {
            tool,
            running,
            folder,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(super) fn finish(self) -> anyhow::Result<Taken> {
        let ended = self.running.stop()?;
        let (tool, folder) = (self.tool, self.folder);
        let words = || last_words(&folder.join("log"));
        if tool == Tool::Perfprof {
            // 5: complete, and below a threshold of trust.
            let code = ended.status.code();
            ensure!(
                matches!(code, Some(0 | 5)),
                "perfprof: {}: {}",
                ended.status,
                words()
            );
        }
        let samples = match tool {
            Tool::Perfprof => stacks_metric(&folder, "denominator")?,
            Tool::PerfPlain | Tool::PerfFp | Tool::PerfDwarf(_) => perf_samples(&folder)?,
            Tool::Samply | Tool::SamplyNamed => samply::read(&folder)?.samples(),
            Tool::Floor | Tool::Lightswitch | Tool::Bpftrace => 0.0,
        };
        Ok(Taken {
            ended,
            samples,
            folder,
        })
    }
}

impl Taken {
    /// The profile alone, without perfprof's reports and the log.
    pub(super) fn profile_bytes(&self, tool: Tool) -> anyhow::Result<f64> {
        let name_end = match tool {
            Tool::Perfprof => ".pb.gz",
            Tool::Samply | Tool::SamplyNamed => ".json.gz",
            _ => "perf.data",
        };
        Ok(size_of_tree(&self.folder, name_end)? as f64)
    }

    pub(super) fn artifact_bytes(&self) -> anyhow::Result<f64> {
        Ok(size_of_tree(&self.folder.join("artifacts"), "")? as f64)
    }
}

/// A number of the metric `stacks` in perfprof's `coverage.json`.
pub(super) fn stacks_metric(folder: &Path, field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(folder.join("artifacts/coverage.json"))
        .context("perfprof has written no coverage.json")?;
    let coverage: serde_json::Value = serde_json::from_str(&text)?;
    coverage["services"][0]["metrics"]["stacks"][field]
        .as_f64()
        .with_context(|| format!("coverage.json does not say the `{field}` of `stacks`"))
}

fn perf_samples(folder: &Path) -> anyhow::Result<f64> {
    let output = Command::new("perf")
        .args(["report", "--stats", "-i"])
        .arg(folder.join("perf.data"))
        .stderr(Stdio::null())
        .output()
        .context("failed to run `perf report`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("SAMPLE events:"));
    let count = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    count.context("`perf report --stats` says no number of samples")
}
