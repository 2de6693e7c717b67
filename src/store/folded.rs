//! Folded stacks, Brendan Gregg's format: one line per stack, `process;outermost;…;leaf count`, root first.
//!
//! Writing: kernel frames end in `_[k]`, inlined functions are frames of their own, an incomplete stack has its reason
//! frame behind the process (and thread). A `;` in a name becomes `:`, a control character `?`. Equal stacks are one
//! line, lines are sorted, counts are ticks.
//!
//! Reading: whatever another tool wrote. The count is what stands after the last space, so names may hold spaces and
//! digits. Two readings are told apart by the first name: `func (file.py:12)` is a function, as py-spy writes it, with
//! its place; anything else is the process. The second name is the thread's where a reason frame follows it anywhere in
//! the file, else a frame. Likewise a stack without such a frame is complete only in a file that has them; else the file
//! does not say. A line says nothing of time, so CPU time is 0 and the profile says so.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::profile::{
    Accounting, DisplayFrame, ElfAddr, Frame, FrameIx, FrameKind, Function, KERNEL_SUFFIX, Line,
    Origin, Profile, ProfileBuilder, Recording, Role, Sample, StackEnd, Thread, ThreadIx, Why,
};

/// More nodes than this in the tree of all stacks is not read; real files have thousands.
const MAX_STACK_NODES: usize = 16 << 20;
/// More frames than this in one line is not read: no recorder goes so deep.
const MAX_DEPTH: usize = 1 << 16;

/// All of `profile`'s stacks as folded lines; `per_thread` puts the thread's name second.
pub fn encode(profile: &Profile, per_thread: bool) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for sample in profile.merged_samples(per_thread) {
        let stack = fold(&profile.display_stack(&sample, per_thread));
        *counts.entry(stack).or_default() += sample.count;
    }
    let mut lines = String::new();
    for (stack, count) in counts {
        writeln!(lines, "{stack} {count}").expect("writing to a String does not fail");
    }
    lines
}

fn fold(frames: &[DisplayFrame<'_>]) -> String {
    let mut stack = String::new();
    for (i, frame) in frames.iter().enumerate() {
        if i > 0 {
            stack.push(';');
        }
        stack.extend(frame.name.chars().map(foldable));
        if frame.role == Role::Kernel {
            stack.push_str(KERNEL_SUFFIX);
        }
    }
    stack
}

/// `c`, or what stands for it where names end at `;` and lines at control characters.
pub(crate) fn foldable(c: char) -> char {
    match c {
        ';' => ':',
        '\u{2028}' | '\u{2029}' => '?', // Unicode's line and paragraph separators
        '\u{fffe}' | '\u{ffff}' => '?', // no characters, and refused by XML
        c if c.is_control() => '?',
        c => c,
    }
}

/// Why bytes are not folded stacks; lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("line {line} does not end in a space and a count: `{text}`")]
    NoCount { line: usize, text: String },
    #[error("line {line} has a count, `{count}`, that is not a whole number below 2⁶³")]
    BadCount { line: usize, count: String },
    #[error("line {line} has no stack before its count")]
    NoStack { line: usize },
    #[error("line {line} has more than {limit} frames, the most that is read")]
    TooDeep { line: usize, limit: usize },
    #[error("line {line}: all stacks together have more than {limit} nodes, the most that is read")]
    TooMany { line: usize, limit: usize },
    #[error("line {line}: all counts together exceed 2⁶³")]
    Overflow { line: usize },
    #[error("it holds no stacks")]
    Empty,
}

/// The profile in `bytes`; `file` names it.
pub fn decode(bytes: &[u8], file: &str) -> Result<Profile, DecodeError> {
    let service = file.strip_suffix(".gz").unwrap_or(file);
    let service = service.rsplit_once('.').map_or(service, |(stem, _)| stem);
    let mut reader = Reader {
        service,
        per_thread: lines(bytes).any(|(_, line)| is_per_thread(line)),
        unmarked_end: match lines(bytes).any(|(_, line)| has_reason(line)) {
            true => StackEnd::Root,
            false => StackEnd::Truncated(Why::NotStated),
        },
        builder: ProfileBuilder::default(),
        total: 0,
    };
    for (number, line) in lines(bytes) {
        reader.line(number, &String::from_utf8_lossy(line))?;
    }
    reader.finish(file)
}

/// The lines that are not blank, numbered from 1.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.map(|(i, line)| (i + 1, line.strip_suffix(b"\r").unwrap_or(line)));
    lines.filter(|(_, line)| !line.trim_ascii().is_empty())
}

/// Whether the line has a thread's name in second place. Only a reason frame gives that away: it stands before all
/// frames, so what it stands behind are process and thread.
fn is_per_thread(line: &[u8]) -> bool {
    let third = line.split(|byte| *byte == b';').nth(2);
    third.is_some_and(|name| name.starts_with(b"[truncated: "))
}

