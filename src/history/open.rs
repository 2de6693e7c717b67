//! Opens a history, or makes an empty one.
//!
//! A new file is made under another name and linked to its place when it is whole: two first runs at once make one file,
//! and a file that is empty was never left by us.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::check::{self, APPLICATION_ID, SCHEMA_VERSION, TABLE};
use super::{History, HistoryError};

/// How long a writer waits for others, whose transactions take milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// No text of ours is longer.
const MAX_TEXT_BYTES: i32 = 1 << 20;

impl History {
    /// Opens the file at `path`, made where there is none.
    pub fn open(path: &Path) -> Result<History, HistoryError> {
        if fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            create(path)?;
        }
        History::open_existing(path)
    }

    /// Opens the file at `path`, which must be a history.
    pub fn open_existing(path: &Path) -> Result<History, HistoryError> {
        check::file(path)?;
        let connection = connect(path)?;
        check::content(path, &connection)?;
        Ok(History {
            path: path.to_owned(),
            connection,
        })
    }
}

fn create(path: &Path) -> Result<(), HistoryError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = format!(".{name}.{}.tmp", std::process::id());
    let temporary = path.with_file_name(stem);
    let io = || HistoryError::io(path);
    // Left by a process of our PID that was killed; unlinking follows no link.
    let _ = fs::remove_file(&temporary);
    // Created by nobody else, and no link: SQLite would follow neither.
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .map_err(io())?;
    let made = fill(&temporary);
    // A link, unlike a rename, replaces nothing: whoever was first has made the history.
    let linked = made.and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(io()),
    });
    let _ = fs::remove_file(&temporary);
    linked?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = fs::File::open(parent.unwrap_or(Path::new(".")));
    // File systems that cannot sync a directory are left to their own devices.
    let _ = parent.and_then(|folder| folder.sync_all());
    Ok(())
}

fn fill(path: &Path) -> Result<(), HistoryError> {
    let fail = |error| HistoryError::of(path, error);
    let connection = connect(path)?;
    connection.execute_batch(TABLE).map_err(fail)?;
    let pragmas = format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
    );
    connection.execute_batch(&pragmas).map_err(fail)?;
    connection.close().map_err(|(_, error)| fail(error))
}

fn connect(path: &Path) -> Result<Connection, HistoryError> {
    let fail = |error| HistoryError::of(path, error);
    // `NOFOLLOW` refuses a link anywhere in the path; the folders are the user's choice, the file is not.
    let real = real_path(path).map_err(HistoryError::io(path))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(real, flags).map_err(fail)?;
    let set_up = || {
        connection.busy_timeout(PATIENCE)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_TEXT_BYTES)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        // A schema of somebody else's runs no function, and nothing writes to the schema itself.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA synchronous = EXTRA;")
    };
    set_up().map_err(fail)?;
    Ok(connection)
}

fn real_path(path: &Path) -> std::io::Result<PathBuf> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    Ok(parent.unwrap_or(Path::new(".")).canonicalize()?.join(name))
}
