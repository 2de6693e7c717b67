//! The row of call frame information that holds at an address, found once and remembered.
//!
//! In: a binary's `.eh_frame` (through the search table of `.eh_frame_hdr` where there is one) or `.debug_frame`. Out: an
//! owned [`Row`]. Source: DWARF 5 §6.4; Linux Standard Base, "Exception Frames".

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::quality::RandomState;
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EhFrameHdr, Encoding, EndianSlice,
    LittleEndian, ParsedEhFrameHdr, RegisterRule, UnwindContext, UnwindExpression, UnwindSection,
    UnwindTableRow,
};

use crate::arch;
use crate::profile::ElfAddr;
use crate::target::binary::{Binary, Section, UnwindSections};

use super::cfi::stubs;
use super::row::CfaKind;

/// An entry point without unwind information sets up a few registers and calls: it is no longer than this.
const ENTRY_BYTES: u64 = 64;

/// More frame descriptions than this are not indexed; librustc_driver has 270,000.
const MAX_INDEXED: usize = 4 << 20;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Rows that are remembered, some hundred bytes each; beyond, they are looked up anew.
const MAX_REMEMBERED: usize = 50_000;

/// How to compute a value of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Unknown,
    Same,
    /// *(CFA + offset).
    At(i64),
    /// CFA + offset.
    Is(i64),
    /// The value of another register, by DWARF number.
    Register(u16),
    /// *(result of the expression).
    AtExpression(Box<[u8]>),
    /// The result of the expression.
    IsExpression(Box<[u8]>),
}

/// Where the canonical frame address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cfa {
    Register { number: u16, offset: i64 },
    Expression(Box<[u8]>),
}

/// What holds at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub cfa: Cfa,
    /// By DWARF register number; what is not named keeps its value, if its callee must preserve it.
    pub registers: Vec<(u16, Value)>,
    /// The code of a signal trampoline: its caller was interrupted and did not call.
    pub is_signal: bool,
    pub encoding: Encoding,
}

impl Row {
    /// A function whose return address is undefined has no caller (DWARF 5 §6.4.4).
    pub fn is_root(&self) -> bool {
        let return_address = arch::RIP;
        let rule = self
            .registers
            .iter()
            .find(|(number, _)| *number == return_address);
        matches!(rule, None | Some((_, Value::Unknown)))
    }
}

/// Rows of all binaries, by binary and address.
#[derive(Debug, Default)]
pub struct Rows {
    by_addr: HashMap<(u32, ElfAddr), Option<Rc<Row>>, RandomState>,
    /// Frame descriptions of binaries without a search table.
    indices: HashMap<u32, FdeIndex>,
}

impl Rows {
    /// The row for `addr`; `None` where there is no unwind information.
    pub fn find(&mut self, binary: &Binary, addr: ElfAddr) -> Option<Rc<Row>> {
        if self.by_addr.len() >= MAX_REMEMBERED {
            self.by_addr.clear();
        }
        let indices = &mut self.indices;
        self.by_addr
            .entry((binary.ix, addr))
            .or_insert_with(|| {
                let row = look_up(binary, addr, indices);
                row.or_else(|| stub_row(binary, addr)).map(Rc::new)
            })
            .clone()
    }

    /// Whether the function at `addr` is a thread's first: by its row, or as the entry point of a file without rows.
    pub fn is_root(&mut self, binary: &Binary, addr: ElfAddr) -> bool {
        match self.find(binary, addr) {
            Some(row) => row.is_root(),
            None => {
                let entry = binary.entry.0;
                entry != 0 && (entry..entry.saturating_add(ENTRY_BYTES)).contains(&addr.0)
            }
        }
    }
}

fn look_up(binary: &Binary, addr: ElfAddr, indices: &mut HashMap<u32, FdeIndex>) -> Option<Row> {
    let unwind = &binary.unwind;
    let bases = BaseAddresses::default().set_text(unwind.text.map_or(0, |(start, _)| start));
    if let Some(header) = &unwind.eh_frame_hdr {
        let row = row_by_header(unwind, header, &bases, addr);
        // BOLT leaves the former section, and its functions may be missing in the header.
        if row.is_some() || (unwind.eh_frame.len() == 1 && has_table(header, &bases)) {
            return row;
        }
    }
    let index = indices
        .entry(binary.ix)
        .or_insert_with(|| FdeIndex::of_binary(binary, &bases));
    let found = index.find(addr)?;
    match unwind.eh_frame.get(found.section) {
        Some(section) => {
            let bases = bases.set_eh_frame(section.vaddr);
            row_at(
                &EhFrame::new(&section.bytes, LittleEndian),
                &bases,
                found.offset,
                addr,
            )
        }
        None => {
            let section = unwind.debug_frame.as_ref()?;
            let mut debug_frame = DebugFrame::new(&section.bytes, LittleEndian);
            debug_frame.set_address_size(8);
            row_at(&debug_frame, &bases, found.offset, addr)
        }
    }
}

