//! Unwind rules as equations over few registers: what a compiled row of `.eh_frame` says.
//!
//! A [`Rule`] tells how to get from a frame to its caller's: where the canonical frame address (CFA) is, and what the
//! caller's frame pointer is. The return address stands at CFA − 8, the caller's stack pointer is the CFA (System V
//! x86-64 psABI). Rules repeat endlessly within a binary, so a table holds each once, in a dictionary, and a row is
//! an address and an index ([`UnwindRow`]).

use zerocopy::{Immutable, IntoBytes};

/// Where the CFA is. The numbers are those of `enum cfa_kind` in `bpf/abi.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoBytes, Immutable)]
#[repr(u8)]
pub enum CfaKind {
    /// No rule: the walk cannot go on by tables from here.
    NoRule = 0,
    /// The function has no caller: the return address is undefined (DWARF 5 §6.4.4).
    Root = 1,
    /// RSP + offset.
    Rsp = 2,
    /// RBP + offset.
    Rbp = 3,
    /// R10 + offset: the prologue of a function that aligns its stack. Known in the leaf frame only.
    R10 = 4,
    /// *(RBP + offset): the body of such a function.
    DerefRbp = 5,
    /// *(RSP + offset) + 8·aux: hand-written assembly and OCaml.
    DerefRsp = 6,
    /// RSP + 8, or + 16 once the entry of the procedure linkage table has pushed: (ip & 15) >= offset.
    Plt = 7,
    /// A signal trampoline: all registers are saved in the `ucontext` that begins offset bytes above RSP.
    Signal = 8,
    /// Another register of the leaf frame + offset; `aux` is its DWARF number.
    LeafRegister = 9,
    /// There is a rule, of no kind that is compiled: whoever has a copy of the stack can evaluate it.
    Unsupported = 10,
    /// RBP + offset, on another stack than RSP, which may lie anywhere.
    OtherStack = 11,
}

/// What the caller's RBP is. The numbers are those of `enum rbp_kind` in `bpf/abi.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoBytes, Immutable)]
#[repr(u8)]
pub enum RbpKind {
    /// As it is in this frame.
    Same = 0,
    /// *(CFA + offset).
    AtCfa = 1,
    /// *(RBP + offset): saved relative to the aligned frame.
    AtRbp = 2,
    /// Not recoverable.
    Undefined = 3,
}

/// How to get from a frame to its caller's.
///
/// Shape: 8 bytes, `struct unwind_rule` in `bpf/abi.h`. Units: bytes. With [`CfaKind::Rsp`], [`CfaKind::Rbp`] and
/// [`CfaKind::R10`] `aux` is the upper half of the offset, so that frames larger than 32 KiB have rules, too; for a
/// smaller frame it is the sign of `cfa_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoBytes, Immutable)]
#[repr(C)]
pub struct Rule {
    pub cfa: CfaKind,
    pub rbp: RbpKind,
    pub rbp_offset: i16,
    pub cfa_offset: i16,
    pub aux: i16,
}

/// The rule that holds from `pc_low` up to the next row's.
///
/// Shape: 4 bytes, `struct unwind_row` in `bpf/abi.h`. `pc_low` is the low 16 bits of an ELF address in its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct UnwindRow {
    pub pc_low: u16,
    pub rule: u16,
}

impl Rule {
    /// No way on by tables.
    pub const NONE: Rule = Rule::without_offsets(CfaKind::NoRule);
    /// A thread's first function.
    pub const ROOT: Rule = Rule::without_offsets(CfaKind::Root);

    /// See [`CfaKind::Unsupported`].
    pub const UNSUPPORTED: Rule = Rule::without_offsets(CfaKind::Unsupported);

    const fn without_offsets(cfa: CfaKind) -> Rule {
        Rule {
            cfa,
            rbp: RbpKind::Same,
            rbp_offset: 0,
            cfa_offset: 0,
            aux: 0,
        }
    }

    /// CFA = register + offset, of any size.
    pub fn from_register(cfa: CfaKind, offset: i32) -> Rule {
        debug_assert!(cfa.has_wide_offset());
        Rule {
            cfa_offset: offset as i16,
            aux: (offset >> 16) as i16,
            ..Rule::without_offsets(cfa)
        }
    }

    /// CFA by one of the other kinds.
    pub fn from_other(cfa: CfaKind, cfa_offset: i16, aux: i16) -> Rule {
        debug_assert!(!cfa.has_wide_offset());
        Rule {
            cfa_offset,
            aux,
            ..Rule::without_offsets(cfa)
        }
    }

    /// The same CFA, and the caller's RBP by this.
    pub fn with_rbp(self, rbp: RbpKind, rbp_offset: i16) -> Rule {
        Rule {
            rbp,
            rbp_offset,
            ..self
        }
    }

    /// The offset of the CFA with its upper half where it has one.
    pub fn full_cfa_offset(self) -> i32 {
        if self.cfa.has_wide_offset() {
            i32::from(self.aux) << 16 | i32::from(self.cfa_offset as u16)
        } else {
            i32::from(self.cfa_offset)
        }
    }
}

impl CfaKind {
    /// Whether `aux` is the upper half of the offset.
    pub fn has_wide_offset(self) -> bool {
        matches!(self, CfaKind::Rsp | CfaKind::Rbp | CfaKind::R10)
    }
}

const _: () = assert!(size_of::<Rule>() == 8 && size_of::<UnwindRow>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_of_any_size_is_kept_and_a_small_one_stands_in_its_lower_half() {
        for offset in [
            0,
            8,
            -8,
            16,
            32_760,
            32_768,
            -32_776,
            65_600,
            1 << 30,
            i32::MIN,
        ] {
            let rule = Rule::from_register(CfaKind::Rsp, offset);
            assert_eq!(rule.full_cfa_offset(), offset);
            if let Ok(small) = i16::try_from(offset) {
                assert_eq!(rule.cfa_offset, small);
            }
        }
    }
}
