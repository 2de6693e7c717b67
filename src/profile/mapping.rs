//! A file (or a thing like one) that code was executed from.

use super::{BuildId, ElfAddr, FileOffset};

/// Index into [`super::Profile::mappings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MappingIx(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MappingKind {
    /// A file in the target's view of the file system.
    File,
    /// The kernel's page of code in every process.
    Vdso,
    /// The kernel image, or one of its modules.
    Kernel,
    /// Anonymous executable memory, as JIT compilers make it.
    Anonymous,
}

/// An executable segment of a file, independent of where processes put it: two processes that run the same file share
/// one entry, so that (build ID, address) can be looked up later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    pub kind: MappingKind,
    /// Path as the target sees it, or `[vdso]`, `[kernel]`, `[module]`, `[anon]`. Of generated code, that of the map that
    /// tells of it.
    pub path: String,
    pub build_id: Option<BuildId>,
    /// First address of the segment, as the file's program headers have it.
    pub start: ElfAddr,
    /// One past the last address.
    pub end: ElfAddr,
    pub file_offset: FileOffset,
}

impl Mapping {
    /// The last component of the path, for people.
    pub fn short_name(&self) -> &str {
        self.path
            .rsplit('/')
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or(&self.path)
    }
}
