//! Asks a Java virtual machine to write its perf map, by HotSpot's attach protocol, as `jcmd PID Compiler.perfmap` does
//! (JDK 17 and later). No Java program is needed here, which a container rarely has.
//!
//! In: the PID of a process that has `libjvm.so` mapped. Out: the map stands in the process's `/tmp`, or why not. Every
//! wait has an end. The process is sent SIGQUIT only when it handles that signal; it would die of it otherwise.
//!
//! Source: OpenJDK, `src/hotspot/os/posix/attachListener_posix.cpp` and `src/jdk.attach/linux/classes/sun/tools/attach/
//! VirtualMachineImpl.java`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, UnlinkatFlags, fchown, unlinkat};
use thiserror::Error;

use super::owner::Owner;
use crate::target::mappings::Mappings;
use crate::target::small_file;

/// Longest wait for the socket. The virtual machine looks for the request when it handles the signal.
const SOCKET_WAIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// Longest wait for the answer: writing 50,000 lines takes a second on a busy machine.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Version, command, and always three arguments, each ended by a zero byte.
const REQUEST: &[u8] = b"1\0jcmd\0Compiler.perfmap\0\0\0";

/// The answer is a line or two.
const MAX_ANSWER_BYTES: u64 = 4096;
/// Of it, so much is shown.
const MAX_SHOWN_CHARS: usize = 120;

/// With this option it would answer the signal with a list of its threads, in the service's output.
const DISABLED: &str = "-XX:+DisableAttachMechanism";

/// Why there is no map.
#[derive(Debug, Error)]
pub enum JvmError {
    #[error("it has ended")]
    Ended,
    #[error("it does not handle SIGQUIT (is it starting?)")]
    DeafToSignal,
    #[error("it runs with `{DISABLED}`")]
    Disabled,
    #[error("its `/tmp` cannot be used: {0}")]
    NoTmp(Errno),
    #[error(
        "it does not listen within {} s (is it stopped, or run with `{DISABLED}`?)",
        SOCKET_WAIT.as_secs()
    )]
    NoSocket,
    #[error("what stands at `{0}` is not its socket")]
    NotASocket(String),
    #[error("talking to it failed: {0}")]
    Talk(io::Error),
    #[error("it does not answer within {} s", ANSWER_WAIT.as_secs())]
    NoAnswer,
    #[error(
        "it closed the connection: it only talks to its own user and to root of its user namespace"
    )]
    Closed,
    #[error("it refused: {0}")]
    Refused(String),
}

impl JvmError {
    /// Whether asking again would only mean to wait again.
    pub fn is_final(&self) -> bool {
        matches!(self, JvmError::NoSocket | JvmError::NoAnswer)
    }
}

/// Whether a process runs HotSpot.
pub fn is_jvm(mappings: &Mappings) -> bool {
    let mut paths = mappings.regions().map(|region| &region.binary.path);
    paths.any(|path| path.ends_with("/libjvm.so"))
}

/// Has the process write its map, and waits until it has.
pub fn write_perf_map(pid: u32) -> Result<(), JvmError> {
    let owner = Owner::of(pid, 0).ok_or(JvmError::Ended)?;
    let how = how(OFlag::O_PATH | OFlag::O_DIRECTORY);
    let tmp = openat2(&owner.root, "/tmp/.", how).map_err(JvmError::NoTmp)?;
    let socket = match socket(&tmp, &owner)? {
        Some(socket) => socket,
        None => make_it_listen(pid, &tmp, &owner)?,
    };
    // Connecting can block, and no time limit can be set for it. A thread that never comes back ends with the program.
    let (answers, answer) = mpsc::channel();
    std::thread::spawn(move || answers.send(ask(&socket)));
    let answer = answer.recv_timeout(ANSWER_WAIT);
    judge(
        &answer
            .map_err(|_| JvmError::NoAnswer)?
            .map_err(JvmError::Talk)?,
    )
}

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

/// The socket it listens at, held by a descriptor; `None` while there is none.
fn socket(tmp: &OwnedFd, owner: &Owner) -> Result<Option<OwnedFd>, JvmError> {
    let name = format!(".java_pid{}", owner.own_pid);
    let place = match openat2(tmp, name.as_str(), how(OFlag::O_PATH)) {
        Ok(place) => File::from(place),
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(JvmError::Talk(errno.into())),
    };
    let meta = place.metadata().map_err(JvmError::Talk)?;
    if !meta.file_type().is_socket() || !owner.may_be_of(meta.uid()) {
        return Err(JvmError::NotASocket(format!("/tmp/{name}")));
    }
    Ok(Some(place.into()))
}

