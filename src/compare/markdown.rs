//! The comparison in words: `comparison.md`, short enough for a comment on a pull request.
//!
//! In: a [`Comparison`], and links to its pictures. Out: CommonMark. Names are others' text and are escaped.

use super::evaluate::RelativeInterval;
use super::picture::unit;
use super::{Basis, Comparison, Kpi, Measure, Path, Shift, Verdict};
use crate::render::escape::{code, code_cell, inline, prose, visible};
use crate::render::table::{Align, Table};
use crate::render::{fit, units};

/// Rows of changed paths; the JSON has all.
const MAX_ROWS: usize = 10;
/// Open questions that are explained.
const MAX_OPEN: usize = 5;
const MAX_NAME: usize = 70;
/// From this growth on, multiples are read more easily than percents.
const MANIFOLD: f64 = 9.0;

/// Links to the differential flame graphs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pictures {
    pub before: Option<String>,
    pub after: Option<String>,
}

/// The whole document. `commands` repeat it.
pub fn comment(comparison: &Comparison, pictures: &Pictures, commands: &[String]) -> String {
    let mut out = format!(
        "## {} {}: {}\n\n{}.\n\n",
        sign(comparison.verdict),
        inline(&comparison.service),
        comparison.verdict.id(),
        prose(&capitalized(&comparison.reason))
    );
    out += &whole(comparison);
    out += &changed(comparison);
    out += &open(comparison);
    out += &picture_links(pictures);
    out += &notes(comparison);
    out += &details(comparison, commands);
    out
}

/// The same for a terminal: without pictures and what is folded away.
pub fn summary(comparison: &Comparison) -> String {
    let mut out = format!(
        "{}: {}. {}.\n\n",
        visible(&comparison.service),
        comparison.verdict.id(),
        visible(&capitalized(&comparison.reason))
    );
    out += &whole(comparison);
    out += &changed(comparison);
    out += &open(comparison);
    out + &notes(comparison)
}

/// Tells verdicts apart at a glance, without colour alone.
fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Improved => "✅",
        Verdict::Regressed => "❌",
        Verdict::Unchanged => "➖",
        Verdict::Inconclusive => "❔",
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// The whole, and what load tests say.
fn whole(comparison: &Comparison) -> String {
    let mut table = Table::new(&[
        ("figure", Align::Left),
        ("before", Align::Right),
        ("after", Align::Right),
        ("change (95 % interval)", Align::Right),
        ("verdict", Align::Left),
    ]);
    for kpi in &comparison.kpis {
        table.row([
            code_cell(&fit::middle(&kpi.name, MAX_NAME)),
            kpi_value(kpi, kpi.before),
            kpi_value(kpi, kpi.after),
            change(kpi.change, kpi.interval),
            kpi.verdict.id().to_owned(),
        ]);
    }
    match table.is_empty() {
        true => String::new(),
        false => format!("{}\n", table.to_markdown()),
    }
}

fn kpi_value(kpi: &Kpi, value: f64) -> String {
    match kpi.unit.as_str() {
        "share of requests" | "share of samples" => units::percent(value),
        "CPU seconds per unit of work" => {
            let (value, unit) = scaled(value);
            format!("{value} {unit}")
        }
        "CPU seconds per second" => format!("{} cores", number(value)),
        "requests per second" => format!("{}/s", number(value)),
        unit => format!("{} {unit}", number(value)),
    }
}

