//! What a tick means: the thread and the frames it hit, by the processes and mappings of that moment.

use std::rc::Rc;

use crate::profile::{ElfAddr, FrameAddr, MappingKind, RuntimeAddr, StackEnd, Thread, Why};
use crate::sampling::{CopiedStack, RawSample, UserStack};
use crate::target::jit::SpaceIx;
use crate::target::mappings::Mappings;
use crate::target::processes::Processes;
use crate::unwind::{CopyUnwinder, StackCopy, skips_callers};

use super::tally::{Code, RawFrame};

/// Follows the processes, and reads samples with what is known of them.
#[derive(Debug, Default)]
pub(super) struct Interpreter {
    pub(super) processes: Processes,
    unwinder: CopyUnwinder,
}

/// A sample's frames, leaf first: the kernel's, then the user's.
#[derive(Debug)]
pub(super) struct Interpreted {
    pub frames: Vec<RawFrame>,
    pub end: StackEnd,
    /// The binary whose table the kernel's walk lacked.
    pub missing_table: Option<u32>,
}

impl Interpreter {
    /// Names what addresses of a process mean at a time: the content of its mappings, and the state of its generated
    /// code. `None` where that changes from one moment to the next.
    pub(super) fn generation(&mut self, pid: u32, time_ns: u64) -> Option<(u64, u64)> {
        let process = self.processes.get_or_read(pid);
        let (generation, jit) = (process.mappings.generation(), process.jit);
        match jit {
            None => Some((generation, 0)),
            Some(space) => Some((generation, self.processes.generated.state(space, time_ns)?)),
        }
    }

    /// The thread a tick hit, under the names it had then.
    pub(super) fn thread_of(&mut self, sample: &RawSample) -> Thread {
        self.processes.get_or_read(sample.pid);
        self.known_thread(sample.pid, sample.tid)
    }

    /// A thread under the names it has now, as far as they are known.
    pub(super) fn known_thread(&self, pid: u32, tid: u32) -> Thread {
        let process = self.processes.get(pid);
        let name_of = |tid| {
            let name = process.and_then(|process| process.thread_name(tid));
            name.filter(|name| !name.is_empty())
        };
        let leader = name_of(pid).map_or_else(|| format!("[pid {pid}]"), str::to_owned);
        let name = name_of(tid).unwrap_or(&leader).to_owned();
        Thread {
            pid,
            tid,
            name,
            process: leader,
        }
    }

    /// What a sample of that time means. `walked_by` knows the mappings that address spaces in the kernel stand for.
    pub(super) fn interpret(
        &mut self,
        sample: &RawSample,
        time_ns: u64,
        walked_by: impl Fn(u32) -> Option<Rc<Mappings>>,
    ) -> Interpreted {
        let process = self.processes.get_or_read(sample.pid);
        let (mappings, is_kernel_thread) = (process.mappings.clone(), process.is_kernel_thread);
        let jit = process.jit;
        let mut frames: Vec<RawFrame> = leaf_first(&sample.kernel)
            .map(|frame| RawFrame {
                code: Code::Kernel,
                addr: ElfAddr(frame.lookup_addr().0),
            })
            .collect();
        let mut user = Vec::new();
        let mut missing_table = None;
        let end = match &sample.user {
            UserStack::Absent if is_kernel_thread => StackEnd::Root,
            UserStack::Absent => StackEnd::Truncated(Why::NoRegisters),
            UserStack::Walked(walked) => {
                user.extend(leaf_first(&walked.frames));
                let former = walked_by(walked.space).filter(|by| !Rc::ptr_eq(by, &mappings));
                let end = cut_at_change(former.as_deref(), &mappings, &mut user, walked.end);
                if end == StackEnd::Truncated(Why::TableEvicted) {
                    missing_table = user.last().and_then(|frame| binary_at(&mappings, frame));
                }
                let end = self.end_of_walked(&mappings, &mut user, end, walked.bridged);
                match &walked.copy {
                    Some(copy) => self.walk_again(&mappings, copy, end, &mut user),
                    None => end,
                }
            }
            UserStack::Copied(copy) => self.walk_copy(&mappings, copy, &mut user),
        };
        frames.extend(
            user.iter()
                .map(|frame| self.raw_frame(&mappings, jit, time_ns, frame.lookup_addr())),
        );
        Interpreted {
            frames,
            end,
            missing_table,
        }
    }

    fn raw_frame(
        &mut self,
        mappings: &Mappings,
        jit: Option<SpaceIx>,
        time_ns: u64,
        addr: RuntimeAddr,
    ) -> RawFrame {
        let (code, addr) = match (mappings.find(addr), jit) {
            (None, _) => (Code::Unmapped, ElfAddr(addr.0)),
            (Some(region), Some(space)) if region.binary.kind == MappingKind::Anonymous => {
                let place = self.processes.generated.place(space, addr, time_ns);
                (Code::Jit(place), ElfAddr(addr.0))
            }
            (Some(region), _) => {
                let elf_addr = region.elf_addr(addr).unwrap_or(ElfAddr(addr.0));
                (Code::Binary(region.binary.ix), elf_addr)
            }
        };
        RawFrame { code, addr }
    }

