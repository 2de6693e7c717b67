//! One `perfprof agent` as a test sees it: what was typed, what it answers over HTTP, which windows it left.
//!
//! Every wait has a deadline, so that an agent that hangs is a failed test and not a hanging suite.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::proc::wait_until;
use super::recording::perfprof;

/// Only bounds a failure: debug builds are slow, and the machine may be shared.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// An agent that is to be started; its log and its data stand in `folder`.
#[derive(Debug)]
pub(crate) struct AgentCommand {
    command: Command,
    folder: PathBuf,
    data: PathBuf,
}

impl AgentCommand {
    /// Windows of a second, at a rate at which a second tells something, and whatever that costs.
    pub(crate) fn new(folder: &Path) -> AgentCommand {
        AgentCommand::bare(Command::new(perfprof()), folder).args([
            "--window",
            "1s",
            "--frequency",
            "199",
            "--max-cpu",
            "8",
        ])
    }

    /// `command` must end where `agent …` is to follow. Nothing but the data directory and a free port is set.
    pub(crate) fn bare(mut command: Command, folder: &Path) -> AgentCommand {
        let data = folder.join("data");
        command.args(["agent", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(&data);
        for name in ["POD_NAME", "POD_NAMESPACE", "POD_UID", "NODE_NAME"] {
            command.env_remove(name);
        }
        AgentCommand {
            command,
            folder: folder.to_owned(),
            data,
        }
    }

    /// With another data directory than the folder's own.
    pub(crate) fn data(mut self, data: &Path) -> AgentCommand {
        self.command.arg("--data").arg(data);
        self.data = data.to_owned();
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(
        mut self,
        args: impl IntoIterator<Item = A>,
    ) -> AgentCommand {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> AgentCommand {
        self.command.env(name, value);
        self
    }

    /// Starts it, whatever comes of it.
    pub(crate) fn spawn(mut self) -> Agent {
        let log = self.folder.join("log");
        let mut open = OpenOptions::new();
        let open = open.create(true).append(true).open(&log);
        let log_file = open.expect("a log can be made");
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .expect("perfprof can be started");
        Agent {
            child,
            data: self.data,
            log,
        }
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(self) -> Agent {
        let mut agent = self.spawn();
        agent.wait_until_it_records();
        agent
    }
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Agent {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log can be read")
    }

    #[track_caller]
    pub(crate) fn wait_until_it_records(&mut self) {
        wait_until("the agent records", LIMIT, || {
            assert!(!self.has_ended(), "it has ended:\n{}", self.log());
            // The address may be that of one who was killed.
            let is_there = self
                .address()
                .is_some_and(|at| TcpStream::connect(at).is_ok());
            is_there && self.get("/readyz").status == 200
        });
    }

    /// Waits until the log says so.
    #[track_caller]
    pub(crate) fn wait_for_word(&mut self, word: &str) {
        wait_until(&format!("`{word}` is said"), LIMIT, || {
            let log = self.log();
            assert!(
                log.contains(word) || !self.has_ended(),
                "it has ended:\n{log}"
            );
            log.contains(word)
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("an unreaped child can be signalled");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self.child.try_wait();
        ended.expect("a child can be waited for").is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the agent ends", LIMIT, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        status.expect("waited for")
    }

    /// SIGTERM, and a good end.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        assert!(
            !self.data.join("http-address").exists(),
            "nobody answers there any more"
        );
    }

    /// Checks that it ended with `code` and said why.
    #[track_caller]
    pub(crate) fn assert_refused(&mut self, code: i32, word: &str) {
        let status = self.wait();
        let log = self.log();
        assert_eq!(status.code(), Some(code), "{log}");
        assert!(log.contains("error: ") && log.contains(word), "{log}");
    }

    /// Where it answers, once it says so.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let text = fs::read_to_string(self.data.join("http-address")).ok()?;
        text.trim().parse().ok()
    }

    pub(crate) fn token(&self) -> String {
        let text = fs::read_to_string(self.data.join("http-token"));
        text.expect("a token was made").trim().to_owned()
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.ask("GET", path, &[])
    }

    /// With the token.
    #[track_caller]
    pub(crate) fn ask_with_token(&self, method: &str, path: &str) -> Response {
        self.ask(
            method,
            path,
            &[&format!("Authorization: Bearer {}", self.token())],
        )
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Response {
        let headers: String = headers.iter().map(|one| format!("{one}\r\n")).collect();
        self.say(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes())
    }

    /// Sends bytes and reads until the agent has nothing more to say; status 0 when it says nothing.
    #[track_caller]
    pub(crate) fn say(&self, bytes: &[u8]) -> Response {
        let mut stream = self.connect();
        // A server may have heard enough before it is told everything.
        let _ = stream.write_all(bytes);
        Response::read(stream)
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        let address = self.address().expect("it has said where it answers");
        let stream = TcpStream::connect(address).expect("it takes connections");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        stream
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let page = self.get("/metrics");
        assert_eq!(page.status, 200);
        Metrics::parse(&page.text())
    }

    /// Finished windows, oldest first, and no recordings that were asked for.
    pub(crate) fn windows(&self) -> Vec<PathBuf> {
        windows_in(&self.data)
    }

    /// Waits until there are so many windows.
    #[track_caller]
    pub(crate) fn wait_for_windows(&mut self, count: usize) -> Vec<PathBuf> {
        wait_until("windows are written", LIMIT, || {
            assert!(!self.has_ended(), "it has ended:\n{}", self.log());
            self.windows().len() >= count
        });
        self.windows()
    }

    /// Waits until a figure of the metrics is as it should be.
    #[track_caller]
    pub(crate) fn wait_for_metric(
        &mut self,
        what: &str,
        holds: impl Fn(&Metrics) -> bool,
    ) -> Metrics {
        let mut metrics = self.metrics();
        wait_until(what, LIMIT, || {
            assert!(!self.has_ended(), "it has ended:\n{}", self.log());
            metrics = self.metrics();
            holds(&metrics)
        });
        metrics
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Finished windows in a data directory, oldest first.
pub(crate) fn windows_in(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("windows"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !name.contains("-deep"))
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| data.join("windows").join(name))
        .collect()
}

/// `window.json` of a window.
#[track_caller]
pub(crate) fn document(window: &Path) -> Value {
    let path = window.join("window.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// The profiles of a window.
pub(crate) fn profiles(window: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(window.join("diagnostics"))
        .into_iter()
        .flatten()
        .flatten();
    let mut profiles: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    profiles.retain(|path| path.to_string_lossy().ends_with(".pb.gz"));
    profiles
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Response {
    /// 0 when there was none.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn read(mut stream: TcpStream) -> Response {
        let mut bytes = Vec::new();
        // Whoever is turned away may find the connection reset.
        let _ = stream.read_to_end(&mut bytes);
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let body = split.map_or(Vec::new(), |at| bytes[at + 4..].to_vec());
        let head = String::from_utf8_lossy(&bytes[..split.unwrap_or(bytes.len())]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Response {
            status: status.unwrap_or(0),
            head: head.to_ascii_lowercase(),
            body,
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Samples of a metrics page: name with labels, as it stands there, to value.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) samples: BTreeMap<String, f64>,
    /// By name.
    pub(crate) kinds: BTreeMap<String, String>,
}

impl Metrics {
    fn parse(page: &str) -> Metrics {
        let mut metrics = Metrics {
            samples: BTreeMap::new(),
            kinds: BTreeMap::new(),
        };
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a kind");
                metrics.kinds.insert(name.into(), kind.into());
            } else if !line.starts_with('#') {
                let (sample, value) = line.rsplit_once(' ').expect("a value");
                let value = value.parse().expect("a number");
                let former = metrics.samples.insert(sample.into(), value);
                assert_eq!(former, None, "`{sample}` is there twice");
            }
        }
        metrics
    }

    /// 0 where there is none.
    pub(crate) fn value(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or(0.0)
    }

    /// Sum over all labels that a name has.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let of_name = |sample: &&String| {
            let rest = sample.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        let names = self.samples.keys().filter(of_name);
        names.map(|sample| self.samples[sample]).sum()
    }
}
