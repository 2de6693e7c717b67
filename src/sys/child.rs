//! A command that is started but held: it has executed its new image and waits before the first instruction.
//!
//! In: a command line. Out: a [`HeldChild`] whose PID, mappings and threads can be looked at, and which runs only after
//! [`HeldChild::release`]. Works by `PTRACE_TRACEME`: the kernel stops a traced process after `execve` succeeded
//! (`ptrace(2)`), so nothing of the profiler's own code is in its samples.
//!
//! The tracer is the thread that spawned, so `spawn` and `release` must be called from the same thread; the type is
//! not `Send`.

use std::ffi::OsString;
use std::io;
use std::marker::PhantomData;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// A child stopped at its first instruction. Dropped without release, it is ended.
#[derive(Debug)]
pub struct HeldChild {
    child: Option<Child>,
    /// `ptrace` requests must come from the spawning thread.
    _not_send: PhantomData<*const ()>,
}

impl HeldChild {
    /// Starts `command` and waits until it stands at its first instruction.
    pub fn spawn(command: &[OsString]) -> io::Result<HeldChild> {
        let (program, args) = command
            .split_first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut builder = Command::new(program);
        builder.args(args);
        // SAFETY: the closure runs between fork and exec and calls only `ptrace`, which is async-signal-safe.
        unsafe { builder.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
        let child = builder.spawn()?;
        let pid = Pid::from_raw(child.id() as i32);
        let held = HeldChild {
            child: Some(child),
            _not_send: PhantomData,
        };
        match waitpid(pid, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(held),
            other => Err(io::Error::other(format!(
                "the command did not stop at exec: {other:?}"
            ))),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Lets it run.
    pub fn release(mut self) -> io::Result<RunningChild> {
        ptrace::detach(Pid::from_raw(self.pid() as i32), None)?;
        let child = self.child.take().expect("taken only here");
        Ok(RunningChild { child })
    }
}

impl Drop for HeldChild {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The child after its release.
#[derive(Debug)]
pub struct RunningChild {
    child: Child,
}

impl RunningChild {
    /// Its status, once it has ended.
    pub fn poll(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it at once and reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks processes to end.
pub fn terminate(pids: &[u32]) {
    signal(pids, Signal::SIGTERM);
}

/// Ends processes at once.
pub fn kill_all(pids: &[u32]) {
    signal(pids, Signal::SIGKILL);
}

fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        // One that has ended meanwhile needs no signal.
        let _ = kill(Pid::from_raw(*pid as i32), signal);
    }
}
