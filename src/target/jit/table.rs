//! What code a process generated where, and from when on.
//!
//! In: pieces of code in the order in which they were announced. Out: the piece that stood at an address at a time.
//! Addresses are used again, so a piece is found by time, too; and announcements come late (a JVM writes its map when it
//! is asked), so where nothing was known yet the earliest later piece counts.

use std::collections::BTreeSet;

/// More pieces than this at and around one address are not looked through: honest maps have a handful.
const MAX_LOOKED_AT: usize = 512;

/// Longer names are cut. Java's carry whole parameter lists, V8's a path.
const MAX_NAME_BYTES: usize = 2048;

/// What all tables of a recording may still take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub pieces: usize,
    pub text_bytes: usize,
    pub lines: usize,
    /// Bytes of maps and dumps to be read.
    pub read_bytes: u64,
}

impl Default for Budget {
    /// About half a gigabyte at worst. A large JVM has 50,000 pieces with 5 MB of names.
    fn default() -> Self {
        Budget {
            pieces: 2 << 20,
            text_bytes: 256 << 20,
            lines: 4 << 20,
            read_bytes: 1 << 30,
        }
    }
}

/// The table, or what all tables share, is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Some bytes in [`CodeTable::text`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Text {
    at: u32,
    bytes: u32,
}

/// From this address on, this line.
#[derive(Clone, Copy, Debug)]
struct LineRow {
    addr: u64,
    line: u32,
    file: Text,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    size: u64,
    since_ns: u64,
    name: Text,
    /// Rows of [`CodeTable::lines`], ascending: the first, and how many.
    lines: (u32, u32),
    source: u32,
}

/// A piece of code to be added.
#[derive(Clone, Copy, Debug)]
pub struct NewPiece<'a> {
    pub start: u64,
    pub size: u64,
    pub name: &'a [u8],
    pub since_ns: u64,
    /// Address, line and file.
    pub lines: &'a [(u64, u32, &'a [u8])],
    /// Number of the file that told of it.
    pub source: u32,
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    /// Empty where unknown.
    pub file: String,
    /// 0 where unknown.
    pub line: u32,
    pub source: u32,
}

/// Pieces that were there, and the earliest that came later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    pub then: Option<u32>,
    pub later: Option<u32>,
}

/// The code one process generated.
#[derive(Debug, Default)]
pub struct CodeTable {
    pieces: Vec<Piece>,
    /// By the logarithm of their size, then start: only so many starts before an address can reach it.
    classes: Vec<BTreeSet<(u64, u32)>>,
    text: Vec<u8>,
    lines: Vec<LineRow>,
}

impl CodeTable {
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Adds a piece, unless the newest of that place is the same: maps that are written anew repeat themselves.
    pub fn add(&mut self, new: &NewPiece, budget: &mut Budget) -> Result<(), Full> {
        let class = class_of(new.size);
        if self.classes.len() <= class {
            self.classes.resize_with(class + 1, BTreeSet::new);
        }
        let name = &new.name[..new.name.len().min(MAX_NAME_BYTES)];
        if self.newest_is(class, new, name) {
            return Ok(());
        }
        let file_bytes: usize = new.lines.iter().map(|(_, _, file)| file.len()).sum();
        let text_bytes = name.len() + file_bytes;
        let fits = budget.pieces > 0
            && budget.text_bytes >= text_bytes
            && budget.lines >= new.lines.len()
            && u32::try_from(self.text.len() + text_bytes).is_ok();
        if !fits {
            return Err(Full);
        }
        budget.pieces -= 1;
        budget.text_bytes -= text_bytes;
        budget.lines -= new.lines.len();
        let ix = self.pieces.len() as u32;
        let piece = Piece {
            size: new.size,
            since_ns: new.since_ns,
            name: self.keep(name),
            lines: self.keep_lines(new.lines),
            source: new.source,
        };
        self.pieces.push(piece);
        self.classes[class].insert((new.start, ix));
        Ok(())
    }

