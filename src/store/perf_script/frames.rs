//! From a stack's lines to frames: which lines are one frame, whose code it is, and what it is called.

use super::lines::{self, Block};
use crate::profile::{FrameKind, MappingKind, Unresolved};

/// Lines that are one frame: functions inlined at one address, the one that has the code last, and their places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    /// Number of the first line.
    pub(super) line: usize,
    pub(super) text: &'a [u8],
}

impl<'a> Group<'a> {
    /// The frames of a stack, leaf first, not read yet.
    pub(super) fn all(block: &Block<'a>) -> Vec<Group<'a>> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        let (mut start, mut at) = (0, 0);
        // The first word of the frame before this line, and whether it was inlined.
        let mut last: Option<(&[u8], bool)> = None;
        for (i, line) in block.stack.split_inclusive(|b| *b == b'\n').enumerate() {
            let inlined = line.trim_ascii_end().ends_with(b" (inlined)");
            if is_frame(line) {
                let address = word(line);
                // Old versions print no address for what was inlined.
                let same = |before: &[u8]| before == address || !is_address(before);
                if !last.is_some_and(|(before, inlined)| inlined && same(before)) {
                    start = at;
                    groups.push(Group {
                        line: block.stack_line + i,
                        text: &[],
                    });
                }
                last = Some((address, inlined));
            } else if let Some((_, last)) = &mut last {
                *last |= inlined; // a place stands before the mark
            }
            at += line.len();
            match groups.last_mut() {
                Some(group) => group.text = &block.stack[start..at],
                None => groups.push(Group {
                    line: block.stack_line + i,
                    text: &block.stack[..at],
                }),
            }
        }
        groups
    }
}

/// Lines of frames are indented further than those of places.
pub(super) fn is_frame(line: &[u8]) -> bool {
    line.starts_with(b"\t") || line.starts_with(b"    ")
}

fn is_address(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_hexdigit)
}

fn word(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii_start();
    let end = line.iter().position(|b| b.is_ascii_whitespace());
    &line[..end.unwrap_or(line.len())]
}

/// Whose code it is, by its file or, where that was not printed, by its address.
pub(super) fn kind(frame: &lines::Frame<'_>) -> FrameKind {
    /// x86_64 and arm64: the upper half belongs to the kernel.
    const KERNEL_FROM: u64 = 0xffff_0000_0000_0000;
    let of_kernel = match frame.dso {
        "" => frame.address.is_some_and(|address| address >= KERNEL_FROM),
        dso => mapping_kind(dso) == MappingKind::Kernel,
    };
    match of_kernel {
        true => FrameKind::Kernel,
        false => FrameKind::User,
    }
}

/// perf writes `[kernel.kallsyms]`, modules as `[ext4]`, BPF programs as `bpf_prog_…`.
pub(super) fn mapping_kind(dso: &str) -> MappingKind {
    let base = dso.rsplit('/').next().unwrap_or(dso);
    let module = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"];
    match dso {
        "[vdso]" | "[vdso32]" | "[vsyscall]" => MappingKind::Vdso,
        "//anon" | "[anon]" | "[heap]" | "[stack]" | "[uprobes]" => MappingKind::Anonymous,
        _ if dso.starts_with('[') => MappingKind::Kernel,
        _ if base.starts_with("bpf_prog_") || base == "vmlinux" => MappingKind::Kernel,
        _ if module.iter().any(|end| base.ends_with(end)) => MappingKind::Kernel,
        _ if dso.starts_with("anon_inode:") => MappingKind::Anonymous,
        _ => MappingKind::File,
    }
}

/// What stands for a name that perf does not know, and why it does not.
pub(super) fn unnamed(frame: &lines::Frame<'_>) -> (String, Unresolved) {
    let address = frame.address.unwrap_or(0);
    let base = frame.dso.rsplit('/').next().unwrap_or(frame.dso);
    let name = match base {
        "" => format!("{address:#x}"),
        base => format!("{base}+{address:#x}"),
    };
    let is_map = base.starts_with("perf-") && base.ends_with(".map");
    let why = match mapping_kind(frame.dso) {
        _ if frame.dso.is_empty() => Unresolved::NoMapping,
        _ if is_map => Unresolved::NotInJitMap,
        MappingKind::Kernel => Unresolved::KernelHidden,
        MappingKind::Anonymous => Unresolved::Jit,
        MappingKind::File | MappingKind::Vdso => Unresolved::NoSymbol,
    };
    (name, why)
}
