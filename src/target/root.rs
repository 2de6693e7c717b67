//! The root of a process, held: its files can be opened as it saw them, also after it has ended.
//!
//! In: a PID. Out: a [`Root`], one per mount namespace and root folder, whose files are opened with every link resolved
//! as if it were `/` (`openat2(2)`, `RESOLVE_IN_ROOT`). Devices, FIFOs and sockets are refused, and opening never blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, FsType, PROC_SUPER_MAGIC,
    SECURITYFS_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, fstatfs,
};

use super::open::SAFE_READ;

/// Where a process's absolute paths begin.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    /// Where it stands in our own root, if it does: the kernel shows us paths of a process that has merely changed its
    /// root (`chroot(2)`) with this before them.
    path: PathBuf,
}

impl Root {
    pub fn of(pid: u32) -> io::Result<Root> {
        Root::at(Path::new(&format!("/proc/{pid}/root")))
    }

    /// A folder as a root of its own: nothing outside it is reached.
    pub fn at(folder: &Path) -> io::Result<Root> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Root {
            folder: open(folder, flags, Mode::empty())?,
            path: std::fs::read_link(folder).unwrap_or_default(),
        })
    }

    /// A path that the kernel has shown us, as a process in this root would say it.
    pub fn inside<'p>(&self, path: &'p str) -> &'p str {
        let root = self.path.to_str().unwrap_or("/");
        match path.strip_prefix(root) {
            Some(rest) if root.len() > 1 && rest.starts_with('/') => rest,
            _ => path,
        }
    }

    /// The regular file at a path as the process resolves it.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.open_how(path, ResolveFlag::empty())
    }

    /// The same, where no part of the path may be a symbolic link.
    pub fn open_without_links(&self, path: &Path) -> io::Result<File> {
        self.open_how(path, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    fn open_how(&self, path: &Path, more: ResolveFlag) -> io::Result<File> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | more;
        let place = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(place).resolve(resolve);
        // Looked at before it is opened: to open a device can do something already.
        let found = regular(File::from(openat2(&self.folder, path, how)?))?;
        if is_made_by_the_kernel(&found)? {
            return Err(io::Error::other("no file on a disk"));
        }
        let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
        Ok(File::from(open(itself.as_str(), SAFE_READ, Mode::empty())?))
    }
}

/// The file itself, unless it is something to wait for or to talk to.
pub(super) fn regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let what = if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "not a regular file"
    };
    Err(io::Error::other(what))
}

/// Whether the file lies in a file system whose files have no content until they are read: some of those tell a secret, never
/// end, or are changed by it.
fn is_made_by_the_kernel(file: &File) -> io::Result<bool> {
    let kind = fstatfs(file)?.filesystem_type();
    Ok(MADE_BY_THE_KERNEL.contains(&kind))
}

/// Source: `linux/magic.h`.
const MADE_BY_THE_KERNEL: [FsType; 8] = [
    PROC_SUPER_MAGIC,
    SYSFS_MAGIC,
    DEBUGFS_MAGIC,
    TRACEFS_MAGIC,
    CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC,
    SECURITYFS_MAGIC,
    BPF_FS_MAGIC,
];

/// All roots of a recording: thousands of processes share a few.
#[derive(Debug, Default)]
pub struct Roots {
    /// By mount namespace (an inode number), and device and inode of the folder in it.
    known: HashMap<(u64, u64, u64), Arc<Root>>,
}

/// More distinct roots than this are not held: each is an open descriptor.
const MAX_ROOTS: usize = 1024;

impl Roots {
    /// The root of a living process; `None` where it is out of reach.
    pub fn of(&mut self, pid: u32) -> Option<Arc<Root>> {
        let namespace = std::fs::metadata(format!("/proc/{pid}/ns/mnt")).ok()?;
        let folder = std::fs::metadata(format!("/proc/{pid}/root")).ok()?;
        let key = (namespace.ino(), folder.dev(), folder.ino());
        if let Some(known) = self.known.get(&key) {
            return Some(known.clone());
        }
        if self.known.len() >= MAX_ROOTS {
            return None;
        }
        let root = Arc::new(Root::of(pid).ok()?);
        self.known.insert(key, root.clone());
        Some(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_a_root_is_reached_and_nothing_blocks() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let inside = dir.path().join("inside");
        std::fs::write(&inside, "x").expect("written");
        std::os::unix::fs::symlink("/inside", dir.path().join("link")).expect("linked");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("out")).expect("linked");
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).expect("made");
        let root = Root::at(dir.path()).expect("a folder");
        assert!(root.open(Path::new("/inside")).is_ok());
        assert!(root.open(Path::new("/../../inside")).is_ok());
        assert!(root.open(Path::new("/link")).is_ok());
        assert!(root.open_without_links(Path::new("/link")).is_err());
        assert!(root.open(Path::new("/out")).is_err());
        assert!(root.open(Path::new("/../../etc/passwd")).is_err());
        let refused = root.open(Path::new("/fifo")).expect_err("refused");
        assert_eq!(refused.to_string(), "a FIFO");
    }

    #[test]
    fn a_changed_root_is_not_part_of_the_paths_in_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let link = dir.path().join("root");
        std::os::unix::fs::symlink(dir.path(), &link).expect("linked");
        let root = Root::at(&link).expect("a folder");
        let below = |name: &str| format!("{}{name}", dir.path().display());
        assert_eq!(root.inside(&below("/bin/x")), "/bin/x");
        assert_eq!(root.inside(&below("x")), below("x"));
        assert_eq!(root.inside("/bin/x"), "/bin/x");
    }

    #[test]
    fn processes_of_one_namespace_share_a_root() {
        let mut roots = Roots::default();
        let own = roots.of(std::process::id()).expect("own root");
        let again = roots.of(std::process::id()).expect("own root");
        assert!(Arc::ptr_eq(&own, &again));
        assert!(own.open(Path::new("/etc/passwd")).is_ok());
        let refused = own.open(Path::new("/proc/version")).expect_err("refused");
        assert_eq!(refused.to_string(), "no file on a disk");
    }
}
