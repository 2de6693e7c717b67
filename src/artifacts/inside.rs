//! Reading what lies inside a directory that others can write to.
//!
//! In: the directory, and a path below it that may come from a document. Out: an open regular file of that very tree.
//! No link is followed on the way, so that no name leads out; a FIFO does not make us wait.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

/// Why a path below a directory leads to no regular file in it.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    #[error("leads out of the directory")]
    Outside,
    #[error("is a link, or lies behind one")]
    Link,
    #[error("is not a regular file")]
    WrongKind,
    #[error("has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("cannot be read")]
    Io(#[source] io::Error),
}

/// The regular file at `relative` below `root`; `None` when there is none.
pub fn open_inside(root: &Path, relative: &Path) -> Result<Option<File>, InsideError> {
    let names: Vec<_> = relative
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(InsideError::Outside),
        })
        .collect::<Result<_, _>>()?;
    let Some((last, folders)) = names.split_last() else {
        return Err(InsideError::WrongKind);
    };
    let directory = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // The directory itself is the user's choice, link or not.
    let mut at: OwnedFd = match open(root, directory, Mode::empty()) {
        Ok(at) => at,
        Err(errno) => return absent_or(errno),
    };
    for folder in folders {
        at = match openat(&at, *folder, directory | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(next) => next,
            // A link opened as a directory without following is ENOTDIR, as is a file in its place.
            Err(Errno::ENOTDIR) => return Err(InsideError::Link),
            Err(errno) => return absent_or(errno),
        };
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(&at, *last, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(errno) => return absent_or(errno),
    };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(Some(file)),
        Ok(_) => Err(InsideError::WrongKind),
        Err(error) => Err(InsideError::Io(error)),
    }
}

fn absent_or(errno: Errno) -> Result<Option<File>, InsideError> {
    match errno {
        Errno::ENOENT => Ok(None),
        Errno::ELOOP => Err(InsideError::Link),
        // A socket, or a device without a driver.
        Errno::ENXIO | Errno::ENODEV => Err(InsideError::WrongKind),
        errno => Err(InsideError::Io(errno.into())),
    }
}

/// Its bytes, at most `limit`.
pub fn read_inside(
    root: &Path,
    relative: &Path,
    limit: u64,
) -> Result<Option<Vec<u8>>, InsideError> {
    open_inside(root, relative)?
        .map(|file| read_limited(file, limit))
        .transpose()
}

/// The bytes of the regular file at `path`, which the user has named: a link is followed. `None` when there is none.
pub fn read_named(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, InsideError> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(InsideError::Io(error)),
    };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => read_limited(file, limit).map(Some),
        Ok(_) => Err(InsideError::WrongKind),
        Err(error) => Err(InsideError::Io(error)),
    }
}

fn read_limited(file: File, limit: u64) -> Result<Vec<u8>, InsideError> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(InsideError::Io)?;
    match bytes.len() as u64 > limit {
        true => Err(InsideError::TooLarge { limit }),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_of_the_tree_are_read() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (root, outside) = (dir.path().join("root"), dir.path().join("secret"));
        fs::create_dir_all(root.join("sub")).expect("made");
        fs::write(&outside, "secret").expect("written");
        fs::write(root.join("sub/a"), "abc").expect("written");
        symlink(&outside, root.join("link")).expect("link");
        symlink(dir.path(), root.join("out")).expect("link");
        nix::unistd::mkfifo(&root.join("fifo"), Mode::S_IRWXU).expect("made");
        let read = |path: &str, limit| read_inside(&root, Path::new(path), limit);

        let bytes = read("./sub/a", 3).expect("readable");
        assert_eq!(bytes.as_deref(), Some(&b"abc"[..]));
        assert!(matches!(read("sub/b", 3), Ok(None)));
        assert!(matches!(read("nowhere/b", 3), Ok(None)));
        assert!(matches!(
            read("sub/a", 2),
            Err(InsideError::TooLarge { .. })
        ));
        for (path, error) in [
            ("../secret", InsideError::Outside),
            ("/etc/passwd", InsideError::Outside),
            ("link", InsideError::Link),
            ("out/secret", InsideError::Link),
            ("sub", InsideError::WrongKind),
            ("fifo", InsideError::WrongKind),
            ("", InsideError::WrongKind),
        ] {
            let got = read(path, 9).expect_err(path);
            assert_eq!(got.to_string(), error.to_string(), "{path}");
        }
    }
}
