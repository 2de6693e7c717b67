//! Whether a file is a history of ours: first by what it is, then by what stands in it. Nothing is changed.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use rusqlite::{Connection, OptionalExtension};

use super::HistoryError;

/// `perf`, so that `file` and SQLite's own tools tell it from other databases.
pub(super) const APPLICATION_ID: i32 = 0x7065_7266;
pub(super) const SCHEMA_VERSION: i32 = 1;
/// The whole schema.
pub(super) const TABLE: &str = "CREATE TABLE measurement (\
     service TEXT NOT NULL, metric TEXT NOT NULL, measured_ms INTEGER NOT NULL, value REAL NOT NULL, unit TEXT NOT NULL, \
     source TEXT NOT NULL, added_ms INTEGER NOT NULL, PRIMARY KEY (service, metric, measured_ms)) WITHOUT ROWID, STRICT";

/// Three million figures.
const MAX_BYTES: u64 = 512 << 20;
/// SQLite file format, section 1.3: the header.
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// A regular file with a database's header, in the form in which we write it.
pub(super) fn file(path: &Path) -> Result<(), HistoryError> {
    let io = || HistoryError::io(path);
    let not = |why: &str| Err(HistoryError::not_history(path, why));
    let found = fs::symlink_metadata(path).map_err(io())?;
    if !found.is_file() {
        return not("it is no regular file");
    }
    if found.len() > MAX_BYTES {
        return not("it is too large");
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path);
    let header = header(opened.map_err(io())?).map_err(io())?;
    let Some(header) = header else {
        return not("it is too short; it may have been cut off");
    };
    if !header.starts_with(MAGIC) {
        return not("it does not begin like an SQLite database");
    }
    if header[18..20] != [1, 1] {
        return not(
            "it is set to write-ahead logging, which perfprof does not use (`PRAGMA journal_mode = DELETE` ends it)",
        );
    }
    journal(path)
}

fn header(mut file: File) -> std::io::Result<Option<[u8; HEADER_BYTES]>> {
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Ok(()) => Ok(Some(header)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a journal says is written into the database, and it may name a file to delete: it must be of somebody who could
/// do that anyway.
fn journal(path: &Path) -> Result<(), HistoryError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-journal");
    let Ok(found) = fs::symlink_metadata(PathBuf::from(name)) else {
        return Ok(());
    };
    let trusted = found.uid() == 0 || found.uid() == geteuid().as_raw();
    if found.is_file() && trusted {
        return Ok(());
    }
    let why = "beside it stands a journal that somebody else has put there";
    Err(HistoryError::not_history(path, why))
}

/// Our schema and nothing else, in pages that are whole.
pub(super) fn content(path: &Path, connection: &Connection) -> Result<(), HistoryError> {
    let fail = |error| HistoryError::of(path, error);
    // While it lasts nobody writes, so the file's length is that of the last commit.
    let reading = connection.unchecked_transaction().map_err(fail)?;
    schema(path, &reading)?;
    let size = || -> Result<u64, rusqlite::Error> {
        let pages: u32 = reading.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let bytes: u32 = reading.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Ok(u64::from(pages) * u64::from(bytes))
    };
    let expected = size().map_err(fail)?;
    let found = fs::symlink_metadata(path)
        .map_err(HistoryError::io(path))?
        .len();
    if found != expected {
        let why = format!("it has {found} bytes instead of {expected}; it may have been cut off");
        return Err(HistoryError::not_history(path, why));
    }
    let damage: String = reading
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(fail)?;
    match damage.as_str() {
        "ok" => Ok(()),
        _ => {
            let why = format!("it is damaged: {damage}");
            Err(HistoryError::not_history(path, why))
        }
    }
}

fn schema(path: &Path, connection: &Connection) -> Result<(), HistoryError> {
    let fail = |error| HistoryError::of(path, error);
    let number = |pragma: &str| -> Result<i32, HistoryError> {
        let found = connection.pragma_query_value(None, pragma, |row| row.get(0));
        found.map_err(fail)
    };
    if number("application_id")? != APPLICATION_ID {
        return Err(HistoryError::not_history(
            path,
            "it is another program's database",
        ));
    }
    let version = number("user_version")?;
    if version != SCHEMA_VERSION {
        let why = format!("it is of version {version}, and {SCHEMA_VERSION} is known");
        return Err(HistoryError::not_history(path, why));
    }
    let foreign: Option<String> = connection
        .query_row(
            "SELECT coalesce(name, '') FROM sqlite_schema WHERE sql IS NOT ?1 LIMIT 1",
            [TABLE],
            |row| row.get(0),
        )
        .optional()
        .map_err(fail)?;
    match foreign {
        None => Ok(()),
        Some(_) => {
            let why = "its tables are not those of perfprof";
            Err(HistoryError::not_history(path, why))
        }
    }
}
