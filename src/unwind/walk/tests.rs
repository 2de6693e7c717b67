//! Walks over stacks made up word by word, through code whose rules are written here.

use std::collections::HashMap;
use std::sync::Arc;

use gimli::write::{
    Address, CallFrameInstruction as I, CommonInformationEntry, EhFrame, EndianVec, Expression,
    FrameDescriptionEntry, FrameTable,
};
use gimli::{Encoding, Format, LittleEndian, Register, X86_64};

use super::*;
use crate::profile::FileOffset;
use crate::target::binary::{Section, Segment};
use crate::target::mappings::MappedRegion;

/// Where the made-up program, generated code, and its stack are.
const CODE: u64 = 0x10_0000;
const JIT: u64 = 0x90_0000;
const STACK: u64 = 0x7000_0000;

/// Its functions, each 0x100 bytes long; from 0x800 on there are no rules.
const MAIN: u64 = CODE;
const PLAIN: u64 = CODE + 0x100;
const WITH_FP: u64 = CODE + 0x200;
const HUGE: u64 = CODE + 0x300;
const ALIGNED: u64 = CODE + 0x400;
const RESTORER: u64 = CODE + 0x500;
const EPILOGUE: u64 = CODE + 0x600;
const NO_RULES: u64 = CODE + 0x800;

const HUGE_FRAME: i32 = 0x1_0010;

fn program() -> Binary {
    let encoding = Encoding {
        address_size: 8,
        format: Format::Dwarf32,
        version: 1,
    };
    let mut common = CommonInformationEntry::new(encoding, 1, -8, X86_64::RA);
    common.add_instruction(I::Cfa(X86_64::RSP, 8));
    common.add_instruction(I::Offset(X86_64::RA, -8));
    let mut table = FrameTable::default();
    let common = table.add_cie(common);
    let mut function = |start: u64, instructions: Vec<I>| {
        let addr = Address::Constant(start - CODE + 0x1000);
        let mut entry = FrameDescriptionEntry::new(addr, 0x100);
        for instruction in instructions {
            entry.add_instruction(0, instruction);
        }
        table.add_fde(common, entry);
    };
    let expression = |bytes: &[u8]| Expression::raw(bytes.to_vec());
    let at_rsp = |offset: u8| expression(&[0x77, offset | 0x80, u8::from(offset > 127)]);
    let saved = |register: Register, offset: u8| I::Expression(register, at_rsp(offset));
    function(MAIN, vec![I::Undefined(X86_64::RA)]);
    function(PLAIN, vec![I::CfaOffset(24)]);
    function(
        WITH_FP,
        vec![I::Cfa(X86_64::RBP, 16), I::Offset(X86_64::RBP, -16)],
    );
    function(
        HUGE,
        vec![I::CfaOffset(HUGE_FRAME), I::Offset(X86_64::RBP, -16)],
    );
    function(EPILOGUE, vec![I::Offset(X86_64::RBP, -16)]);
    function(
        ALIGNED,
        vec![
            I::CfaExpression(expression(&[0x76, 0x78, 0x06])), // *(rbp - 8)
            I::Expression(X86_64::RBP, expression(&[0x76, 0x00])),
        ],
    );
    function(
        RESTORER,
        vec![
            I::CfaExpression(expression(&[0x77, 0xa0, 0x01, 0x06])), // *(rsp + 160)
            saved(X86_64::RA, 168),
            saved(X86_64::RBP, 120),
            saved(X86_64::RSP, 160),
        ],
    );
    let mut section = EhFrame(EndianVec::new(LittleEndian));
    table.write_eh_frame(&mut section).expect("written");
    let mut binary = Binary::anonymous(1);
    binary.kind = MappingKind::File;
    binary.segments = vec![Segment {
        file_offset: 0x1000,
        file_bytes: 0x1000,
        vaddr: 0x1000,
        memory_bytes: 0x1000,
        executable: true,
    }];
    binary.unwind.eh_frame = vec![Section {
        vaddr: 0x9_0000,
        bytes: section.0.into_vec().into(),
    }];
    binary
}

