//! The artifact root: its directories, its lock, and moving aside what must not be lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};

use super::ArtifactError;
use super::atomic::{read_existing, write_atomic};

/// Space a recording's files take at least; a disk without it is found full before recording, not after.
const PROBE_BYTES: usize = 1 << 20;
/// A larger document was not written by perfprof.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
const LOCK_FILE: &str = ".perfprof.lock";

/// The directory given with `--artifacts`, with its subdirectories in place.
#[derive(Clone, Debug)]
pub struct ArtifactRoot {
    dir: PathBuf,
}

impl ArtifactRoot {
    /// Creates `dir` (with its parents), `diagnostics/` and `manifests/` where they are missing.
    pub fn open(dir: &Path) -> Result<ArtifactRoot, ArtifactError> {
        let root = ArtifactRoot {
            dir: dir.to_owned(),
        };
        fs::create_dir_all(dir).map_err(ArtifactError::io("create", dir))?;
        root.folder("diagnostics")?;
        root.folder("manifests")?;
        Ok(root)
    }

    /// Creates the folder `name` of the root where it is missing; refuses anything else in its place.
    pub fn folder(&self, name: &str) -> Result<PathBuf, ArtifactError> {
        let path = self.dir.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(ArtifactError::io("create", &path)(error));
            }
            _ => {}
        }
        let metadata = fs::symlink_metadata(&path).map_err(ArtifactError::io("open", &path))?;
        match metadata.is_dir() {
            true => Ok(path),
            false => Err(ArtifactError::WrongKind {
                path,
                wanted: "directory",
            }),
        }
    }

    /// Fails now where writing the results would fail later: no permission, read-only, full.
    pub fn check_writable(&self) -> Result<(), ArtifactError> {
        for dir in [self.dir.clone(), self.diagnostics(), self.manifests()] {
            // Unlinked at once: the space is really taken, and nothing stays behind.
            let probe = tempfile_in(&dir).and_then(|mut file| {
                file.write_all(&vec![0xa5; PROBE_BYTES])?;
                file.sync_all()
            });
            probe.map_err(ArtifactError::io("write to", &dir))?;
        }
        self.lock().map(drop)
    }

    /// Waits for other recordings that are writing to the same root.
    pub fn lock(&self) -> Result<Locked<'_>, ArtifactError> {
        let path = self.dir.join(LOCK_FILE);
        let fail = || ArtifactError::io("lock", &path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&path)
            .map_err(fail())?;
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        let lock = lock.map_err(|(_, errno)| fail()(io::Error::from(errno)))?;
        Ok(Locked {
            root: self,
            _lock: lock,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn diagnostics(&self) -> PathBuf {
        self.dir.join("diagnostics")
    }

    pub fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }
}

/// An anonymous file: created exclusively in `dir` and unlinked before anything is written to it.
fn tempfile_in(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!(".perfprof-probe.{}", std::process::id()));
    let open = || OpenOptions::new().write(true).create_new(true).open(&path);
    let file = match open() {
        // Left over from a crash of a process with our PID, or planted; unlinking follows no link.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&path)?;
            open()?
        }
        result => result?,
    };
    fs::remove_file(&path)?;
    Ok(file)
}

/// The artifact root while no other recording writes to it. Released when dropped.
#[derive(Debug)]
pub struct Locked<'a> {
    root: &'a ArtifactRoot,
    _lock: Flock<File>,
}

impl Locked<'_> {
    pub fn root(&self) -> &ArtifactRoot {
        self.root
    }

    /// The present bytes of the document `name`. One that cannot be read as a document (too large, no regular file) is
    /// moved aside like one that cannot be parsed.
    pub(super) fn read(&self, name: &str) -> Result<Existing, ArtifactError> {
        let path = self.root.dir.join(name);
        match read_existing(&path, MAX_DOCUMENT_BYTES) {
            Ok(None) => Ok(Existing::Missing),
            Ok(Some(bytes)) => Ok(Existing::Bytes(bytes)),
            Err(ArtifactError::Io { source, .. })
                if source.kind() == ErrorKind::PermissionDenied =>
            {
                Err(ArtifactError::io("read", &path)(source))
            }
            Err(_) => Ok(Existing::Unreadable),
        }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, ArtifactError> {
        let path = self.root.dir.join(name);
        write_atomic(&path, bytes)?;
        Ok(path)
    }

    /// Renames the document `name` to `name.corrupt-STAMP`, or with a number where that exists, and returns its path.
    pub(super) fn move_aside(&self, name: &str, stamp: &str) -> Result<PathBuf, ArtifactError> {
        self.move_aside_as(name, "corrupt", stamp)
    }

    /// The same with another word than `corrupt`.
    pub(super) fn move_aside_as(
        &self,
        name: &str,
        word: &str,
        stamp: &str,
    ) -> Result<PathBuf, ArtifactError> {
        let from = self.root.dir.join(name);
        let to = free_name(|suffix| self.root.dir.join(format!("{name}.{word}-{stamp}{suffix}")));
        fs::rename(&from, &to).map_err(ArtifactError::io("move aside", &from))?;
        Ok(to)
    }
}

