//! What is recorded: the built-in workloads and real programs under load.
//!
//! A scene is started once and paused while another one has its turn, by stopping whatever makes it work. A compiler
//! comes to an end: rustc begins anew where that has happened.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::recorder::Scope;
use crate::bench::generated_crate;
use crate::bench::running::end_of;
use crate::compile::on_path;
use crate::setup::is_root;
use crate::workload::Workload;
use crate::{must_succeed, repository, target_dir};

const START_LIMIT: Duration = Duration::from_secs(60);

/// What a real program does before it is recorded, so that start-up is over.
const SETTLE: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Play {
    /// 60 small frames without frame pointers, two threads.
    W1,
    /// The same with 29 KB of stack.
    W1Large,
    /// 60 frames, ever other ones of 32,768 functions.
    Cold,
    Postgres,
    Openssl,
    Redis,
    Python,
    Rustc,
}

pub(super) const PLAYS: [Play; 8] = [
    Play::W1,
    Play::W1Large,
    Play::Cold,
    Play::Postgres,
    Play::Openssl,
    Play::Redis,
    Play::Python,
    Play::Rustc,
];

impl Play {
    pub(super) fn name(self) -> &'static str {
        match self {
            Play::W1 => "w1",
            Play::W1Large => "w1-29k",
            Play::Cold => "cold",
            Play::Postgres => "postgres",
            Play::Openssl => "openssl",
            Play::Redis => "redis",
            Play::Python => "python",
            Play::Rustc => "rustc",
        }
    }
}

/// A workload that runs, or waits for its turn; ended when dropped.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) play: Play,
    /// Whom to record.
    pid: u32,
    /// Stopped and continued.
    drivers: Vec<u32>,
    parts: Vec<Part>,
}

/// Kept for its end.
#[derive(Debug)]
enum Part {
    Child(Child),
    Fixture(Workload),
    Folder(PathBuf),
}

impl Scene {
    pub(super) fn start(play: Play) -> anyhow::Result<Scene> {
        let mut scene = match play {
            Play::W1 => Scene::of_fixture(play, "steady.c", &["2"]),
            Play::W1Large => Scene::of_fixture(play, "steady_large.c", &["2"]),
            Play::Cold => Scene::of_fixture(play, "cold_code.c", &[]),
            Play::Postgres => postgres(),
            Play::Openssl => openssl(),
            Play::Redis => redis(),
            Play::Python => python(),
            Play::Rustc => rustc(),
        }?;
        scene.pause()?;
        Ok(scene)
    }

    /// The twin with frame pointers of a built-in workload, with this many frames.
    pub(super) fn with_frame_pointers(source: &str, depth: u32) -> anyhow::Result<Scene> {
        let mut scene = Scene::of_fixture(Play::W1, source, &["2", &depth.to_string()])?;
        scene.pause()?;
        Ok(scene)
    }

    /// Any built-in workload.
    pub(super) fn of_fixture(play: Play, source: &str, args: &[&str]) -> anyhow::Result<Scene> {
        let workload = Workload::start(source, args)?;
        let mut scene = Scene::new(play);
        scene.pid = workload.pid();
        scene.drivers = vec![workload.pid()];
        scene.parts.push(Part::Fixture(workload));
        Ok(scene)
    }

    fn new(play: Play) -> Scene {
        Scene {
            play,
            pid: 0,
            drivers: Vec::new(),
            parts: Vec::new(),
        }
    }

    fn of_child(play: Play, command: &mut Command) -> anyhow::Result<Scene> {
        let mut scene = Scene::new(play);
        scene.pid = scene.add(command)?;
        scene.drivers = vec![scene.pid];
        Ok(scene)
    }