fn mappings() -> Mappings {
    let mut mappings = Mappings::default();
    let mut add = |start: u64, binary| {
        mappings.insert(MappedRegion {
            start: RuntimeAddr(start),
            end: RuntimeAddr(start + 0x1000),
            file_offset: FileOffset(0x1000),
            binary: Arc::new(binary),
        });
    };
    add(CODE, program());
    add(JIT, Binary::anonymous(2));
    mappings
}

/// Words at addresses above the bottom of the stack.
struct Words(HashMap<u64, u64>);

impl StackMemory for Words {
    fn read(&self, addr: u64) -> Result<u64, Unread> {
        self.0.get(&addr).copied().ok_or(Unread::NotStack)
    }
}

/// Frames as `(address, is exact)`, and the end.
fn walked(ip: u64, bp: u64, words: &[(u64, u64)]) -> (Vec<u64>, StackEnd) {
    let registers = Registers {
        ip,
        sp: STACK,
        bp,
        general: None,
    };
    let words = Words(
        words
            .iter()
            .map(|(at, word)| (STACK.wrapping_add(*at), *word))
            .collect(),
    );
    let mut frames = Vec::new();
    let mut tables = Tables::default();
    let end = walk(&registers, &mappings(), &mut tables, &words, &mut frames);
    (frames.iter().map(|f| f.lookup_addr().0).collect(), end)
}

const fn truncated(why: Why) -> StackEnd {
    StackEnd::Truncated(why)
}

#[test]
fn a_caller_is_looked_up_before_its_return_address() {
    // A call as the last instruction of a function: the return address is in the next one.
    let (frames, end) = walked(PLAIN, 0, &[(16, MAIN + 0x100)]);
    assert_eq!(frames, [PLAIN, MAIN + 0xff]);
    assert_eq!(end, StackEnd::Root);
}

#[test]
fn frames_of_every_kind_lead_to_the_root() {
    let fp = STACK + 0x40;
    let words = [
        (16, WITH_FP + 9), // of PLAIN
        (0x40, STACK + 0x80),
        (0x48, ALIGNED + 9), // of WITH_FP, found by RBP; RBP is STACK + 0x80 from here
        (0x80, 0x1234),
        (0x78, STACK + 0x100), // where the CFA of ALIGNED is kept
        (0xf8, HUGE + 9),
        (0x100 + HUGE_FRAME as u64 - 8, MAIN + 9),
        (0x100 + HUGE_FRAME as u64 - 16, 0),
    ];
    let (frames, end) = walked(PLAIN + 4, fp, &words);
    let expected = [PLAIN + 4, WITH_FP + 8, ALIGNED + 8, HUGE + 8, MAIN + 8];
    assert_eq!(frames, expected);
    assert_eq!(end, StackEnd::Root);
}

#[test]
fn what_a_signal_interrupted_is_exact_and_may_be_on_another_stack() {
    let words = [
        (120, 0x55),
        (160, STACK - 0x1000),
        (168, PLAIN),
        (16_u64.wrapping_sub(0x1000), MAIN + 1),
    ];

    let registers = Registers {
        ip: RESTORER,
        sp: STACK,
        ..Registers::default()
    };
    let memory = Words(
        words
            .iter()
            .map(|(at, word)| (STACK.wrapping_add(*at), *word))
            .collect(),
    );
    let mut frames = Vec::new();
    let mut tables = Tables::default();
    let end = walk(&registers, &mappings(), &mut tables, &memory, &mut frames);
    assert_eq!(
        frames,
        [
            FrameAddr::Exact(RuntimeAddr(RESTORER)),
            FrameAddr::Exact(RuntimeAddr(PLAIN)),
            FrameAddr::Return(RuntimeAddr(MAIN + 1)),
        ]
    );
    assert_eq!(end, StackEnd::Root);
}

#[test]
fn generated_code_is_crossed_by_its_frame_pointer() {
    let words = [(0x20, 0), (0x28, PLAIN + 9), (0x30 + 16, MAIN + 9)];
    let (frames, end) = walked(JIT + 5, STACK + 0x20, &words);
    assert_eq!(frames, [JIT + 5, PLAIN + 8, MAIN + 8]);
    assert_eq!(end, StackEnd::Root);
}