    fn newest_is(&self, class: usize, new: &NewPiece, name: &[u8]) -> bool {
        let here = (new.start, 0)..=(new.start, u32::MAX);
        let newest = self.classes[class].range(here).next_back();
        newest.is_some_and(|(_, ix)| {
            let piece = &self.pieces[*ix as usize];
            piece.size == new.size && new.lines.is_empty() && self.bytes(piece.name) == name
        })
    }

    fn keep(&mut self, bytes: &[u8]) -> Text {
        let at = self.text.len() as u32;
        self.text.extend_from_slice(bytes);
        Text {
            at,
            bytes: bytes.len() as u32,
        }
    }

    fn keep_lines(&mut self, lines: &[(u64, u32, &[u8])]) -> (u32, u32) {
        let first = self.lines.len();
        let mut file = Text::default();
        for (addr, line, name) in lines {
            if self.bytes(file) != *name {
                file = self.keep(name);
            }
            self.lines.push(LineRow {
                addr: *addr,
                line: *line,
                file,
            });
        }
        self.lines[first..].sort_by_key(|row| row.addr);
        (first as u32, lines.len() as u32)
    }

    fn bytes(&self, text: Text) -> &[u8] {
        let at = text.at as usize;
        self.text.get(at..at + text.bytes as usize).unwrap_or(&[])
    }

    /// The name of the newest piece that begins at an address.
    pub fn name_at(&self, start: u64) -> Option<Vec<u8>> {
        let here = (start, 0)..=(start, u32::MAX);
        let newest = |class: &BTreeSet<(u64, u32)>| class.range(here.clone()).next_back().copied();
        let (_, ix) = self.classes.iter().filter_map(newest).max_by_key(|e| e.1)?;
        Some(self.bytes(self.pieces[ix as usize].name).to_vec())
    }

    /// The pieces that cover `addr`: the newest at that time, and the earliest of those that came later.
    pub fn find(&self, addr: u64, at_ns: u64) -> Candidates {
        let mut found = Candidates::default();
        let (mut newest, mut earliest) = ((0, 0), (u64::MAX, u32::MAX));
        let mut left = MAX_LOOKED_AT;
        for (class, starts) in self.classes.iter().enumerate() {
            let reach = u64::MAX >> (63 - class);
            let first = addr.saturating_sub(reach);
            for (start, ix) in starts.range((first, 0)..=(addr, u32::MAX)).rev() {
                if left == 0 {
                    return found;
                }
                left -= 1;
                let piece = &self.pieces[*ix as usize];
                let when = (piece.since_ns, *ix);
                if addr - start >= piece.size {
                    continue;
                }
                if piece.since_ns <= at_ns {
                    if found.then.is_none() || when > newest {
                        (found.then, newest) = (Some(*ix), when);
                    }
                } else if when < earliest {
                    (found.later, earliest) = (Some(*ix), when);
                }
            }
        }
        found
    }

    /// What is known of an address in a piece.
    pub fn known(&self, piece: u32, addr: u64) -> Known {
        let piece = &self.pieces[piece as usize];
        let (first, count) = (piece.lines.0 as usize, piece.lines.1 as usize);
        let rows = &self.lines[first..first + count];
        let row = rows[..rows.partition_point(|row| row.addr <= addr)].last();
        let text = |text| String::from_utf8_lossy(self.bytes(text)).into_owned();
        Known {
            name: text(piece.name),
            file: row.map_or_else(String::new, |row| text(row.file)),
            line: row.map_or(0, |row| row.line),
            source: piece.source,
        }
    }

    pub fn source(&self, piece: u32) -> u32 {
        self.pieces[piece as usize].source
    }
}