/// Whether the stack is marked as incomplete, as perfprof does it.
fn has_reason(line: &[u8]) -> bool {
    let mut names = line.split(|byte| *byte == b';').skip(1).take(2);
    names.any(|name| name.starts_with(b"[truncated: "))
}

struct Reader<'a> {
    service: &'a str,
    per_thread: bool,
    /// How stacks without a reason frame end: in a file that has such frames, at the root.
    unmarked_end: StackEnd,
    builder: ProfileBuilder,
    total: u64,
}

impl Reader<'_> {
    fn line(&mut self, line: usize, text: &str) -> Result<(), DecodeError> {
        let (stack, count) = split_count(line, text)?;
        self.total = self.total.saturating_add(count);
        if self.total > i64::MAX as u64 {
            return Err(DecodeError::Overflow { line });
        }
        let names: Vec<&str> = stack.split(';').collect();
        if names.len() > MAX_DEPTH {
            let limit = MAX_DEPTH;
            return Err(DecodeError::TooDeep { line, limit });
        }
        if count == 0 {
            return Ok(());
        }
        let (thread, names) = self.thread(&names);
        let reason = names
            .first()
            .and_then(|name| StackEnd::from_reason_frame(name));
        let names = &names[usize::from(reason.is_some())..];
        let frames: Vec<FrameIx> = names.iter().map(|name| self.frame(name)).collect();
        let stack = self.builder.stack(frames);
        if self.builder.stack_nodes() > MAX_STACK_NODES {
            let limit = MAX_STACK_NODES;
            return Err(DecodeError::TooMany { line, limit });
        }
        self.builder.sample(Sample {
            slice: 0,
            thread,
            stack,
            end: reason.unwrap_or(self.unmarked_end),
            count,
            cpu_ns: 0,
        });
        Ok(())
    }

    /// The thread of a line, and the names behind it.
    fn thread<'n>(&mut self, names: &'n [&'n str]) -> (ThreadIx, &'n [&'n str]) {
        let (process, name, frames) = match names {
            [first, ..] if python_frame(first).is_some() => (self.service, self.service, names),
            [process, name, frames @ ..] if self.per_thread => (*process, *name, frames),
            [process, frames @ ..] => (*process, *process, frames),
            [] => (self.service, self.service, names),
        };
        let thread = self.builder.thread(Thread {
            pid: 0,
            tid: 0,
            name: name.to_owned(),
            process: process.to_owned(),
        });
        (thread, frames)
    }

    fn frame(&mut self, name: &str) -> FrameIx {
        let (name, kind) = match name.strip_suffix(KERNEL_SUFFIX) {
            Some(name) => (name, FrameKind::Kernel),
            None => (name, FrameKind::User),
        };
        let (name, file, line) = python_frame(name).unwrap_or((name, "", 0));
        let function = self.builder.function(Function {
            name: name.to_owned(),
            linkage_name: String::new(),
            file: file.to_owned(),
        });
        self.builder.frame(Frame {
            kind,
            mapping: None,
            addr: ElfAddr(0),
            lines: vec![Line { function, line }],
            unresolved: None,
        })
    }

    fn finish(self, file: &str) -> Result<Profile, DecodeError> {
        if self.total == 0 {
            return Err(DecodeError::Empty);
        }
        let recording = Recording {
            origin: Origin::Foreign {
                format: "folded".into(),
                file: file.into(),
            },
            service: self.service.into(),
            event: "samples".into(),
            warnings: vec![WARNING.into()],
            ..Recording::default()
        };
        let mut profile = self.builder.build(recording, Accounting::default());
        super::count_contents(&mut profile);
        Ok(profile)
    }
}

const WARNING: &str = "The profile was read from folded stacks, which state counts only: CPU time, threads and source \
                       lines are not known, nor what was lost.";

/// The stack and its count, which stands behind the last space.
fn split_count(line: usize, text: &str) -> Result<(&str, u64), DecodeError> {
    let Some((stack, count)) = text.rsplit_once(' ') else {
        return Err(DecodeError::NoCount {
            line,
            text: excerpt(text),
        });
    };
    if stack.is_empty() {
        return Err(DecodeError::NoStack { line });
    }
    let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    match count.parse::<u64>() {
        Ok(number) if digits && number <= i64::MAX as u64 => Ok((stack, number)),
        _ => Err(DecodeError::BadCount {
            line,
            count: excerpt(count),
        }),
    }
}

/// Enough of `text` to find it by, with nothing a terminal would obey.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(60).map(foldable).collect()
}