/// CPU seconds with the unit that gives a readable number.
fn scaled(seconds: f64) -> (String, &'static str) {
    match seconds.abs() {
        s if s >= 1.0 || s == 0.0 => (number(seconds), "s"),
        s if s >= 1e-3 => (number(seconds * 1e3), "ms"),
        s if s >= 1e-6 => (number(seconds * 1e6), "µs"),
        _ => (number(seconds * 1e9), "ns"),
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Paths that changed and are explained by nothing below them.
fn changed(comparison: &Comparison) -> String {
    let told: Vec<&Path> = comparison
        .paths
        .iter()
        .filter(|path| path.verdict.is_change())
        .collect();
    if told.is_empty() {
        return String::new();
    }
    let (unit, factor) = unit(comparison);
    let mut table = Table::new(&[
        ("path (function and all it calls)", Align::Left),
        ("before", Align::Right),
        ("after", Align::Right),
        ("change (95 % interval)", Align::Right),
        ("share", Align::Right),
        ("verdict", Align::Left),
    ]);
    let own: Vec<&&Path> = told
        .iter()
        .filter(|path| path.explained_by.is_none())
        .collect();
    for path in own.iter().take(MAX_ROWS) {
        table.row([
            code_cell(&fit::middle(&path.name, MAX_NAME)) + &becomes(path),
            number(path.figure.before * factor),
            number(path.figure.after * factor),
            told_change(path),
            shares(path),
            format!("**{}**", path.verdict.id()),
        ]);
    }
    let mut out = format!("Changed paths, in {unit}:\n\n{}\n", table.to_markdown());
    let explained = told.len() - own.len();
    let left_out = own.len().saturating_sub(MAX_ROWS);
    let mut more = Vec::new();
    if left_out > 0 {
        more.push(format!(
            "changed paths not shown here, but in the JSON: {left_out}"
        ));
    }
    if explained > 0 {
        more.push(format!("callers that changed with these: {explained}"));
    }
    if !more.is_empty() {
        out += &format!("{}.\n\n", capitalized(&more.join("; ")));
    }
    out
}

/// The change by the evidence that told it.
fn told_change(path: &Path) -> String {
    match path.basis {
        Basis::Measure => change(path.figure.change, Some(path.figure.interval)),
        Basis::RestOfProfile => {
            let rest = path.against_rest;
            format!(
                "{}, against the rest",
                change(rest.change, Some(rest.interval))
            )
        }
    }
}

fn becomes(path: &Path) -> String {
    match &path.renamed_from {
        Some(name) => format!(" (was {})", code_cell(&fit::middle(name, MAX_NAME))),
        None => String::new(),
    }
}

fn shares(path: &Path) -> String {
    let share = &path.figures.share;
    format!(
        "{} → {}",
        units::percent(share.before),
        units::percent(share.after)
    )
}

/// `-21.4 % (-24.0 … -18.7)`; what grew tenfold or more as `×12.3 (×10.1 … ×15.0)`.
fn change(change: Option<f64>, interval: Option<RelativeInterval>) -> String {
    let Some(change) = change else {
        return "new".to_owned();
    };
    let many = change >= MANIFOLD;
    let one = |share: f64| match many {
        true => format!("×{:.1}", 1.0 + share),
        false => format!("{:+.1}", share * 100.0),
    };
    let unit = if many { "" } else { " %" };
    let range = interval.and_then(|interval| Some((interval.low, interval.high?)));
    let range = range.map(|(low, high)| format!(" ({} … {})", one(low), one(high)));
    format!("{}{unit}{}", one(change), range.unwrap_or_default())
}

/// What stayed open, with what would settle it.
fn open(comparison: &Comparison) -> String {
    if comparison.verdict != Verdict::Inconclusive {
        return String::new();
    }
    let hot = |path: &&Path| {
        let share = path.figures.share.before.max(path.figures.share.after);
        path.verdict == Verdict::Inconclusive && share >= comparison.options.hot_share
    };
    let paths: Vec<&Path> = comparison.paths.iter().filter(hot).take(MAX_OPEN).collect();
    let mut out = String::new();
    for path in paths {
        out += &format!(
            "- {}: {}{}{}\n",
            code(&fit::middle(&path.name, MAX_NAME)),
            change(path.figure.change, Some(path.figure.interval)),
            path.smallest_change
                .filter(|least| *least < 1.0)
                .map_or_else(String::new, |least| {
                    format!("; a change of {:.0} % would have been seen", least * 100.0)
                }),
            settled(comparison, path)
        );
    }
    match out.is_empty() {
        true => out,
        false => format!("Open:\n\n{out}\n"),
    }
}

/// `; settled by 3.2 times as much: 64 s a side`.
fn settled(comparison: &Comparison, path: &Path) -> String {
    let Some(settle) = path.settle else {
        return String::new();
    };
    let runs = comparison.runs[0].len().max(comparison.runs[1].len());
    if !settle.by_length || runs > 1 {
        let needed = (runs as f64 * settle.scale).ceil().max(2.0);
        return format!("; about {needed:.0} runs like these on each side would settle it");
    }
    let seconds = |side: usize| {
        comparison.runs[side]
            .iter()
            .filter_map(|run| run.seconds)
            .sum::<f64>()
    };
    let seconds = seconds(0).max(seconds(1)) * settle.scale;
    match seconds > 0.0 {
        true => format!(
            "; about {} of recording on each side would settle it",
            duration(seconds)
        ),
        false => format!(
            "; about {:.1} times as many samples would settle it",
            settle.scale
        ),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn picture_links(pictures: &Pictures) -> String {
    let mut out = String::new();
    for (link, words) in [
        (&pictures.after, "Differential flame graph, shape of after"),
        (
            &pictures.before,
            "Differential flame graph, shape of before",
        ),
    ] {
        if let Some(link) = link {
            out += &format!("[![{words}]({link})]({link})\n\n");
        }
    }
    out
}

fn notes(comparison: &Comparison) -> String {
    let mut out = String::new();
    for note in comparison.doubts.iter().chain(&comparison.warnings) {
        out += &format!("- {}\n", prose(&capitalized(note)));
    }
    let shifts = comparison.paths.iter().filter_map(|path| {
        let (words, caller) = match path.shift.as_ref()? {
            Shift::InlinedInto(caller) => ("went into its caller", caller),
            Shift::OutlinedFrom(caller) => ("came out of its caller", caller),
        };
        Some(format!(
            "- {} {words} {}: moved, neither saved nor added\n",
            code(&fit::middle(&path.name, MAX_NAME)),
            code(&fit::middle(caller, MAX_NAME))
        ))
    });
    out.extend(shifts.take(MAX_OPEN));
    let renames = comparison.paths.iter().filter_map(|path| {
        let was = path.renamed_from.as_ref()?;
        Some(format!(
            "- {} was called {}: same callers, same callees\n",
            code(&fit::middle(&path.name, MAX_NAME)),
            code(&fit::middle(was, MAX_NAME))
        ))
    });
    out.extend(renames.take(MAX_OPEN));
    match out.is_empty() {
        true => out,
        false => format!("To know:\n\n{out}\n"),
    }
}

fn details(comparison: &Comparison, commands: &[String]) -> String {
    let count = |verdict: Verdict| {
        comparison
            .paths
            .iter()
            .filter(|path| path.verdict == verdict)
            .count()
    };
    let side = |side: usize| {
        let runs = &comparison.runs[side];
        let samples = runs.iter().map(|run| run.samples).sum::<u64>();
        format!(
            "{} run{} with {} samples",
            runs.len(),
            if runs.len() == 1 { "" } else { "s" },
            units::count(samples)
        )
    };
    let mut out = format!(
        "<details><summary>How sure, and how to repeat it</summary>\n\n- Before: {}; after: {}{}\n- {} paths tested: {} improved, {} \
         regressed, {} unchanged within {:.0} %, {} inconclusive; {} functions below {} were not tested\n- False discovery rate {:.0} %; \
         samples stand for {:.1} times fewer independent ones (design effect)\n",
        side(0),
        side(1),
        if comparison.interleaved {
            ", taking turns"
        } else {
            ""
        },
        comparison.paths.len(),
        count(Verdict::Improved),
        count(Verdict::Regressed),
        count(Verdict::Unchanged),
        comparison.options.tolerance * 100.0,
        count(Verdict::Inconclusive),
        comparison.untested.functions,
        units::percent(comparison.options.min_share),
        comparison.options.false_discovery_rate * 100.0,
        comparison.design_effect
    );
    out += &match &comparison.self_check {
        Some(check) => format!(
            "- The before side against itself ({} dealt to two sides): {} false alarms in {} comparisons\n",
            check.dealt, check.false_alarms, check.comparisons
        ),
        None => {
            "- The before side could not be held against itself: too few runs, and no time slices\n"
                .to_owned()
        }
    };
    out += &format!("- Measure: {}\n", measure_words(comparison));
    if !commands.is_empty() {
        out += "\n```console\n";
        for command in commands {
            out += &format!("$ {}\n", visible(command).replace("```", "'''"));
        }
        out += "```\n";
    }
    out += "\n</details>\n";
    out
}

fn measure_words(comparison: &Comparison) -> &'static str {
    match (comparison.measure, comparison.by_cpu_time) {
        (Measure::Cost, true) => "CPU time per unit of work",
        (Measure::Cost, false) => "samples per unit of work",
        (Measure::Cores, _) => "CPU time per second",
        (Measure::Share, _) => "share of the profile",
    }
}
