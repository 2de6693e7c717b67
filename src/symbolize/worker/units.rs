//! Which units of debug information have code at the sampled addresses.
//!
//! In: DWARF and addresses, ascending. Out: the units to read, each with its addresses. Of all others only the heads are
//! read, and nothing is kept: the ranges of a large program would take more memory than all that is looked up.
//! Source: DWARF 5 §3.1.1 and §2.17.

use std::collections::{BTreeMap, HashMap};

use gimli::{
    AttributeValue, DebugAddrBase, DebugInfoOffset, DebugRngListsBase, Dwarf, Encoding,
    RangeListsOffset, UnitHeader, constants,
};

use super::dwarf::Bytes;

/// Positions of addresses, by the offset of the unit that has code there.
pub(super) type Hits = BTreeMap<usize, Vec<usize>>;

/// More ranges than this are not read from one file: Chromium has some millions.
const MAX_RANGES: usize = 64 << 20;

/// Pages of the file are given back after so many heads: the kernel maps 64 KiB around each (`mm/memory.c`,
/// `fault_around_bytes`).
const HEADS_IN_MEMORY: usize = 256;

/// `forget` gives back the memory of what was read so far.
pub(super) fn with_code_at(
    dwarf: &Dwarf<Bytes>,
    addrs: &[u64],
    forget: &dyn Fn(),
) -> Result<Hits, gimli::Error> {
    let mut hits = Hits::new();
    let mut without_ranges = Vec::new();
    let mut budget = MAX_RANGES;
    let mut headers = dwarf.units();
    let mut heads = 0;
    while let Some(header) = headers.next()? {
        let Some(DebugInfoOffset(offset)) = header.debug_info_offset() else {
            continue;
        };
        heads += 1;
        if heads % HEADS_IN_MEMORY == 0 {
            forget();
        }
        let mut hit = Vec::new();
        let mut add = |begin: u64, end: u64| {
            budget = budget.saturating_sub(1);
            hit.extend(within(addrs, begin, end));
        };
        // A unit that cannot be read has no names; the others may.
        match Head::of(dwarf, &header) {
            Ok(Some(head)) if head.has_ranges() => _ = head.for_each_range(dwarf, &mut add),
            Ok(Some(_)) => without_ranges.push(offset),
            Ok(None) | Err(_) => {}
        }
        if !hit.is_empty() {
            hit.sort_unstable();
            hit.dedup();
            hits.insert(offset, hit);
        }
        if budget == 0 {
            break;
        }
    }
    if !without_ranges.is_empty() {
        by_table(dwarf, addrs, &without_ranges, &mut hits)?;
    }
    Ok(hits)
}

/// Positions of the addresses from `begin` up to `end`. What the linker has removed begins at 0.
pub(super) fn within(addrs: &[u64], begin: u64, end: u64) -> std::ops::Range<usize> {
    if begin == 0 || begin >= end {
        return 0..0;
    }
    let from = addrs.partition_point(|addr| *addr < begin);
    let len = addrs[from..].iter().take_while(|addr| **addr < end).count();
    from..from + len
}

/// Ranges of units that do not tell them themselves, from `.debug_aranges`.
fn by_table(
    dwarf: &Dwarf<Bytes>,
    addrs: &[u64],
    units: &[usize],
    hits: &mut Hits,
) -> Result<(), gimli::Error> {
    let mut found: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut tables = dwarf.debug_aranges.headers();
    while let Some(table) = tables.next()? {
        let DebugInfoOffset(unit) = table.debug_info_offset();
        if units.binary_search(&unit).is_err() {
            continue;
        }
        let mut entries = table.entries();
        while let Ok(Some(entry)) = entries.next() {
            let range = entry.range();
            found
                .entry(unit)
                .or_default()
                .extend(within(addrs, range.begin, range.end));
        }
    }
    for (unit, mut hit) in found {
        if !hit.is_empty() {
            hit.sort_unstable();
            hit.dedup();
            hits.insert(unit, hit);
        }
    }
    Ok(())
}

