//! Walks a copied stack from the leaf to the thread's root.
//!
//! Where a function has rules in its unwind information, these decide. Where there are none (code made at run time,
//! hand-written assembly), the frame pointer is followed if it is plausible, and the rules go on behind it. A walk counts
//! as complete only when its outermost function is known to be a thread's first.

use crate::profile::{ElfAddr, FrameAddr, MappingKind, RuntimeAddr, StackEnd, Why};
use crate::target::mappings::{MappedRegion, Mappings};

use super::evaluate::{NoCaller, Registers, caller};
use super::rows::Rows;

/// Longest stack kept; the BPF sampler's limit is the same.
const MAX_FRAMES: usize = 512;

/// A stack as a tick found it.
#[derive(Clone, Copy, Debug)]
pub struct StackCopy<'a> {
    pub registers: Registers,
    /// Memory from the stack pointer upwards.
    pub bytes: &'a [u8],
    /// The copy was cut at its limit, so the stack may go on.
    pub full: bool,
}

impl StackCopy<'_> {
    fn base(&self) -> u64 {
        self.registers.sp().unwrap_or(0)
    }

    fn read(&self, addr: u64) -> Option<u64> {
        let offset = usize::try_from(addr.checked_sub(self.base())?).ok()?;
        let bytes = self.bytes.get(offset..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    }

    fn ends_before(&self, addr: u64) -> bool {
        addr >= self.base().saturating_add(self.bytes.len() as u64)
    }
}

/// Walks copied stacks of any process.
#[derive(Debug, Default)]
pub struct CopyUnwinder {
    pub rows: Rows,
}

/// Where a walk stands.
struct Frame {
    registers: Registers,
    addr: FrameAddr,
    /// Callers may have been skipped on the way here.
    bridged: bool,
}

/// Code that nobody called: its own beginning was laid down as where to return to.
#[derive(Clone, Copy)]
enum LaidDown {
    /// By the kernel, below a signal handler.
    Trampoline,
    /// As a first function (`makecontext`): code without rules ends before it. It has no caller.
    First(StackEnd),
}

/// What a step found.
enum Step {
    Caller(Frame),
    End(StackEnd),
}

impl CopyUnwinder {
    /// Appends the frames of `stack`, leaf first, to `frames` and says how the walk ended.
    pub fn walk(
        &mut self,
        mappings: &Mappings,
        stack: &StackCopy,
        frames: &mut Vec<FrameAddr>,
    ) -> StackEnd {
        let Some(ip) = stack.registers.ip() else {
            return StackEnd::Truncated(Why::NoRegisters);
        };
        let addr = FrameAddr::Exact(RuntimeAddr(ip));
        let mut frame = Frame {
            registers: stack.registers,
            addr,
            bridged: false,
        };
        let mut count = 0;
        loop {
            let laid_down = self.laid_down(mappings, frame.addr);
            if let (Some(_), FrameAddr::Return(begin)) = (laid_down, frame.addr) {
                frame.addr = FrameAddr::Exact(begin);
            }
            frames.push(frame.addr);
            count += 1;
            if let Some(LaidDown::First(end)) = laid_down {
                return end;
            }
            match self.step(mappings, stack, &frame) {
                Step::End(StackEnd::Root) if frame.bridged => {
                    return StackEnd::Truncated(Why::Bridged);
                }
                Step::End(end) => return end,
                Step::Caller(_) if count >= MAX_FRAMES => {
                    return StackEnd::Truncated(Why::TooDeep);
                }
                Step::Caller(next) => frame = next,
            }
        }
    }

    fn laid_down(&mut self, mappings: &Mappings, addr: FrameAddr) -> Option<LaidDown> {
        let FrameAddr::Return(begin) = addr else {
            return None;
        };
        let mut row = |addr| {
            let region = mappings.find(addr)?;
            self.rows.find(&region.binary, region.elf_addr(addr)?)
        };
        match (row(addr.lookup_addr()), row(begin)) {
            (Some(before), _) => before.is_signal.then_some(LaidDown::Trampoline),
            (None, None) => None,
            (None, Some(row)) if row.is_root() => Some(LaidDown::First(StackEnd::Root)),
            (None, Some(_)) => Some(LaidDown::First(StackEnd::Truncated(Why::NoUnwindInfo))),
        }
    }

