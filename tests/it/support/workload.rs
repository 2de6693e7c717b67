//! A running workload: built once, started, waited for until it is ready, killed when dropped.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::compile::{compile, compile_as};

/// Where the repository stands.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The compiled program of `fixtures/workloads/<source>`.
pub(crate) fn build(source: &str) -> PathBuf {
    compile(&source_of(source), &programs()).unwrap_or_else(|message| panic!("{message}"))
}

/// The same source, compiled by another recipe and called `name`.
pub(crate) fn build_as(source: &str, recipe: &[&str], name: &str) -> PathBuf {
    compile_as(&source_of(source), recipe, name.as_ref(), &programs())
        .unwrap_or_else(|message| panic!("{message}"))
}

fn source_of(name: &str) -> PathBuf {
    repository().join("fixtures/workloads").join(name)
}

/// Where what the tests build is kept.
pub(crate) fn programs() -> PathBuf {
    repository().join("target/workloads")
}

/// A process that says on standard output what it does, one line at a time.
#[derive(Debug)]
pub(crate) struct Workload {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Workload {
    /// Builds `source`, starts it and waits for its `ready`.
    pub(crate) fn start(source: &str, args: &[&str]) -> Workload {
        Workload::start_program(&build(source), args)
    }

    /// Starts a program that speaks like a workload.
    pub(crate) fn start_program(program: &Path, args: &[&str]) -> Workload {
        Workload::spawn(Command::new(program).args(args))
    }

    /// Starts one that is to end by itself after so many seconds of wall-clock time.
    pub(crate) fn start_with_lifetime(source: &str, seconds: u32) -> Workload {
        Workload::spawn(Command::new(build(source)).env("WORKLOAD_SECONDS", seconds.to_string()))
    }

    /// Starts a command that speaks like a workload, or becomes a program that does.
    pub(crate) fn spawn(command: &mut Command) -> Workload {
        let mut workload = Workload::begin(command.stdin(Stdio::null()));
        workload.expect_line("ready");
        workload
    }

    /// Builds and starts one that says `held`, and does nothing until it is [let go](Workload::let_go).
    pub(crate) fn start_held(source: &str, args: &[&str]) -> Workload {
        let mut command = Command::new(build(source));
        let mut workload = Workload::begin(command.args(args).stdin(Stdio::piped()));
        workload.expect_line("held");
        workload
    }

    pub(crate) fn let_go(&mut self) {
        let stdin = self.child.stdin.take();
        let mut stdin = stdin.expect("it was started held and not let go yet");
        stdin.write_all(b"go\n").expect("it reads");
        self.expect_line("ready");
    }

    fn begin(command: &mut Command) -> Workload {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start {command:?}: {e}"));
        let stdout = child.stdout.take().expect("standard output is a pipe");
        Workload {
            child,
            stdout: BufReader::new(stdout),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("an unreaped child can be signalled");
    }

    /// Reads the next line, which must be `expected`.
    pub(crate) fn expect_line(&mut self, expected: &str) {
        let line = self.next_line();
        assert_eq!(line.trim_end(), expected, "what the workload says");
    }

    /// Asks for a stop and returns the truth the workload publishes, a JSON object.
    pub(crate) fn stop(mut self) -> serde_json::Value {
        self.signal(Signal::SIGTERM);
        self.next_truth()
    }

    /// Asks for the truth so far.
    pub(crate) fn truth_so_far(&mut self) -> serde_json::Value {
        self.signal(Signal::SIGUSR1);
        self.next_truth()
    }

    /// Reads the next line, which must be a truth.
    pub(crate) fn next_truth(&mut self) -> serde_json::Value {
        let line = self.next_line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("truth `{line}` is no JSON: {e}"))
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self) {
        self.child.wait().expect("a child can be waited for");
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("a pipe can be read");
        line
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sum of one figure over all threads of a workload's truth.
pub(crate) fn truth_sum(truth: &serde_json::Value, figure: &str) -> u64 {
    let threads = truth["threads"].as_array().expect("truth has threads");
    let figures = threads.iter().map(|thread| thread[figure].as_u64());
    figures
        .map(|value| value.unwrap_or_else(|| panic!("truth without `{figure}`: {truth}")))
        .sum()
}
