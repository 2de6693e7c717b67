//! Walks a stack by unwind tables: the reference for the walker in `bpf/`.
//!
//! In: registers, mappings, tables, and something that reads stack memory. Out: frames, leaf first, and how the walk
//! ended. A frame is pushed before its caller is looked for, so that no failure loses it. Its rule is looked up by the
//! interrupted instruction itself, or for a caller by the address before the one it returns to.
//!
//! Code without rules (generated code, hand-written assembly) is crossed by its frame pointer, if it has one: the bridge
//! must lead upwards, to an address of code. Beyond it the tables say how to go on. A leaf tells by the instruction it
//! stands at when it has no frame yet, or none any more. Code that is not generated need not keep a frame pointer, and a
//! bridge over it may have skipped callers: such a stack ends as [`Why::Bridged`] at best.

use crate::arch::{
    ENDBR64, PROLOGUES, PUSH_RBP, R10, RED_ZONE_BYTES, RET, RET_N, UCONTEXT_RBP, UCONTEXT_RIP,
    UCONTEXT_RSP, USER_BITS,
};
use crate::profile::{FrameAddr, MappingKind, RuntimeAddr, StackEnd, Why};
use crate::target::binary::{Binary, Problem};
use crate::target::mappings::Mappings;

use super::row::{CfaKind, RbpKind, Rule};
use super::tables::Tables;

/// Longest stack kept; the BPF sampler's limit is the same.
const MAX_FRAMES: usize = 512;

/// The lowest page is never mapped (vm.mmap_min_addr).
const LOWEST_ADDRESS: u64 = 4096;

/// The registers of a thread as a tick found them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
    /// All general registers by DWARF number, where they were recorded.
    pub general: Option<[u64; 16]>,
}

/// Why a word of the stack is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The copy of the stack was cut before it.
    BeyondCopy,
    /// It is not memory of the stack, or cannot be read.
    NotStack,
}

/// Reads the memory of the thread that is walked.
pub trait StackMemory {
    /// The 8 bytes at `addr`.
    fn read(&self, addr: u64) -> Result<u64, Unread>;
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug)]
struct State {
    addr: FrameAddr,
    sp: u64,
    /// `None` once a function has overwritten it without saying where it was kept.
    bp: Option<u64>,
    /// Only for the leaf.
    general: Option<[u64; 16]>,
    /// Callers may have been skipped.
    bridged: bool,
}

/// The rule at a frame, and what to call the end if there is no way on without one.
struct Guide {
    rule: Rule,
    without_rule: Why,
}

/// Appends the frames of a stack, leaf first, to `frames` and says how the walk ended.
pub fn walk(
    registers: &Registers,
    mappings: &Mappings,
    tables: &mut Tables,
    memory: &impl StackMemory,
    frames: &mut Vec<FrameAddr>,
) -> StackEnd {
    let mut state = State {
        addr: FrameAddr::Exact(RuntimeAddr(registers.ip)),
        sp: registers.sp,
        bp: Some(registers.bp),
        general: registers.general,
        bridged: false,
    };
    for _ in 0..MAX_FRAMES {
        let guide = guide(state.addr, mappings, tables);
        let laid_down = laid_down(&state, &guide, mappings, tables);
        if laid_down.is_some() || guide.rule.cfa == CfaKind::Signal {
            state.addr = not_called(state.addr);
        }
        frames.push(state.addr);
        let rule = laid_down.unwrap_or(guide.rule);
        if rule == Rule::ROOT {
            return if state.bridged {
                StackEnd::Truncated(Why::Bridged)
            } else {
                StackEnd::Root
            };
        }
        if laid_down.is_some() {
            return StackEnd::Truncated(guide.without_rule);
        }
        let caller = if guide.rule == Rule::NONE {
            bridge(&state, &guide, memory)
        } else {
            caller_of(&state, guide.rule, memory)
        };
        match caller {
            Ok(caller) => state = caller,
            Err(why) => return StackEnd::Truncated(why),
        }
    }
    StackEnd::Truncated(Why::TooDeep)
}

/// The rule of a function that nobody called: its own beginning was laid down as where to return to (`makecontext`), so
/// that code without rules ends before it.
fn laid_down(
    state: &State,
    guide_before: &Guide,
    mappings: &Mappings,
    tables: &mut Tables,
) -> Option<Rule> {
    if guide_before.rule != Rule::NONE || guide_before.without_rule != Why::NoUnwindInfo {
        return None;
    }
    let next = RuntimeAddr(state.addr.lookup_addr().0 + 1);
    let rule = guide(FrameAddr::Exact(next), mappings, tables).rule;
    (rule != Rule::NONE).then_some(rule)
}

