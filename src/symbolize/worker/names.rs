//! Names of functions, wherever in the debug information they stand.
//!
//! In: an entry of a unit. Out: its linkage name, else its name, perhaps from the entry it refers to: in the same unit, in
//! another one, or in the supplement. Source: DWARF 5 §2.15, §3.3.8.2.

use std::collections::HashMap;
use std::rc::Rc;

use gimli::{AttributeValue, Dwarf, Unit, UnitOffset, UnitRef, constants};

use super::dwarf::{Bytes, shortened};

/// An entry refers to another one this often at most; compilers need three.
const MAX_REFERENCES: usize = 16;

/// Units kept for references into them.
const MAX_UNITS: usize = 64;

/// Units that entries refer to.
#[derive(Default)]
pub(super) struct Names {
    /// Offsets of all units, ascending; of the main file and of the supplement.
    offsets: HashMap<IsSupplement, Vec<usize>>,
    units: HashMap<(IsSupplement, usize), Rc<Unit<Bytes>>>,
}

type IsSupplement = bool;

impl Names {
    /// The name of the function at `entry`; `None` where it has none.
    pub fn of(&mut self, unit: UnitRef<'_, Bytes>, entry: UnitOffset) -> Option<String> {
        let mut next = match read(unit, entry)? {
            Read::Name(name) => return Some(name),
            Read::Refers(value) => value,
        };
        let mut at = At {
            dwarf: unit.dwarf,
            is_supplement: false,
            unit: None,
        };
        for _ in 0..MAX_REFERENCES {
            let entry = self.follow(&mut at, unit, next)?;
            let unit = match &at.unit {
                Some(other) => other.unit_ref(at.dwarf),
                None => unit,
            };
            match read(unit, entry)? {
                Read::Name(name) => return Some(name),
                Read::Refers(value) => next = value,
            }
        }
        None
    }

    /// Goes where `value` refers to.
    fn follow<'d>(
        &mut self,
        at: &mut At<'d>,
        first: UnitRef<'d, Bytes>,
        value: AttributeValue<Bytes>,
    ) -> Option<UnitOffset> {
        let offset = match value {
            AttributeValue::UnitRef(offset) => return Some(offset),
            AttributeValue::DebugInfoRef(offset) => offset.0,
            AttributeValue::DebugInfoRefSup(offset) => {
                at.dwarf = first.dwarf.sup()?;
                at.is_supplement = true;
                offset.0
            }
            _ => return None,
        };
        let unit = self.unit(at.dwarf, at.is_supplement, offset)?;
        let start = unit.header.debug_info_offset()?.0;
        at.unit = Some(unit);
        Some(UnitOffset(offset.checked_sub(start)?))
    }

    /// The unit around an offset.
    fn unit(
        &mut self,
        dwarf: &Dwarf<Bytes>,
        is_supplement: IsSupplement,
        offset: usize,
    ) -> Option<Rc<Unit<Bytes>>> {
        let offsets = self
            .offsets
            .entry(is_supplement)
            .or_insert_with(|| offsets(dwarf));
        let before = offsets.partition_point(|start| *start <= offset);
        let start = *offsets.get(before.checked_sub(1)?)?;
        if let Some(known) = self.units.get(&(is_supplement, start)) {
            return Some(known.clone());
        }
        let header = dwarf.unit_header(gimli::DebugInfoOffset(start)).ok()?;
        let unit = Rc::new(dwarf.unit(header).ok()?);
        if self.units.len() >= MAX_UNITS {
            self.units.clear();
        }
        self.units.insert((is_supplement, start), unit.clone());
        Some(unit)
    }
}

/// Where references have led.
struct At<'d> {
    dwarf: &'d Dwarf<Bytes>,
    is_supplement: IsSupplement,
    /// `None` for the unit that was begun with.
    unit: Option<Rc<Unit<Bytes>>>,
}

fn offsets(dwarf: &Dwarf<Bytes>) -> Vec<usize> {
    let mut offsets = Vec::new();
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        offsets.extend(header.debug_info_offset().map(|offset| offset.0));
    }
    offsets
}

enum Read {
    Name(String),
    Refers(AttributeValue<Bytes>),
}

fn read(unit: UnitRef<'_, Bytes>, entry: UnitOffset) -> Option<Read> {
    let mut entries = unit.entries_raw(Some(entry)).ok()?;
    let abbreviation = entries.read_abbreviation().ok()??;
    let (mut name, mut refers) = (None, None);
    for spec in abbreviation.attributes() {
        let attribute = entries.read_attribute(*spec).ok()?;
        let text = || {
            let text = unit.attr_string(attribute.value()).ok()?;
            let text = shortened(&String::from_utf8_lossy(text.slice()));
            (!text.is_empty()).then_some(text)
        };
        match attribute.name() {
            constants::DW_AT_linkage_name | constants::DW_AT_MIPS_linkage_name => {
                if let Some(name) = text() {
                    return Some(Read::Name(name));
                }
            }
            constants::DW_AT_name => name = text(),
            constants::DW_AT_abstract_origin | constants::DW_AT_specification => {
                refers = Some(attribute.value());
            }
            _ => {}
        }
    }
    // A definition outside of its class has a name of its own, and the declaration the linkage name.
    match (refers, name) {
        (_, Some(name)) => Some(Read::Name(name)),
        (Some(value), None) => Some(Read::Refers(value)),
        (None, None) => None,
    }
}
