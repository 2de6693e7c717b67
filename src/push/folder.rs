//! The files of the queues: named, written, listed and read so that none is taken half and no link is followed.
//!
//! In: folders, numbers and bytes. Out: the same from disk. It counts and decides nothing.
//!
//! A batch is `NUMBER.batch`. It is written under another name and renamed; what that other name left behind is removed
//! when the folder is listed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};

use super::SinkKind;
use super::item::MAX_ITEM_BYTES;

/// End of a batch's name; before it stand [`DIGITS`] digits.
const END: &str = ".batch";
const DIGITS: usize = 20;
/// Name of a file that is being written; a folder has one writer.
const UNFINISHED: &str = "unfinished.tmp";
const LOCK: &str = "lock";

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:0DIGITS$}{END}"))
}

fn number_of(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(END)?;
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    // One number is left as the next.
    let number = digits.parse().ok().filter(|number| *number < u64::MAX)?;
    (digits.len() == DIGITS && all_digits).then_some(number)
}

pub(super) fn create(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}

pub(super) fn lock(folder: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(folder.join(LOCK))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::Error::EWOULDBLOCK => io::Error::new(
            ErrorKind::ResourceBusy,
            format!("another process pushes from `{}`", folder.display()),
        ),
        other => other.into(),
    })
}

/// Empties the folders of sinks that are not asked for any more: nobody would send what is in them, and nobody counts it.
pub(super) fn remove_strangers(folder: &Path, sinks: &[String]) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let kind = kind
            .strip_suffix('-')
            .filter(|_| kind != name)
            .unwrap_or(name);
        let ours = SinkKind::ALL.iter().any(|known| known.id() == kind);
        let asked = sinks.iter().any(|sink| sink == name);
        if ours && !asked && entry.file_type()?.is_dir() {
            for file in fs::read_dir(entry.path())? {
                let file = file?;
                let is_ours =
                    number_of(&file.file_name()).is_some() || file.file_name() == UNFINISHED;
                if is_ours {
                    fs::remove_file(file.path())?;
                }
            }
            // Something else may lie in it, which stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

/// Sizes by number of the batches in a folder, and how many files could not be one and were removed.
pub(super) fn list(folder: &Path) -> io::Result<(BTreeMap<u64, u64>, u64)> {
    let (mut found, mut damaged) = (BTreeMap::new(), 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?; // follows no link
        let name = entry.file_name();
        if name == UNFINISHED {
            fs::remove_file(entry.path())?;
            continue;
        }
        let Some(number) = number_of(&name) else {
            continue; // not ours
        };
        if metadata.is_file() && metadata.len() <= MAX_ITEM_BYTES {
            found.insert(number, metadata.len());
            continue;
        }
        damaged += 1;
        if !metadata.is_dir() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok((found, damaged))
}

/// The bytes of a batch; an error where the file is not there, is no file, or is too large.
pub(super) fn read(folder: &Path, number: u64) -> io::Result<Vec<u8>> {
    // Follows no link and waits for no FIFO.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path(folder, number))?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_ITEM_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_ITEM_BYTES {
        true => Err(ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

/// All or nothing, and there after a power cut.
pub(super) fn write(folder: &Path, number: u64, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(UNFINISHED);
    // Whatever stands there is of a write that failed.
    let _ = fs::remove_file(&temporary);
    let written = write_new(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path(folder, number)))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        // The error that matters is already there; neither name may hold disk space that nobody counts.
        let _ = fs::remove_file(&temporary);
        let _ = fs::remove_file(path(folder, number));
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // `create_new` follows no link.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        let written = path(Path::new("/x"), 42);
        assert_eq!(number_of(written.file_name().expect("a name")), Some(42));
        for name in [
            "42.batch",
            "0000000000000000004x.batch",
            "18446744073709551615.batch",
            "x",
        ] {
            assert_eq!(number_of(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn links_are_neither_read_nor_written_through() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let precious = folder.path().join("precious");
        fs::write(&precious, "x").expect("writable");
        symlink(&precious, path(folder.path(), 1)).expect("link");
        symlink(&precious, folder.path().join(UNFINISHED)).expect("link");
        assert!(read(folder.path(), 1).is_err());
        write(folder.path(), 2, b"y").expect("writable");
        assert_eq!(read(folder.path(), 2).expect("written"), b"y");
        let (found, damaged) = list(folder.path()).expect("readable");
        assert_eq!((found, damaged), (BTreeMap::from([(2, 1)]), 1));
        assert_eq!(fs::read(&precious).expect("still there"), b"x");
    }
}
