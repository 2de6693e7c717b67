//! The perf map of one process: found, believed or refused, and followed as it grows.
//!
//! In: the [`Owner`]. Out: pieces of code in its [`CodeTable`], and the reason when a map stands there that must not be
//! read. The file belongs to the target, which may be hostile: it is looked at before it is opened for reading, through
//! the target's own root, and no more than a bounded number of bytes is ever read.
//!
//! Source: Linux, `tools/perf/util/dso.c` and `symbol.c`: `/tmp/perf-PID.map` with the innermost PID, of the user or of
//! root.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::growing::{GrowingFile, Look, Written};
use super::owner::Owner;
use super::perf_map;
use super::table::{Budget, CodeTable, Full, NewPiece};

/// A map longer than this is not read to its end: 50,000 methods of a large JVM are 5 MB.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Read at one look, so that sampling goes on meanwhile.
const MAX_BYTES_AT_ONCE: u64 = 2 << 20;

/// Read at one go. No line is longer.
const CHUNK_BYTES: usize = 64 << 10;

/// Why a map is not used, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    Link,
    Fifo,
    NotRegular,
    SeveralNames,
    ForeignOwner(u32),
    /// An earlier process with the same PID wrote it.
    Stale,
    /// It has more bytes, or tells of more code, than is kept.
    TooLarge,
    /// A jitdump of another processor, byte order or version, or with records that contradict themselves.
    Malformed,
    Unreadable(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Link => f.write_str("it is a symbolic link"),
            Refusal::Fifo => f.write_str("it is a FIFO"),
            Refusal::NotRegular => f.write_str("it is not a regular file"),
            Refusal::SeveralNames => f.write_str("the file has several names (hard links)"),
            Refusal::ForeignOwner(uid) => {
                write!(f, "it belongs to user {uid}, not to the process or root")
            }
            Refusal::Stale => {
                f.write_str("it was written before the process began, by an earlier one")
            }
            Refusal::TooLarge => f.write_str("it is too large, and was read in part"),
            Refusal::Malformed => f.write_str("it is not understood from some record on"),
            Refusal::Unreadable(why) => write!(f, "it cannot be read: {why}"),
        }
    }
}

#[derive(Debug)]
enum State {
    Absent,
    Open(GrowingFile),
    /// May be replaced by one that can be used.
    Refused,
    /// Nothing more will be read.
    Over,
}

/// The perf map of a process.
#[derive(Debug)]
pub struct MapFile {
    state: State,
    /// Ever opened.
    pub found: bool,
    pub refusal: Option<Refusal>,
    pub bad_lines: u64,
    read_bytes: u64,
    /// Inode and length of the map of an earlier process. What is added to it is this process's.
    stale: Option<(u64, u64)>,
    in_long_line: bool,
}

impl Default for MapFile {
    fn default() -> Self {
        MapFile {
            state: State::Absent,
            found: false,
            refusal: None,
            bad_lines: 0,
            read_bytes: 0,
            stale: None,
            in_long_line: false,
        }
    }
}

/// Where a process puts its map, as it sees it.
pub fn path_of(owner: &Owner) -> String {
    format!("/tmp/perf-{}.map", owner.own_pid)
}

