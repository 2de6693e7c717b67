//! A PostgreSQL server of the test's own: data in a temporary folder, a free loopback port, load by `pgbench -S`, all
//! of it gone when dropped.
//!
//! PostgreSQL refuses to run as root, so a root test run starts it as user `postgres` (or `nobody`) by `setpriv`.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use tempfile::TempDir;

use super::need::is_root;
use super::proc::wait_until;

/// pgbench's own unit: 100 000 accounts each; five stay in shared buffers, so that reads use CPU and not the disk.
const SCALE: &str = "5";

/// Only bounds a failure.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Binaries {
    folder: PathBuf,
    pgbench: PathBuf,
}

impl Binaries {
    /// Debian's own folder first, which is on no search path; else the search path. The reason when something is
    /// missing.
    pub(crate) fn find() -> Result<Binaries, String> {
        let folder = server_folders()
            .into_iter()
            .find(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file())
            .ok_or("PostgreSQL's `postgres` and `initdb` are not installed")?;
        let pgbench = [folder.clone()]
            .into_iter()
            .chain(search_path())
            .map(|folder| folder.join("pgbench"))
            .find(|program| program.is_file())
            .ok_or("`pgbench` is not installed")?;
        Ok(Binaries { folder, pgbench })
    }
}

fn server_folders() -> Vec<PathBuf> {
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    debian.sort();
    debian.reverse();
    debian.extend(search_path());
    debian
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect())
}

/// A server that answers.
#[derive(Debug)]
pub(crate) struct Postgres {
    postmaster: Child,
    binaries: Binaries,
    folder: TempDir,
    port: String,
}

impl Postgres {
    /// Starts a server with pgbench's tables filled.
    pub(crate) fn start() -> Postgres {
        let binaries = Binaries::find().expect("the test has asked for Need::Postgres");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        if let Some(user) = server_user() {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(folder.path(), Some(uid), Some(gid)).expect("root can give a folder away");
        }
        let data = folder.path().join("data");
        run(
            as_server_user(&binaries.folder.join("initdb"), folder.path())
                .args(["--auth=trust", "--username=postgres", "--no-sync"])
                .args(["--locale=C", "--encoding=UTF8", "--pgdata"])
                .arg(&data),
        );
        let port = free_port().to_string();
        let postmaster = as_server_user(&binaries.folder.join("postgres"), folder.path())
            .arg("-D")
            .arg(&data)
            .args(["-p", &port, "-k"])
            .arg(folder.path())
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "shared_buffers=128MB"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("a log can be made"))
            .spawn()
            .expect("postgres can be started");
        let mut server = Postgres {
            postmaster,
            binaries,
            folder,
            port,
        };
        server.wait_until_it_answers();
        run(server
            .pgbench()
            .args(["--initialize", "--quiet", "--scale", SCALE]));
        server
    }

    /// PID of the postmaster; the backends are its children.
    pub(crate) fn pid(&self) -> u32 {
        self.postmaster.id()
    }

    /// Reads by four clients until dropped, or for ten minutes.
    pub(crate) fn load(&self) -> Load {
        let child = self
            .pgbench()
            .args([
                "--select-only",
                "--client=4",
                "--jobs=2",
                "--time=600",
                "--no-vacuum",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbench can be started");
        Load { child }
    }

    fn pgbench(&self) -> Command {
        let mut command = Command::new(&self.binaries.pgbench);
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port]);
        command.env("PGDATABASE", "postgres");
        command
    }

    fn wait_until_it_answers(&mut self) {
        let ready = self.folder.path().join("data/postmaster.pid");
        let log = self.folder.path().join("log");
        let postmaster = &mut self.postmaster;
        wait_until("postgres answers", START_LIMIT, || {
            if let Ok(Some(status)) = postmaster.try_wait() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                panic!("postgres ended with {status}:\n{log}");
            }
            // Line 8 of postmaster.pid is its state.
            fs::read_to_string(&ready).is_ok_and(|text| {
                text.lines()
                    .nth(7)
                    .is_some_and(|state| state.trim() == "ready")
            })
        });
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown: the postmaster ends its backends; what remains is killed.
        let _ = kill(Pid::from_raw(self.pid() as i32), Signal::SIGQUIT);
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if !matches!(self.postmaster.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.postmaster.kill();
        let _ = self.postmaster.wait();
    }
}

/// A running load generator; ends when dropped.
#[derive(Debug)]
pub(crate) struct Load {
    child: Child,
}

impl Drop for Load {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The user to run the server as; `None` when we are an ordinary user ourselves.
fn server_user() -> Option<User> {
    if !is_root() {
        return None;
    }
    let known = ["postgres", "nobody"].map(|name| User::from_name(name).ok().flatten());
    let user = known.into_iter().flatten().next();
    Some(user.expect("user `postgres` or `nobody` exists"))
}

/// `program` run in `folder`, as root by way of `setpriv`, which execs: the child's PID is the program's.
fn as_server_user(program: &Path, folder: &Path) -> Command {
    let mut command = match server_user() {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={}", user.uid));
            command.arg(format!("--regid={}", user.gid));
            command.arg("--clear-groups").arg(program);
            command
        }
    };
    command.current_dir(folder);
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().expect("the program can be run");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{words}",
        output.status
    );
}