/// What stands at a document's path.
#[derive(Debug)]
pub(super) enum Existing {
    Missing,
    Bytes(Vec<u8>),
    Unreadable,
}

/// The first of `name("")`, `name("-2")`, `name("-3")`, … that does not exist, not even as a dangling link.
pub(super) fn free_name(name: impl Fn(&str) -> PathBuf) -> PathBuf {
    let mut path = name("");
    let mut number = 2u64;
    while fs::symlink_metadata(&path).is_ok() {
        path = name(&format!("-{number}"));
        number += 1;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_root_is_made_and_a_writable_one_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(&dir.path().join("a/b")).expect("creatable");
        root.check_writable().expect("writable");
        for sub in ["diagnostics", "manifests"] {
            let entries = fs::read_dir(root.dir().join(sub)).expect("made");
            assert_eq!(entries.count(), 0);
        }
        ArtifactRoot::open(root.dir()).expect("opening again changes nothing");
    }

    #[test]
    fn what_cannot_become_a_root_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("writable");
        let error = ArtifactRoot::open(&file).expect_err("a file is no directory");
        assert!(error.to_string().contains("file"), "{error}");
        symlink("/tmp", dir.path().join("diagnostics")).expect("link");
        let error = ArtifactRoot::open(dir.path()).expect_err("a planted link");
        assert!(matches!(error, ArtifactError::WrongKind { .. }), "{error}");
    }

    #[test]
    fn a_directory_that_is_gone_is_found_before_recording() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(dir.path()).expect("creatable");
        fs::remove_dir(root.diagnostics()).expect("empty");
        let error = root.check_writable().expect_err("no directory to write to");
        assert!(error.to_string().contains("diagnostics"), "{error}");
    }

    #[test]
    fn a_full_disk_is_found_before_recording_and_keeps_the_old_version() {
        use std::process::Command;
        let dir = tempfile::tempdir().expect("temporary directory");
        let mount = |command: &str, arguments: &[&str]| {
            let output = Command::new(command)
                .args(arguments)
                .arg(dir.path())
                .output();
            output.is_ok_and(|output| output.status.success())
        };
        if !mount("mount", &["-t", "tmpfs", "-o", "size=256k", "tmpfs"]) {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "SKIP mount: a tmpfs cannot be mounted");
            return;
        }
        let root = ArtifactRoot::open(dir.path()).expect("room for directories");
        let checked = root.check_writable();
        let path = dir.path().join("report.md");
        write_atomic(&path, b"old").expect("room for three bytes");
        let written = write_atomic(&path, &vec![0; PROBE_BYTES]);
        let kept = fs::read(&path);
        let entries = fs::read_dir(dir.path()).map(Iterator::count);
        assert!(mount("umount", &[]), "the file system is not in use");

        let error = checked.expect_err("a megabyte does not fit");
        assert!(error.hint().contains("space"), "{error:?}");
        assert!(
            written
                .expect_err("nor does the file")
                .hint()
                .contains("space")
        );
        assert_eq!(kept.expect("still there"), b"old");
        assert_eq!(entries.expect("readable"), 3, "no temporary file stays");
    }

    #[test]
    fn the_lock_is_exclusive_until_dropped() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(dir.path()).expect("creatable");
        let locked = root.lock().expect("free");
        let file = File::open(dir.path().join(LOCK_FILE)).expect("lock file");
        let (file, errno) = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect_err("taken");
        assert_eq!(errno, nix::errno::Errno::EWOULDBLOCK);
        drop(locked);
        Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("free again");
    }
}