/// Position of the highest bit: sizes of a class are below twice its smallest.
fn class_of(size: u64) -> usize {
    size.max(1).ilog2() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pieces: &[(u64, u64, &str, u64)]) -> CodeTable {
        let mut table = CodeTable::default();
        for (start, size, name, since_ns) in pieces {
            let new = NewPiece {
                start: *start,
                size: *size,
                name: name.as_bytes(),
                since_ns: *since_ns,
                lines: &[],
                source: 0,
            };
            table.add(&new, &mut Budget::default()).expect("room");
        }
        table
    }

    fn name(table: &CodeTable, addr: u64, at_ns: u64) -> Option<String> {
        let found = table.find(addr, at_ns);
        let piece = found.then.or(found.later)?;
        Some(table.known(piece, addr).name)
    }

    #[test]
    fn an_address_means_what_stood_there_at_the_time() {
        let table = table(&[
            (0x1000, 0x100, "first", 10),
            (0x1080, 0x20, "second", 20),
            (0x1000, 0x100, "third", 30),
            (0x4000, 0x10, "late", 40),
        ]);
        let named = |addr, at_ns| name(&table, addr, at_ns);
        assert_eq!(named(0x1090, 15).as_deref(), Some("first"));
        assert_eq!(named(0x1090, 25).as_deref(), Some("second"));
        assert_eq!(named(0x10a0, 25).as_deref(), Some("first"));
        assert_eq!(named(0x1090, 30).as_deref(), Some("third"));
        assert_eq!(named(0x1090, 1).as_deref(), Some("first"));
        assert_eq!(named(0x400f, 1).as_deref(), Some("late"));
        assert_eq!(named(0x4010, 99), None);
        assert_eq!(named(0xfff, 99), None);
        assert_eq!(named(u64::MAX, 99), None);
    }

    #[test]
    fn a_map_written_anew_adds_only_what_differs() {
        let rows = [(0x10, 8, "a", 1), (0x20, 8, "b", 1)];
        let again = [(0x10, 8, "a", 2), (0x20, 8, "c", 2)];
        let table = table(&[rows, again].concat());
        assert_eq!(table.len(), 3);
        assert_eq!(name(&table, 0x20, 1).as_deref(), Some("b"));
        assert_eq!(name(&table, 0x20, 2).as_deref(), Some("c"));
    }

    #[test]
    fn a_hostile_pile_of_pieces_is_looked_at_within_bounds() {
        let pile: Vec<_> = (0..5000).map(|n| (0, 1 << 40, "over", n)).collect();
        let table = table(&pile);
        assert_eq!(table.len(), 1, "all the same");
        let names: Vec<String> = (0..5000).map(|n| format!("f{n}")).collect();
        let pile: Vec<_> = (0..5000)
            .map(|n| (n, (1 << 40) - n, names[n as usize].as_str(), n))
            .collect();
        assert!(name(&super::tests::table(&pile), 1 << 20, 9999).is_some());
        let mut small = Budget {
            pieces: 0,
            ..Budget::default()
        };
        let new = NewPiece {
            start: 1,
            size: 1,
            name: b"x",
            since_ns: 0,
            lines: &[],
            source: 0,
        };
        assert_eq!(CodeTable::default().add(&new, &mut small), Err(Full));
    }

    #[test]
    fn lines_are_those_of_the_address() {
        let mut table = CodeTable::default();
        let new = NewPiece {
            start: 0x100,
            size: 0x100,
            name: b"f",
            since_ns: 0,
            lines: &[
                (0x140, 7, b"a.js"),
                (0x110, 5, b"a.js"),
                (0x180, 2, b"b.js"),
            ],
            source: 3,
        };
        table.add(&new, &mut Budget::default()).expect("room");
        let at = |addr| {
            let known = table.known(0, addr);
            (known.file, known.line)
        };
        assert_eq!(at(0x100), (String::new(), 0));
        assert_eq!(at(0x13f), ("a.js".into(), 5));
        assert_eq!(at(0x17f), ("a.js".into(), 7));
        assert_eq!(at(0x1ff), ("b.js".into(), 2));
        assert_eq!(table.known(0, 0x100).source, 3);
        assert_eq!(table.name_at(0x100).as_deref(), Some(&b"f"[..]));
    }
}
