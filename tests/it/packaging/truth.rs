//! The hot stacks of the packaged program, as its source has them, and how far a recording agrees.
//!
//! A stack is written leaf first; frames are separated by ` | `, functions inlined into one another by ` > `, innermost
//! first: `header_step packaged.h:13 > own_static packaged.c:16 | alternates packaged.c:23 | main packaged.c:34`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::pprof::{Place, SeenFrame, Stack};

use super::make::sources;

/// Fewer samples than this prove nothing.
const ENOUGH_SAMPLES: u64 = 100;

/// Of so many samples some may differ: a tick in a prologue, in the loop between the two calls, or in the loader.
const AGREED: f64 = 0.97;

/// Each of the two stacks has half of the work; a third is far below that for so many samples.
const LEAST_OF_EACH: f64 = 0.33;

/// How much a packaging tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// Functions, inlined ones, files and lines.
    Lines,
    /// The names of functions that have code of their own.
    Names,
    /// Nothing: addresses, with this reason.
    Nothing(&'static str),
}

/// The two hot stacks.
pub(crate) fn known(tells: Tells) -> [String; 2] {
    match tells {
        Tells::Lines => {
            let [step, inner, outer, own] = [
                at("packaged.h", "step"),
                at("packaged_part.c", "inner"),
                at("packaged_part.c", "outer"),
                at("packaged.c", "own"),
            ];
            let [part, calls_own, main] =
                ["calls_part", "calls_own", "main"].map(|mark| at("packaged.c", mark));
            [
                format!(
                    "header_step {step} > part_inner {inner} > part_outer {outer} | alternates {part} | main {main}"
                ),
                format!(
                    "header_step {step} > own_static {own} | alternates {calls_own} | main {main}"
                ),
            ]
        }
        Tells::Names => {
            ["part_outer", "own_static"].map(|leaf| format!("{leaf} | alternates | main"))
        }
        Tells::Nothing(reason) => ["", ""].map(|_| format!("[{reason}] | [{reason}] | [{reason}]")),
    }
}

/// `FILE:LINE` of the line with that mark.
fn at(file: &str, mark: &str) -> String {
    let path = sources().join(file);
    let text = fs::read_to_string(&path).expect("the source can be read");
    let mark = format!("/* AT {mark} */");
    let index = text.lines().position(|line| line.contains(&mark));
    let index = index.unwrap_or_else(|| panic!("`{file}` has no `{mark}`"));
    format!("{}:{}", path.display(), index + 1)
}

/// What does not agree; nothing when all does. `stacks` are those of the program's process.
pub(crate) fn disagreement(stacks: &[&Stack], tells: Tells) -> Option<String> {
    let known = known(tells);
    let (mut of_each, mut all, mut others) = ([0; 2], 0, BTreeMap::<String, u64>::new());
    for stack in stacks {
        let text = text_of(stack);
        all += stack.samples;
        match known.iter().position(|known| *known == text) {
            Some(which) => of_each[which] += stack.samples,
            None => *others.entry(text).or_default() += stack.samples,
        }
    }
    let agreed = of_each[0] + of_each[1];
    let least = if known[0] == known[1] {
        agreed
    } else {
        of_each[0].min(of_each[1])
    };
    let enough = |part: u64, share: f64| part as f64 >= share * all as f64;
    if all < ENOUGH_SAMPLES {
        return Some(format!("only {all} samples"));
    }
    if enough(agreed, AGREED) && enough(least, LEAST_OF_EACH) {
        return None;
    }
    let mut others: Vec<(String, u64)> = others.into_iter().collect();
    others.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
    let others: Vec<String> = (others.iter().take(4))
        .map(|(text, samples)| format!("    {samples:5} {text}"))
        .collect();
    Some(format!(
        "{} + {} of {all} samples agree; expected {} and {}; others:\n{}",
        of_each[0],
        of_each[1],
        known[0],
        known[1],
        others.join("\n")
    ))
}

/// The frames up to `main`, or all three of them without names, with as much as is told.
fn text_of(stack: &Stack) -> String {
    let frames = stack.frames.iter();
    let is_named_after_main =
        |frame: &&SeenFrame| frame.functions.iter().any(|place| place.name == "main");
    let end = frames
        .clone()
        .position(|frame| is_named_after_main(&frame))
        .unwrap_or(2);
    let frames: Vec<String> = frames.take(end + 1).map(frame_text).collect();
    frames.join(" | ")
}

fn frame_text(frame: &SeenFrame) -> String {
    let places: Vec<String> = frame.functions.iter().map(place_text).collect();
    places.join(" > ")
}

fn place_text(place: &Place) -> String {
    match (&place.unresolved, place.file.as_str()) {
        (Some(reason), _) => format!("[{reason}]"),
        (None, "") => place.name.clone(),
        (None, file) => format!("{} {file}:{}", place.name, place.line),
    }
}

/// Whether a file in `folder` or below has `text` in it.
pub(crate) fn said_in(folder: &Path, text: &str) -> bool {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if fs::read(entry.path())
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
            {
                return true;
            }
        }
    }
    false
}
