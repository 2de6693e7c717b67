//! What `perf script` prints, read as a profile. Text without a specification, so this reads what perf's versions print
//! with whatever fields were asked for (`-F`):
//!
//! ```text
//! opt cgu.11 24375/24380 [000]  1344.003393:    3344481 cpu-clock:pppH:
//!         8809718 llvm::invalidate+0x258 (/usr/lib/libLLVM.so.22)
//!   Analysis.cpp:170
//! ```
//!
//! A sample is a line that says who, when and which event, its stack from leaf to root, and a blank line (`lines.rs`).
//! Functions marked `(inlined)` belong to the line below them, where that is of the same address. Everything but the
//! stack may be missing.
//!
//! What it becomes: each sample counts as one tick. Its period is CPU time where the event is a clock of CPU time; of
//! other events the CPU time is unknown. Times give the samples time slices like perfprof's own. Addresses are as perf
//! prints them: those of the file. Of several events one is read, the nearest to CPU time, as ticks of two events do not
//! add up; a warning says what was left out.

mod frames;
mod lines;
mod reader;

use crate::profile::Profile;

/// More frames than this in one stack is not read: no recorder goes so deep.
const MAX_DEPTH: usize = 1 << 16;
/// More nodes than this in the tree of all stacks is not read.
const MAX_STACK_NODES: usize = 16 << 20;
/// More than this many seconds between samples is no recording.
const MAX_SECONDS: u64 = 10 * 366 * 86_400;

/// Why bytes are not `perf script`'s; lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("line {line} does not begin a sample with a command name and a thread: `{text}`")]
    NoSample { line: usize, text: String },
    #[error("line {line} is not a frame with an address: `{text}`")]
    NoFrame { line: usize, text: String },
    #[error("line {line}: a stack has more than {limit} frames, the most that is read")]
    TooDeep { line: usize, limit: usize },
    #[error("line {line}: all stacks together have more than {limit} nodes, the most that is read")]
    TooMany { line: usize, limit: usize },
    #[error("line {line} is at {seconds} s, more than {limit} s from the first sample")]
    FarAway {
        line: usize,
        seconds: u64,
        limit: u64,
    },
    #[error("line {line}: all periods together exceed 2⁶³ ns")]
    Overflow { line: usize },
    #[error("it holds no samples")]
    Empty,
}

/// Whether text looks like this format: its first line begins a sample, or is a frame.
pub(super) fn is_like(content: &[u8]) -> bool {
    /// Far enough to pass over a header of comments.
    const MAX_LINES: usize = 500;
    let lines = lines::numbered(content).take(MAX_LINES);
    let mut lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty() && line[0] != b'#');
    let Some((_, first)) = lines.next() else {
        return false;
    };
    let first = String::from_utf8_lossy(first);
    let second = lines.next().map(|(_, line)| String::from_utf8_lossy(line));
    let is_frame = |line: &str| line.starts_with(['\t', ' ']) && lines::frame(line).is_some();
    let is_followed = second.is_some_and(|second| is_frame(&second));
    match is_folded(&first) {
        true => is_followed,
        false => {
            let header = lines::header(&first);
            let is_timed = header.is_some_and(|header| header.seconds.is_some());
            is_timed || is_frame(&first) || is_followed
        }
    }
}

/// Whether the last word is a number, as a count is. The line of a sample of which only the thread is known ends so, too.
fn is_folded(line: &str) -> bool {
    let (stack, count) = line.rsplit_once(' ').unwrap_or_default();
    !stack.trim().is_empty() && !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit())
}

/// The profile in `content`; `file` names it.
pub fn decode(content: &[u8], file: &str) -> Result<Profile, DecodeError> {
    let survey = reader::Survey::of(content);
    reader::read(content, file, &survey)
}

#[cfg(test)]
mod tests;
