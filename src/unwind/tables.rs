//! The unwind tables of all binaries seen, each compiled when it is first asked for, and what they say of a thread's
//! first functions.
//!
//! A stack is complete when its outermost frame is such a function. The proof is in the unwind information: a function
//! whose return address is undefined has no caller (DWARF 5 §6.4.4; `_start` and `clone` of every common C library say
//! so). Where there is no rule, the file's entry point counts, too.

use std::collections::HashMap;
use std::rc::Rc;

use crate::profile::ElfAddr;
use crate::target::binary::Binary;

use super::row::{CfaKind, Rule};
use super::table::UnwindTable;

/// An entry point without unwind information sets up a few registers and calls: it is no longer than this.
const ENTRY_BYTES: u64 = 64;

/// Unwind tables by binary.
#[derive(Debug, Default)]
pub struct Tables {
    by_binary: HashMap<u32, Rc<UnwindTable>>,
}

impl Tables {
    /// The table of a binary; an empty one where nothing is known of it.
    pub fn of(&mut self, binary: &Binary) -> &Rc<UnwindTable> {
        self.by_binary
            .entry(binary.ix)
            .or_insert_with(|| Rc::new(UnwindTable::of(binary)))
    }

    /// The rule at an address, and [`Rule::ROOT`] for an entry point that has none.
    pub fn rule(&mut self, binary: &Binary, addr: ElfAddr) -> Rule {
        let rule = self.of(binary).look_up(addr);
        let entry = binary.entry.0;
        let is_entry = entry != 0 && (entry..entry.saturating_add(ENTRY_BYTES)).contains(&addr.0);
        match rule.cfa {
            CfaKind::NoRule if is_entry => Rule::ROOT,
            _ => rule,
        }
    }

    /// Whether the function at `addr` is a thread's first.
    pub fn is_root(&mut self, binary: &Binary, addr: ElfAddr) -> bool {
        self.rule(binary, addr) == Rule::ROOT
    }
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
        let mut tables = Tables::default();
        assert!(tables.is_root(&binary, binary.entry));
        let own = own_address(&binary);
        assert_ne!(tables.rule(&binary, own), Rule::NONE, "{own:?}");
        assert!(!tables.is_root(&binary, own));
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
