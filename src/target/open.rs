//! Opening a file of the target as the target sees it, and never anything else.
//!
//! First `/proc/PID/map_files/START-END`, which leads to the very file that is mapped, deleted or not; then the path
//! inside the target's root, where the kernel resolves every link as if that root were `/`
//! (`openat2(2)`, `RESOLVE_IN_ROOT`). Devices, FIFOs and sockets are refused, and opening never blocks on one.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::mappings::Region;

/// Flags for a file that might be hostile.
const SAFE_READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

/// The file behind a region of the process.
pub fn mapped_file(pid: u32, region: &Region) -> io::Result<File> {
    by_map_files(pid, region).or_else(|_| {
        let file = in_root_of(pid, Path::new(&region.path))?;
        if is_replaced(&file, region)? {
            return Err(io::Error::other("another file stands at its path now"));
        }
        Ok(file)
    })
}

/// Whether the file at the path is another one than was mapped. A build ID is compared later; without one the inode
/// must be the same. Overlay file systems show another device number in `maps` than `stat`, so the inode alone counts.
fn is_replaced(file: &File, region: &Region) -> io::Result<bool> {
    let Some((_device, inode)) = region.inode else {
        return Ok(false);
    };
    Ok(region.build_id.is_none() && file.metadata()?.ino() != inode)
}

/// Needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN (kernel 5.9).
fn by_map_files(pid: u32, region: &Region) -> io::Result<File> {
    let link = format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        region.start.0, region.end.0
    );
    regular(File::from(open(link.as_str(), SAFE_READ, Mode::empty())?))
}

/// A path as a process resolves it.
pub fn in_root_of(pid: u32, path: &Path) -> io::Result<File> {
    let root = open(
        format!("/proc/{pid}/root").as_str(),
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let how = OpenHow::new()
        .flags(SAFE_READ)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    regular(File::from(openat2(root, path, how)?))
}

fn regular(file: File) -> io::Result<File> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_at_the_path_of_the_mapped_one_is_not_taken_for_it() {
        let path = std::fs::read_link("/proc/self/exe").expect("own path");
        let file = File::open(&path).expect("own binary");
        let inode = file.metadata().expect("metadata").ino();
        let line = |inode| format!("1000-2000 r-xp 00000000 00:00 {inode} {}", path.display());
        let region = |inode| Region::parse(&line(inode)).expect("executable");
        assert!(!is_replaced(&file, &region(inode)).expect("metadata"));
        assert!(is_replaced(&file, &region(inode + 1)).expect("metadata"));
        let own_pid = std::process::id();
        assert!(mapped_file(own_pid, &region(inode + 1)).is_err());
    }

    #[test]
    fn a_fifo_is_refused_without_waiting_for_a_writer() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("made");
        let refused = in_root_of(std::process::id(), &fifo).expect_err("refused");
        assert_eq!(refused.to_string(), "a FIFO");
    }
}
