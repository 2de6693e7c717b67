//! From a row of call frame information to a [`Rule`], and what no rule can say.
//!
//! Compilers and linkers write few expressions, each for one purpose; those are told by their bytes. Any other has no
//! rule and is counted by its reason.

use gimli::{EndianSlice, LittleEndian, UnwindExpression, leb128};

use crate::arch::{R10, R15, RBP, RSP, UCONTEXT_RBP, UCONTEXT_RIP, UCONTEXT_RSP};
use crate::unwind::row::{CfaKind, RbpKind, Rule};

use super::program::{Cfa, Columns, Saved};

/// Operations of expressions (DWARF 5 §7.7.1).
const DEREF: u8 = 0x06;
const AND: u8 = 0x1a;
const PLUS: u8 = 0x22;
const PLUS_UCONST: u8 = 0x23;
const SHL: u8 = 0x24;
const GE: u8 = 0x2a;
const LIT0: u8 = 0x30;
const LIT31: u8 = 0x4f;
const BREG0: u8 = 0x70;
const BREG6: u8 = BREG0 + RBP as u8;
const BREG7: u8 = BREG0 + RSP as u8;
const BREG16: u8 = BREG0 + 16;

/// Why a row of the file has no rule, or a lesser one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The CFA is an expression that no kind of rule covers.
    CfaExpression,
    /// The CFA is not set, or by a register outside the general ones.
    CfaRegister,
    /// The return address is not at CFA − 8.
    ReturnAddress,
    /// The caller's stack pointer is not the CFA.
    StackPointer,
    /// An offset is beyond what a rule can hold.
    LargeOffset,
    /// The CFA is known, the caller's RBP is saved in a way no rule covers: it counts as not recoverable.
    FramePointer,
    /// The program of a function makes no sense from some point on.
    Malformed,
    /// The code is not in an executable segment.
    OutsideCode,
    /// The dictionary of rules is full.
    ManyRules,
    /// The table has as many rows as it may.
    ManyRows,
}

impl Gap {
    pub const ALL: [Gap; 10] = [
        Gap::CfaExpression,
        Gap::CfaRegister,
        Gap::ReturnAddress,
        Gap::StackPointer,
        Gap::LargeOffset,
        Gap::FramePointer,
        Gap::Malformed,
        Gap::OutsideCode,
        Gap::ManyRules,
        Gap::ManyRows,
    ];

    /// For people.
    pub fn explain(self) -> &'static str {
        match self {
            Gap::CfaExpression => "CFA by an unknown expression",
            Gap::CfaRegister => "CFA by no general register",
            Gap::ReturnAddress => "return address not at CFA - 8",
            Gap::StackPointer => "caller's stack pointer is not the CFA",
            Gap::LargeOffset => "offset too large",
            Gap::FramePointer => "caller's frame pointer by an unknown rule",
            Gap::Malformed => "malformed",
            Gap::OutsideCode => "not in an executable segment",
            Gap::ManyRules => "dictionary of rules full",
            Gap::ManyRows => "table full",
        }
    }
}

/// How many rows (functions, for the last four) each gap cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps([u32; Gap::ALL.len()]);

impl Gaps {
    pub fn add(&mut self, gap: Gap, times: u32) {
        let count = &mut self.0[gap as usize];
        *count = count.saturating_add(times);
    }

    pub fn of(&self, gap: Gap) -> u32 {
        self.0[gap as usize]
    }

    /// Gaps that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Gap, u32)> + '_ {
        Gap::ALL
            .into_iter()
            .map(|gap| (gap, self.of(gap)))
            .filter(|(_, count)| *count > 0)
    }
}

/// The rule of a row; `section` is what its expressions point into.
pub(super) fn rule_of(columns: &Columns, section: &[u8], gaps: &mut Gaps) -> Rule {
    if columns.return_address == Saved::Undefined {
        return Rule::ROOT;
    }
    if let Some(rule) = signal(columns, section) {
        return rule;
    }
    let cfa = cfa_of(columns, section).unwrap_or_else(|gap| {
        gaps.add(gap, 1);
        Rule::UNSUPPORTED
    });
    if cfa == Rule::UNSUPPORTED {
        return cfa;
    }
    let (rbp, offset) = rbp_of(columns, section).unwrap_or_else(|gap| {
        gaps.add(gap, 1);
        (RbpKind::Undefined, 0)
    });
    cfa.with_rbp(rbp, offset)
}

/// A signal trampoline says of each register that it is in the `ucontext` above RSP.
fn signal(columns: &Columns, section: &[u8]) -> Option<Rule> {
    let Cfa::Expression(cfa) = &columns.cfa else {
        return None;
    };
    let mut cfa = Operations::of(cfa, section)?;
    let at_rsp = cfa.register_offset(BREG7)?;
    cfa.expect(DEREF)?;
    cfa.end()?;
    let at = |saved: &Saved| match saved {
        Saved::At(expression) => {
            let mut operations = Operations::of(expression, section)?;
            let offset = operations.register_offset(BREG7)?;
            operations.end().map(|()| offset)
        }
        _ => None,
    };
    let ucontext = at_rsp.checked_sub(UCONTEXT_RSP)?;
    let is_ucontext = at(&columns.return_address)? == ucontext.checked_add(UCONTEXT_RIP)?
        && at(&columns.rbp)? == ucontext.checked_add(UCONTEXT_RBP)?;
    let offset = i16::try_from(ucontext).ok()?;
    is_ucontext.then(|| Rule::from_other(CfaKind::Signal, offset, 0))
}

