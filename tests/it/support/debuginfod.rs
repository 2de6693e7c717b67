//! A real debuginfod server on loopback, killed when dropped.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time for it to scan a folder of a few files on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct DebuginfodServer {
    child: Child,
    port: u16,
    _database: tempfile::TempDir,
}

impl DebuginfodServer {
    /// Serves the ELF files in `folder`. It has scanned them when `is_ready`, which gets its URL, says so.
    pub(crate) fn start(folder: &Path, is_ready: impl Fn(&str) -> bool) -> DebuginfodServer {
        let database = tempfile::tempdir().expect("temporary folder");
        let port = free_port();
        let child = Command::new("debuginfod")
            .arg("-d")
            .arg(database.path().join("debuginfod.sqlite"))
            .args(["-p", &port.to_string(), "-t", "0", "-F"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("debuginfod starts");
        let mut server = DebuginfodServer {
            child,
            port,
            _database: database,
        };
        let begun = Instant::now();
        while !is_ready(&server.url()) {
            let ended = server.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "debuginfod ended: {ended:?}");
            assert!(begun.elapsed() < PATIENCE, "debuginfod does not get ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for DebuginfodServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One that nobody listens at.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
