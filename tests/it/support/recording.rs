//! One `perfprof record` as a test sees it: what was typed, when it is armed, what it left behind.
//!
//! Every wait has a deadline, so that a recorder that hangs is a failed test and not a hanging suite.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::Folded;
use super::proc::{wait_for_cpu, wait_until};

/// Longest time from start to end of any recording here; only bounds a failure. Debug builds symbolize slowly, and the
/// machine may be shared.
const DEADLINE: Duration = Duration::from_secs(180);

/// The exit codes of all commands.
pub(crate) mod exit {
    pub(crate) const SUCCESS: i32 = 0;
    pub(crate) const FAILED: i32 = 1;
    pub(crate) const USAGE: i32 = 2;
    pub(crate) const NOT_PERMITTED: i32 = 3;
    pub(crate) const NO_TARGET: i32 = 4;
    pub(crate) const INCONCLUSIVE: i32 = 5;
    pub(crate) const BAD_INPUT: i32 = 6;
    pub(crate) const NOT_WRITTEN: i32 = 7;
}

/// The program under test.
pub(crate) fn perfprof() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_perfprof"))
}

/// A recording to be made: `perfprof record` with the artifacts and `out.folded` in a folder of its own.
#[derive(Debug)]
pub(crate) struct Record {
    command: Command,
    folder: TempDir,
    trailing: Vec<String>,
}

impl Record {
    pub(crate) fn new() -> Record {
        Record::with_program(perfprof())
    }

    /// With another path to the program than the build's own.
    pub(crate) fn with_program(program: &Path) -> Record {
        Record::from_command(Command::new(program))
    }

    /// `command` must end where `record …` is to follow.
    pub(crate) fn from_command(mut command: Command) -> Record {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        command.arg("record");
        // Names found for one test are not another's.
        command.env("XDG_CACHE_HOME", folder.path());
        command
            .arg("--artifacts")
            .arg(folder.path().join("artifacts"));
        command.arg("-o").arg(folder.path().join("out.folded"));
        Record {
            command,
            folder,
            trailing: Vec::new(),
        }
    }

    pub(crate) fn pid(pid: u32) -> Record {
        Record::new().args(["--pid", &pid.to_string()])
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Record {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &Path) -> Record {
        self.command.env(name, value);
        self
    }

    /// A command to launch and record: goes last, after `--`.
    pub(crate) fn launching(mut self, program: &Path, args: &[&str]) -> Record {
        self.trailing = vec!["--".into(), program.to_string_lossy().into_owned()];
        self.trailing.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn start(mut self) -> Running {
        let stderr = self.folder.path().join("stderr");
        let log = File::create(&stderr).expect("a log can be made");
        let child = self
            .command
            .args(&self.trailing)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("perfprof can be started");
        Running {
            child,
            folder: self.folder,
        }
    }

    pub(crate) fn run(self) -> Finished {
        self.start().wait()
    }

    /// Records until process `pid` has used so much CPU time under the recorder's eyes: the number of samples is the
    /// same on a busy machine as on an idle one. Ends it by SIGINT.
    pub(crate) fn run_for_cpu(self, pid: u32, milliseconds: u64) -> Finished {
        let mut running = self.start();
        running.wait_until_armed();
        if !running.has_ended() {
            wait_for_cpu(pid, milliseconds * 1_000_000);
            running.signal(Signal::SIGINT);
        }
        running.wait()
    }
}

/// A recording under way; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    folder: TempDir,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the recorder says that ticks are being taken.
    pub(crate) fn wait_until_armed(&mut self) {
        let log = self.folder.path().join("stderr");
        wait_until("the recorder begins", DEADLINE, || {
            let said = fs::read_to_string(&log).expect("the log can be read");
            said.contains("recording ") || self.has_ended()
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("an unreaped child can be signalled");
    }

    /// Whether it has ended already.
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self.child.try_wait();
        ended.expect("a child can be waited for").is_some()
    }

    pub(crate) fn wait(mut self) -> Finished {
        let mut status = None;
        wait_until("the recorder ends", DEADLINE, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        let stderr = fs::read(self.folder.path().join("stderr")).expect("the log can be read");
        let aside = tempfile::tempdir().expect("a temporary folder can be made");
        let folder = std::mem::replace(&mut self.folder, aside);
        Finished {
            status: status.expect("waited for"),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            folder,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A recording that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
    folder: TempDir,
}

impl Finished {
    pub(crate) fn artifact(&self, name: &str) -> PathBuf {
        self.folder.path().join("artifacts").join(name)
    }

    pub(crate) fn folded(&self) -> Folded {
        Folded::read(&self.folder.path().join("out.folded"))
    }

    pub(crate) fn report(&self) -> String {
        let path = self.artifact("profiling-report.md");
        fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("failed to read `{}`: {e}\n{}", path.display(), self.stderr))
    }

    /// Value of a coverage metric of the only service.
    #[track_caller]
    pub(crate) fn coverage(&self, metric: &str) -> f64 {
        let text = fs::read(self.artifact("coverage.json")).expect("coverage.json was written");
        let coverage: Value = serde_json::from_slice(&text).expect("coverage.json is JSON");
        let services = coverage["services"].as_array().expect("services is a list");
        assert_eq!(services.len(), 1, "one service was recorded: {coverage}");
        let value = &services[0]["metrics"][metric]["value"];
        value
            .as_f64()
            .unwrap_or_else(|| panic!("no value for `{metric}` in {coverage}"))
    }

    /// Checks that a whole report was written. A short recording may be called inconclusive; it is complete all the same.
    #[track_caller]
    pub(crate) fn assert_recorded(&self) -> &Finished {
        let code = self.status.code();
        assert!(
            matches!(code, Some(exit::SUCCESS | exit::INCONCLUSIVE)),
            "record ended with {}\n{}",
            self.status,
            self.stderr
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for name in [
            "profiling-report.md",
            "coverage.json",
            "bottleneck-report.json",
        ] {
            assert!(
                self.artifact(name).is_file(),
                "no `{name}`\n{}",
                self.stderr
            );
        }
        self
    }

    /// Checks that it failed with `code` and said why in the agreed form.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32) {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}\n{}",
            self.status,
            self.stderr
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert!(
            self.stderr.contains("error: "),
            "no error is named: {}",
            self.stderr
        );
    }
}
