//! Three address spaces, three types. A bare `u64` never says which space it belongs to, and mixing them is the oldest
//! bug of every profiler.

/// An address in a running process, or in the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuntimeAddr(pub u64);

/// A byte offset in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileOffset(pub u64);

/// A virtual address as the ELF file's own program headers and symbols use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ElfAddr(pub u64);

/// How a frame's address came to be known, which decides where its row and its symbol are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameAddr {
    /// An interrupted instruction pointer: the address itself is being executed.
    Exact(RuntimeAddr),
    /// A return address: the call stands just before it, perhaps as the last instruction of the function.
    Return(RuntimeAddr),
}

impl FrameAddr {
    /// The address to look up; the only place that subtracts one from a return address.
    pub fn lookup_addr(self) -> RuntimeAddr {
        match self {
            FrameAddr::Exact(addr) => addr,
            FrameAddr::Return(addr) => RuntimeAddr(addr.0.saturating_sub(1)),
        }
    }
}