#[test]
fn generated_code_before_and_after_its_frame_returns_by_the_top_of_the_stack() {
    let ret_16 = u64::from_le_bytes([0xc2, 16, 0, 0x90, 0x90, 0x90, 0x90, 0x90]);
    let made = u64::from_le_bytes([0x48, 0x89, 0xe5, 0x90, 0x90, 0x90, 0x90, 0x90]);
    let code = |word| ((JIT + 5).wrapping_sub(STACK), word);
    for (code, words, above) in [
        (code(0xc3), vec![(0, PLAIN + 9)], 8),
        (code(0x55), vec![(0, PLAIN + 9)], 8),
        (code(0xfa1e_0ff3), vec![(0, PLAIN + 9)], 8),
        (code(ret_16), vec![(0, PLAIN + 9)], 24),
        (code(made), vec![(0, 0x77), (8, PLAIN + 9)], 16),
    ] {
        let words = [words, vec![code, (above + 16, MAIN + 9)]].concat();
        let (frames, end) = walked(JIT + 5, STACK + 0x20, &words);
        assert_eq!(frames, [JIT + 5, PLAIN + 8, MAIN + 8], "{code:x?}");
        assert_eq!(end, StackEnd::Root);
    }
}

#[test]
fn a_bridge_that_leads_nowhere_is_not_crossed() {
    let jit = truncated(Why::Jit);
    for bp in [0, STACK - 8, STACK + 3, STACK + 0x500] {
        assert_eq!(walked(JIT + 5, bp, &[]), (vec![JIT + 5], jit), "{bp:#x}");
    }
    let (frames, end) = walked(JIT + 5, STACK + 0x20, &[(0x20, 0), (0x28, 0x123)]);
    assert_eq!((frames, end), (vec![JIT + 5], truncated(Why::BadFrame)));
    let none = truncated(Why::NoUnwindInfo);
    assert_eq!(walked(NO_RULES, 0, &[]), (vec![NO_RULES], none));
}

#[test]
fn a_stack_whose_leaf_may_hide_its_caller_is_not_called_complete() {
    let words = [(0x20, 0), (0x28, MAIN + 9)];
    let (frames, end) = walked(NO_RULES, STACK + 0x20, &words);
    assert_eq!(frames, [NO_RULES, MAIN + 8]);
    assert_eq!(end, truncated(Why::Bridged));
}

#[test]
fn a_rule_that_leads_nowhere_ends_the_walk_with_the_frames_so_far() {
    let cases = [
        (PLAIN, 0, vec![(16, 0x123)], Why::BadFrame),
        (PLAIN, 0, vec![], Why::UnreadableStack),
        (WITH_FP, STACK - 0x100, vec![], Why::BadFrame),
        (0x4000, 0, vec![], Why::UnknownMapping),
    ];
    for (ip, bp, words, why) in cases {
        assert_eq!(walked(ip, bp, &words), (vec![ip], truncated(why)));
    }
}

#[test]
fn an_address_outside_all_code_is_kept_for_who_knows_more_mappings() {
    let (frames, end) = walked(PLAIN, 0, &[(16, 0x1234)]);
    assert_eq!(frames, [PLAIN, 0x1233]);
    assert_eq!(end, truncated(Why::UnknownMapping));
}

#[test]
fn a_stack_without_end_is_cut_at_the_limit() {
    let words: Vec<(u64, u64)> = (0..2 * MAX_FRAMES as u64)
        .map(|n| (16 + 24 * n, PLAIN + 9))
        .collect();
    let (frames, end) = walked(PLAIN, 0, &words);
    assert_eq!(frames.len(), MAX_FRAMES);
    assert_eq!(end, truncated(Why::TooDeep));
}

#[test]
fn in_an_epilogue_the_frame_pointer_is_back_already() {
    // As WITH_FP saves it, but found from RSP: the slot is below the stack pointer.
    let words = [(0, WITH_FP + 9), (0x40, 0), (0x48, MAIN + 9)];
    let (frames, end) = walked(EPILOGUE, STACK + 0x40, &words);
    assert_eq!(frames, [EPILOGUE, WITH_FP + 8, MAIN + 8]);
    assert_eq!(end, StackEnd::Root);
}
