//! The executable mappings of one process, as they change.
//!
//! In: `/proc/PID/maps` at attach, then mmap records. Out: the mapping at an address. Forked processes share one set
//! until one of them changes it; [`Mappings::generation`] names the content, so that what was computed for one process
//! serves its siblings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::profile::{BuildId, ElfAddr, FileOffset, RuntimeAddr};

use super::binary::Binary;

/// A region of a process as the kernel describes it, before its file has been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    pub start: RuntimeAddr,
    pub end: RuntimeAddr,
    pub file_offset: FileOffset,
    /// Device and inode numbers where the kernel gave them.
    pub inode: Option<(u64, u64)>,
    /// Path as the target sees it, ` (deleted)` removed; empty for anonymous memory; `[vdso]` and the like.
    pub path: String,
    pub build_id: Option<BuildId>,
}

impl Region {
    /// One line of `/proc/PID/maps`; `None` unless executable.
    pub fn parse(line: &str) -> Option<Region> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        if !fields.next()?.contains('x') {
            return None;
        }
        let file_offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let device = device_number(hex(major)?, hex(minor)?);
        let inode: u64 = fields.next()?.parse().ok()?;
        let path = fields.next().unwrap_or("").trim_start_matches(' ');
        Some(Region {
            start: RuntimeAddr(hex(start)?),
            end: RuntimeAddr(hex(end)?),
            file_offset: FileOffset(file_offset),
            inode: (inode != 0).then_some((device, inode)),
            path: unescape(path),
            build_id: None,
        })
    }

    /// Whether the process itself can have put code there: the kernel's own pages look like memory without a file.
    pub fn may_be_generated(&self) -> bool {
        !matches!(self.path.as_str(), "[vsyscall]" | "[uprobes]")
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// As `makedev(3)` packs it, to compare with `st_dev`.
pub fn device_number(major: u64, minor: u64) -> u64 {
    nix::sys::stat::makedev(major, minor)
}

/// The kernel writes a newline in a path as `\012` and marks an unlinked file by a suffix.
fn unescape(path: &str) -> String {
    path.strip_suffix(" (deleted)")
        .unwrap_or(path)
        .replace("\\012", "\n")
}

/// A region and the file behind it.
#[derive(Clone, Debug)]
pub struct MappedRegion {
    pub start: RuntimeAddr,
    pub end: RuntimeAddr,
    pub file_offset: FileOffset,
    pub binary: Arc<Binary>,
}

impl MappedRegion {
    /// Where `addr` stands in the file's own address space.
    pub fn elf_addr(&self, addr: RuntimeAddr) -> Option<ElfAddr> {
        let offset = addr.0 - self.start.0 + self.file_offset.0;
        self.binary.elf_addr(FileOffset(offset))
    }

    /// What to add to an address of the file to get one of the process.
    pub fn bias(&self) -> Option<u64> {
        Some(self.start.0.wrapping_sub(self.elf_addr(self.start)?.0))
    }
}

/// All executable mappings of a process at one moment.
#[derive(Clone, Debug)]
pub struct Mappings {
    by_start: BTreeMap<u64, MappedRegion>,
    generation: u64,
}

impl Default for Mappings {
    fn default() -> Self {
        Mappings {
            by_start: BTreeMap::new(),
            generation: next_generation(),
        }
    }
}

fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Mappings {
    /// A number no other content has.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Adds a mapping; what it overlaps is cut back or removed, as `mmap(2)` with `MAP_FIXED` does.
    pub fn insert(&mut self, region: MappedRegion) {
        if region.start >= region.end {
            return;
        }
        let (start, end) = (region.start.0, region.end.0);
        let overlapping: Vec<u64> = self
            .by_start
            .range(..end)
            .filter(|(_, old)| old.end.0 > start)
            .map(|(key, _)| *key)
            .collect();
        for key in overlapping {
            let old = self.by_start.remove(&key).expect("just listed");
            if old.start.0 < start {
                let left = MappedRegion {
                    end: region.start,
                    ..old.clone()
                };
                self.by_start.insert(left.start.0, left);
            }
            if old.end.0 > end {
                let skipped = end - old.start.0;
                let right = MappedRegion {
                    start: region.end,
                    file_offset: FileOffset(old.file_offset.0 + skipped),
                    ..old
                };
                self.by_start.insert(right.start.0, right);
            }
        }
        self.by_start.insert(start, region);
        self.generation = next_generation();
    }

    pub fn find(&self, addr: RuntimeAddr) -> Option<&MappedRegion> {
        let (_, region) = self.by_start.range(..=addr.0).next_back()?;
        (addr < region.end).then_some(region)
    }

    pub fn regions(&self) -> impl Iterator<Item = &MappedRegion> {
        self.by_start.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, offset: u64) -> MappedRegion {
        MappedRegion {
            start: RuntimeAddr(start),
            end: RuntimeAddr(end),
            file_offset: FileOffset(offset),
            binary: Arc::new(Binary::anonymous(0)),
        }
    }

    #[test]
    fn a_line_of_maps_keeps_spaces_and_drops_the_deleted_mark() {
        let line = "7f00-8f00 r-xp 00001000 fe:02 77                     /srv/my app (deleted)";
        let parsed = Region::parse(line).expect("executable");
        assert_eq!(parsed.path, "/srv/my app");
        assert_eq!(parsed.file_offset, FileOffset(0x1000));
        assert_eq!(parsed.inode, Some((device_number(0xfe, 2), 77)));
        assert_eq!(
            Region::parse("7f00-8f00 rw-p 00000000 00:00 0 [heap]"),
            None
        );
        assert_eq!(Region::parse("nonsense"), None);
    }

    #[test]
    fn a_mapping_over_another_leaves_the_rest_of_it_in_place() {
        let mut maps = Mappings::default();
        maps.insert(region(0x1000, 0x9000, 0));
        let before = maps.generation();
        maps.insert(region(0x3000, 0x4000, 0x70000));
        assert_ne!(maps.generation(), before);
        let offset_at = |addr| {
            let found = maps.find(RuntimeAddr(addr))?;
            Some(addr - found.start.0 + found.file_offset.0)
        };
        assert_eq!(offset_at(0x1500), Some(0x500));
        assert_eq!(offset_at(0x3010), Some(0x70010));
        assert_eq!(offset_at(0x4020), Some(0x3020));
        assert_eq!(offset_at(0x9000), None);
        assert_eq!(offset_at(0xfff), None);
    }
}