/// The address of such a function, or of a signal trampoline, is meant itself.
fn not_called(addr: FrameAddr) -> FrameAddr {
    match addr {
        FrameAddr::Return(begin) => FrameAddr::Exact(begin),
        exact => exact,
    }
}

fn guide(addr: FrameAddr, mappings: &Mappings, tables: &mut Tables) -> Guide {
    let lookup = addr.lookup_addr();
    let Some(region) = mappings.find(lookup) else {
        return Guide {
            rule: Rule::NONE,
            without_rule: Why::UnknownMapping,
        };
    };
    let rule = region
        .elf_addr(lookup)
        .map_or(Rule::NONE, |addr| tables.rule(&region.binary, addr));
    Guide {
        rule,
        without_rule: why_without_rule(&region.binary),
    }
}

fn why_without_rule(binary: &Binary) -> Why {
    match (&binary.problem, binary.kind) {
        (
            Some(
                Problem::Malformed(_)
                | Problem::Replaced
                | Problem::Unopened(_)
                | Problem::Refused(_),
            ),
            _,
        ) => Why::BinaryUnreadable,
        (None, MappingKind::Anonymous) => Why::Jit,
        (None, _) => Why::NoUnwindInfo,
    }
}

/// The caller by a rule of the table.
fn caller_of(state: &State, rule: Rule, memory: &impl StackMemory) -> Result<State, Why> {
    if rule.cfa == CfaKind::Signal {
        return interrupted(state, rule, memory);
    }
    let read = |addr| memory.read(addr).map_err(why_unread);
    let cfa = cfa(state, rule, memory)?;
    // Code that switches stacks by hand keeps the other stack's pointer on this one.
    let leads_up = cfa > state.sp || matches!(rule.cfa, CfaKind::DerefRsp | CfaKind::OtherStack);
    if !leads_up || !cfa.is_multiple_of(8) {
        return Err(Why::BadFrame);
    }
    let return_addr = RuntimeAddr(read(cfa.wrapping_sub(8))?);
    let bp = match (rule.rbp, state.bp) {
        (RbpKind::Same, bp) => bp,
        (RbpKind::AtCfa, _) => saved_bp(state, offset(cfa, rule.rbp_offset), memory)?,
        (RbpKind::AtRbp, Some(bp)) => Some(read(offset(bp, rule.rbp_offset))?),
        (RbpKind::AtRbp, None) | (RbpKind::Undefined, _) => None,
    };
    let addr = FrameAddr::Return(return_addr);
    check_address(addr)?;
    Ok(State {
        addr,
        sp: cfa,
        bp,
        general: None,
        bridged: state.bridged,
    })
}

/// What a function saved of its caller's RBP. In an epilogue the slot is below the stack pointer: the register has its
/// value back, and compilers do not trouble to say so. Only the red zone below the stack pointer can still hold it.
fn saved_bp(state: &State, slot: u64, memory: &impl StackMemory) -> Result<Option<u64>, Why> {
    if slot >= state.sp {
        return memory.read(slot).map(Some).map_err(why_unread);
    }
    let in_red_zone = state.sp - slot <= RED_ZONE_BYTES;
    let saved = memory.read(slot).ok().filter(|_| in_red_zone);
    Ok(saved.or(state.bp))
}

fn cfa(state: &State, rule: Rule, memory: &impl StackMemory) -> Result<u64, Why> {
    let read = |addr| memory.read(addr).map_err(why_unread);
    let from = |register: Option<u64>| {
        let register = register.ok_or(Why::UnsupportedRule)?;
        Ok(register.wrapping_add_signed(i64::from(rule.full_cfa_offset())))
    };
    let general = |number: usize| state.general.and_then(|all| all.get(number).copied());
    match rule.cfa {
        CfaKind::Rsp => from(Some(state.sp)),
        CfaKind::Rbp | CfaKind::OtherStack => from(state.bp),
        CfaKind::R10 => from(general(R10.into())),
        CfaKind::LeafRegister => from(general(usize::from(rule.aux as u16))),
        CfaKind::DerefRbp => read(from(state.bp)?),
        CfaKind::DerefRsp => {
            let words = i64::from(rule.aux);
            Ok(read(from(Some(state.sp))?)?.wrapping_add_signed(8 * words))
        }
        CfaKind::Plt => {
            let ip = state.addr.lookup_addr().0;
            let pushed = ip & 15 >= u64::from(rule.cfa_offset as u16);
            Ok(state.sp.wrapping_add(if pushed { 16 } else { 8 }))
        }
        CfaKind::Unsupported => Err(Why::UnsupportedRule),
        CfaKind::NoRule | CfaKind::Root | CfaKind::Signal => Err(Why::BadFrame),
    }
}

