//! A machine whose registers and memory are made up, but always the same: two rules that say the same give the same
//! caller on it, and two that differ do not.
//!
//! In: gimli's row, or our rule. Out: the caller. gimli evaluates the expressions of its rows itself.

use gimli::{
    CfaRule, EndianSlice, Evaluation, EvaluationResult, Expression, Format, LittleEndian, Location,
    Register, RegisterRule, UnwindSection, UnwindTableRow, Value, X86_64,
};
use perfprof::unwind::row::{CfaKind, RbpKind, Rule};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

const ENCODING: gimli::Encoding = gimli::Encoding {
    format: Format::Dwarf32,
    version: 5,
    address_size: 8,
};

/// The caller as one step finds it; `None` for a register that cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    None,
    Root,
    Frame { ip: u64, sp: u64, bp: Option<u64> },
}

fn memory(addr: u64) -> u64 {
    scrambled(addr ^ 0x5bd1_e995_7b93_1a4f)
}

fn register(number: u16, pc: u64) -> u64 {
    match number {
        16 => pc,
        _ => scrambled(u64::from(number) + 1) & !7,
    }
}

fn scrambled(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// What our rule says.
pub(super) fn by_rule(rule: Rule, pc: u64) -> Caller {
    let at = |base: u64, offset: i16| base.wrapping_add_signed(i64::from(offset));
    let from =
        |number: u16| register(number, pc).wrapping_add_signed(i64::from(rule.full_cfa_offset()));
    let (rsp, rbp) = (register(7, pc), register(6, pc));
    let cfa = match rule.cfa {
        CfaKind::NoRule | CfaKind::Unsupported => return Caller::None,
        CfaKind::Root => return Caller::Root,
        CfaKind::Rsp => from(7),
        CfaKind::Rbp | CfaKind::OtherStack => from(6),
        CfaKind::R10 => from(10),
        CfaKind::LeafRegister => from(rule.aux as u16),
        CfaKind::DerefRbp => memory(from(6)),
        CfaKind::DerefRsp => memory(from(7)).wrapping_add_signed(8 * i64::from(rule.aux)),
        CfaKind::Plt if pc & 15 >= rule.cfa_offset as u64 => rsp.wrapping_add(16),
        CfaKind::Plt => rsp.wrapping_add(8),
        CfaKind::Signal => {
            // Offsets of RIP, RSP and RBP in the kernel's `struct ucontext`.
            let saved = |offset: u64| memory(at(rsp, rule.cfa_offset).wrapping_add(offset));
            return Caller::Frame {
                ip: saved(168),
                sp: saved(160),
                bp: Some(saved(120)),
            };
        }
    };
    let bp = match rule.rbp {
        RbpKind::Same => Some(rbp),
        RbpKind::AtCfa => Some(memory(at(cfa, rule.rbp_offset))),
        RbpKind::AtRbp => Some(memory(at(rbp, rule.rbp_offset))),
        RbpKind::Undefined => None,
    };
    Caller::Frame {
        ip: memory(cfa.wrapping_sub(8)),
        sp: cfa,
        bp,
    }
}

/// What gimli's row says.
pub(super) fn by_row<'a, S: UnwindSection<Slice<'a>>>(
    row: &UnwindTableRow<usize>,
    section: &S,
    pc: u64,
) -> Caller {
    if row.register(X86_64::RA) == Some(RegisterRule::Undefined) {
        return Caller::Root;
    }
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset {
            register: number,
            offset,
        } => register(number.0, pc).wrapping_add_signed(*offset),
        CfaRule::Expression(expression) => value_of(
            expression.get(section).expect("within the section"),
            pc,
            None,
        ),
    };
    let saved = |number: Register| match row.register(number) {
        None | Some(RegisterRule::SameValue) => Some(register(number.0, pc)),
        Some(RegisterRule::Offset(offset)) => Some(memory(cfa.wrapping_add_signed(offset))),
        Some(RegisterRule::ValOffset(offset)) => Some(cfa.wrapping_add_signed(offset)),
        Some(RegisterRule::Expression(expression)) => {
            let expression = expression.get(section).expect("within the section");
            Some(memory(value_of(expression, pc, Some(cfa))))
        }
        _ => None,
    };
    let sp = match row.register(X86_64::RSP) {
        None => Some(cfa),
        Some(_) => saved(X86_64::RSP),
    };
    match (saved(X86_64::RA), sp) {
        (Some(ip), Some(sp)) => Caller::Frame {
            ip,
            sp,
            bp: saved(X86_64::RBP),
        },
        _ => Caller::None,
    }
}

fn value_of(expression: Expression<Slice>, pc: u64, initial: Option<u64>) -> u64 {
    let mut evaluation: Evaluation<Slice> = expression.evaluation(ENCODING);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut result = evaluation.evaluate().expect("a sound expression");
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, .. } => {
                evaluation.resume_with_memory(Value::Generic(memory(address)))
            }
            EvaluationResult::RequiresRegister {
                register: number, ..
            } => evaluation.resume_with_register(Value::Generic(register(number.0, pc))),
            other => panic!("{other:?} is needed"),
        }
        .expect("a sound expression");
    }
    match evaluation.as_result()[0].location {
        Location::Address { address } => address,
        ref other => panic!("{other:?} is no address"),
    }
}
