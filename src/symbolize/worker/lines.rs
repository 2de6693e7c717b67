//! Files and lines of addresses, from a unit's line number program.
//!
//! In: a unit and addresses, ascending. Out: the row that covers each. The program is run once and no row is kept.
//! Source: DWARF 5 §6.2.

use std::collections::HashMap;

use gimli::{LineProgramHeader, UnitRef};

use super::dwarf::{Bytes, shortened};

/// Where an address comes from: a file by its number in the unit's table, and a line; 0 where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub file: u64,
    pub line: u32,
}

/// The place of each of `addrs` that the unit has rows for.
pub(super) fn look_up(
    unit: UnitRef<'_, Bytes>,
    addrs: &[u64],
) -> Result<Vec<Option<Place>>, gimli::Error> {
    let mut places = vec![None; addrs.len()];
    let Some(program) = unit.line_program.clone() else {
        return Ok(places);
    };
    let mut rows = program.rows();
    // The row before the current one in its sequence, and the first address not before it.
    let mut before: Option<(u64, Place, usize)> = None;
    while let Some((_, row)) = rows.next_row()? {
        let addr = row.address();
        let mut at = match before {
            Some((begin, place, mut at)) if addr >= begin => {
                while addrs.get(at).is_some_and(|wanted| *wanted < addr) {
                    places[at] = Some(place);
                    at += 1;
                }
                at
            }
            _ => addrs.partition_point(|wanted| *wanted < addr),
        };
        // What the linker has removed begins at 0, and names no code.
        if row.end_sequence() || (before.is_none() && addr == 0) {
            at = addrs.len();
        }
        let place = Place {
            file: row.file_index(),
            line: row.line().map_or(0, |line| line.get() as u32),
        };
        before = (!row.end_sequence()).then_some((addr, place, at));
    }
    Ok(places)
}

/// Paths of a unit's files, each put together once.
#[derive(Debug, Default)]
pub(super) struct Files {
    paths: HashMap<u64, String>,
}

impl Files {
    /// The path of a file by its number; empty where unknown.
    pub fn path(&mut self, unit: UnitRef<'_, Bytes>, file: u64) -> &str {
        self.paths
            .entry(file)
            .or_insert_with(|| path(unit, file).unwrap_or_default())
    }
}

fn path(unit: UnitRef<'_, Bytes>, file: u64) -> Option<String> {
    let program = unit.line_program.as_ref()?;
    let header: &LineProgramHeader<Bytes> = program.header();
    let entry = header.file(file)?;
    let text = |value| -> Option<String> {
        let text = unit.attr_string(value).ok()?;
        Some(shortened(&String::from_utf8_lossy(text.slice())))
    };
    let mut path = unit.comp_dir.map_or_else(String::new, |dir| {
        shortened(&String::from_utf8_lossy(dir.slice()))
    });
    // Folder 0 is the one the unit was compiled in.
    if entry.directory_index() != 0
        && let Some(directory) = entry.directory(header)
    {
        push(&mut path, &text(directory)?);
    }
    push(&mut path, &text(entry.path_name())?);
    Some(plain(&path))
}

fn push(path: &mut String, part: &str) {
    if part.starts_with('/') {
        path.clear();
    } else if !path.is_empty() && !path.ends_with('/') {
        path.push('/');
    }
    path.push_str(part);
}

/// A path without `.` and `..` within it: compilers differ in how they spell one and the same file.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        let folder = parts.last().is_some_and(|last| !matches!(*last, "" | ".."));
        match part {
            "." if !parts.is_empty() => {}
            ".." if folder => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_path() {
        assert_eq!(plain("/src/./a/../b.h"), "/src/b.h");
        assert_eq!(plain("../a/b.c"), "../a/b.c");
        assert_eq!(plain("a/../../b.c"), "../b.c");
        assert_eq!(plain("/../b.c"), "/../b.c");
        assert_eq!(plain(""), "");
    }

    #[test]
    fn an_absolute_part_begins_a_path_anew() {
        let mut path = "/build".to_owned();
        push(&mut path, "src");
        push(&mut path, "a.c");
        assert_eq!(path, "/build/src/a.c");
        push(&mut path, "/usr/include/b.h");
        assert_eq!(path, "/usr/include/b.h");
    }
}
