//! A jitdump file that a process writes: followed while it grows.
//!
//! In: the file, which the process has mapped executable so that profilers find it. Out: pieces of code with lines and
//! times in its [`CodeTable`]. Code is skipped, not read. A record that is not there yet to its end is awaited.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::dump_record::{
    self, FILE_HEADER_BYTES, FileHeader, RECORD_HEADER_BYTES, Record, RecordHeader,
};
use super::growing::{GrowingFile, Look, Written};
use super::map_file::Refusal;
use super::table::{Budget, CodeTable, Full, NewPiece};

/// Read at one look, so that sampling goes on meanwhile.
const MAX_BYTES_AT_ONCE: u64 = 2 << 20;

/// Longest name looked for; of a longer one, the beginning counts.
const MAX_NAME_BYTES: usize = 4096;

/// Longest table of lines of one function: at some 30 bytes a row, 30,000 rows.
const MAX_DEBUG_BYTES: usize = 1 << 20;

/// Read at one go; records of loaded code without their code mostly fit.
const CHUNK_BYTES: usize = 512;

/// The only processor there is code for so far. Source: `elf.h`, EM_X86_64.
const MACHINE: u16 = 62;

/// One past the last address user code can have.
const USER_END: u64 = 1 << 56;

#[derive(Debug)]
pub struct DumpFile {
    /// `None` when nothing more will be read.
    file: Option<GrowingFile>,
    header: Option<FileHeader>,
    pub refusal: Option<Refusal>,
    /// Of the code that is loaded next: where that begins, and its lines.
    lines: Option<(u64, Vec<u8>)>,
}

/// Whether a mapped file is a jitdump, by its name and content. V8 maps it before it writes the first byte. Source: perf
/// looks for the name `jit-PID.dump`.
pub fn is_dump(path: &str, file: &File) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut head = [0; 4];
    name.starts_with("jit-")
        && name.ends_with(".dump")
        && (file.read_exact_at(&mut head, 0).is_err() || dump_record::has_magic(&head))
}

impl DumpFile {
    pub fn new(file: File) -> DumpFile {
        DumpFile {
            file: Some(GrowingFile::new(file, 0)),
            header: None,
            refusal: None,
            lines: None,
        }
    }

    /// Whether there is more than was read at one look.
    pub fn is_behind(&self) -> bool {
        self.file.as_ref().is_some_and(GrowingFile::is_behind)
    }

    /// Nothing more will be read.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// Reads what is new. Answers until when (monotonic) the news were written, if there are any.
    pub fn poll(&mut self, source: u32, table: &mut CodeTable, budget: &mut Budget) -> Option<u64> {
        let mut file = self.file.take()?;
        let written = match file.look() {
            Look::Nothing => {
                self.file = Some(file);
                return None;
            }
            Look::More(written) => written,
            Look::Anew(written) => {
                (self.header, self.lines) = (None, None);
                written
            }
        };
        let before = table.len();
        match self.read(&mut file, source, written, table, budget) {
            Ok(Next::More) => self.file = Some(file),
            Ok(Next::End) => {}
            Err(refusal) => self.refusal = Some(refusal),
        }
        (table.len() > before).then_some(written.by_ns)
    }

    fn read(
        &mut self,
        file: &mut GrowingFile,
        source: u32,
        written: Written,
        table: &mut CodeTable,
        budget: &mut Budget,
    ) -> Result<Next, Refusal> {
        let Some(header) = self.read_header(file)? else {
            return Ok(Next::More);
        };
        let mut left = MAX_BYTES_AT_ONCE;
        let mut buffer = Vec::new();
        while left > 0 {
            let at = file.offset();
            let Some(record) = whole_record(file, &mut buffer)? else {
                file.wait_for_more();
                break;
            };
            let since_ns = match header.monotonic {
                true => record.time_ns,
                false => written.by_ns,
            };
            let next = self
                .take(&record, &buffer, since_ns, source, table, budget)
                .map_err(|Full| Refusal::TooLarge)?;
            if next == Next::End {
                return Ok(Next::End);
            }
            file.skip_to(at + record.bytes);
            let count = buffer.len() as u64;
            left = left.saturating_sub(count);
            let read_bytes = budget.read_bytes.checked_sub(count);
            budget.read_bytes = read_bytes.ok_or(Refusal::TooLarge)?;
        }
        Ok(Next::More)
    }