impl MapFile {
    /// Whether it has been opened and may bring more: then looking costs little.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether there is more than was read at one look.
    pub fn is_behind(&self) -> bool {
        matches!(&self.state, State::Open(file) if file.is_behind())
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Nothing more will be read.
    pub fn close(&mut self) {
        self.state = State::Over;
    }

    /// Reads what is new. Answers until when (monotonic) the news were written, if there are any.
    pub fn poll(
        &mut self,
        owner: &Owner,
        source: u32,
        table: &mut CodeTable,
        budget: &mut Budget,
    ) -> Option<u64> {
        match &self.state {
            State::Over => return None,
            State::Open(file) if !file.is_unlinked() => {}
            State::Open(_) | State::Absent | State::Refused => self.open(owner),
        }
        let State::Open(file) = &mut self.state else {
            return None;
        };
        let written = match file.look() {
            Look::Nothing => return None,
            Look::More(written) => written,
            Look::Anew(written) => {
                self.in_long_line = false;
                written
            }
        };
        let before = table.len();
        if self.read(source, written, table, budget).is_err() {
            self.refusal = Some(Refusal::TooLarge);
            self.state = State::Over;
        }
        (table.len() > before).then_some(written.by_ns)
    }

    /// Opens the map if there is one, keeping what is open when its name is gone.
    fn open(&mut self, owner: &Owner) {
        match open_safely(owner, &mut self.stale) {
            Ok((file, offset)) => {
                self.state = State::Open(GrowingFile::new(file, offset));
                self.found = true;
                self.refusal = None;
                self.in_long_line = false;
            }
            Err(None) => {}
            Err(Some(refusal)) => {
                self.refusal = Some(refusal);
                if !self.is_open() {
                    self.state = State::Refused;
                }
            }
        }
    }

    fn read(
        &mut self,
        source: u32,
        written: Written,
        table: &mut CodeTable,
        budget: &mut Budget,
    ) -> Result<(), Full> {
        let State::Open(file) = &mut self.state else {
            return Ok(());
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut left = MAX_BYTES_AT_ONCE;
        while left > 0 {
            let count = file.read_at(&mut buffer, file.offset());
            let chunk = &buffer[..count];
            self.read_bytes += count as u64;
            left = left.saturating_sub(count as u64);
            budget.read_bytes = budget.read_bytes.checked_sub(count as u64).ok_or(Full)?;
            if self.read_bytes > MAX_FILE_BYTES {
                return Err(Full);
            }
            let whole = match chunk.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => &chunk[..=end],
                None if count == CHUNK_BYTES => {
                    self.bad_lines += u64::from(!self.in_long_line);
                    self.in_long_line = true;
                    file.consume(chunk);
                    continue;
                }
                None => {
                    // Its writer is in the middle of a line, or there is nothing.
                    file.wait_for_more();
                    break;
                }
            };
            self.bad_lines += add_lines(whole, self.in_long_line, source, written, table, budget)?;
            self.in_long_line = false;
            file.consume(whole);
        }
        Ok(())
    }
}

/// Adds all lines of `text`, the first of which may be the rest of one that was too long. Answers how many were bad.
fn add_lines(
    text: &[u8],
    skip_first: bool,
    source: u32,
    written: Written,
    table: &mut CodeTable,
    budget: &mut Budget,
) -> Result<u64, Full> {
    let lines = || text.split(|byte| *byte == b'\n').filter(|l| !l.is_empty());
    let count = lines().count();
    let mut bad = 0;
    for (ix, line) in lines().enumerate().skip(usize::from(skip_first)) {
        let Some(code) = perf_map::parse(line) else {
            bad += 1;
            continue;
        };
        let piece = NewPiece {
            start: code.start,
            size: code.size,
            name: code.name,
            since_ns: written.at(ix, count),
            lines: &[],
            source,
        };
        table.add(&piece, budget)?;
    }
    Ok(bad)
}

/// The map, and where to begin in it. `Err(None)` when there is none.
fn open_safely(
    owner: &Owner,
    stale: &mut Option<(u64, u64)>,
) -> Result<(File, u64), Option<Refusal>> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let place: OwnedFd = match openat2(&owner.root, path_of(owner).as_str(), how) {
        Ok(place) => place,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(None),
        Err(errno) => return Err(Some(Refusal::Unreadable(errno.desc().to_owned()))),
    };
    let place = File::from(place);
    let unreadable = |error: io::Error| Some(Refusal::Unreadable(error.to_string()));
    let meta = place.metadata().map_err(unreadable)?;
    let kind = meta.file_type();
    let refusal = if kind.is_symlink() {
        Some(Refusal::Link)
    } else if kind.is_fifo() {
        Some(Refusal::Fifo)
    } else if !kind.is_file() {
        Some(Refusal::NotRegular)
    } else if !owner.may_be_of(meta.uid()) {
        Some(Refusal::ForeignOwner(meta.uid()))
    } else if meta.nlink() > 1 {
        Some(Refusal::SeveralNames)
    } else {
        None
    };
    if refusal.is_some() {
        return Err(refusal);
    }
    let seconds = u64::try_from(meta.mtime()).unwrap_or(0);
    let written_unix_ns = seconds * 1_000_000_000 + meta.mtime_nsec() as u64;
    if owner.began_after(written_unix_ns) {
        *stale = Some((meta.ino(), meta.len()));
        return Err(Some(Refusal::Stale));
    }
    let offset = match stale {
        Some((inode, len)) if *inode == meta.ino() && meta.len() > *len => *len,
        _ => 0,
    };
    // The very file that was looked at, whatever stands at its path by now.
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open(link.as_str(), flags, Mode::empty())
        .map_err(|errno| Some(Refusal::Unreadable(errno.desc().to_owned())))?;
    Ok((File::from(file), offset))
}
