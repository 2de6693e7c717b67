//! A process of our own program with nothing to lose: it reads what others wrote, and may die of it.
//!
//! In: the arguments it runs with. Out: the process and a [`Channel`] to it. It has no privileges, opens no files (they
//! are handed to it), and a limit of memory and of CPU time.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvError, Sender, channel};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::channel::Channel;
use super::privileges;

/// `nobody` and `nogroup`, by convention of all distributions.
const NOBODY: u32 = 65_534;

/// The kernel ends it with its parent; where that fails for a reason nobody thought of, it is busy for no longer.
const MAX_CPU_SECONDS: u64 = 3600;

/// A running confined process; killed when dropped.
#[derive(Debug)]
pub struct Confined {
    child: Child,
    pub channel: Channel,
}

impl Confined {
    /// Starts this very program with `args`. The process must call [`confine_self`] before it reads anything.
    pub fn start(args: &[&str]) -> io::Result<Confined> {
        let (channel, other) = Channel::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("perfprof")
            .args(args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(other))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Confined {
            child: spawn_for_life(command)?,
            channel,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another process of this very program, with its privileges; killed when dropped, and by the kernel when this process ends.
#[derive(Debug)]
pub struct Helper {
    child: Child,
}

/// Starts this very program with `args`; `shape` says where its input and output go.
pub fn helper<A: AsRef<OsStr>>(args: &[A], shape: impl FnOnce(&mut Command)) -> io::Result<Helper> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("perfprof").args(args);
    shape(&mut command);
    end_with_parent(&mut command);
    Ok(Helper {
        child: spawn_for_life(command)?,
    })
}

impl Helper {
    /// Its status, once it has ended.
    pub fn poll(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn end_with_parent(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and calls only `prctl`, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
    }
}

/// A command to start, and where the child is awaited.
type Birth = (Command, Sender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as this one does: to the kernel that thread is the parent whose
/// death ends the child (`PR_SET_PDEATHSIG`, prctl(2)), and whoever asks may be a thread of short life.
fn spawn_for_life(command: Command) -> io::Result<Child> {
    static PARENT: OnceLock<Sender<Birth>> = OnceLock::new();
    let parent = PARENT.get_or_init(|| {
        let (sender, births) = channel::<Birth>();
        std::thread::spawn(move || {
            for (mut command, awaited) in births {
                // Who asked has given up waiting only if it panicked.
                let _ = awaited.send(command.spawn());
            }
        });
        sender
    });
    let (awaited, child) = channel();
    let gone = |_| io::Error::other("the thread that starts processes has ended");
    parent
        .send((command, awaited))
        .map_err(|_| gone(RecvError))?;
    child.recv().map_err(gone)?
}

/// Gives up what this process may do: privileges, opening files, and more private memory than `memory_bytes`.
pub fn confine_self(memory_bytes: u64) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    prctl::set_no_new_privs()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CPU, MAX_CPU_SECONDS, MAX_CPU_SECONDS)?;
    // Counts private memory only, not mapped files (setrlimit(2), since Linux 4.7).
    setrlimit(Resource::RLIMIT_DATA, memory_bytes, memory_bytes)?;
    if geteuid().is_root() {
        match become_nobody() {
            // A user namespace need not have such a user, and its root need not be allowed to become another.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Changing the user clears it.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
    }
    // Whoever could not become nobody has no more privileges than that.
    privileges::keep_none()
}

fn become_nobody() -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}

/// Lets a process run only when no other wants to, or like all others again (`sched(7)`, `SCHED_IDLE`). Answers whether
/// that was permitted.
pub fn run_when_idle(pid: u32, idle: bool) -> bool {
    let policy = if idle {
        nix::libc::SCHED_IDLE
    } else {
        nix::libc::SCHED_OTHER
    };
    let parameters = nix::libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure lives across the call, which only reads it.
    let result = unsafe { nix::libc::sched_setscheduler(pid as i32, policy, &parameters) };
    result == 0
}
