//! A strict backend for profiles, built from the official protocol definitions (`fixtures/push`), killed when dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use perfprof::push::{Header, SinkConfig, SinkKind};
use serde_json::Value;

use super::need::python_with_grpc;
use super::proc::wait_until;

/// Bounds a failure only.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug)]
pub(crate) struct Backend {
    kind: SinkKind,
    child: Child,
    port: u16,
    log: PathBuf,
    tls: Option<[PathBuf; 2]>,
    _folder: tempfile::TempDir,
}

impl Backend {
    /// `answers` as `receiver.py` explains them.
    pub(crate) fn start(kind: SinkKind, answers: &str) -> Backend {
        Backend::start_with(kind, answers, None)
    }

    /// With a certificate and its key, it speaks TLS.
    pub(crate) fn start_with(kind: SinkKind, answers: &str, tls: Option<[PathBuf; 2]>) -> Backend {
        let folder = tempfile::tempdir().expect("temporary folder");
        let log = folder.path().join("log");
        let (child, port) = spawn(kind, &log, 0, answers, tls.as_ref());
        Backend {
            kind,
            child,
            port,
            log,
            tls,
            _folder: folder,
        }
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Starts it again at the same port, with what it has written.
    pub(crate) fn restart(&mut self) {
        let (child, port) = spawn(self.kind, &self.log, self.port, "", self.tls.as_ref());
        assert_eq!(port, self.port);
        self.child = child;
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.port)
    }

    /// A sink that goes here, with a token.
    pub(crate) fn sink(&self) -> SinkConfig {
        sink(self.kind, &self.url())
    }

    /// Everything it was asked so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// Names of the services whose batches it took, each once, in order.
    pub(crate) fn services(&self) -> Vec<String> {
        let requests = self.requests();
        let taken = requests.iter().filter(|one| one["taken"] == true);
        let mut names: Vec<String> = taken
            .map(|one| one["service"].as_str().expect("a name").to_owned())
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// Waits until it has been asked so often.
    pub(crate) fn wait_for(&self, requests: usize) -> Vec<Value> {
        wait_until("requests come", PATIENCE, || {
            self.requests().len() >= requests
        });
        self.requests()
    }

    /// Waits until it took batches of so many services.
    pub(crate) fn wait_for_services(&self, count: usize) -> Vec<String> {
        wait_until("batches come", PATIENCE, || self.services().len() >= count);
        self.services()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn sink(kind: SinkKind, url: &str) -> SinkConfig {
    let token = Header::new("Authorization", "Bearer hunter2").expect("a good header");
    SinkConfig::new(kind, url, vec![token]).expect("a good URL")
}

fn spawn(
    kind: SinkKind,
    log: &Path,
    port: u16,
    answers: &str,
    tls: Option<&[PathBuf; 2]>,
) -> (Child, u16) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/push/receiver.py");
    let mut command = Command::new(python_with_grpc().expect("the test has asked for it"));
    command.arg(script).arg(kind.id()).arg(log);
    command.args([&port.to_string(), answers]);
    // Python of a virtual environment may bring another gRPC than its protobuf knows.
    command.env_remove("PYTHONPATH").stdin(Stdio::null());
    if let Some([cert, key]) = tls {
        command.env("TLS_CERT", cert).env("TLS_KEY", key);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let stdout = child.stdout.take().expect("piped");
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("it prints its port");
    let port = line.trim().parse();
    (child, port.expect("a port; what went wrong stands above"))
}
