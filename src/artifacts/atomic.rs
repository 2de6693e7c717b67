//! Files that are either the old or the new version, whatever happens in between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::ArtifactError;

/// Names tried before giving up; more than one is only ever taken by left-overs of a crash.
const MAX_TRIES: u32 = 100;

/// Replaces `path` by a file with `bytes`. A reader, a full disk or a power cut sees the old file or the new one.
///
/// The temporary file stands beside the target and is created exclusively, so a link planted under its name is not
/// followed; a link at `path` itself is replaced, not written through.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// The same for what is too large to be held in memory.
pub fn write_atomic_with(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), ArtifactError> {
    let (mut file, temporary) = create_beside(path)?;
    let written = write(&mut file).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = renamed {
        // The error that matters is already there.
        let _ = fs::remove_file(&temporary);
        return Err(ArtifactError::io("write", path)(source));
    }
    sync_parent(path)
}

fn create_beside(path: &Path) -> Result<(File, PathBuf), ArtifactError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let fail = ArtifactError::io("write", path);
    let Some(name) = path.file_name() else {
        return Err(fail(ErrorKind::InvalidInput.into()));
    };
    for _ in 0..MAX_TRIES {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{number}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary);
        // `create_new` is O_CREAT | O_EXCL, which follows no link.
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
        {
            Ok(file) => return Ok((file, temporary)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fail(error)),
        }
    }
    Err(fail(ErrorKind::AlreadyExists.into()))
}

/// Makes the rename itself durable. File systems that cannot sync a directory are left to their own devices.
fn sync_parent(path: &Path) -> Result<(), ArtifactError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    match File::open(parent).and_then(|dir| dir.sync_all()) {
        Err(error) if error.kind() != ErrorKind::InvalidInput => {
            Err(ArtifactError::io("sync", parent)(error))
        }
        _ => Ok(()),
    }
}

/// The bytes of a regular file of at most `limit` bytes; `None` when there is none.
///
/// Follows no link and waits for no FIFO: we may run as root on a directory that others can write to.
pub(super) fn read_existing(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ArtifactError> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ArtifactError::io("read", path)(error)),
    };
    let metadata = file.metadata().map_err(ArtifactError::io("read", path))?;
    if !metadata.is_file() {
        return Err(ArtifactError::WrongKind {
            path: path.to_owned(),
            wanted: "regular file",
        });
    }
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(ArtifactError::io("read", path))?;
    if bytes.len() as u64 > limit {
        let too_large = io::Error::new(ErrorKind::FileTooLarge, format!("more than {limit} bytes"));
        return Err(ArtifactError::io("read", path)(too_large));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("directory");
        let name = |e: io::Result<fs::DirEntry>| e.expect("entry").file_name();
        let mut names: Vec<String> = entries.map(|e| name(e).to_string_lossy().into()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_new_version_replaces_the_old_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("a.json");
        write_atomic(&path, b"old").expect("writable");
        write_atomic(&path, b"new").expect("writable");
        assert_eq!(fs::read(&path).expect("written"), b"new");
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn links_are_replaced_or_refused_and_never_written_through() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").expect("writable");
        let path = dir.path().join("a.json");
        symlink(&victim, &path).expect("link");
        // Links under the next few temporary names: creation must step aside, not follow.
        for number in 0..50 {
            let name = format!(".a.json.{}-{number}.tmp", std::process::id());
            symlink(&victim, dir.path().join(name)).expect("link");
        }
        assert!(read_existing(&path, 100).is_err());
        write_atomic(&path, b"new").expect("another name is free");
        assert_eq!(fs::read(&victim).expect("still there"), b"precious");
        assert!(path.symlink_metadata().expect("written").is_file());
    }

    #[test]
    fn a_failure_names_the_file_and_leaves_the_old_one() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("taken");
        fs::create_dir(&path).expect("directory");
        let error = write_atomic(&path, b"x").expect_err("a directory cannot be replaced");
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(names(dir.path()), ["taken"]);
        assert!(
            read_existing(&dir.path().join("none"), 1)
                .expect("no error")
                .is_none()
        );
        fs::write(dir.path().join("big"), [0; 11]).expect("writable");
        assert!(read_existing(&dir.path().join("big"), 10).is_err());
        assert!(write_atomic(&dir.path().join("no/such/dir"), b"x").is_err());
    }
}
