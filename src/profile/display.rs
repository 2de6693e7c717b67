//! How a sample reads as a list of names, root first: the one rule behind every stack-shaped output (folded lines, flame
//! graph, speedscope), so that they all show the same stacks.
//!
//! In: a profile and one of its samples. Out: the process, perhaps the thread, the reason frame where the stack is
//! incomplete, then each function from root to leaf with inlined functions as frames of their own. What a format cannot
//! hold (semicolons, control characters) is that format's business, not this file's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::{Frame, FrameKind, Line, Profile, Sample, StackEnd, Why};

/// What a frame of a displayed stack stands for; formats choose colours and marks by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Process,
    Thread,
    /// The reason frame of an incomplete stack.
    Truncated,
    /// A function with code of its own.
    User,
    /// A function the compiler folded into its caller.
    Inlined,
    Kernel,
    /// User code that is known by its address only.
    Unresolved,
    /// What is waited for.
    Wait,
}

/// One frame as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DisplayFrame<'a> {
    /// Never empty. Without the kernel suffix; [`fmt::Display`] adds it.
    pub name: Cow<'a, str>,
    pub role: Role,
    /// Source file, empty where unknown.
    pub file: &'a str,
    /// 1-based line being executed; 0 where unknown.
    pub line: u32,
}

/// The mark of kernel frames in folded stacks, as flame graph tools know it.
pub const KERNEL_SUFFIX: &str = "_[k]";

/// What stands for an empty name.
const UNNAMED: &str = "[unnamed]";

impl fmt::Display for DisplayFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.role {
            Role::Kernel => f.write_str(KERNEL_SUFFIX),
            _ => Ok(()),
        }
    }
}

impl<'a> DisplayFrame<'a> {
    fn named(name: &'a str, role: Role) -> DisplayFrame<'a> {
        let name = match name.is_empty() {
            true => UNNAMED,
            false => name,
        };
        DisplayFrame {
            name: Cow::Borrowed(name),
            role,
            file: "",
            line: 0,
        }
    }

    fn reason(name: String) -> DisplayFrame<'a> {
        DisplayFrame {
            name: Cow::Owned(name),
            role: Role::Truncated,
            file: "",
            line: 0,
        }
    }
}

impl StackEnd {
    /// The reason frame, where something is known to be missing. A stack of another tool that does not say so
    /// ([`Why::NotStated`]) has none: a frame at the root of every stack would claim more than is known.
    pub fn shown_reason_frame(self) -> Option<String> {
        match self {
            StackEnd::Truncated(Why::NotStated) => None,
            end => end.reason_frame(),
        }
    }
}

impl Profile {
    /// The sample's stack as it is shown, root first. `per_thread` adds the thread's name after its process's.
    pub fn display_stack(&self, sample: &Sample, per_thread: bool) -> Vec<DisplayFrame<'_>> {
        let thread = self.thread(sample.thread);
        let mut shown = Vec::with_capacity(self.stacks.depth(sample.stack) as usize + 3);
        shown.push(DisplayFrame::named(&thread.process, Role::Process));
        if per_thread {
            shown.push(DisplayFrame::named(&thread.name, Role::Thread));
        }
        if let Some(reason) = sample.end.shown_reason_frame() {
            shown.push(DisplayFrame::reason(reason));
        }
        for ix in self.stacks.root_to_leaf(sample.stack) {
            let frame = self.frame(ix);
            let outermost = frame.lines.len().saturating_sub(1);
            let outermost_first = frame.lines.iter().enumerate().rev();
            shown.extend(
                outermost_first.map(|(i, line)| self.display_line(frame, line, i < outermost)),
            );
        }
        shown
    }

    /// One sample for each stack as [`Profile::display_stack`] shows it, with the weight of all that look the same; its
    /// slice and thread are those of the first. Long recordings have many times more samples than stacks.
    pub fn merged_samples(&self, per_thread: bool) -> Vec<Sample> {
        let mut merged: BTreeMap<_, Sample> = BTreeMap::new();
        for sample in &self.samples {
            let thread = self.thread(sample.thread);
            let name = per_thread.then_some(&thread.name);
            merged
                .entry((sample.stack, sample.end, &thread.process, name))
                .and_modify(|all| {
                    all.count += sample.count;
                    all.cpu_ns += sample.cpu_ns;
                })
                .or_insert(*sample);
        }
        merged.into_values().collect()
    }

    fn display_line(&self, frame: &Frame, line: &Line, inlined: bool) -> DisplayFrame<'_> {
        let function = self.function(line.function);
        let role = match (frame.kind, frame.unresolved) {
            (FrameKind::Kernel, _) => Role::Kernel,
            (FrameKind::Wait, _) => Role::Wait,
            (FrameKind::User, Some(_)) => Role::Unresolved,
            (FrameKind::User, None) if inlined => Role::Inlined,
            (FrameKind::User, None) => Role::User,
        };
        DisplayFrame {
            file: &function.file,
            line: line.line,
            ..DisplayFrame::named(&function.name, role)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::canned;
    use super::*;

    #[test]
    fn stacks_read_root_first_with_inlined_kernel_and_reason_frames() {
        let profile = canned();
        let shown: Vec<Vec<String>> = profile
            .samples
            .iter()
            .map(|sample| {
                let stack = profile.display_stack(sample, true);
                stack.iter().map(ToString::to_string).collect()
            })
            .collect();
        let has = |expected: &[&str]| shown.iter().any(|stack| stack == expected);
        assert!(has(&["shop", "worker", "main", "serve", "hash", "mix"]));
        assert!(has(&[
            "shop",
            "shop",
            "main",
            "flush",
            "write_[k]",
            "copy_page_[k]"
        ]));
        assert!(has(&[
            "shop",
            "worker",
            "[truncated: no-unwind-info]",
            "libz.so.1+0x4f2"
        ]));
    }

    #[test]
    fn merging_what_looks_the_same_loses_no_weight() {
        let profile = canned();
        let merged = profile.merged_samples(false);
        assert_eq!(merged.len(), 5);
        let count: u64 = merged.iter().map(|sample| sample.count).sum();
        let cpu_ns: u64 = merged.iter().map(|sample| sample.cpu_ns).sum();
        assert_eq!(
            (count, cpu_ns),
            (profile.total_count(), profile.total_cpu_ns())
        );
    }

    #[test]
    fn only_the_function_that_has_the_code_is_not_inlined() {
        let profile = canned();
        let roles: Vec<(String, Role)> = profile
            .samples
            .iter()
            .flat_map(|sample| profile.display_stack(sample, false))
            .map(|frame| (frame.name.into_owned(), frame.role))
            .collect();
        for (name, role) in [
            ("hash", Role::User),
            ("mix", Role::Inlined),
            ("write", Role::Kernel),
            ("libz.so.1+0x4f2", Role::Unresolved),
        ] {
            assert!(roles.contains(&(name.into(), role)), "{name}");
            assert!(
                !roles.iter().any(|(n, r)| n == name && *r != role),
                "{name}"
            );
        }
    }
}
