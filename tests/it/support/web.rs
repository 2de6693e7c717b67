//! An HTTP server of the test's own: nginx in one process, on a free loopback port, with one page; and load from wrk.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::proc::wait_until;

/// Only bounds a failure.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A server that answers; killed when dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Nginx {
    pub(crate) fn start() -> Nginx {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let at = folder.path().display();
        let config = format!(
            "daemon off; master_process off; error_log {at}/error.log; pid {at}/pid;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
             fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
             server {{ listen 127.0.0.1:{port}; root {at}; }} }}\n"
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).expect("writable");
        fs::write(folder.path().join("index.html"), "page ".repeat(400)).expect("writable");
        let mut child = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx can be started");
        let log = folder.path().join("error.log");
        wait_until("nginx answers", START_LIMIT, || {
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                panic!("nginx ended with {status}:\n{log}");
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Nginx {
            child,
            port,
            _folder: folder,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Load by `connections` connections for so long; what wrk prints goes to `output`.
    pub(crate) fn load(&self, connections: u32, seconds: u32, output: &Path) -> Child {
        Command::new("wrk")
            .args(["-t1", "--latency"])
            .args([format!("-c{connections}"), format!("-d{seconds}s")])
            .arg(format!("http://127.0.0.1:{}/", self.port))
            .stdout(File::create(output).expect("writable"))
            .spawn()
            .expect("wrk can be started")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