/// What a signal interrupted. The stack may be another one, so that it need not lie higher.
fn interrupted(state: &State, rule: Rule, memory: &impl StackMemory) -> Result<State, Why> {
    let ucontext = offset(state.sp, rule.cfa_offset);
    let read = |at: i64| {
        memory
            .read(ucontext.wrapping_add_signed(at))
            .map_err(why_unread)
    };
    let addr = FrameAddr::Exact(RuntimeAddr(read(UCONTEXT_RIP)?));
    check_address(addr)?;
    Ok(State {
        addr,
        sp: read(UCONTEXT_RSP)?,
        bp: Some(read(UCONTEXT_RBP)?),
        general: None,
        bridged: state.bridged,
    })
}

/// The caller by the frame pointer, if it is one: it lies upwards and leads to code.
fn bridge(state: &State, guide: &Guide, memory: &impl StackMemory) -> Result<State, Why> {
    let why = guide.without_rule;
    if why == Why::UnknownMapping {
        return Err(why);
    }
    let (return_addr, sp, bp) = around_frame(state, memory)
        .or_else(|| by_frame_pointer(state, memory))
        .ok_or(why)?;
    let addr = FrameAddr::Return(RuntimeAddr(return_addr));
    check_address(addr)?;
    Ok(State {
        addr,
        sp,
        bp: Some(bp),
        general: None,
        bridged: state.bridged || why != Why::Jit,
    })
}

/// Return address, stack pointer and frame pointer of a leaf's caller, if the leaf stands before its frame was made or
/// after it was given up.
fn around_frame(state: &State, memory: &impl StackMemory) -> Option<(u64, u64, u64)> {
    let FrameAddr::Exact(ip) = state.addr else {
        return None;
    };
    let code = memory.read(ip.0).ok()?.to_le_bytes();
    let read = |addr| memory.read(addr).ok();
    let [first, low, high, ..] = code;
    let made = [0, 1].map(|ix| &PROLOGUES[ix][1..]);
    if made.iter().any(|made| code.starts_with(made)) {
        let return_addr = read(state.sp.wrapping_add(8)).filter(|addr| *addr != 0)?;
        return Some((return_addr, state.sp.wrapping_add(16), read(state.sp)?));
    }
    let dropped = match first {
        RET_N => u16::from_le_bytes([low, high]),
        RET | PUSH_RBP => 0,
        _ if code.starts_with(ENDBR64) => 0,
        _ => return None,
    };
    let return_addr = read(state.sp).filter(|addr| *addr != 0)?;
    let sp = state.sp.wrapping_add(8 + u64::from(dropped));
    Some((return_addr, sp, state.bp.unwrap_or(0)))
}

/// The same of any frame, by its frame pointer.
fn by_frame_pointer(state: &State, memory: &impl StackMemory) -> Option<(u64, u64, u64)> {
    let bp = state.bp?;
    if bp < state.sp || !bp.is_multiple_of(8) {
        return None;
    }
    let (bp_of_caller, return_addr) =
        (memory.read(bp).ok()?, memory.read(bp.wrapping_add(8)).ok()?);
    Some((return_addr, bp.wrapping_add(16), bp_of_caller))
}

/// An address that no process can have is no caller. Whether there is code is seen when its rule is looked for.
fn check_address(addr: FrameAddr) -> Result<(), Why> {
    let ip = addr.lookup_addr().0;
    match ip < LOWEST_ADDRESS || ip >> USER_BITS != 0 {
        true => Err(Why::BadFrame),
        false => Ok(()),
    }
}

fn offset(addr: u64, offset: i16) -> u64 {
    addr.wrapping_add_signed(i64::from(offset))
}

fn why_unread(unread: Unread) -> Why {
    match unread {
        Unread::BeyondCopy => Why::CopyTooShort,
        Unread::NotStack => Why::UnreadableStack,
    }
}

#[cfg(test)]
mod tests;
