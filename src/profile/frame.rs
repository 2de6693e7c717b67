//! A frame: one activation of code at one address, with every function found there.

use super::{ElfAddr, MappingIx};

/// Index into [`super::Profile::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionIx(pub u32);

/// A function as it is shown. Two functions are the same when name and file are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Demangled name; for an unresolved frame its address, as in `libfoo.so+0x1234`.
    pub name: String,
    /// The name as the symbol table has it; empty where it is the same or unknown.
    pub linkage_name: String,
    /// Source file; empty where unknown.
    pub file: String,
}

/// A function at a frame's address, and the line being executed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    pub function: FunctionIx,
    /// 1-based; 0 where unknown.
    pub line: u32,
}

/// In whose code the frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrameKind {
    User,
    Kernel,
    /// Not code, but what the code below waits for; in [`super::Profile::off_cpu_view`] only.
    Wait,
}

/// Why a frame has no function name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unresolved {
    /// The file has no symbol that covers the address.
    NoSymbol,
    /// The file could not be opened any more, or was replaced by another build.
    FileGone,
    /// It was not permitted to open the file.
    FileRefused,
    /// The file could not be parsed.
    BadFile,
    /// No mapping is known at the address.
    NoMapping,
    /// Anonymous executable memory: generated code without a map.
    Jit,
    /// Generated code whose map must not be read, or not to its end.
    JitMapRefused,
    /// Generated code that its map does not name.
    NotInJitMap,
    /// The kernel hides its symbols (`kernel.kptr_restrict`, or no CAP_SYSLOG).
    KernelHidden,
}

impl Unresolved {
    pub const ALL: [Unresolved; 9] = [
        Unresolved::NoSymbol,
        Unresolved::FileGone,
        Unresolved::FileRefused,
        Unresolved::BadFile,
        Unresolved::NoMapping,
        Unresolved::Jit,
        Unresolved::JitMapRefused,
        Unresolved::NotInJitMap,
        Unresolved::KernelHidden,
    ];

    /// Stable identifier for files.
    pub fn id(self) -> &'static str {
        match self {
            Unresolved::NoSymbol => "no-symbol",
            Unresolved::FileGone => "file-gone",
            Unresolved::FileRefused => "file-refused",
            Unresolved::BadFile => "bad-file",
            Unresolved::NoMapping => "no-mapping",
            Unresolved::Jit => "jit",
            Unresolved::JitMapRefused => "jit-map-refused",
            Unresolved::NotInJitMap => "not-in-jit-map",
            Unresolved::KernelHidden => "kernel-hidden",
        }
    }

    pub fn from_id(id: &str) -> Option<Unresolved> {
        Unresolved::ALL.into_iter().find(|reason| reason.id() == id)
    }
}

/// One activation of a function, perhaps with functions inlined into it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    pub kind: FrameKind,
    pub mapping: Option<MappingIx>,
    /// The address to look up (for a caller: inside the call instruction) in the mapping's file; the runtime address
    /// where no mapping is known.
    pub addr: ElfAddr,
    /// Innermost inlined function first, the function that has the code last, as in pprof. Never empty: an unresolved
    /// frame has one line whose function's name is its address.
    pub lines: Vec<Line>,
    /// Set when the one function above is only an address.
    pub unresolved: Option<Unresolved>,
}