    /// `None` where it is not there yet.
    fn read_header(&mut self, file: &mut GrowingFile) -> Result<Option<FileHeader>, Refusal> {
        if self.header.is_some() {
            return Ok(self.header);
        }
        let mut head = [0; FILE_HEADER_BYTES];
        if file.read_at(&mut head, 0) < head.len() {
            file.wait_for_more();
            return Ok(None);
        }
        let header = dump_record::file_header(&head, MACHINE).ok_or(Refusal::Malformed)?;
        self.header = Some(header);
        file.skip_to(header.bytes);
        Ok(self.header)
    }

    fn take(
        &mut self,
        header: &RecordHeader,
        bytes: &[u8],
        since_ns: u64,
        source: u32,
        table: &mut CodeTable,
        budget: &mut Budget,
    ) -> Result<Next, Full> {
        let is_possible =
            |start: u64, size| size > 0 && start.checked_add(size).is_some_and(|e| e <= USER_END);
        match dump_record::record(header, bytes) {
            Record::Load { start, size, name } if is_possible(start, size) => {
                let kept = self.lines.take().filter(|(of, _)| *of == start);
                let lines = kept.as_ref().map(|(_, bytes)| lines_of(bytes));
                let piece = NewPiece {
                    start,
                    size,
                    name,
                    since_ns,
                    lines: &lines
                        .and_then(|lines| believable(lines, start, size))
                        .unwrap_or_default(),
                    source,
                };
                table.add(&piece, budget)?;
            }
            Record::Move { from, to, size } if is_possible(to, size) => {
                if let Some(name) = table.name_at(from) {
                    let piece = NewPiece {
                        start: to,
                        size,
                        name: &name,
                        since_ns,
                        lines: &[],
                        source,
                    };
                    table.add(&piece, budget)?;
                }
            }
            Record::DebugInfo { start, .. } => self.lines = Some((start, bytes.to_vec())),
            Record::Close => return Ok(Next::End),
            _ => {}
        }
        Ok(Next::More)
    }
}

/// Whether records may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    More,
    End,
}

/// Reads the next record, as far as it tells anything, into `buffer`; `None` where it is not there to its end yet.
fn whole_record(file: &GrowingFile, buffer: &mut Vec<u8>) -> Result<Option<RecordHeader>, Refusal> {
    let at = file.offset();
    buffer.resize(CHUNK_BYTES, 0);
    let count = file.read_at(buffer, at);
    buffer.truncate(count);
    if buffer.len() < RECORD_HEADER_BYTES {
        return Ok(None);
    }
    let header = dump_record::record_header(buffer).ok_or(Refusal::Malformed)?;
    let end = at.checked_add(header.bytes).ok_or(Refusal::Malformed)?;
    if end > file.len() {
        return Ok(None);
    }
    let needed = header.telling_bytes(MAX_NAME_BYTES, MAX_DEBUG_BYTES);
    buffer.resize(needed, 0);
    if needed > count {
        let count = file.read_at(buffer, at);
        buffer.truncate(count);
    }
    Ok(Some(header))
}

/// Lines with addresses in the code and names of files, or none of them: V8 up to some version of 2023 at least (Node 20)
/// writes names that it has freed already, and whatever follows is read wrongly.
fn believable(lines: Lines, start: u64, size: u64) -> Option<Lines> {
    let first = lines.iter().map(|(addr, ..)| *addr).min()?;
    let shift = match first.checked_sub(start)? {
        V8_SHIFT_BYTES => V8_SHIFT_BYTES,
        _ => 0,
    };
    let is_file = |name: &[u8]| {
        let text = std::str::from_utf8(name);
        text.is_ok_and(|text| !text.is_empty() && !text.contains(|c: char| c.is_control()))
    };
    let within = |(addr, line, file): (u64, u32, _)| {
        let addr = addr.checked_sub(shift)?;
        // A row may stand at the very end.
        let is_inside = addr.checked_sub(start)? <= size;
        (is_inside && is_file(file)).then_some((addr, line, file))
    };
    lines.into_iter().map(within).collect()
}

/// Addresses, line numbers and files.
type Lines<'a> = Vec<(u64, u32, &'a [u8])>;

/// V8 adds the size of the ELF header that perf will put before the code. Source: V8, `src/diagnostics/perf-jit.cc`,
/// `kElfHeaderSize`.
const V8_SHIFT_BYTES: u64 = 0x40;