    fn add(&mut self, command: &mut Command) -> anyhow::Result<u32> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start `{name}`"))?;
        let pid = child.id();
        self.parts.push(Part::Child(child));
        Ok(pid)
    }

    pub(super) fn pause(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it work until the next pause.
    pub(super) fn resume(&mut self) -> anyhow::Result<()> {
        if self.play == Play::Rustc && self.has_ended() {
            self.parts.clear();
            self.pid = self.add(&mut generated_crate::rustc()?)?;
            self.drivers = vec![self.pid];
        }
        self.signal(Signal::SIGCONT)?;
        thread::sleep(SETTLE);
        Ok(())
    }

    fn has_ended(&mut self) -> bool {
        match self.parts.first_mut() {
            Some(Part::Child(child)) => !matches!(child.try_wait(), Ok(None)),
            _ => true,
        }
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        for driver in &self.drivers {
            kill(Pid::from_raw(*driver as i32), signal)
                .with_context(|| format!("`{}` has ended", self.play.name()))?;
        }
        Ok(())
    }

    /// `None` for a program that is not running now.
    pub(super) fn pid(&self) -> Option<u32> {
        (self.pid != 0).then_some(self.pid)
    }

    pub(super) fn scope(&self) -> Scope {
        match self.play {
            Play::Postgres => Scope::Tree(self.pid),
            _ => Scope::Pid(self.pid),
        }
    }

    /// For recorders that follow one process: of a server with a process per client, one of those.
    pub(super) fn scope_of_one(&self) -> anyhow::Result<Scope> {
        match self.play {
            Play::Postgres => Ok(Scope::Pid(busiest_child(self.pid)?)),
            _ => Ok(Scope::Pid(self.pid)),
        }
    }

    /// The built-in workload's own books.
    pub(super) fn truth_so_far(&mut self) -> anyhow::Result<serde_json::Value> {
        match self.parts.first_mut() {
            Some(Part::Fixture(workload)) => workload.truth_so_far(),
            _ => bail!("`{}` keeps no books", self.play.name()),
        }
    }
}

