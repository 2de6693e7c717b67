//! Which function an address belongs to, and what is inlined there.
//!
//! In: a unit and addresses, ascending. Out: for each address the function and, from the outside in, the functions inlined
//! into each other there. The unit's entries are walked once, in order and without recursion, so that no depth of
//! nesting matters. Source: DWARF 5 §3.3.

use gimli::{Attribute, AttributeValue, UnitOffset, UnitRef, constants};

use super::dwarf::Bytes;
use super::units::within;

/// More functions inlined into each other than this are cut; compilers stop far earlier.
const MAX_INLINED: usize = 256;

/// More ranges than this are not read from one unit.
const MAX_RANGES: usize = 16 << 20;

/// A function inlined at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inlined {
    pub entry: UnitOffset,
    pub call_file: u64,
    /// 0 where unknown.
    pub call_line: u32,
}

/// What stands at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub function: Option<UnitOffset>,
    /// From the outside in.
    pub inlined: Vec<Inlined>,
}

/// An entry whose children are being walked.
struct Open {
    depth: isize,
    /// Positions of the addresses it has code at.
    hits: Vec<usize>,
    is_function: bool,
}

/// The chain at each of `addrs`.
pub(super) fn look_up(unit: UnitRef<'_, Bytes>, addrs: &[u64]) -> Result<Vec<Chain>, gimli::Error> {
    let mut chains = vec![Chain::default(); addrs.len()];
    let mut open: Vec<Open> = Vec::new();
    let mut budget = MAX_RANGES;
    let mut entries = unit.entries_raw(None)?;
    // Where siblings are skipped, entries are read anew from there, with depths counted from 0.
    let mut base = 0;
    while !entries.is_empty() {
        let entry = entries.next_offset();
        let depth = base + entries.next_depth();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        while open.last().is_some_and(|last| last.depth >= depth) {
            open.pop();
        }
        let is_function = abbreviation.tag() == constants::DW_TAG_subprogram;
        let is_inlined = abbreviation.tag() == constants::DW_TAG_inlined_subroutine;
        // What is inlined where no address was sampled does not matter.
        let matters = is_inlined && open.last().is_some_and(|last| !last.hits.is_empty());
        if !is_function && !matters {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let mut code = Code::default();
        for spec in abbreviation.attributes() {
            code.take(unit, &entries.read_attribute(*spec)?)?;
        }
        let mut hits = Vec::new();
        code.for_each_range(unit, &mut |begin, end| {
            hits.extend(within(addrs, begin, end));
            budget = budget.saturating_sub(1);
            budget > 0
        })?;
        if is_function {
            for hit in &hits {
                chains[*hit] = Chain {
                    function: Some(entry),
                    inlined: Vec::new(),
                };
            }
        } else {
            let inlined = Inlined {
                entry,
                call_file: code.call_file,
                call_line: code.call_line,
            };
            hits = nested(hits, &open, inlined, &mut chains);
        }
        let skip_to = code.sibling.filter(|_| hits.is_empty());
        if abbreviation.has_children() {
            open.push(Open {
                depth,
                hits,
                is_function,
            });
        }
        if let Some(sibling) = skip_to.filter(|sibling| *sibling > entry) {
            entries = unit.entries_raw(Some(sibling))?;
            base = depth;
        }
    }
    Ok(chains)
}

/// Adds an inlined function to the chains it belongs to: where the entry around it has code, too, and nothing beside it
/// has claimed the address before.
fn nested(hits: Vec<usize>, open: &[Open], inlined: Inlined, chains: &mut [Chain]) -> Vec<usize> {
    let level = open
        .iter()
        .rev()
        .take_while(|open| !open.is_function)
        .count();
    let around = open.last().map_or(&[][..], |open| &open.hits);
    let mut kept = hits;
    kept.retain(|hit| {
        let chain = &mut chains[*hit];
        let belongs = around.contains(hit) && chain.inlined.len() == level && level < MAX_INLINED;
        if belongs {
            chain.inlined.push(inlined);
        }
        belongs
    });
    kept
}

/// Where an entry's code is and where it was called from.
#[derive(Default)]
struct Code {
    low_pc: Option<u64>,
    high_pc: Option<u64>,
    size: Option<u64>,
    ranges: Option<AttributeValue<Bytes>>,
    sibling: Option<UnitOffset>,
    call_file: u64,
    call_line: u32,
}

impl Code {
    fn take(
        &mut self,
        unit: UnitRef<'_, Bytes>,
        attribute: &Attribute<Bytes>,
    ) -> Result<(), gimli::Error> {
        match (attribute.name(), attribute.value()) {
            (constants::DW_AT_low_pc, value) => self.low_pc = unit.attr_address(value)?,
            (constants::DW_AT_high_pc, AttributeValue::Udata(size)) => self.size = Some(size),
            (constants::DW_AT_high_pc, value) => self.high_pc = unit.attr_address(value)?,
            (constants::DW_AT_ranges, value) => self.ranges = Some(value),
            (constants::DW_AT_sibling, AttributeValue::UnitRef(sibling)) => {
                self.sibling = Some(sibling);
            }
            (constants::DW_AT_call_file, AttributeValue::FileIndex(file)) => self.call_file = file,
            (constants::DW_AT_call_line, _) => {
                self.call_line = attribute.udata_value().unwrap_or(0) as u32;
            }
            _ => {}
        }
        Ok(())
    }

    /// Until `each` answers `false`.
    fn for_each_range(
        &self,
        unit: UnitRef<'_, Bytes>,
        each: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), gimli::Error> {
        if let Some(ranges) = self.ranges
            && let Some(mut list) = unit.attr_ranges(ranges)?
        {
            while let Some(range) = list.next()? {
                if !each(range.begin, range.end) {
                    break;
                }
            }
            return Ok(());
        }
        if let Some(begin) = self.low_pc {
            let end = self
                .high_pc
                .or(self.size.map(|size| begin.wrapping_add(size)));
            each(begin, end.unwrap_or(0));
        }
        Ok(())
    }
}