/// The lines in a record that was kept.
fn lines_of(bytes: &[u8]) -> Lines<'_> {
    let header = dump_record::record_header(bytes);
    match header.map(|header| dump_record::record(&header, bytes)) {
        Some(Record::DebugInfo { lines, .. }) => lines,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dump_record::tests::{debug_info, header, load, made, moved};
    use super::*;
    use std::io::Write;

    /// Everything at once; then the same, growing by some bytes at a time.
    fn read(bytes: &[u8], step: usize) -> (CodeTable, DumpFile) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("jit-1.dump");
        let mut writer = File::create(&path).expect("made");
        let mut dump = DumpFile::new(File::open(&path).expect("opened"));
        let (mut table, mut budget) = (CodeTable::default(), Budget::default());
        for part in bytes.chunks(step) {
            writer.write_all(part).expect("written");
            dump.poll(0, &mut table, &mut budget);
        }
        (table, dump)
    }

    fn known(table: &CodeTable, addr: u64, at_ns: u64) -> Option<(String, String, u32)> {
        let piece = table.find(addr, at_ns).then?;
        let known = table.known(piece, addr);
        Some((known.name, known.file, known.line))
    }

    #[test]
    fn code_is_known_from_the_time_of_its_record_however_the_file_grows() {
        let mut bytes = header(62, 0);
        bytes.extend(debug_info(
            0x1000,
            2,
            &[(0x1000, 3, b"a.js"), (0x1008, 4, b"\xff")],
        ));
        bytes.extend(load(100, 0x1000, 0x10, "first"));
        bytes.extend(load(100, 0x5000, 0x9000, "large"));
        bytes.extend(made(4, 0, &[0; 40])); // unwinding information
        bytes.extend(load(200, 0x1000, 0x10, "second"));
        bytes.extend(moved(300, 0x5000, 0x20000, 0x9000));
        let mut with_end = bytes.clone();
        with_end.extend(made(3, 0, &[]));
        with_end.extend(load(1, 0x1000, 0x10, "after the end"));
        for (bytes, step) in [(&bytes, 1 << 20), (&bytes, 7), (&with_end, 1 << 20)] {
            let (table, dump) = read(bytes, step);
            assert_eq!(dump.refusal, None);
            let at = |addr, at_ns| known(&table, addr, at_ns);
            assert_eq!(at(0x1009, 150), Some(("first".into(), "a.js".into(), 4)));
            assert_eq!(at(0x1009, 250), Some(("second".into(), String::new(), 0)));
            assert_eq!(at(0x1009, 50), None);
            assert_eq!(at(0x20001, 250), None);
            assert_eq!(at(0x20001, 300), Some(("large".into(), String::new(), 0)));
        }
    }

    #[test]
    fn lines_are_moved_back_where_v8_moved_them_and_damaged_ones_left_out() {
        let lines = |lines: &[(u64, u32, &'static [u8])]| believable(lines.to_vec(), 0x1000, 0x100);
        let sound = [(0x1000, 1, &b"a.js"[..]), (0x1100, 2, b"a.js")];
        assert_eq!(lines(&sound), Some(sound.to_vec()));
        let shifted = [(0x1040, 1, &b"a.js"[..]), (0x1140, 2, b"a.js")];
        assert_eq!(lines(&shifted), Some(sound.to_vec()));
        for bad in [
            (0x1101, 2, &b"a.js"[..]),
            (0xfff, 2, b"a.js"),
            (0x1010, 2, b""),
            (0x1010, 2, b"\xc1\x85"),
            (0x1010, 2, b"\x01"),
        ] {
            assert_eq!(lines(&[sound[0], bad]), None, "{bad:?}");
        }
        assert_eq!(lines(&[]), None);
    }

    #[test]
    fn bytes_changed_anywhere_never_make_it_panic_or_read_for_ever() {
        let mut sound = header(62, 0);
        sound.extend(debug_info(0x1000, 1, &[(0x1000, 3, b"a.js")]));
        sound.extend(load(100, 0x1000, 0x10, "first"));
        sound.extend(moved(300, 0x1000, 0x20000, 0x10));
        for at in 0..sound.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] = byte;
                let (table, _) = read(&bytes, 1 << 20);
                assert!(table.len() <= 2, "byte {at} is {byte}");
            }
        }
    }

    #[test]
    fn damage_ends_the_reading_and_keeps_what_was_read() {
        let mut bytes = header(62, 0);
        bytes.extend(load(100, 0x1000, 0x10, "good"));
        bytes.extend([0; 64]);
        let (table, dump) = read(&bytes, 1 << 20);
        assert_eq!(dump.refusal, Some(Refusal::Malformed));
        assert!(known(&table, 0x1000, 100).is_some());
        let (_, dump) = read(&header(183, 0), 1 << 20);
        assert_eq!(dump.refusal, Some(Refusal::Malformed));
        let mut endless = header(62, 0);
        endless.extend(0u32.to_ne_bytes());
        endless.extend(u32::MAX.to_ne_bytes());
        endless.extend([0; 64]);
        let (table, dump) = read(&endless, 1 << 20);
        assert_eq!((table.len(), dump.refusal), (0, None), "awaited");
    }
}
