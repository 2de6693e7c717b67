//! Every file that was seen mapped, opened once.
//!
//! In: a PID and a region of it. Out: the shared [`Binary`]. Files are opened at first sight, while the process still
//! lives; one that was seen before by the same build ID (or the same inode) is not opened again.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::profile::{BuildId, MappingKind};

use super::binary::{Binary, Problem};
use super::jit::{self, trampolines};
use super::mappings::Region;
use super::open;
use super::root::{Root, Roots};

/// More distinct files than this get no entry of their own (they count as one unopened file): each keeps a file open.
const MAX_BINARIES: usize = 16_384;

/// What makes two regions the same file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    BuildId(String, BuildId),
    /// Device, inode, and time of last status change in nanoseconds: an inode number is used again soon.
    Inode(u64, u64, i128),
    /// Path, device and inode as a mapping shows them, which differ from the file's own on overlay file systems.
    Mapped(String, u64, u64),
    /// Nothing but a name is known, and only for this process.
    Name(u32, String),
}

impl Identity {
    /// What a mapping without a build ID says of its file.
    fn mapped(region: &Region) -> Option<Identity> {
        let (device, inode) = region.inode.filter(|_| region.build_id.is_none())?;
        Some(Identity::Mapped(region.path.clone(), device, inode))
    }
}

/// All binaries of a recording.
#[derive(Debug)]
pub struct Binaries {
    all: Vec<Arc<Binary>>,
    by_identity: HashMap<Identity, Arc<Binary>>,
    anonymous: Arc<Binary>,
    vdso: Arc<Binary>,
    roots: Roots,
    own_root: Option<Arc<Root>>,
    /// By the distance of the trampolines.
    arenas: HashMap<usize, Arc<Binary>>,
}

impl Default for Binaries {
    fn default() -> Self {
        Binaries::new()
    }
}

impl Binaries {
    pub fn new() -> Binaries {
        let anonymous = Arc::new(Binary::anonymous(0));
        let vdso = Arc::new(own_vdso(1));
        let mut roots = Roots::default();
        let own_root = roots.of(std::process::id());
        Binaries {
            roots,
            own_root,
            all: vec![anonymous.clone(), vdso.clone()],
            by_identity: HashMap::new(),
            anonymous,
            vdso,
            arenas: HashMap::new(),
        }
    }

    /// An arena of trampolines with that distance.
    pub fn arena(&mut self, distance: usize) -> Arc<Binary> {
        let ix = self.all.len() as u32;
        let arena = self.arenas.entry(distance).or_insert_with(|| {
            let arena = Arc::new(trampolines::arena(ix, distance));
            self.all.push(arena.clone());
            arena
        });
        arena.clone()
    }

    /// All, by [`Binary::ix`].
    pub fn all(&self) -> &[Arc<Binary>] {
        &self.all
    }

    /// The file behind a region of a process.
    pub fn of_region(&mut self, pid: u32, region: &Region) -> Arc<Binary> {
        if region.path == "[vdso]" {
            return self.vdso.clone();
        }
        if is_anonymous(&region.path) {
            return self.anonymous.clone();
        }
        if let Some(known) = self.known_build(region) {
            return known;
        }
        self.open(pid, region)
    }

    fn known_build(&self, region: &Region) -> Option<Arc<Binary>> {
        let identity = Identity::BuildId(region.path.clone(), region.build_id?);
        self.by_identity
            .get(&identity)
            .filter(|binary| binary.file.is_some())
            .cloned()
    }

    fn open(&mut self, pid: u32, region: &Region) -> Arc<Binary> {
        if self.all.len() >= MAX_BINARIES {
            return self.anonymous.clone();
        }
        match open::mapped_file(pid, region) {
            Ok(file) => {
                let root = self.roots.of(pid);
                let binary = self.add_opened(region, file, root);
                if let Some(identity) = Identity::mapped(region) {
                    self.by_identity.insert(identity, binary.clone());
                }
                binary
            }
            Err(why) => self
                .known_inode(region)
                .or_else(|| self.open_without_process(region))
                .unwrap_or_else(|| self.add_unopened(pid, region, Problem::of_opening(&why))),
        }
    }

    /// The process is gone already, and the kernel gives no build IDs (before 5.12), but the same file was opened for
    /// another process. We hold it open, so its inode's number cannot be another file's meanwhile.
    fn known_inode(&self, region: &Region) -> Option<Arc<Binary>> {
        let identity = Identity::mapped(region)?;
        self.by_identity
            .get(&identity)
            .filter(|binary| binary.file.is_some())
            .cloned()
    }

    /// The process is gone already, but the same build, or the very same file, may stand at the same path in our own root.
    fn open_without_process(&mut self, region: &Region) -> Option<Arc<Binary>> {
        let file = self.own_root.as_ref()?.open(Path::new(&region.path)).ok()?;
        if region.build_id.is_none() {
            let found = file.metadata().ok().map(|m| (m.dev(), m.ino()))?;
            region.inode.filter(|mapped| *mapped == found)?;
        }
        let root = self.own_root.clone();
        let candidate = self.add_opened(region, file, root);
        candidate.problem.is_none().then_some(candidate)
    }