/// The parts of `func (file:line)`.
fn python_frame(name: &str) -> Option<(&str, &str, u32)> {
    let (function, place) = name.strip_suffix(')')?.rsplit_once(" (")?;
    let (file, line) = place.rsplit_once(':')?;
    let plain =
        !function.is_empty() && !file.is_empty() && line.bytes().all(|b| b.is_ascii_digit());
    plain.then_some((function, file, line.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::canned;

    fn read(text: &str) -> Profile {
        decode(text.as_bytes(), "dir.d/x.folded").expect("readable")
    }

    #[test]
    fn our_own_lines_come_back_as_they_were() {
        for per_thread in [false, true] {
            let lines = encode(&canned(), per_thread);
            let again = encode(&read(&lines), per_thread);
            assert_eq!(lines, again);
            let mut sorted: Vec<&str> = lines.lines().collect();
            sorted.sort_unstable();
            assert_eq!(sorted, lines.lines().collect::<Vec<_>>());
        }
        assert!(encode(&canned(), false).contains("shop;main;serve;hash;mix 40\n"));
    }

    #[test]
    fn names_with_spaces_digits_and_utf8_keep_their_form() {
        for lines in [
            "p;operator new 12 3\n",
            "p;ends in space  7\n",
            "p q 1;é;[unnamed];_[k];x_[k] 9\n",
            "only-a-process 1\n",
            ";f;; 2\n",
        ] {
            let expected = lines.replace(";;", ";[unnamed];");
            let expected = expected.replace("; ", ";[unnamed] ");
            let expected = match expected.strip_prefix(';') {
                Some(rest) => format!("[unnamed];{rest}"),
                None => expected,
            };
            let expected = expected.replace(";_[k]", ";[unnamed]_[k]");
            assert_eq!(encode(&read(lines), false), expected);
        }
    }

    #[test]
    fn hostile_names_stay_on_one_line_in_one_frame() {
        let mut builder = ProfileBuilder::default();
        let name = "a;b\n9\r\u{1b}[31m\u{85}\u{2028}`|<x>";
        let function = builder.function(Function {
            name: name.into(),
            linkage_name: String::new(),
            file: String::new(),
        });
        let frame = builder.frame(Frame {
            kind: FrameKind::User,
            mapping: None,
            addr: ElfAddr(0),
            lines: vec![Line { function, line: 0 }],
            unresolved: None,
        });
        let stack = builder.stack([frame]);
        let thread = builder.thread(Thread {
            pid: 1,
            tid: 1,
            name: name.into(),
            process: name.into(),
        });
        builder.sample(Sample {
            slice: 0,
            thread,
            stack,
            end: StackEnd::Truncated(Why::Jit),
            count: 2,
            cpu_ns: 2,
        });
        let profile = builder.build(Recording::default(), Accounting::default());
        let shown = "a:b?9??[31m??`|<x>";
        let lines = encode(&profile, true);
        assert_eq!(
            lines,
            format!("{shown};{shown};[truncated: jit];{shown} 2\n")
        );
        assert_eq!(read(&lines).samples[0].end, StackEnd::Truncated(Why::Jit));
    }

    #[test]
    fn kernel_frames_and_python_places_are_recognised() {
        let profile = read("<module> (m.py:3);hot (a b.py:12);write_[k] 5\r\n\r\n");
        let frame = |i: usize| &profile.frames[i];
        assert_eq!(profile.threads[0].process, "dir.d/x");
        assert_eq!(frame(2).kind, FrameKind::Kernel);
        assert_eq!(profile.function(frame(1).lines[0].function).file, "a b.py");
        assert_eq!(frame(1).lines[0].line, 12);
        assert_eq!((profile.total_count(), profile.total_cpu_ns()), (5, 0));
        assert!(profile.recording.kernel_stacks);
        assert_eq!(profile.samples[0].end, StackEnd::Truncated(Why::NotStated));
        let marked = read("p;[truncated: jit];f 1\np;g 1\n");
        let ends: Vec<StackEnd> = marked.samples.iter().map(|s| s.end).collect();
        assert_eq!(ends, [StackEnd::Truncated(Why::Jit), StackEnd::Root]);
    }

    #[test]
    fn errors_name_the_line() {
        let error = |text: &str| {
            let result = decode(text.as_bytes(), "x");
            result.expect_err("refused").to_string()
        };
        for (text, start) in [
            (
                "a 1\nnocount\n",
                "line 2 does not end in a space and a count: `nocount`",
            ),
            ("a 1.5", "line 1 has a count, `1.5`,"),
            ("a -1", "line 1 has a count"),
            ("a +1", "line 1 has a count"),
            ("a ", "line 1 has a count, ``"),
            ("a 9223372036854775808", "line 1 has a count"),
            (" 5", "line 1 has no stack"),
            (
                "\n\na 9223372036854775807\nb 1",
                "line 4: all counts together",
            ),
            ("\n \n", "it holds no stacks"),
            ("a 0", "it holds no stacks"),
        ] {
            let error = error(text);
            assert!(error.starts_with(start), "{text:?}: {error}");
        }
        let deep = format!("{}x 1", "f;".repeat(MAX_DEPTH));
        assert!(error(&deep).starts_with("line 1 has more than 65536 frames"));
    }
}