fn cfa_of(columns: &Columns, section: &[u8]) -> Result<Rule, Gap> {
    if columns.return_address != Saved::AtCfa(-8) {
        return Err(Gap::ReturnAddress);
    }
    if !matches!(columns.rsp, Saved::Unset | Saved::IsCfa(0)) {
        return Err(Gap::StackPointer);
    }
    match &columns.cfa {
        Cfa::Unset => Err(Gap::CfaRegister),
        Cfa::Register { register, offset } => {
            let kind = match *register {
                RSP => CfaKind::Rsp,
                RBP => CfaKind::Rbp,
                R10 => CfaKind::R10,
                number @ 0..=R15 => {
                    let offset = i16::try_from(*offset).map_err(|_| Gap::LargeOffset)?;
                    let number = number as i16;
                    return Ok(Rule::from_other(CfaKind::LeafRegister, offset, number));
                }
                _ => return Err(Gap::CfaRegister),
            };
            let offset = i32::try_from(*offset).map_err(|_| Gap::LargeOffset)?;
            Ok(Rule::from_register(kind, offset))
        }
        Cfa::Expression(expression) => {
            let operations = Operations::of(expression, section).ok_or(Gap::CfaExpression)?;
            plt(operations)
                .or_else(|| dereferenced(operations))
                .ok_or(Gap::CfaExpression)
        }
    }
}

/// RSP + 8 + ((ip & 15) >= N) * 8: an entry of the procedure linkage table pushes once.
fn plt(mut operations: Operations) -> Option<Rule> {
    let above_rsp = operations.register_offset(BREG7)?;
    let after_ip = operations.register_offset(BREG16)?;
    let mask = operations.literal()?;
    operations.expect(AND)?;
    let pushed_at = operations.literal()?;
    operations.expect(GE)?;
    let shift = operations.literal()?;
    operations.expect(SHL)?;
    operations.expect(PLUS)?;
    operations.end()?;
    ((above_rsp, after_ip, mask, shift) == (8, 0, 15, 3))
        .then(|| Rule::from_other(CfaKind::Plt, pushed_at, 0))
}

/// *(RBP + offset) in functions that align their stack, *(RSP + offset) + n in assembly that saves RSP.
fn dereferenced(mut operations: Operations) -> Option<Rule> {
    let (kind, at) = match operations.register_offset(BREG6) {
        Some(at) => (CfaKind::DerefRbp, at),
        None => (CfaKind::DerefRsp, operations.register_offset(BREG7)?),
    };
    operations.expect(DEREF)?;
    let added = operations.addend()?;
    operations.end()?;
    let words = i16::try_from(added / 8).ok()?;
    let fits = added % 8 == 0 && (words == 0 || kind == CfaKind::DerefRsp);
    let at = i16::try_from(at).ok()?;
    fits.then(|| Rule::from_other(kind, at, words))
}

fn rbp_of(columns: &Columns, section: &[u8]) -> Result<(RbpKind, i16), Gap> {
    let fitting = |offset: i64| i16::try_from(offset).map_err(|_| Gap::LargeOffset);
    match &columns.rbp {
        Saved::Unset | Saved::Same => Ok((RbpKind::Same, 0)),
        Saved::Undefined => Ok((RbpKind::Undefined, 0)),
        Saved::AtCfa(offset) => Ok((RbpKind::AtCfa, fitting(*offset)?)),
        Saved::At(expression) => {
            let offset = Operations::of(expression, section)
                .and_then(|mut operations| {
                    let offset = operations.register_offset(BREG6)?;
                    operations.end().map(|()| offset)
                })
                .ok_or(Gap::FramePointer)?;
            Ok((RbpKind::AtRbp, fitting(offset)?))
        }
        Saved::IsCfa(_) | Saved::Other => Err(Gap::FramePointer),
    }
}

/// The rest of an expression. A failed step leaves it where it was.
#[derive(Clone, Copy)]
struct Operations<'a>(&'a [u8]);

impl<'a> Operations<'a> {
    fn of(expression: &UnwindExpression<usize>, section: &'a [u8]) -> Option<Operations<'a>> {
        let end = expression.offset.checked_add(expression.length)?;
        section.get(expression.offset..end).map(Operations)
    }

    fn expect(&mut self, operation: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[operation])?;
        Some(())
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// `DW_OP_bregN offset`.
    fn register_offset(&mut self, operation: u8) -> Option<i64> {
        let mut rest = EndianSlice::new(self.0.strip_prefix(&[operation])?, LittleEndian);
        let offset = leb128::read::signed(&mut rest).ok()?;
        self.0 = rest.slice();
        Some(offset)
    }

    /// `DW_OP_litN`.
    fn literal(&mut self) -> Option<i16> {
        let (first, rest) = self.0.split_first()?;
        let literal = (LIT0..=LIT31).contains(first).then(|| first - LIT0)?;
        self.0 = rest;
        Some(i16::from(literal))
    }

    /// `DW_OP_plus_uconst n`, or `DW_OP_litN DW_OP_plus`, or nothing.
    fn addend(&mut self) -> Option<i64> {
        if self.0.is_empty() {
            return Some(0);
        }
        if self.expect(PLUS_UCONST).is_some() {
            let mut rest = EndianSlice::new(self.0, LittleEndian);
            let value = leb128::read::unsigned(&mut rest).ok()?;
            self.0 = rest.slice();
            return i64::try_from(value).ok();
        }
        let literal = self.literal()?;
        self.expect(PLUS)?;
        Some(i64::from(literal))
    }
}
