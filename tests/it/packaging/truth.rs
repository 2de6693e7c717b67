//! The hot stacks of the packaged program, as its source has them, and how far a recording agrees.
//!
//! A stack is written leaf first; frames are separated by ` | `, functions inlined into one another by ` > `, innermost
//! first: `header_step packaged.h:13 > own_static packaged.c:16 | alternates packaged.c:23 | main packaged.c:34`.

use std::collections::BTreeMap;
use std::fs;

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
    /// The same of the program in Go.
    GoLines,
    /// The names of functions that have code of their own.
    Names,
    /// Nothing: addresses, with this reason.
    Nothing(&'static str),
}

/// The two hot stacks.
pub(crate) fn known(tells: Tells) -> [String; 2] {
    match tells {
        Tells::Lines => with_lines(
            [
                "header_step",
                "part_inner",
                "part_outer",
                "own_static",
                "alternates",
                "main",
            ],
            ["packaged.h", "packaged_part.c", "packaged.c"],
        ),
        Tells::GoLines => with_lines(
            [
                "headerStep",
                "partInner",
                "partOuter",
                "ownStatic",
                "alternates",
                "main",
            ]
            .map(|name| format!("main.{name}")),
            ["packaged.go"; 3],
        ),
        Tells::Names => {
            ["part_outer", "own_static"].map(|leaf| format!("{leaf} | alternates | main"))
        }
        Tells::Nothing(reason) => ["", ""].map(|_| format!("[{reason}] | [{reason}] | [{reason}]")),
    }
}

fn with_lines<S: std::fmt::Display>(names: [S; 6], [header, part, own]: [&str; 3]) -> [String; 2] {
    let [step, inner, outer, own_static, alternates, main] = names;
    let (at_step, at_inner, at_outer) = (at(header, "step"), at(part, "inner"), at(part, "outer"));
    let [at_own, calls_part, calls_own, at_main] =
        ["own", "calls_part", "calls_own", "main"].map(|mark| at(own, mark));
    [
        format!(
            "{step} {at_step} > {inner} {at_inner} > {outer} {at_outer} | {alternates} {calls_part} | {main} {at_main}"
        ),
        format!(
            "{step} {at_step} > {own_static} {at_own} | {alternates} {calls_own} | {main} {at_main}"
        ),
    ]
}

/// `FILE:LINE` of the line with that mark.
fn at(file: &str, mark: &str) -> String {
    let path = sources().join(file);
    let text = fs::read_to_string(&path).expect("the source can be read");
    let is_marked = |line: &str| {
        line.contains(&format!("/* AT {mark} */")) || line.ends_with(&format!("// AT {mark}"))
    };
    let index = text.lines().position(is_marked);
    let index = index.unwrap_or_else(|| panic!("`{file}` has no mark `{mark}`"));
    format!("{}:{}", path.display(), index + 1)
}

/// What does not agree; nothing when all does. `stacks` are those of the program's process.
pub(crate) fn disagreement(stacks: &[&Stack], tells: Tells) -> Option<String> {
    let known = known(tells);
    let (mut of_each, mut all, mut others) = ([0; 2], 0, BTreeMap::<String, u64>::new());
    for stack in stacks {
        let text = text_of(stack);
        // Go's scheduler watches and interrupts what runs.
        if tells == Tells::GoLines && text.starts_with("runtime.") {
            continue;
        }
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

/// Names that a stack cannot have; nothing when each of the three innermost frames has a right name or a reason.
pub(crate) fn wrong_names(stacks: &[&Stack]) -> Option<String> {
    let [first, second] = known(Tells::Names).map(|stack| names_of(&stack));
    let inlined = ["header_step", "part_inner"];
    let (mut all, mut wrong) = (0, BTreeMap::<String, u64>::new());
    for stack in stacks {
        all += stack.samples;
        for (depth, frame) in stack.frames.iter().take(first.len()).enumerate() {
            let right = [first[depth].as_str(), second[depth].as_str()];
            let is_right = |place: &Place| {
                let name = place.name.as_str();
                let is_reason = place.unresolved.is_some() || name.starts_with("[truncated: ");
                is_reason || right.contains(&name) || depth == 0 && inlined.contains(&name)
            };
            if !frame.functions.iter().all(is_right) {
                *wrong.entry(text_of(stack)).or_default() += stack.samples;
            }
        }
    }
    if all < ENOUGH_SAMPLES {
        return Some(format!("only {all} samples"));
    }
    // As for names that are known: a tick may fall into the loader or a prologue.
    let share = wrong.values().sum::<u64>() as f64 / all as f64;
    (share > 1.0 - AGREED).then(|| format!("{wrong:#?} of {all}"))
}

fn names_of(stack: &str) -> Vec<String> {
    stack.split(" | ").map(str::to_string).collect()
}

/// The frames up to `main`, or all three of them without names, with as much as is told.
pub(crate) fn text_of(stack: &Stack) -> String {
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
