//! The records of a jitdump file.
//!
//! In: bytes of one record's beginning. Out: what it says, or that it contradicts itself. Times are on the writer's
//! clock, by convention the monotonic one. The code itself, which ends a record of loaded code, is never looked at.
//!
//! Source: Linux, `tools/perf/Documentation/jitdump-specification.txt`.

/// `JiTD` as a number, in the byte order of the machine that wrote it.
const MAGIC: u32 = 0x4A69_5444;
const VERSION: u32 = 1;
/// Times are a cycle counter's.
const ARCH_TIMESTAMP: u64 = 1;

pub const FILE_HEADER_BYTES: usize = 40;
pub const RECORD_HEADER_BYTES: usize = 16;

const LOAD: u32 = 0;
const MOVE: u32 = 1;
const DEBUG_INFO: u32 = 2;
const CLOSE: u32 = 3;

/// `pid`, `tid`, `vma`, `code_addr`, `code_size`, `code_index`.
const LOAD_FIXED_BYTES: usize = 40;
/// A file name that says "the same as before".
const SAME_FILE: &[u8] = b"\xff";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Where the records begin.
    pub bytes: u64,
    /// Times of records can be compared with those of samples.
    pub monotonic: bool,
}

/// Whether a file begins as a jitdump does, in either byte order.
pub fn has_magic(head: &[u8]) -> bool {
    number32(head, 0).is_some_and(|magic| magic == MAGIC || magic.swap_bytes() == MAGIC)
}

