//! How a stack ended. An unfinished stack is data, not an error: the sample stays, keeps the frames it has, and says why
//! there are no more.

use std::fmt;

/// Where the walk from leaf to root stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StackEnd {
    /// The outermost frame of the thread was reached.
    Root,
    /// The walk stopped early.
    Truncated(Why),
}

/// Why a stack is incomplete. The numbers are those of `enum stack_end` in `bpf/abi.h`; 0 there is [`StackEnd::Root`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Why {
    /// More frames than the recorder keeps.
    TooDeep = 1,
    /// The copied part of the stack was used up before the root was reached.
    CopyTooShort = 2,
    /// The code has no unwind information at this address.
    NoUnwindInfo = 3,
    /// The stack memory could not be read.
    UnreadableStack = 4,
    /// The address lies in no known mapping.
    UnknownMapping = 5,
    /// The address lies in generated code without a map.
    Jit = 6,
    /// The rule or the frame pointer led nowhere: not upwards, misaligned, or to an address that is not code.
    BadFrame = 7,
    /// The kernel gave no user registers (the thread was exiting, or ran 32-bit code).
    NoRegisters = 8,
    /// Frame pointers ended before a function known to be a thread's first.
    FramePointerLost = 9,
    /// The binary could not be opened or parsed, so its unwind information is unknown.
    BinaryUnreadable = 10,
    /// The profile came from another tool, which does not say.
    NotStated = 11,
    /// The process was new: its unwind tables were not loaded yet, and frame pointers did not lead to the root.
    Warming = 12,
    /// The binary's unwind table found no room within the memory budget.
    TableEvicted = 13,
    /// Code without unwind information was crossed by frame pointers: callers may be missing in between.
    Bridged = 14,
    /// The walker in the kernel does not know this kind of unwind rule, and there was no room to copy the stack.
    UnsupportedRule = 15,
    /// Time that was waited and for which no stack was taken.
    NotTaken = 16,
}

impl Why {
    pub const ALL: [Why; 16] = [
        Why::TooDeep,
        Why::CopyTooShort,
        Why::NoUnwindInfo,
        Why::UnreadableStack,
        Why::UnknownMapping,
        Why::Jit,
        Why::BadFrame,
        Why::NoRegisters,
        Why::FramePointerLost,
        Why::BinaryUnreadable,
        Why::NotStated,
        Why::Warming,
        Why::TableEvicted,
        Why::Bridged,
        Why::UnsupportedRule,
        Why::NotTaken,
    ];

    /// Stable identifier for files: lower case, hyphens.
    pub fn id(self) -> &'static str {
        match self {
            Why::TooDeep => "too-deep",
            Why::CopyTooShort => "copy-too-short",
            Why::NoUnwindInfo => "no-unwind-info",
            Why::UnreadableStack => "unreadable-stack",
            Why::UnknownMapping => "unknown-mapping",
            Why::Jit => "jit",
            Why::BadFrame => "bad-frame",
            Why::NoRegisters => "no-registers",
            Why::FramePointerLost => "frame-pointer-lost",
            Why::BinaryUnreadable => "binary-unreadable",
            Why::NotStated => "not-stated",
            Why::Warming => "warming",
            Why::TableEvicted => "table-evicted",
            Why::Bridged => "bridged",
            Why::UnsupportedRule => "unsupported-rule",
            Why::NotTaken => "not-taken",
        }
    }

    /// For people, in a table of reasons.
    pub fn explain(self) -> &'static str {
        match self {
            Why::TooDeep => "more frames than the recorder keeps",
            Why::CopyTooShort => "stack deeper than the copied part",
            Why::NoUnwindInfo => "code without unwind information",
            Why::UnreadableStack => "stack memory could not be read",
            Why::UnknownMapping => "address in no known mapping",
            Why::Jit => "generated code without a map",
            Why::BadFrame => "caller's frame is not plausible",
            Why::NoRegisters => "kernel gave no user registers",
            Why::FramePointerLost => "no frame pointer to follow",
            Why::BinaryUnreadable => "binary could not be opened or parsed",
            Why::NotStated => "not stated by the tool that recorded it",
            Why::Warming => "process too new for its unwind tables",
            Why::TableEvicted => "no room for the binary's unwind table",
            Why::Bridged => "callers may be missing around code without unwind information",
            Why::UnsupportedRule => "unwind rule of a kind the walker does not know",
            Why::NotTaken => "no stack was taken of these waits",
        }
    }
}

impl StackEnd {
    /// `root`, or the reason's identifier.
    pub fn id(self) -> &'static str {
        match self {
            StackEnd::Root => "root",
            StackEnd::Truncated(why) => why.id(),
        }
    }

    pub fn from_id(id: &str) -> Option<StackEnd> {
        if id == "root" {
            return Some(StackEnd::Root);
        }
        Why::ALL
            .into_iter()
            .find(|why| why.id() == id)
            .map(StackEnd::Truncated)
    }

    /// The code as `bpf/abi.h` numbers it; an unknown one is `None`, to be counted by the caller.
    pub fn from_code(code: u8) -> Option<StackEnd> {
        if code == 0 {
            return Some(StackEnd::Root);
        }
        Why::ALL
            .into_iter()
            .find(|why| *why as u8 == code)
            .map(StackEnd::Truncated)
    }

    /// The root-side frame that stands for what is missing, e.g. `[truncated: copy-too-short]`; `None` when the stack
    /// is complete.
    pub fn reason_frame(self) -> Option<String> {
        match self {
            StackEnd::Root => None,
            StackEnd::Truncated(why) => Some(format!("[truncated: {}]", why.id())),
        }
    }

    /// Inverse of [`StackEnd::reason_frame`].
    pub fn from_reason_frame(name: &str) -> Option<StackEnd> {
        let id = name.strip_prefix("[truncated: ")?.strip_suffix(']')?;
        StackEnd::from_id(id).filter(|end| *end != StackEnd::Root)
    }
}

impl fmt::Display for StackEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_one_id_one_code_and_one_reason_frame() {
        for why in Why::ALL {
            let end = StackEnd::Truncated(why);
            assert_eq!(StackEnd::from_id(end.id()), Some(end));
            assert_eq!(StackEnd::from_code(why as u8), Some(end));
            let frame = end.reason_frame().expect("truncated");
            assert_eq!(StackEnd::from_reason_frame(&frame), Some(end));
        }
        assert_eq!(StackEnd::from_code(0), Some(StackEnd::Root));
        assert_eq!(StackEnd::from_code(200), None);
        assert_eq!(StackEnd::from_reason_frame("[truncated: root]"), None);
    }
}