fn parse_header<'a>(
    header: &'a Section,
    bases: &BaseAddresses,
) -> Option<ParsedEhFrameHdr<Slice<'a>>> {
    EhFrameHdr::new(&header.bytes, LittleEndian)
        .parse(&bases.clone().set_eh_frame_hdr(header.vaddr), 8)
        .ok()
}

fn has_table(header: &Section, bases: &BaseAddresses) -> bool {
    parse_header(header, bases).is_some_and(|parsed| parsed.table().is_some())
}

/// The row by the search table, whichever section the function stands in.
fn row_by_header(
    unwind: &UnwindSections,
    header: &Section,
    bases: &BaseAddresses,
    addr: ElfAddr,
) -> Option<Row> {
    let parsed = parse_header(header, bases)?;
    let header_bases = bases.clone().set_eh_frame_hdr(header.vaddr);
    let at = parsed
        .table()?
        .lookup(addr.0, &header_bases)
        .ok()?
        .direct()
        .ok()?;
    let (section, offset) = unwind.eh_frame.iter().find_map(|section| {
        let offset = usize::try_from(at.checked_sub(section.vaddr)?).ok()?;
        (offset < section.bytes.len()).then_some((section, offset))
    })?;
    let eh_frame = EhFrame::new(&section.bytes, LittleEndian);
    let bases = bases.clone().set_eh_frame(section.vaddr);
    row_at(&eh_frame, &bases, offset, addr)
}

/// The row in a section of known layout.
fn stub_row(binary: &Binary, addr: ElfAddr) -> Option<Row> {
    let holds = |section: &&Section| {
        let offset = addr.0.checked_sub(section.vaddr);
        offset.is_some_and(|offset| offset < section.bytes.len() as u64)
    };
    let rows = stubs::rows(binary.unwind.stubs.iter().find(holds)?);
    let (_, rule) = *rows.iter().rfind(|(start, _)| *start <= addr.0)?;
    let cfa_offset = match rule.cfa {
        CfaKind::Rsp => i64::from(rule.full_cfa_offset()),
        CfaKind::Plt if addr.0 & 15 >= rule.cfa_offset as u64 => 16,
        CfaKind::Plt => 8,
        _ => return None,
    };
    Some(Row {
        cfa: Cfa::Register {
            number: arch::RSP,
            offset: cfa_offset,
        },
        registers: vec![(arch::RIP, Value::At(-8))],
        is_signal: false,
        encoding: Encoding {
            address_size: 8,
            format: gimli::Format::Dwarf32,
            version: 1,
        },
    })
}

fn row_at<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    fde_offset: usize,
    addr: ElfAddr,
) -> Option<Row> {
    let fde = section
        .fde_from_offset(bases, S::Offset::from(fde_offset), S::cie_from_offset)
        .ok()?;
    let mut context = UnwindContext::new();
    let row = fde
        .unwind_info_for_address(section, bases, &mut context, addr.0)
        .ok()?;
    owned(
        section,
        row,
        fde.is_signal_trampoline(),
        fde.cie().encoding(),
    )
}

fn owned<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    row: &UnwindTableRow<usize>,
    is_signal: bool,
    encoding: Encoding,
) -> Option<Row> {
    let bytes = |expression: &UnwindExpression<usize>| -> Option<Box<[u8]>> {
        let code = expression.get(section).ok()?.0;
        Some(code.slice().into())
    };
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => Cfa::Register {
            number: register.0,
            offset: *offset,
        },
        CfaRule::Expression(expression) => Cfa::Expression(bytes(expression)?),
    };
    let value = |rule: &RegisterRule<usize>| {
        Some(match rule {
            RegisterRule::SameValue => Value::Same,
            RegisterRule::Offset(offset) => Value::At(*offset),
            RegisterRule::ValOffset(offset) => Value::Is(*offset),
            RegisterRule::Register(register) => Value::Register(register.0),
            RegisterRule::Expression(expression) => Value::AtExpression(bytes(expression)?),
            RegisterRule::ValExpression(expression) => Value::IsExpression(bytes(expression)?),
            _ => Value::Unknown,
        })
    };
    let registers = row
        .registers()
        .map(|(register, rule)| Some((register.0, value(rule)?)))
        .collect::<Option<Vec<_>>>()?;
    Some(Row {
        cfa,
        registers,
        is_signal,
        encoding,
    })
}

