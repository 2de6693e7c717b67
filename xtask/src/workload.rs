//! A built-in workload, started for the demo or a benchmark and always ended again.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{compile, repository, target_dir};

/// Ends by itself after this long even when we are killed.
const LIFETIME_SECONDS: &str = "3600";

#[derive(Debug)]
pub(crate) struct Workload {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Workload {
    /// Compiles `fixtures/workloads/<source>`.
    pub(crate) fn build(source: &str) -> anyhow::Result<PathBuf> {
        let source = repository().join("fixtures/workloads").join(source);
        compile::compile(&source, &target_dir().join("workloads")).map_err(|words| anyhow!(words))
    }

    /// Compiles it, starts it, and waits until it is ready.
    pub(crate) fn start(source: &str, args: &[&str]) -> anyhow::Result<Workload> {
        let program = Workload::build(source)?;
        let mut child = Command::new(&program)
            .args(args)
            .env("WORKLOAD_SECONDS", LIFETIME_SECONDS)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start `{}`", program.display()))?;
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        let mut workload = Workload {
            child,
            stdout: BufReader::new(stdout),
        };
        let line = workload.next_line()?;
        ensure!(
            line.trim_end() == "ready",
            "`{}` said `{line}`",
            program.display()
        );
        Ok(workload)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it for its books so far, one line of JSON.
    pub(crate) fn truth_so_far(&mut self) -> anyhow::Result<serde_json::Value> {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGUSR1)
            .context("failed to signal the workload")?;
        let line = self.next_line()?;
        serde_json::from_str(&line)
            .with_context(|| format!("the workload's truth `{line}` is no JSON"))
    }

    fn next_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .context("failed to read what the workload says")?;
        Ok(line)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
