//! How much was seen, and what stayed dark: the coverage table and the to-do list.

use super::{NAME_CHARS, PATH_CHARS};
use crate::analysis::Analysis;
use crate::analysis::quality::{Metric, ModuleGap};
use crate::render::escape::{code, code_cell, inline, prose};
use crate::render::table::{Align::Left, Align::Right, Table};
use crate::render::{fit, units};

/// To-do entries per metric.
const TOP_GAPS: usize = 5;
/// Gaps smaller than this are not worth anybody's time.
const MIN_GAP: f64 = 0.001;

pub(super) fn table(analysis: &Analysis) -> String {
    let head = [
        ("Metric", Left),
        ("Value", Right),
        ("Needed", Right),
        ("Result", Left),
        ("Seen", Left),
    ];
    let mut table = Table::new(&head);
    for metric in analysis.coverage.metrics() {
        let value = match metric.value {
            None => "–".to_owned(),
            Some(value) if metric.id == "confidence" => format!("± {}", units::percent(value)),
            Some(value) => units::coverage(value),
        };
        let needed = match metric.threshold {
            None => "–".to_owned(),
            Some(limit) if metric.id == "confidence" => format!("± {}", units::percent(limit)),
            Some(limit) => units::coverage(limit),
        };
        table.row([
            format!("`{}`", metric.id),
            value,
            needed,
            result(metric).to_owned(),
            seen(metric, analysis),
        ]);
    }
    format!("### Coverage\n\n{}", table.to_markdown())
}

fn result(metric: &Metric) -> &'static str {
    match (metric.ok, metric.gating) {
        (Some(true), _) => "ok",
        (Some(false), true) => "**not ok**",
        (Some(false), false) => "missed, does not count",
        (None, true) => "**not measured**",
        (None, false) if metric.value.is_some() => "for information",
        (None, false) => "not measured",
    }
}

/// Numerator of denominator, or what the number is about.
fn seen(metric: &Metric, analysis: &Analysis) -> String {
    if let Some(why) = &metric.not_measured {
        return prose(why);
    }
    let (Some(numerator), Some(denominator)) = (metric.numerator, metric.denominator) else {
        return "–".to_owned();
    };
    if metric.id == "confidence" {
        return confidence(analysis);
    }
    if metric.unit == "CPU seconds" {
        return format!("{numerator:.2} of {denominator:.2} CPU seconds");
    }
    let (part, whole) = (
        units::count(numerator as u64),
        units::count(denominator as u64),
    );
    format!("{part} of {whole} {}", metric.unit)
}

fn confidence(analysis: &Analysis) -> String {
    let Some(hottest) = &analysis.coverage.hottest else {
        return "–".to_owned();
    };
    let name = code_cell(&fit::middle(&hottest.name, NAME_CHARS));
    match hottest.needed_s {
        Some(needed_s) if analysis.coverage.confidence.ok == Some(false) => format!(
            "of the share of {name}; ± {} takes {:.0} s",
            units::percent(hottest.precision),
            needed_s.ceil()
        ),
        _ => format!("of the share of {name}"),
    }
}

/// What stayed dark, and how to light it up.
pub(super) fn to_do(analysis: &Analysis) -> String {
    let coverage = &analysis.coverage;
    let line = |gap: &ModuleGap, what: &str| {
        format!(
            "- [ ] {}: {} {what} ({}): {}.\n",
            code(&fit::end(&gap.module, PATH_CHARS)),
            units::percent(gap.share),
            inline(&gap.reason),
            prose(&gap.remedy)
        )
    };
    let worth = |metric: &Metric, what: &str| -> String {
        let gaps = metric
            .modules
            .iter()
            .filter(|gap| gap.share >= MIN_GAP)
            .take(TOP_GAPS);
        gaps.map(|gap| line(gap, what)).collect()
    };
    let mut lines = coverage.source_lines.clone();
    // Symbols and line tables come in the same package, and what has no names is a list of its own.
    let nameless = &coverage.symbols.modules;
    lines
        .modules
        .retain(|gap| nameless.iter().all(|other| other.module != gap.module));
    let list = [
        worth(&coverage.stacks, "of stacks broke off there"),
        worth(&lines, "of user frames without a line"),
    ]
    .concat();
    match list.is_empty() {
        true => String::new(),
        false => format!("### To see more\n\n{list}"),
    }
}