    fn step(&mut self, mappings: &Mappings, stack: &StackCopy, frame: &Frame) -> Step {
        let end = |why| Step::End(StackEnd::Truncated(why));
        let addr = frame.addr.lookup_addr();
        let Some(region) = mappings.find(addr) else {
            return end(Why::UnknownMapping);
        };
        let elf_addr = region.elf_addr(addr);
        let row = elf_addr.and_then(|elf_addr| self.rows.find(&region.binary, elf_addr));
        let Some(row) = row else {
            if elf_addr.is_some_and(|elf_addr| self.rows.is_root(&region.binary, elf_addr)) {
                return Step::End(StackEnd::Root);
            }
            let skips = skips_callers(region, elf_addr);
            return match by_frame_pointer(mappings, stack, &frame.registers) {
                Some((registers, addr)) => Step::Caller(Frame {
                    registers,
                    addr,
                    bridged: frame.bridged || skips,
                }),
                None => end(why_no_rules(region)),
            };
        };
        if row.is_root() {
            return Step::End(StackEnd::Root);
        }
        let caller = match caller(&row, &frame.registers, &|addr| stack.read(addr)) {
            Ok(caller) => caller,
            Err(NoCaller::Unreadable(at)) if stack.full && stack.ends_before(at) => {
                return end(Why::CopyTooShort);
            }
            Err(NoCaller::Unreadable(_)) => return end(Why::UnreadableStack),
            Err(NoCaller::Uncomputable) => return end(Why::BadFrame),
        };
        // A signal may have interrupted another stack; any other caller's frame is higher up. Only a leaf may have none
        // at all: vfork keeps its return address in a register.
        let (sp, caller_sp) = (frame.registers.sp(), caller.sp());
        let is_leaf = matches!(frame.addr, FrameAddr::Exact(_));
        let upwards = row.is_signal || caller_sp > sp || (is_leaf && caller_sp == sp);
        match caller.ip().map(RuntimeAddr) {
            Some(ip) if upwards => {
                let addr = if row.is_signal {
                    FrameAddr::Exact(ip)
                } else {
                    FrameAddr::Return(ip)
                };
                if mappings.find(addr.lookup_addr()).is_none() {
                    return end(Why::BadFrame);
                }
                Step::Caller(Frame {
                    registers: caller,
                    addr,
                    bridged: frame.bridged,
                })
            }
            _ => end(Why::BadFrame),
        }
    }
}

/// The caller by the chain of frame pointers, if it leads upwards, within the copy, and to code.
fn by_frame_pointer(
    mappings: &Mappings,
    stack: &StackCopy,
    registers: &Registers,
) -> Option<(Registers, FrameAddr)> {
    let (bp, sp) = (registers.bp()?, registers.sp()?);
    if bp < sp || bp % 8 != 0 {
        return None;
    }
    let (saved_bp, return_address) = (stack.read(bp)?, stack.read(bp.checked_add(8)?)?);
    let addr = FrameAddr::Return(RuntimeAddr(return_address));
    mappings.find(addr.lookup_addr())?;
    let registers = Registers::of_frame_pointer(bp, saved_bp, return_address);
    Some((registers, addr))
}

/// Whether crossing code without rules by its frame pointer may skip callers. Code made at run time by convention has one.
pub fn skips_callers(region: &MappedRegion, addr: Option<ElfAddr>) -> bool {
    let binary = &region.binary;
    binary.kind != MappingKind::Anonymous
        && !addr.is_some_and(|addr| binary.keeps_frame_pointer(addr))
}

fn why_no_rules(region: &MappedRegion) -> Why {
    match (&region.binary.problem, region.binary.kind) {
        (Some(_), _) => Why::BinaryUnreadable,
        (None, MappingKind::Anonymous) => Why::Jit,
        (None, _) => Why::NoUnwindInfo,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::FileOffset;
    use crate::target::binary::Binary;
    use std::sync::Arc;

    const CODE: u64 = 0x10_0000;
    const STACK: u64 = 0x7000;

    /// Generated code at `CODE`, without any unwind information.
    fn mappings() -> Mappings {
        let mut mappings = Mappings::default();
        mappings.insert(MappedRegion {
            start: RuntimeAddr(CODE),
            end: RuntimeAddr(CODE + 0x1000),
            file_offset: FileOffset(0),
            binary: Arc::new(Binary::anonymous(0)),
        });
        mappings
    }

    fn walk(words: &[u64], bp: u64, full: bool) -> (Vec<u64>, StackEnd) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut registers = Registers::default();
        registers.set(6, Some(bp));
        registers.set(7, Some(STACK));
        registers.set(16, Some(CODE + 0x10));
        let stack = StackCopy {
            registers,
            bytes: &bytes,
            full,
        };
        let mut frames = Vec::new();
        let end = CopyUnwinder::default().walk(&mappings(), &stack, &mut frames);
        let addrs = frames.iter().map(|f| match f {
            FrameAddr::Exact(addr) | FrameAddr::Return(addr) => addr.0 - CODE,
        });
        (addrs.collect(), end)
    }

    #[test]
    fn code_without_rules_is_crossed_by_frame_pointers_and_the_end_is_honest() {
        let words = [STACK + 16, CODE + 0x20, STACK + 32, CODE + 0x30, 0, 0x99];
        let (frames, end) = walk(&words, STACK, false);
        assert_eq!(frames, [0x10, 0x20, 0x30]);
        assert_eq!(end, StackEnd::Truncated(Why::Jit));
    }

    #[test]
    fn a_frame_pointer_that_leads_nowhere_is_not_followed() {
        for bp in [0, STACK - 8, STACK + 4, STACK + 4096, u64::MAX - 3] {
            let (frames, end) = walk(&[STACK + 16, CODE + 0x20], bp, false);
            assert_eq!(
                (frames.len(), end),
                (1, StackEnd::Truncated(Why::Jit)),
                "{bp:#x}"
            );
        }
    }
}
