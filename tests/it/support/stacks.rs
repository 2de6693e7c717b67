//! Stacks that are known to the last frame, and whether a recording shows just these.
//!
//! A known stack is written from root to leaf, `main jumper dive*20 work_in_depth`: a name with `*N` stands there N
//! times. Of what lies outside of it only the root is checked, since how a C library gets to `main` is its own affair.

use std::collections::BTreeMap;

use super::Folded;

/// How perfprof is told to walk inside the kernel by unwind tables.
pub(crate) const BY_TABLES: [&str; 4] = ["--sampler", "bpf", "--unwind", "dwarf"];

/// Fewer samples than this prove nothing about 99 %.
const ENOUGH_SAMPLES: u64 = 300;

/// A known stack that is seen less often has not been looked at.
const ENOUGH_OF_EACH: u64 = 10;

/// What all workloads inline into their leaves.
const INLINED: &str = "mix_rounds";

/// Of so many stacks one may differ: a tick within the few instructions of an epilogue that compilers describe
/// wrongly, or in a thread that is just ending.
const WHOLE: f64 = 0.99;

/// What is known of the stacks of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownStacks<'a> {
    /// Stacks from the first own function to the leaf, which may have inlined `mix_rounds`.
    pub(crate) stacks: &'a [&'a str],
    /// Whether the frames outside of these, root first, can be right.
    pub(crate) is_outside: fn(&[&str]) -> bool,
    /// Frames in between of which nothing is known: a run-time library's.
    pub(crate) is_ignored: fn(&str) -> bool,
}

impl<'a> KnownStacks<'a> {
    /// Stacks of a program that the C library starts, from `main` on.
    pub(crate) fn from_main(stacks: &'a [&'a str]) -> KnownStacks<'a> {
        KnownStacks {
            stacks,
            is_outside: |frames| frames.first() == Some(&"_start"),
            is_ignored: |_| false,
        }
    }

    /// Checks that nearly all stacks with one of the leaves are as known, and that each known one is there.
    #[track_caller]
    pub(crate) fn assert_seen_in(&self, folded: &Folded) {
        let stacks: Vec<Vec<&str>> = self.stacks.iter().map(|text| names(text)).collect();
        let mut seen = vec![0; stacks.len()];
        let (mut all, mut others) = (0, BTreeMap::<String, u64>::new());
        for (frames, count) in &folded.stacks {
            let frames = user_frames(frames);
            if !stacks.iter().any(|known| frames.contains(leaf(known))) {
                continue;
            }
            all += count;
            match stacks.iter().position(|known| self.is(known, &frames)) {
                Some(ix) => seen[ix] += count,
                None => *others.entry(frames.join(" ")).or_default() += count,
            }
        }
        assert!(all > ENOUGH_SAMPLES, "only {all} samples");
        for (text, seen) in self.stacks.iter().zip(&seen) {
            assert!(
                *seen >= ENOUGH_OF_EACH,
                "{seen} times `{text}`; {others:#?}"
            );
        }
        let whole: u64 = seen.iter().sum();
        assert!(
            whole as f64 >= WHOLE * all as f64 - 4.0 * ((1.0 - WHOLE) * all as f64).sqrt(),
            "{whole} of {all} stacks are as known, not {others:#?}"
        );
    }

    fn is(&self, known: &[&str], frames: &[&str]) -> bool {
        let end = frames.iter().rposition(|frame| frame == leaf(known));
        let begin = frames.iter().position(|frame| *frame == known[0]);
        let (Some(begin), Some(end)) = (begin, end) else {
            return false;
        };
        if begin > end {
            return false;
        }
        let is_own = |frame: &&&str| !(self.is_ignored)(frame);
        let inlined = &frames[end + 1..];
        frames[begin..=end].iter().filter(is_own).eq(known)
            && inlined.iter().filter(is_own).all(|frame| *frame == INLINED)
            && (self.is_outside)(&frames[..begin])
    }
}

fn leaf<'a, 'b>(known: &'b [&'a str]) -> &'b &'a str {
    known.last().expect("a known stack has frames")
}

/// The names of a known stack.
fn names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for word in text.split_whitespace() {
        let (name, times) = word.split_once('*').unwrap_or((word, "1"));
        let times = times.parse().expect("`*` and a number");
        names.extend(std::iter::repeat_n(name, times));
    }
    names
}

/// The frames of a folded stack without the process and the kernel's frames. The rarely used part that a compiler has
/// moved out of a function counts as the function.
pub(crate) fn user_frames(frames: &[String]) -> Vec<&str> {
    frames[1..]
        .iter()
        .filter(|frame| !frame.ends_with("_[k]"))
        .map(|frame| frame.strip_suffix(".cold").unwrap_or(frame))
        .collect()
}

/// Checks that nearly all stacks of a recording reach their root, within what chance adds to a rate of `1 - WHOLE`.
#[track_caller]
pub(crate) fn assert_complete(folded: &Folded) {
    let (all, cut) = (folded.total(), folded.truncated());
    assert!(all > ENOUGH_SAMPLES, "only {all} samples");
    let ends = folded
        .stacks
        .iter()
        .filter(|(frames, _)| frames[1].starts_with("[truncated: "));
    let ends: Vec<String> = ends
        .map(|(frames, n)| format!("{n} {}", frames.join(";")))
        .collect();
    let expected = (1.0 - WHOLE) * all as f64;
    assert!(
        cut as f64 <= expected + 4.0 * expected.sqrt(),
        "{cut} of {all} stacks are incomplete: {ends:#?}"
    );
}