/// The file's header; `None` for other processors (`machine` is ELF's number), byte orders and versions.
pub fn file_header(head: &[u8], machine: u16) -> Option<FileHeader> {
    let known = number32(head, 0)? == MAGIC
        && number32(head, 4)? == VERSION
        && number32(head, 12)? == u32::from(machine);
    let bytes = u64::from(number32(head, 8)?);
    (known && bytes >= FILE_HEADER_BYTES as u64).then_some(FileHeader {
        bytes,
        monotonic: number64(head, 32)? & ARCH_TIMESTAMP == 0,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    id: u32,
    /// Of the whole record.
    pub bytes: u64,
    pub time_ns: u64,
}

/// `None` for a record shorter than its own header.
pub fn record_header(head: &[u8]) -> Option<RecordHeader> {
    let header = RecordHeader {
        id: number32(head, 0)?,
        bytes: u64::from(number32(head, 4)?),
        time_ns: number64(head, 8)?,
    };
    (header.bytes >= RECORD_HEADER_BYTES as u64).then_some(header)
}

impl RecordHeader {
    /// How much of the record says something: all but the code. The name's length is not known, so `name_bytes` are
    /// allowed for it.
    pub fn telling_bytes(&self, name_bytes: usize, debug_bytes: usize) -> usize {
        let at_most = match self.id {
            LOAD => RECORD_HEADER_BYTES + LOAD_FIXED_BYTES + name_bytes,
            MOVE => RECORD_HEADER_BYTES + LOAD_FIXED_BYTES + 8,
            DEBUG_INFO => debug_bytes,
            _ => RECORD_HEADER_BYTES,
        };
        at_most.min(usize::try_from(self.bytes).unwrap_or(usize::MAX))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    Load {
        start: u64,
        size: u64,
        name: &'a [u8],
    },
    Move {
        from: u64,
        to: u64,
        size: u64,
    },
    /// Lines of the code that is loaded next.
    DebugInfo {
        start: u64,
        lines: Vec<(u64, u32, &'a [u8])>,
    },
    Close,
    Other,
}

/// One record, given as far as it tells anything; [`Record::Other`] when it is too short for what it says it is.
pub fn record<'a>(header: &RecordHeader, bytes: &'a [u8]) -> Record<'a> {
    let body = bytes.get(RECORD_HEADER_BYTES..).unwrap_or(&[]);
    known_record(header.id, body).unwrap_or(Record::Other)
}

fn known_record(id: u32, body: &[u8]) -> Option<Record<'_>> {
    Some(match id {
        LOAD => Record::Load {
            start: number64(body, 16)?,
            size: number64(body, 24)?,
            name: first_text(body.get(LOAD_FIXED_BYTES..)?),
        },
        MOVE => Record::Move {
            from: number64(body, 16)?,
            to: number64(body, 24)?,
            size: number64(body, 32)?,
        },
        DEBUG_INFO => Record::DebugInfo {
            start: number64(body, 0)?,
            lines: lines(number64(body, 8)?, body.get(16..)?),
        },
        CLOSE => Record::Close,
        _ => Record::Other,
    })
}

/// As many of the entries (address, line, discriminator, file) as are there.
fn lines(count: u64, mut bytes: &[u8]) -> Vec<(u64, u32, &[u8])> {
    let mut lines: Vec<(u64, u32, &[u8])> = Vec::new();
    for _ in 0..count {
        let entry = number64(bytes, 0).zip(number32(bytes, 8));
        let named = bytes.get(16..).and_then(text);
        let (Some((addr, line)), Some((name, rest))) = (entry, named) else {
            break;
        };
        let name = match name {
            SAME_FILE => lines.last().map_or(&b""[..], |(_, _, before)| *before),
            name => name,
        };
        lines.push((addr, line, name));
        bytes = rest;
    }
    lines
}

/// A string up to its zero byte, which a cut one lacks.
fn first_text(bytes: &[u8]) -> &[u8] {
    text(bytes).map_or(bytes, |(text, _)| text)
}

/// A string up to its zero byte, and what follows.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A record of that kind, as its writer would write it.
    pub fn made(id: u32, time_ns: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = id.to_ne_bytes().to_vec();
        bytes.extend((16 + body.len() as u32).to_ne_bytes());
        bytes.extend(time_ns.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    pub fn load(time_ns: u64, start: u64, size: u64, name: &str) -> Vec<u8> {
        let mut body = vec![0; 8];
        for n in [start, start, size, 1] {
            body.extend(n.to_ne_bytes());
        }
        body.extend(name.as_bytes());
        body.push(0);
        body.extend(vec![0xcc; size as usize]);
        made(LOAD, time_ns, &body)
    }

    pub fn moved(time_ns: u64, from: u64, to: u64, size: u64) -> Vec<u8> {
        let mut body = vec![0; 8];
        for n in [from, from, to, size, 1] {
            body.extend(n.to_ne_bytes());
        }
        made(MOVE, time_ns, &body)
    }

    pub fn debug_info(start: u64, count: u64, lines: &[(u64, u32, &[u8])]) -> Vec<u8> {
        let mut body = start.to_ne_bytes().to_vec();
        body.extend(count.to_ne_bytes());
        for (addr, line, file) in lines {
            body.extend(addr.to_ne_bytes());
            body.extend(line.to_ne_bytes());
            body.extend([0; 4]);
            body.extend(*file);
            body.push(0);
        }
        made(DEBUG_INFO, 0, &body)
    }

    pub fn header(machine: u16, flags: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for n in [MAGIC, VERSION, 40, u32::from(machine), 0, 7] {
            bytes.extend(n.to_ne_bytes());
        }
        for n in [5, flags] {
            bytes.extend(n.to_ne_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Record<'_>> {
        Some(record(&record_header(bytes)?, bytes))
    }

    #[test]
    fn headers_of_other_machines_and_orders_are_not_read() {
        let plain = header(62, 0);
        let expected = FileHeader {
            bytes: 40,
            monotonic: true,
        };
        assert_eq!(file_header(&plain, 62), Some(expected));
        assert_eq!(file_header(&plain, 183), None);
        assert!(!file_header(&header(62, 1), 62).expect("read").monotonic);
        let mut swapped = plain.clone();
        swapped[..4].reverse();
        assert!(has_magic(&plain) && has_magic(&swapped) && !has_magic(b"\x7fELF"));
        assert_eq!(file_header(&swapped, 62), None);
        assert_eq!(file_header(&plain[..39], 62), None);
    }

    #[test]
    fn records_are_read_and_cut_ones_are_not() {
        let bytes = load(9, 0x1000, 4, "f");
        let expected = Record::Load {
            start: 0x1000,
            size: 4,
            name: b"f",
        };
        assert_eq!(read(&bytes), Some(expected.clone()));
        assert_eq!(read(&bytes[..bytes.len() - 4]), Some(expected));
        for len in 0..RECORD_HEADER_BYTES + LOAD_FIXED_BYTES {
            let cut = read(&bytes[..len]);
            assert!(matches!(cut, None | Some(Record::Other)), "{len} bytes");
        }
        let expected = Record::Move {
            from: 1,
            to: 2,
            size: 3,
        };
        assert_eq!(read(&moved(0, 1, 2, 3)), Some(expected));
        assert_eq!(read(&made(CLOSE, 0, &[])), Some(Record::Close));
        assert_eq!(read(&made(77, 0, &[1, 2])), Some(Record::Other));
        let mut short = made(CLOSE, 0, &[]);
        short[4] = 15;
        assert_eq!(record_header(&short), None);
    }

    #[test]
    fn a_count_of_lines_that_lies_yields_those_that_are_there() {
        let bytes = debug_info(8, u64::MAX, &[(8, 3, b"a.js"), (9, 4, SAME_FILE)]);
        let expected = Record::DebugInfo {
            start: 8,
            lines: vec![(8, 3, b"a.js"), (9, 4, b"a.js")],
        };
        assert_eq!(read(&bytes), Some(expected));
    }
}
