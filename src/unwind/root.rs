//! Which functions are the first of a thread.
//!
//! A stack is complete when its outermost frame is such a function. The proof is in the unwind information: a function
//! whose return address is undefined has no caller (DWARF 5 §6.4.4; `_start` and `clone` of every common C library say
//! so). Where there is no unwind information, the file's entry point counts, too.

use std::collections::HashMap;

use gimli::{
    BaseAddresses, EhFrame, EhFrameHdr, LittleEndian, ParsedEhFrameHdr, RegisterRule,
    UnwindContext, UnwindSection, UnwindTableRow, X86_64,
};

use crate::profile::ElfAddr;
use crate::target::binary::Binary;

/// An entry point without unwind information sets up a few registers and calls: it is no longer than this.
const ENTRY_BYTES: u64 = 64;

/// What the unwind information says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    NoRules,
    Root,
    HasCaller,
}

/// Remembers its verdicts by binary and address.
#[derive(Debug, Default)]
pub struct RootJudge {
    verdicts: HashMap<(u32, ElfAddr), Verdict>,
}

impl RootJudge {
    /// Whether the function at `addr` is a thread's first.
    pub fn is_root(&mut self, binary: &Binary, addr: ElfAddr) -> bool {
        match self.verdict(binary, addr) {
            Verdict::Root => true,
            Verdict::HasCaller => false,
            Verdict::NoRules => {
                let entry = binary.entry.0;
                entry != 0 && (entry..entry + ENTRY_BYTES).contains(&addr.0)
            }
        }
    }

    /// Whether there is unwind information for `addr`.
    pub fn has_rules(&mut self, binary: &Binary, addr: ElfAddr) -> bool {
        self.verdict(binary, addr) != Verdict::NoRules
    }

    fn verdict(&mut self, binary: &Binary, addr: ElfAddr) -> Verdict {
        *self
            .verdicts
            .entry((binary.ix, addr))
            .or_insert_with(|| judge(binary, addr))
    }
}

fn judge(binary: &Binary, addr: ElfAddr) -> Verdict {
    match return_address_is_undefined(binary, addr) {
        None => Verdict::NoRules,
        Some(true) => Verdict::Root,
        Some(false) => Verdict::HasCaller,
    }
}

/// `None` without a row for the address.
fn return_address_is_undefined(binary: &Binary, addr: ElfAddr) -> Option<bool> {
    let section = binary.unwind.eh_frame.first()?;
    let text = binary.unwind.text.map_or(0, |(start, _)| start);
    let mut bases = BaseAddresses::default()
        .set_eh_frame(section.vaddr)
        .set_text(text);
    let eh_frame = EhFrame::new(&section.bytes, LittleEndian);
    let mut context = UnwindContext::new();
    let is_undefined = |row: &UnwindTableRow<usize>| {
        matches!(
            row.register(X86_64::RA),
            None | Some(RegisterRule::Undefined)
        )
    };
    let header = binary.unwind.eh_frame_hdr.as_ref();
    if let Some(header) = header {
        bases = bases.set_eh_frame_hdr(header.vaddr);
        let parsed = EhFrameHdr::new(&header.bytes, LittleEndian)
            .parse(&bases, 8)
            .ok();
        if let Some(table) = parsed.as_ref().and_then(ParsedEhFrameHdr::table) {
            let fde = table
                .fde_for_address(&eh_frame, &bases, addr.0, EhFrame::cie_from_offset)
                .ok()?;
            let row = fde
                .unwind_info_for_address(&eh_frame, &bases, &mut context, addr.0)
                .ok()?;
            return Some(is_undefined(row));
        }
    }
    let row = eh_frame
        .unwind_info_for_address(&bases, &mut context, addr.0, EhFrame::cie_from_offset)
        .ok()?;
    Some(is_undefined(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::MappingKind;
    use std::fs::File;

    #[test]
    fn the_entry_point_is_a_root_and_this_test_is_not() {
        let file = File::open("/proc/self/exe").expect("own binary");
        let binary = Binary::read(3, MappingKind::File, "/exe".into(), file, None);
        let mut judge = RootJudge::default();
        assert!(judge.is_root(&binary, binary.entry));
        let own = own_address(&binary);
        assert!(judge.has_rules(&binary, own), "{own:?}");
        assert!(!judge.is_root(&binary, own));
    }

    /// The address of a function of this test, in the file's own address space.
    fn own_address(binary: &Binary) -> ElfAddr {
        use crate::target::mappings::Region;
        let addr = own_address as *const () as u64;
        let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
        let region = maps
            .lines()
            .filter_map(Region::parse)
            .find(|r| (r.start.0..r.end.0).contains(&addr))
            .expect("own code is mapped");
        let offset = addr - region.start.0 + region.file_offset.0;
        binary
            .elf_addr(crate::profile::FileOffset(offset))
            .expect("in a segment")
    }
}