impl Drop for Scene {
    /// The last one first: a server ends when its clients have gone, and its folder is needed until then.
    fn drop(&mut self) {
        while self.parts.pop().is_some() {}
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // All of this fails only when it is gone already.
        match self {
            Part::Child(child) => {
                let pid = Pid::from_raw(child.id() as i32);
                let _ = kill(pid, Signal::SIGTERM);
                let _ = kill(pid, Signal::SIGCONT);
                let begin = Instant::now();
                while matches!(child.try_wait(), Ok(None)) && begin.elapsed().as_secs() < 5 {
                    thread::sleep(Duration::from_millis(10));
                }
                let _ = child.kill();
                let _ = child.wait();
            }
            Part::Fixture(_) => {}
            Part::Folder(folder) => {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
}

fn rustc() -> anyhow::Result<Scene> {
    generated_crate::write()?;
    Scene::of_child(Play::Rustc, &mut generated_crate::rustc()?)
}

fn openssl() -> anyhow::Result<Scene> {
    ensure!(on_path("openssl"), "openssl is not installed");
    let words = ["speed", "-seconds", "3600", "rsa2048"];
    Scene::of_child(Play::Openssl, Command::new("openssl").args(words))
}

/// Debian's own Python, which is built as users have it; else whatever is on the search path.
fn python() -> anyhow::Result<Scene> {
    let debian = PathBuf::from("/usr/bin/python3.11");
    let program = if debian.is_file() {
        debian
    } else {
        "python3".into()
    };
    let loop_for_ever = "\
def burn(n):
    return sum(i * i for i in range(n)) + len({str(i): i for i in range(n // 10)})
def outer(n):
    return [burn(n), sorted(range(n, 0, -1))[0]]
while True:
    outer(20_000)
";
    Scene::of_child(
        Play::Python,
        Command::new(program).args(["-c", loop_for_ever]),
    )
}

fn redis() -> anyhow::Result<Scene> {
    for program in ["redis-server", "redis-benchmark"] {
        ensure!(on_path(program), "{program} is not installed");
    }
    let port = free_port()?.to_string();
    let mut command = Command::new("redis-server");
    command.args([
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]);
    let mut scene = Scene::of_child(Play::Redis, &mut command)?;
    wait_for_port(&port)?;
    let mut load = Command::new("redis-benchmark");
    load.args([
        "-p", &port, "-l", "-q", "-c", "20", "-P", "4", "-n", "200000",
    ]);
    load.args(["-r", "100000", "-t", "set,get,incr,sadd,hset,zadd"]);
    let driver = scene.add(&mut load)?;
    scene.drivers = vec![driver];
    Ok(scene)
}

/// A server of our own, data in a temporary folder, read by four clients.
fn postgres() -> anyhow::Result<Scene> {
    let bin = postgres_folder().context("PostgreSQL's server is not installed")?;
    ensure!(
        on_path("pgbench") || bin.join("pgbench").is_file(),
        "pgbench is not installed"
    );
    let folder = std::env::temp_dir().join(format!("perfprof-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).context("failed to create a folder for the database")?;
    let mut scene = Scene::new(Play::Postgres);
    scene.parts.push(Part::Folder(folder.clone()));
    if is_root() {
        must_succeed(Command::new("chown").arg("postgres").arg(&folder))?;
    }
    let data = folder.join("data");
    quietly(
        as_server_user(&bin.join("initdb"), &folder)
            .args([
                "--auth=trust",
                "--username=postgres",
                "--no-sync",
                "--locale=C",
                "--pgdata",
            ])
            .arg(&data),
    )?;
    let port = free_port()?.to_string();
    let mut server = as_server_user(&bin.join("postgres"), &folder);
    server
        .arg("-D")
        .arg(&data)
        .args(["-p", &port, "-k"])
        .arg(&folder);
    server.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    scene.pid = scene.add(&mut server)?;
    wait_for_port(&port)?;
    let pgbench = || {
        let beside = bin.join("pgbench");
        let mut command = match beside.is_file() {
            true => Command::new(beside),
            false => Command::new("pgbench"),
        };
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port]);
        command.env("PGDATABASE", "postgres");
        command
    };
    quietly(pgbench().args(["--initialize", "--quiet", "--scale", "5"]))?;
    let mut load = pgbench();
    load.args([
        "--select-only",
        "--client=4",
        "--jobs=2",
        "--time=3600",
        "--no-vacuum",
    ]);
    let driver = scene.add(&mut load)?;
    scene.drivers = vec![driver];
    Ok(scene)
}

/// The newest of Debian's, which are on no search path; else the search path's.
pub(super) fn postgres_folder() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut all = folders.into_iter().rev().chain(path);
    all.find(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file())
}

/// PostgreSQL refuses to run as root. setpriv execs: the child's PID is the program's.
fn as_server_user(program: &Path, folder: &Path) -> Command {
    let mut command = match is_root() {
        false => Command::new(program),
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            command.arg(program);
            command
        }
    };
    command.current_dir(folder);
    command
}

fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("failed to run a program")?;
    let name = command.get_program().to_string_lossy();
    let (status, words) = (output.status, end_of(&output.stderr));
    ensure!(status.success(), "`{name}` ended with {status}: {words}");
    Ok(())
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no loopback port is free")?;
    Ok(listener.local_addr()?.port())
}

fn wait_for_port(port: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    while std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        ensure!(
            begin.elapsed() < START_LIMIT,
            "nothing answers at port {port}"
        );
        thread::sleep(Duration::from_millis(20));
    }
    // PostgreSQL listens a little before it serves.
    thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// The child of a process that has used most CPU time.
fn busiest_child(pid: u32) -> anyhow::Result<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .context("the children of the server cannot be listed")?;
    let pids = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    pids.max_by_key(|pid| cpu_ticks(*pid))
        .context("the server has no children")
}

/// User and system time, fields 14 and 15 of proc_pid_stat(5), counted behind the name in parentheses.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let fields = behind.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Compiles a built-in workload without starting it.
pub(super) fn program(source: &str) -> anyhow::Result<PathBuf> {
    let source = repository().join("fixtures/workloads").join(source);
    crate::compile::compile(&source, &target_dir().join("workloads"))
        .map_err(|words| anyhow::anyhow!(words))
}