    fn add_opened(&mut self, region: &Region, file: File, root: Option<Arc<Root>>) -> Arc<Binary> {
        let by_inode = file.metadata().ok().map(|m| {
            let changed_ns = i128::from(m.ctime()) * 1_000_000_000 + i128::from(m.ctime_nsec());
            Identity::Inode(m.dev(), m.ino(), changed_ns)
        });
        if let Some(known) = by_inode.as_ref().and_then(|key| self.by_identity.get(key)) {
            let same = region.build_id.is_none() || region.build_id == known.build_id;
            if same {
                return known.clone();
            }
        }
        let ix = self.all.len() as u32;
        let path = region.path.clone();
        let mut binary = if jit::is_dump(&path, &file) {
            Binary::generated(ix, path, Some(file))
        } else if is_memory(&path) && !is_elf(&file) {
            Binary::generated(ix, path, None)
        } else {
            Binary::read(ix, MappingKind::File, path, file, region.build_id)
        };
        binary.root = root;
        let binary = Arc::new(binary);
        self.all.push(binary.clone());
        if let Some(build_id) = binary.build_id {
            let identity = Identity::BuildId(region.path.clone(), build_id);
            self.by_identity.insert(identity, binary.clone());
        }
        if let (Some(identity), None) = (by_inode, &binary.problem) {
            self.by_identity.insert(identity, binary.clone());
        }
        binary
    }

    fn add_unopened(&mut self, pid: u32, region: &Region, problem: Problem) -> Arc<Binary> {
        let identity = match region.build_id {
            Some(build_id) => Identity::BuildId(region.path.clone(), build_id),
            None => Identity::Name(pid, region.path.clone()),
        };
        if let Some(known) = self.by_identity.get(&identity) {
            return known.clone();
        }
        let ix = self.all.len() as u32;
        let binary = Arc::new(Binary::unknown(
            ix,
            MappingKind::File,
            region.path.clone(),
            region.build_id,
            Some(problem),
        ));
        self.all.push(binary.clone());
        self.by_identity.insert(identity, binary.clone());
        binary
    }
}

/// Names the kernel gives to executable memory without a file.
fn is_anonymous(path: &str) -> bool {
    path.is_empty() || path.starts_with("//anon") || path.starts_with('[')
}

/// Files that are memory: a runtime that may not write what it executes maps its code twice, through one of them.
fn is_memory(path: &str) -> bool {
    ["/memfd:", "/dev/zero", "/dev/shm/", "/SYSV"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

fn is_elf(file: &File) -> bool {
    use std::os::unix::fs::FileExt;
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 0).is_ok() && magic == object::elf::ELFMAG
}

/// The kernel maps the same code into every 64-bit process, so our own copy serves for all.
fn own_vdso(ix: u32) -> Binary {
    let name = || "[vdso]".to_owned();
    match copy_own_vdso() {
        Ok(file) => Binary::read(ix, MappingKind::Vdso, name(), file, None),
        Err(why) => {
            let problem = Some(Problem::of_opening(&why));
            Binary::unknown(ix, MappingKind::Vdso, name(), None, problem)
        }
    }
}

/// The vDSO, written to a file in memory so that it can be read like any other ELF file.
fn copy_own_vdso() -> std::io::Result<File> {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let region = maps
        .lines()
        .filter_map(Region::parse)
        .find(|region| region.path == "[vdso]")
        .ok_or_else(|| std::io::Error::other("this process has no vDSO"))?;
    let mut bytes = vec![0; (region.end.0 - region.start.0) as usize];
    File::open("/proc/self/mem")?.read_exact_at(&mut bytes, region.start.0)?;
    let memfd =
        nix::sys::memfd::memfd_create("perfprof-vdso", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(memfd);
    file.write_all(&bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_mappings_are_found_once_and_the_vdso_can_be_unwound() {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
        let mut binaries = Binaries::new();
        let pid = std::process::id();
        for region in maps.lines().filter_map(Region::parse) {
            let first = binaries.of_region(pid, &region);
            let again = binaries.of_region(pid, &region);
            assert!(Arc::ptr_eq(&first, &again), "{}", region.path);
        }
        assert!(!binaries.vdso.unwind.eh_frame.is_empty());
        assert!(binaries.all().iter().any(|b| b.path.contains("libc.so")));
    }

    #[test]
    fn a_process_that_is_gone_had_the_file_of_that_path_and_inode() {
        /// Above the kernel's limit.
        const GONE: u32 = 1 << 30;
        let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
        let mut regions = maps.lines().filter_map(Region::parse);
        let libc = |region: &Region| region.path.contains("libc.so");
        let mut region = regions.find(libc).expect("libc is mapped");
        let mut binaries = Binaries::new();
        let found = binaries.of_region(GONE, &region);
        assert!(found.file.is_some(), "the very same file stands there");
        let opened = binaries.of_region(std::process::id(), &region);
        assert!(Arc::ptr_eq(&found, &opened));

        let path = std::mem::replace(&mut region.path, "/in/another/root".into());
        assert!(binaries.of_region(GONE, &region).file.is_none());
        region.path = path;
        let (device, inode) = region.inode.expect("a file has an inode");
        region.inode = Some((device, inode + 1));
        assert!(binaries.of_region(GONE, &region).file.is_none());
    }
}