/// Puts the request for listening where it looks for it, and knocks.
fn make_it_listen(pid: u32, tmp: &OwnedFd, owner: &Owner) -> Result<OwnedFd, JvmError> {
    let status = small_file::read_text(Path::new(&format!("/proc/{pid}/status")))
        .map_err(|_| JvmError::Ended)?;
    if !handles_quit(&status) {
        return Err(JvmError::DeafToSignal);
    }
    let arguments = small_file::read_text(Path::new(&format!("/proc/{pid}/cmdline")));
    if arguments.is_ok_and(|all| all.split('\0').any(|argument| argument == DISABLED)) {
        return Err(JvmError::Disabled);
    }
    let name = format!(".attach_pid{}", owner.own_pid);
    // One that is left over may be another user's.
    let _ = unlinkat(tmp, name.as_str(), UnlinkatFlags::NoRemoveDir);
    let how = how(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL);
    let how = how.mode(Mode::S_IRUSR | Mode::S_IWUSR);
    let request = openat2(tmp, name.as_str(), how).map_err(JvmError::NoTmp)?;
    // It must belong to the user the machine runs as. Where that cannot be, it refuses, and this is found below.
    let id = |key| {
        let field = small_file::field(&status, key)?;
        field.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let (uid, gid) = (id("Uid:").map(Uid::from_raw), id("Gid:").map(Gid::from_raw));
    let _ = fchown(&request, uid, gid);
    let listening = knock(pid, tmp, owner);
    // Mostly the machine has removed it itself.
    let _ = unlinkat(tmp, name.as_str(), UnlinkatFlags::NoRemoveDir);
    listening
}

fn knock(pid: u32, tmp: &OwnedFd, owner: &Owner) -> Result<OwnedFd, JvmError> {
    kill(Pid::from_raw(pid as i32), Signal::SIGQUIT).map_err(|_| JvmError::Ended)?;
    let until = Instant::now() + SOCKET_WAIT;
    while Instant::now() < until {
        if let Some(socket) = socket(tmp, owner)? {
            return Ok(socket);
        }
        std::thread::sleep(POLL);
    }
    Err(JvmError::NoSocket)
}

/// Whether the process has a handler for SIGQUIT. Source: `proc_pid_status(5)`, `SigCgt`: a mask, signal 1 lowest.
fn handles_quit(status: &str) -> bool {
    let mask = small_file::field(status, "SigCgt:").map(|mask| u64::from_str_radix(mask, 16));
    mask.is_some_and(|mask| mask.is_ok_and(|mask| mask >> (Signal::SIGQUIT as u32 - 1) & 1 == 1))
}

/// Sends the request and reads the whole answer.
fn ask(socket: &OwnedFd) -> io::Result<String> {
    // By way of the descriptor it is the very socket that was looked at, and its path may be of any length.
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The first line is 0 where it succeeded; else words follow.
fn judge(answer: &str) -> Result<(), JvmError> {
    let (code, words) = answer.split_once('\n').unwrap_or((answer, ""));
    match code.trim() {
        "" => Err(JvmError::Closed),
        "0" => Ok(()),
        code => {
            let said = match words.trim() {
                "" => format!("code {code}"),
                words => words.lines().next().unwrap_or("").to_owned(),
            };
            let plain = said.chars().filter(|c| !c.is_control());
            Err(JvmError::Refused(plain.take(MAX_SHOWN_CHARS).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_with_a_handler_is_knocked_at() {
        assert!(handles_quit("SigCgt:\t0000000101005ccf\n"));
        assert!(!handles_quit("SigCgt:\t0000000101005ccb\n"));
        assert!(!handles_quit("Name:\tx\n") && !handles_quit("SigCgt:\tnonsense\n"));
        let own = std::process::id();
        assert!(matches!(write_perf_map(1 << 30), Err(JvmError::Ended)));
        assert!(matches!(write_perf_map(own), Err(JvmError::DeafToSignal)));
    }

    #[test]
    fn an_answer_is_success_or_says_why_not_in_plain_words() {
        assert!(judge("0\nCommand executed successfully\n").is_ok());
        assert!(matches!(judge(""), Err(JvmError::Closed)));
        let refused = judge("-1\nUnknown \x1b[31mdiagnostic command\nat line 2").expect_err("no");
        assert_eq!(
            refused.to_string(),
            "it refused: Unknown [31mdiagnostic command"
        );
        let refused = judge("101\n").expect_err("no");
        assert_eq!(refused.to_string(), "it refused: code 101");
    }
}
