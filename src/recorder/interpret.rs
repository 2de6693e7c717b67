//! What a tick means: the thread and the frames it hit, by the processes and mappings of that moment.

use crate::profile::{ElfAddr, FrameAddr, RuntimeAddr, StackEnd, Thread, Why};
use crate::sampling::{RawSample, UserStack};
use crate::target::mappings::Mappings;
use crate::target::processes::Processes;
use crate::unwind::{CopyUnwinder, StackCopy};

use super::tally::{Code, RawFrame};

/// Follows the processes, and reads samples with what is known of them.
#[derive(Debug, Default)]
pub(super) struct Interpreter {
    pub(super) processes: Processes,
    unwinder: CopyUnwinder,
}

impl Interpreter {
    /// The thread a tick hit, under the names it had then.
    pub(super) fn thread_of(&mut self, sample: &RawSample) -> Thread {
        let RawSample { pid, tid, .. } = *sample;
        let process = self.processes.get_or_read(pid);
        let name_of = |tid| process.thread_name(tid).filter(|name| !name.is_empty());
        let leader = name_of(pid).map_or_else(|| format!("[pid {pid}]"), str::to_owned);
        let name = name_of(tid).unwrap_or(&leader).to_owned();
        Thread {
            pid,
            tid,
            name,
            process: leader,
        }
    }

    /// The frames of a sample, leaf first: the kernel's, then the user's.
    pub(super) fn frames_of(&mut self, sample: &RawSample) -> (Vec<RawFrame>, StackEnd) {
        let process = self.processes.get_or_read(sample.pid);
        let (mappings, is_kernel_thread) = (process.mappings.clone(), process.is_kernel_thread);
        let mut frames: Vec<RawFrame> = leaf_first(&sample.kernel)
            .map(|frame| RawFrame {
                code: Code::Kernel,
                addr: ElfAddr(frame.lookup_addr().0),
            })
            .collect();
        let mut user = Vec::new();
        let end = match &sample.user {
            UserStack::Absent if is_kernel_thread => StackEnd::Root,
            UserStack::Absent => StackEnd::Truncated(Why::NoRegisters),
            UserStack::Walked {
                frames,
                end,
                bridged,
            } => {
                user.extend(leaf_first(frames));
                match self.end_of_walked(&mappings, &mut user, *end) {
                    StackEnd::Root if *bridged => StackEnd::Truncated(Why::Bridged),
                    end => end,
                }
            }
            UserStack::Copied {
                registers,
                bytes,
                full,
            } => {
                let stack = StackCopy {
                    registers: **registers,
                    bytes,
                    full: *full,
                };
                self.unwinder.walk(&mappings, &stack, &mut user)
            }
        };
        frames.extend(
            user.iter()
                .map(|frame| raw_frame(&mappings, frame.lookup_addr())),
        );
        (frames, end)
    }

    /// A chain of frame pointers goes on into nonsense where a caller uses the register for something else: it is cut
    /// at the first address that is not code.
    fn end_of_walked(
        &mut self,
        mappings: &Mappings,
        user: &mut Vec<FrameAddr>,
        end: StackEnd,
    ) -> StackEnd {
        let is_code = |frame: &FrameAddr| mappings.find(frame.lookup_addr()).is_some();
        let code = user
            .iter()
            .skip(1)
            .take_while(|frame| is_code(frame))
            .count();
        let all_code = user.len() <= 1 + code;
        user.truncate(1 + code);
        let Some(addr) = user.last().map(|frame| frame.lookup_addr()) else {
            return end;
        };
        let root = mappings.find(addr).is_some_and(|region| {
            let elf_addr = region.elf_addr(addr);
            elf_addr.is_some_and(|elf_addr| self.unwinder.rows.is_root(&region.binary, elf_addr))
        });
        match end {
            _ if root => StackEnd::Root,
            // The walker met a root beyond the cut.
            StackEnd::Root if !all_code => StackEnd::Truncated(Why::BadFrame),
            end => end,
        }
    }
}

/// The first address is where execution stands, the others are where it will return to.
fn leaf_first(addrs: &[RuntimeAddr]) -> impl Iterator<Item = FrameAddr> + '_ {
    addrs.iter().enumerate().map(|(ix, addr)| match ix {
        0 => FrameAddr::Exact(*addr),
        _ => FrameAddr::Return(*addr),
    })
}

fn raw_frame(mappings: &Mappings, addr: RuntimeAddr) -> RawFrame {
    let found = mappings.find(addr);
    match found {
        Some(region) => RawFrame {
            code: Code::Binary(region.binary.ix),
            addr: region.elf_addr(addr).unwrap_or(ElfAddr(addr.0)),
        },
        None => RawFrame {
            code: Code::Unmapped,
            addr: ElfAddr(addr.0),
        },
    }
}