/// Where a function's frame description stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FdePlace {
    start: u64,
    end: u64,
    /// Which `.eh_frame`; one past the last means `.debug_frame`.
    section: usize,
    offset: usize,
}

/// Frame descriptions in order of address, for binaries whose search table does not cover all of them.
#[derive(Debug, Default)]
struct FdeIndex {
    places: Vec<FdePlace>,
}

impl FdeIndex {
    fn of_binary(binary: &Binary, bases: &BaseAddresses) -> FdeIndex {
        let mut index = FdeIndex::default();
        for (number, section) in binary.unwind.eh_frame.iter().enumerate() {
            let bases = bases.clone().set_eh_frame(section.vaddr);
            index.add(&EhFrame::new(&section.bytes, LittleEndian), &bases, number);
        }
        if let Some(section) = &binary.unwind.debug_frame {
            let mut debug_frame = DebugFrame::new(&section.bytes, LittleEndian);
            debug_frame.set_address_size(8);
            index.add(&debug_frame, bases, binary.unwind.eh_frame.len());
        }
        // Of two that begin at one address the first section's comes first and is the one to keep.
        index
            .places
            .sort_unstable_by_key(|place| (place.start, place.section));
        index.places.dedup_by_key(|place| place.start);
        index
    }

    fn add<'a, S: UnwindSection<Slice<'a>>>(
        &mut self,
        section: &S,
        bases: &BaseAddresses,
        number: usize,
    ) {
        let mut entries = section.entries(bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let Ok(fde) = partial.parse(S::cie_from_offset) else {
                continue;
            };
            let start = fde.initial_address();
            let end = start.saturating_add(fde.len());
            self.places.push(FdePlace {
                start,
                end,
                section: number,
                offset: fde.offset(),
            });
            if self.places.len() >= MAX_INDEXED {
                break;
            }
        }
    }

    fn find(&self, addr: ElfAddr) -> Option<FdePlace> {
        let after = self.places.partition_point(|place| place.start <= addr.0);
        let place = *self.places.get(after.checked_sub(1)?)?;
        (addr.0 < place.end).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{FileOffset, MappingKind};
    use crate::target::mappings::Region;
    use std::fs::File;

    fn own_binary() -> Binary {
        let file = File::open("/proc/self/exe").expect("own binary");
        Binary::read(3, MappingKind::File, "/exe".into(), file, None)
    }

    /// The address of a function of this test, in the file's own address space.
    fn own_address(binary: &Binary) -> ElfAddr {
        let addr = own_address as *const () as u64;
        let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
        let region = maps
            .lines()
            .filter_map(Region::parse)
            .find(|r| (r.start.0..r.end.0).contains(&addr))
            .expect("own code is mapped");
        let offset = addr - region.start.0 + region.file_offset.0;
        binary.elf_addr(FileOffset(offset)).expect("in a segment")
    }

    #[test]
    fn the_entry_point_is_a_root_and_this_test_is_not() {
        let binary = own_binary();
        let mut rows = Rows::default();
        assert!(rows.is_root(&binary, binary.entry));
        let own = own_address(&binary);
        assert!(rows.find(&binary, own).is_some(), "{own:?}");
        assert!(!rows.is_root(&binary, own));
    }

    #[test]
    fn without_the_search_table_the_same_row_is_found() {
        let with = own_binary();
        let mut without = own_binary();
        without.unwind.eh_frame_hdr = None;
        let own = own_address(&with);
        for offset in [0, 1, 5, 20] {
            let addr = ElfAddr(own.0 + offset);
            let row = Rows::default().find(&with, addr);
            assert!(row.is_some());
            assert_eq!(row, Rows::default().find(&without, addr), "{addr:?}");
        }
    }

    #[test]
    fn a_damaged_section_is_no_row_and_never_a_panic() {
        let mut binary = own_binary();
        let own = own_address(&binary);
        let section = binary.unwind.eh_frame[0].clone();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..200 {
            let mut bytes = section.bytes.to_vec();
            for _ in 0..bytes.len() / 64 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = (state >> 8) as usize % bytes.len();
                bytes[at] = state as u8;
            }
            binary.unwind.eh_frame[0].bytes = bytes.into();
            let _ = Rows::default().find(&binary, own);
        }
    }
}
