//! Abbreviations in which partial units have no lines.
//!
//! In: a `.debug_abbrev` section. Out: the same, or a copy in which partial units do not name a line table. What `dwz` moves
//! into a partial unit has no code, but the unit names the line table of the units it came from (for the files that
//! declarations name). Before DWARF 5, whose unit heads tell partial units apart, addr2line takes all code of that table
//! for the partial unit's, finds no function there and stops.

use gimli::constants::{DW_AT_stmt_list, DW_FORM_implicit_const, DW_TAG_partial_unit};

/// No attribute has this number (DWARF 5 §7.5.4), and it takes as many bytes as the one it replaces.
const NO_ATTRIBUTE: u8 = 0x0f;

/// Where partial units name a line table, positions in `section`.
fn line_tables_of_partial_units(section: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut reader = Reader { section, at: 0 };
    while reader.declaration(&mut found).is_some() {}
    found
}

pub(super) fn without_lines_of_partial_units(section: &'static [u8]) -> &'static [u8] {
    let found = line_tables_of_partial_units(section);
    if found.is_empty() {
        return section;
    }
    let mut changed = section.to_vec();
    for at in found {
        changed[at] = NO_ATTRIBUTE;
    }
    changed.leak()
}

struct Reader<'a> {
    section: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.section.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// A LEB128 number; what does not fit into 64 bits is cut off.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            if shift < u64::BITS {
                value |= u64::from(byte & 0x7f) << shift;
            }
            shift = (shift + 7).min(u64::BITS);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    /// One abbreviation, or the 0 that ends a table. Source: DWARF 5 §7.5.3.
    fn declaration(&mut self, found: &mut Vec<usize>) -> Option<()> {
        if self.number()? == 0 {
            return Some(());
        }
        let partial = self.number()? == u64::from(DW_TAG_partial_unit.0);
        self.byte()?;
        loop {
            let at = self.at;
            let (name, form) = (self.number()?, self.number()?);
            if form == u64::from(DW_FORM_implicit_const.0) {
                self.number()?;
            }
            if partial && name == u64::from(DW_AT_stmt_list.0) {
                found.push(at);
            }
            if (name, form) == (0, 0) {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_partial_units_lose_their_line_table() {
        // A compile unit and a partial unit, each with a line table (0x10, form 0x17) and a name (0x03, form 0x08).
        let section: &'static [u8] = &[
            1, 0x11, 1, 0x10, 0x17, 0x03, 0x08, 0, 0, //
            2, 0x3c, 1, 0x03, 0x08, 0x10, 0x17, 0, 0, 0,
        ];
        let changed = without_lines_of_partial_units(section);
        assert_eq!(line_tables_of_partial_units(section), [14]);
        assert_eq!(changed[14], NO_ATTRIBUTE);
        assert_eq!((changed.len(), changed[3]), (section.len(), 0x10));
    }

    #[test]
    fn a_section_cut_anywhere_is_read_to_its_end() {
        let whole: &'static [u8] = &[0x82, 1, 0x3c, 1, 0x10, 0x21, 0xff, 0x7f, 0, 0];
        for len in 0..whole.len() {
            assert!(line_tables_of_partial_units(&whole[..len]).len() <= 1);
        }
        assert_eq!(line_tables_of_partial_units(whole), [4]);
    }
}
