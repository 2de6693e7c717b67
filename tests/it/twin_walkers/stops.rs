//! Threads of a running program, stopped at moments that nobody chose: their registers, stacks and mappings.

use std::io::IoSliceMut;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use perfprof::unwind::walk::{Registers, StackMemory, Unread};

/// Memory kept of the region that a register points into: this much below it, and so much above.
const BELOW_BYTES: u64 = 4096;
const ABOVE_BYTES: u64 = 128 * 1024;

/// `PTRACE_EVENT_STOP`, linux/ptrace.h.
const EVENT_STOP: i32 = 128;

/// A part of a process's memory.
#[derive(Clone, Debug)]
pub(super) struct Area {
    pub(super) base: u64,
    pub(super) bytes: Vec<u8>,
}

/// A thread as it was found.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub(super) registers: Registers,
    pub(super) memory: Vec<Area>,
    /// `/proc/PID/maps`.
    pub(super) maps: String,
}

/// Ways of [`Stop::damaged`].
pub(super) const DAMAGES: usize = 10;

impl Stop {
    /// The same with one thing wrong, as rules that do not fit the code or a broken stack would have it.
    pub(super) fn damaged(&self, way: usize) -> Stop {
        let mut stop = self.clone();
        let registers = &mut stop.registers;
        let mut each_area = |damage: fn(&mut Vec<u8>)| {
            for area in &mut stop.memory {
                damage(&mut area.bytes);
            }
        };
        match way {
            0 => registers.bp = 0,
            1 => registers.bp = registers.bp.wrapping_add(8),
            2 => registers.sp = registers.sp.wrapping_add(8),
            3 => registers.sp = registers.sp.wrapping_sub(16),
            4 => registers.sp = registers.sp.wrapping_add(4),
            5 => registers.ip = registers.ip.wrapping_add(64),
            6 => registers.ip = 0,
            7 => each_area(|bytes| bytes.truncate(bytes.len() / 2)),
            8 => each_area(|bytes| bytes.iter_mut().step_by(200).for_each(|byte| *byte ^= 0x55)),
            _ => each_area(|bytes| bytes.fill(0xff)),
        }
        stop
    }
}

impl StackMemory for Stop {
    fn read(&self, addr: u64) -> Result<u64, Unread> {
        let read = |area: &Area| {
            let offset = usize::try_from(addr.checked_sub(area.base)?).ok()?;
            let bytes = area.bytes.get(offset..)?.first_chunk()?;
            Some(u64::from_ne_bytes(*bytes))
        };
        self.memory.iter().find_map(read).ok_or(Unread::NotStack)
    }
}

/// Stops all threads of a process in turn until there are so many stops.
pub(super) fn record(pid: u32, stops: usize) -> Vec<Stop> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let tids: Vec<Pid> = tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .collect();
    for tid in &tids {
        ptrace::seize(*tid, ptrace::Options::empty()).expect("permitted for a child");
    }
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(pid);
    let mut found = Vec::new();
    while found.len() < stops {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        run(&tids, Duration::from_micros(100 + random % 1500));
        let tid = tids[found.len() % tids.len()];
        let signal = halt(tid);
        found.push(look(pid, tid));
        ptrace::cont(tid, signal).expect("it is stopped");
    }
    for tid in tids {
        let signal = halt(tid);
        ptrace::detach(tid, signal).expect("it is stopped");
    }
    found
}

/// Lets threads run, with the signals they are sent.
fn run(tids: &[Pid], time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        for tid in tids {
            if let Some(signal) = signalled(*tid, WaitPidFlag::WNOHANG) {
                ptrace::cont(*tid, signal).expect("it is stopped");
            }
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// The signal by which a thread is stopped, `Some(None)` when it is by our own wish, `None` while it runs.
fn signalled(tid: Pid, flags: WaitPidFlag) -> Option<Option<Signal>> {
    match waitpid(tid, Some(flags | WaitPidFlag::__WALL)).expect("it is traced") {
        WaitStatus::StillAlive => None,
        WaitStatus::Stopped(_, signal) => Some(Some(signal)),
        WaitStatus::PtraceEvent(_, _, EVENT_STOP) => Some(None),
        other => panic!("{other:?}"),
    }
}

/// Stops a thread, and returns the signal it is to be let go on with. A signal that comes first takes the place of our
/// own wish: any stop clears a pending `PTRACE_INTERRUPT`.
fn halt(tid: Pid) -> Option<Signal> {
    ptrace::interrupt(tid).expect("it runs");
    signalled(tid, WaitPidFlag::empty()).expect("waited for")
}

fn look(pid: u32, tid: Pid) -> Stop {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process lives");
    let r = ptrace::getregs(tid).expect("it is stopped");
    let general = [
        r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15,
    ];
    let registers = Registers {
        ip: r.rip,
        sp: r.rsp,
        bp: r.rbp,
        general: Some(general),
    };
    let memory = stacks(&maps, [r.rsp, r.rbp])
        .into_iter()
        .map(|(from, to)| copy(tid, from, to))
        .collect();
    Stop {
        registers,
        memory,
        maps,
    }
}

/// Extents of memory around `pointers`, and the upper end of the first thread's stack, where a signal handler on
/// another stack is left to.
fn stacks(maps: &str, pointers: [u64; 2]) -> Vec<(u64, u64)> {
    let mut extents = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, rest) = line.split_once('-').expect("a line of maps");
        let end = rest.split(' ').next().expect("a line of maps");
        let hex = |text| u64::from_str_radix(text, 16).expect("a line of maps");
        let (start, end) = (hex(start), hex(end));
        for pointer in pointers.iter().filter(|p| (start..end).contains(p)) {
            extents.push((
                start.max(pointer.saturating_sub(BELOW_BYTES) & !7),
                end.min(pointer.saturating_add(ABOVE_BYTES) & !7),
            ));
        }
        if line.ends_with("[stack]") {
            extents.push((start.max(end - ABOVE_BYTES.min(end)), end));
        }
    }
    extents.sort_unstable();
    extents.dedup_by(|next, merged| {
        let overlap = next.0 <= merged.1;
        if overlap {
            merged.1 = merged.1.max(next.1);
        }
        overlap
    });
    extents
}

fn copy(tid: Pid, from: u64, to: u64) -> Area {
    let mut bytes = vec![0; (to - from) as usize];
    let remote = RemoteIoVec {
        base: from as usize,
        len: bytes.len(),
    };
    let read = process_vm_readv(tid, &mut [IoSliceMut::new(&mut bytes)], &[remote]);
    bytes.truncate(read.expect("a stack can be read"));
    Area { base: from, bytes }
}
