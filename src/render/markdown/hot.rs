//! The hottest functions by self and by total time, each with its interval, place and heaviest call chain.

use super::{NAME_CHARS, PATH_CHARS};
use crate::analysis::{Analysis, HotPath, Measure};
use crate::profile::{Origin, Profile};
use crate::render::escape::{code, code_cell};
use crate::render::table::{Align::Left, Align::Right, Table};
use crate::render::{fit, units};

/// Functions per list.
const TOP: usize = 10;
/// Share of all stacks from which a function is scaffolding.
const EVERYWHERE: f64 = 0.99;
/// Functions shown of a long call chain, from the root and from the leaf.
const CHAIN_ENDS: (usize, usize) = (3, 5);

pub(super) fn hot_paths(profile: &Profile, analysis: &Analysis) -> String {
    let hot = &analysis.hot;
    if hot.by_self.is_empty() {
        return "### Hottest functions\n\nThere are no samples.".to_owned();
    }
    let of = match Measure::of(profile) {
        Measure::CpuTime => "sampled CPU time",
        Measure::Ticks => "ticks",
    };
    let cpu_only = match profile.recording.origin {
        Origin::Perfprof => "; only time on a CPU is counted, waiting is not",
        Origin::Foreign { .. } => "",
    };
    let n = units::count(hot.whole.ticks);
    let (telling, everywhere) = split_everywhere(&hot.by_total);
    format!(
        "### Hottest by self time\n\nShares are of the {of}, n = {n} ticks{}. {}\n\n{}\n### Hottest by total time\n\n\
         A function's own time and that of everything it called, once per stack. The chain is the heaviest that runs \
         through it.{}\n\n{}",
        cpu_only,
        how_sure(analysis),
        ranking(
            profile,
            &hot.by_self.iter().collect::<Vec<_>>(),
            |path| path.self_weight.cpu_ns,
            |path| path.self_weight.ticks
        ),
        in_every_stack(&everywhere),
        ranking(
            profile,
            &telling,
            |path| path.total_weight.cpu_ns,
            |path| path.total_weight.ticks
        ),
    )
}

/// A function that stands in nearly every stack (`main`, an event loop) says nothing in a ranking by total time, nor
/// does all nameless code of a binary taken together. Both are kept apart, unless nothing else is left.
fn split_everywhere(by_total: &[HotPath]) -> (Vec<&HotPath>, Vec<&HotPath>) {
    let (groups, functions): (Vec<_>, Vec<_>) = by_total.iter().partition(|path| path.is_group);
    let (everywhere, telling): (Vec<_>, Vec<_>) = functions
        .into_iter()
        .partition(|path| path.share.value >= EVERYWHERE);
    match (telling.is_empty(), everywhere.is_empty()) {
        (false, _) => (telling, everywhere),
        (true, false) => (everywhere, Vec::new()),
        (true, true) => (groups, Vec::new()),
    }
}

fn in_every_stack(everywhere: &[&HotPath]) -> String {
    if everywhere.is_empty() {
        return String::new();
    }
    let names: Vec<String> = everywhere
        .iter()
        .take(TOP)
        .map(|path| code(&fit::middle(&path.name, NAME_CHARS)))
        .collect();
    let least = units::percent(EVERYWHERE);
    format!(
        " Not listed, because they stand in at least {least} of all stacks: {}.",
        names.join(", ")
    )
}

fn how_sure(analysis: &Analysis) -> String {
    let Some(hottest) = &analysis.coverage.hottest else {
        return String::new();
    };
    if hottest.share.interval.is_none() {
        return "There are too few time slices for intervals.".to_owned();
    }
    let effect = match hottest.share.design_effect {
        // Below this the difference is within the error of the estimate.
        Some(effect) if effect >= 2.0 => format!(
            "; ticks come in runs, so the variance of the hottest share is {effect:.1} times that of independent ticks"
        ),
        _ => String::new(),
    };
    format!(
        "The 95 % intervals come from {} blocks of time slices{effect}.",
        hottest.share.blocks
    )
}

fn ranking(
    profile: &Profile,
    paths: &[&HotPath],
    cpu_ns: impl Fn(&HotPath) -> u64,
    ticks: impl Fn(&HotPath) -> u64,
) -> String {
    let by_time = Measure::of(profile) == Measure::CpuTime;
    let weight = if by_time { "CPU s" } else { "Ticks" };
    let head = [
        ("#", Right),
        ("Share", Right),
        ("95 % interval", Right),
        (weight, Right),
        ("Function", Left),
        ("At", Left),
    ];
    let mut table = Table::new(&head);
    for (i, path) in paths.iter().take(TOP).enumerate() {
        let interval = path.share.interval.map_or_else(
            || "–".to_owned(),
            |interval| {
                format!(
                    "{:.1} – {:.1} %",
                    interval.low * 100.0,
                    interval.high * 100.0
                )
            },
        );
        let weight = if by_time {
            units::seconds(cpu_ns(path))
        } else {
            units::count(ticks(path))
        };
        table.row([
            (i + 1).to_string(),
            units::percent(path.share.value),
            interval,
            weight,
            code_cell(&fit::middle(&path.name, NAME_CHARS)),
            place(path),
        ]);
    }
    format!(
        "{}\nHeaviest call chain of each, root to leaf, with the share that ran in exactly it:\n\n{}",
        table.to_markdown(),
        chains(&paths[..paths.len().min(TOP)])
    )
}

/// The chains of a ranking, equal ones of neighbours together.
fn chains(paths: &[&HotPath]) -> String {
    let mut out = String::new();
    let mut first = 1;
    for group in paths.chunk_by(|a, b| a.chain == b.chain) {
        let last = first + group.len() - 1;
        let ranks = match first == last {
            true => format!("#{first}"),
            false => format!("#{first} to #{last}"),
        };
        let share = units::percent(group[0].chain.share);
        out.push_str(&format!(
            "- {ranks}: {} ({share})\n",
            chain(&group[0].chain.names)
        ));
        first = last + 1;
    }
    out
}

/// `file:line`, or the binary where no line is known.
fn place(path: &HotPath) -> String {
    let module = path.module.rsplit('/').next().unwrap_or_default();
    match (path.file.is_empty(), path.line) {
        (false, 0) => code_cell(&fit::end(&path.file, PATH_CHARS)),
        (false, line) => code_cell(&format!("{}:{line}", fit::end(&path.file, PATH_CHARS))),
        (true, _) if module.is_empty() => "–".to_owned(),
        (true, _) => format!("in {}", code_cell(&fit::end(module, PATH_CHARS))),
    }
}

fn chain(names: &[String]) -> String {
    let shown = |names: &[String]| -> Vec<String> {
        names
            .iter()
            .map(|name| code(&fit::middle(name, NAME_CHARS)))
            .collect()
    };
    let (head, left_out, tail) = fit::ends(names, CHAIN_ENDS.0, CHAIN_ENDS.1);
    let mut links = shown(head);
    if left_out > 0 {
        links.push(format!("… {left_out} more …"));
    }
    links.extend(shown(tail));
    links.join(" → ")
}