    fn walk_copy(
        &mut self,
        mappings: &Mappings,
        copy: &CopiedStack,
        user: &mut Vec<FrameAddr>,
    ) -> StackEnd {
        let stack = StackCopy {
            registers: *copy.registers,
            bytes: &copy.bytes,
            full: copy.full,
        };
        self.unwinder.walk(mappings, &stack, user)
    }

    /// Walks in user space what could not be walked to its `end` in the kernel. Keeps the longer of the two.
    fn walk_again(
        &mut self,
        mappings: &Mappings,
        copy: &CopiedStack,
        end: StackEnd,
        user: &mut Vec<FrameAddr>,
    ) -> StackEnd {
        let mut again = Vec::new();
        let end_of_again = self.walk_copy(mappings, copy, &mut again);
        if end_of_again != StackEnd::Root && again.len() < user.len() {
            return end;
        }
        *user = again;
        let unknown = StackEnd::Truncated(Why::UnknownMapping);
        match end_of_again {
            // The copy is only a makeshift for tables that were on their way.
            StackEnd::Truncated(Why::CopyTooShort) if end == unknown => {
                StackEnd::Truncated(Why::Warming)
            }
            StackEnd::Truncated(Why::CopyTooShort) => end,
            other => other,
        }
    }

    /// A chain of frame pointers goes on into nonsense where a caller uses the register for something else: it is cut
    /// at the first address that is not code.
    fn end_of_walked(
        &mut self,
        mappings: &Mappings,
        user: &mut Vec<FrameAddr>,
        end: StackEnd,
        bridged: bool,
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
        let region = mappings.find(addr);
        let mapped = region.is_some();
        let root = region.is_some_and(|region| {
            let elf_addr = region.elf_addr(addr);
            elf_addr.is_some_and(|elf_addr| self.unwinder.rows.is_root(&region.binary, elf_addr))
        });
        match end {
            _ if root && bridged && self.has_skipped(mappings, user) => {
                StackEnd::Truncated(Why::Bridged)
            }
            _ if root => StackEnd::Root,
            // Not the next function is unknown, but where it is: its mapping is known here, later than in the kernel.
            StackEnd::Truncated(Why::UnknownMapping) if all_code && mapped => {
                StackEnd::Truncated(Why::Warming)
            }
            // Names alone will not make such a stack whole.
            StackEnd::Truncated(Why::FramePointerLost | Why::NoUnwindInfo)
                if bridged && self.has_skipped(mappings, user) =>
            {
                StackEnd::Truncated(Why::Bridged)
            }
            // The walker met a root beyond the cut.
            StackEnd::Root if !all_code => StackEnd::Truncated(Why::BadFrame),
            end => end,
        }
    }

    /// Whether code without rules was crossed that need not have a frame pointer. In the outermost frame the walk ended.
    fn has_skipped(&mut self, mappings: &Mappings, user: &[FrameAddr]) -> bool {
        user.iter().rev().skip(1).any(|frame| {
            let addr = frame.lookup_addr();
            let Some(region) = mappings.find(addr) else {
                return true;
            };
            let elf_addr = region.elf_addr(addr);
            let rows = &mut self.unwinder.rows;
            let row = elf_addr.and_then(|elf_addr| rows.find(&region.binary, elf_addr));
            row.is_none() && skips_callers(region, elf_addr)
        })
    }
}

fn binary_at(mappings: &Mappings, frame: &FrameAddr) -> Option<u32> {
    let region = mappings.find(frame.lookup_addr())?;
    Some(region.binary.ix)
}

/// Ends a stack at the first frame, from the leaf on, in another file than the kernel's walker believed: the frame is
/// right, but it was left by the rules of what was there before.
fn cut_at_change(
    former: Option<&Mappings>,
    now: &Mappings,
    user: &mut Vec<FrameAddr>,
    end: StackEnd,
) -> StackEnd {
    let place = |mappings: &Mappings, frame: &FrameAddr| {
        let region = mappings.find(frame.lookup_addr())?;
        Some((region.binary.ix, region.bias()))
    };
    let changed = |former| {
        user.iter()
            .position(|frame| place(former, frame) != place(now, frame))
    };
    match former.and_then(changed) {
        Some(ix) => {
            user.truncate(ix + 1);
            StackEnd::Truncated(Why::Warming)
        }
        None => end,
    }
}

/// The first address is where execution stands, the others are where it will return to.
fn leaf_first(addrs: &[RuntimeAddr]) -> impl Iterator<Item = FrameAddr> + '_ {
    addrs.iter().enumerate().map(|(ix, addr)| match ix {
        0 => FrameAddr::Exact(*addr),
        _ => FrameAddr::Return(*addr),
    })
}
