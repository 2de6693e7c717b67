//! Split DWARF: units whose content lies in `.dwo` files, or all together in a `.dwp` package.
//!
//! In: what a skeleton unit says of its split unit. Out: the split unit's DWARF, if a file with the very ID is found.
//! Source: DWARF 5 §3.1.2 and §7.3.5; for DWARF 4 the GCC wiki, "DebugFission".

use std::fs::File;

use gimli::{Dwarf, DwarfPackage, DwoId, EndianSlice, LittleEndian, Unit, UnitRef};

use super::super::wire::Wanted;
use super::Fetch;
use super::dwarf::{Bytes, load, shortened};
use super::image::{Image, Why};

/// Missing split units beyond these are counted, not named.
const NAMED_MISSING: u32 = 3;

/// Where the split units of one program are sought.
pub(super) struct SplitUnits {
    beside: String,
    limit: u64,
    /// `None` until it was looked for.
    package: Option<Option<DwarfPackage<Bytes>>>,
    missing: u32,
}

impl SplitUnits {
    /// Of the debug information at `path`.
    pub fn beside(path: &str, limit: u64) -> SplitUnits {
        SplitUnits {
            beside: path.to_owned(),
            limit,
            package: None,
            missing: 0,
        }
    }

    /// The split unit with this ID, of `skeleton`.
    pub fn find(
        &mut self,
        id: DwoId,
        skeleton: UnitRef<'_, Bytes>,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Result<Option<SplitUnit>, gimli::Error> {
        if let Some(package) = self.package(fetch, notes)
            && let Some(dwarf) = package.find_cu(id, skeleton.dwarf)?
        {
            return SplitUnit::of(dwarf, id, skeleton);
        }
        let name = match skeleton.dwo_name()? {
            Some(name) => text(skeleton.attr_string(name)?),
            None => String::new(),
        };
        let wanted = Wanted::SplitUnit {
            beside: self.beside.clone(),
            folder: skeleton.comp_dir.map_or_else(String::new, text),
            name: name.clone(),
        };
        let mut why = None;
        for (candidate, file) in fetch.fetch(wanted) {
            let unit = split_dwarf(&file, self.limit, skeleton.dwarf)
                .and_then(|dwarf| SplitUnit::of(dwarf, id, skeleton).map_err(|e| e.to_string()));
            match unit {
                Ok(Some(unit)) => return Ok(Some(unit)),
                Ok(None) => why = Some(format!("`{}` is of another build", candidate.path)),
                Err(problem) => why = Some(format!("`{}`: {problem}", candidate.path)),
            }
        }
        self.missing += 1;
        if self.missing <= NAMED_MISSING {
            let why = why.unwrap_or_else(|| "it was not found".into());
            notes.push(format!(
                "`{}` has debug information in `{name}`, which is not used: {why}.",
                self.beside
            ));
        }
        Ok(None)
    }

    fn package(
        &mut self,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Option<&DwarfPackage<Bytes>> {
        if self.package.is_none() {
            let wanted = Wanted::Package {
                beside: self.beside.clone(),
            };
            let candidates = fetch.fetch(wanted).into_iter();
            let opened = candidates.map(|(candidate, file)| {
                package(&file, self.limit)
                    .map_err(|why| format!("`{}` is not used: {why}.", candidate.path))
            });
            let mut found = None;
            for package in opened {
                match package {
                    Ok(package) => {
                        found = Some(package);
                        break;
                    }
                    Err(note) => notes.push(note),
                }
            }
            self.package = Some(found);
        }
        self.package.as_ref()?.as_ref()
    }
}

fn package(file: &File, limit: u64) -> Result<DwarfPackage<Bytes>, Why> {
    let image = Image::of(file, limit)?;
    let empty = EndianSlice::new(&[][..], LittleEndian);
    let section = |id: gimli::SectionId| -> Result<Bytes, gimli::Error> {
        let name = id.dwo_name().unwrap_or("");
        // An unreadable section is like a missing one: the units in need of it fail.
        let bytes = image.section(name).unwrap_or(&[]);
        Ok(EndianSlice::new(bytes, LittleEndian))
    };
    DwarfPackage::load(section, empty).map_err(|why| why.to_string())
}

fn text(bytes: Bytes) -> String {
    shortened(&String::from_utf8_lossy(bytes.slice()))
}

fn split_dwarf(file: &File, limit: u64, parent: &Dwarf<Bytes>) -> Result<Dwarf<Bytes>, Why> {
    let image = Image::of(file, limit)?;
    let mut dwarf = load(&image, |id| id.dwo_name())?;
    dwarf.make_dwo(parent);
    Ok(dwarf)
}

/// A unit's content, where that is not in the main file.
pub(super) struct SplitUnit {
    dwarf: Dwarf<Bytes>,
    unit: Unit<Bytes>,
}

impl SplitUnit {
    /// `None` when it is not the one with this ID.
    fn of(
        dwarf: Dwarf<Bytes>,
        id: DwoId,
        skeleton: UnitRef<'_, Bytes>,
    ) -> Result<Option<SplitUnit>, gimli::Error> {
        let mut headers = dwarf.units();
        while let Some(header) = headers.next()? {
            let mut unit = dwarf.unit(header)?;
            if unit.dwo_id == Some(id) {
                unit.copy_relocated_attributes(skeleton.unit);
                return Ok(Some(SplitUnit { dwarf, unit }));
            }
        }
        Ok(None)
    }

    pub fn unit_ref(&self) -> UnitRef<'_, Bytes> {
        self.unit.unit_ref(&self.dwarf)
    }
}
