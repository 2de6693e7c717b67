//! Opening a file of the target as the target sees it, and never anything else.
//!
//! First `/proc/PID/map_files/START-END`, which leads to the very file that is mapped, deleted or not; then the path
//! inside the target's root, where the kernel resolves every link as if that root were `/`
//! (see [`super::root`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::mappings::Region;
use super::root::{Root, regular};

/// Flags for a file that might be hostile.
pub(super) const SAFE_READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

/// The file behind a region of the process.
pub fn mapped_file(pid: u32, region: &Region) -> io::Result<File> {
    by_map_files(pid, region).or_else(|_| {
        let root = Root::of(pid)?;
        let file = root.open(Path::new(root.inside(&region.path)))?;
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
}