/// What a unit's own entry says of where its code is.
#[derive(Debug)]
struct Head {
    encoding: Encoding,
    low_pc: Option<AttributeValue<Bytes>>,
    high_pc: Option<AttributeValue<Bytes>>,
    ranges: Option<AttributeValue<Bytes>>,
    addr_base: DebugAddrBase,
    rnglists_base: DebugRngListsBase,
}

impl Head {
    /// `None` for units that have no code: of types, and partial ones.
    fn of(dwarf: &Dwarf<Bytes>, header: &UnitHeader<Bytes>) -> Result<Option<Head>, gimli::Error> {
        let abbreviations = header.abbreviations(&dwarf.debug_abbrev)?;
        let mut entries = header.entries_raw(&abbreviations, None)?;
        let Some(entry) = entries.read_abbreviation()? else {
            return Ok(None);
        };
        if !matches!(
            entry.tag(),
            constants::DW_TAG_compile_unit | constants::DW_TAG_skeleton_unit
        ) {
            return Ok(None);
        }
        let encoding = header.encoding();
        let mut head = Head {
            encoding,
            low_pc: None,
            high_pc: None,
            ranges: None,
            addr_base: DebugAddrBase(0),
            rnglists_base: DebugRngListsBase::default_for_encoding_and_file(
                encoding,
                dwarf.file_type,
            ),
        };
        for spec in entry.attributes() {
            let attribute = entries.read_attribute(*spec)?;
            let value = attribute.value();
            match (attribute.name(), value) {
                (constants::DW_AT_low_pc, value) => head.low_pc = Some(value),
                (constants::DW_AT_high_pc, value) => head.high_pc = Some(value),
                (constants::DW_AT_ranges, value) => head.ranges = Some(value),
                (_, AttributeValue::DebugAddrBase(base)) => head.addr_base = base,
                (_, AttributeValue::DebugRngListsBase(base)) => head.rnglists_base = base,
                _ => {}
            }
        }
        Ok(Some(head))
    }

    fn has_ranges(&self) -> bool {
        self.ranges.is_some() || self.high_pc.is_some()
    }

    fn for_each_range(
        &self,
        dwarf: &Dwarf<Bytes>,
        each: &mut dyn FnMut(u64, u64),
    ) -> Result<(), gimli::Error> {
        let low_pc = self.address(dwarf, self.low_pc)?.unwrap_or(0);
        let offset = match self.ranges {
            Some(AttributeValue::RangeListsRef(offset)) => Some(RangeListsOffset(offset.0)),
            Some(AttributeValue::DebugRngListsIndex(index)) => {
                let lists = &dwarf.ranges;
                Some(lists.get_offset(self.encoding, self.rnglists_base, index)?)
            }
            _ => None,
        };
        if let Some(offset) = offset {
            let mut list = dwarf.ranges.ranges(
                offset,
                self.encoding,
                low_pc,
                &dwarf.debug_addr,
                self.addr_base,
            )?;
            while let Some(range) = list.next()? {
                each(range.begin, range.end);
            }
            return Ok(());
        }
        let end = match self.high_pc {
            Some(AttributeValue::Udata(size)) => low_pc.wrapping_add(size),
            value => self.address(dwarf, value)?.unwrap_or(0),
        };
        each(low_pc, end);
        Ok(())
    }

    fn address(
        &self,
        dwarf: &Dwarf<Bytes>,
        value: Option<AttributeValue<Bytes>>,
    ) -> Result<Option<u64>, gimli::Error> {
        match value {
            Some(AttributeValue::Addr(addr)) => Ok(Some(addr)),
            Some(AttributeValue::DebugAddrIndex(index)) => {
                let size = self.encoding.address_size;
                let addr = dwarf.debug_addr.get_address(size, self.addr_base, index)?;
                Ok(Some(addr))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_range_are_those_from_its_begin_up_to_its_end() {
        let addrs = [5, 10, 10, 15, 20];
        assert_eq!(within(&addrs, 10, 20), 1..4);
        assert_eq!(within(&addrs, 6, 10), 1..1);
        assert_eq!(within(&addrs, 0, 100), 0..0);
        assert_eq!(within(&addrs, 21, 100), 5..5);
        assert_eq!(within(&addrs, 20, 10), 0..0);
    }
}
