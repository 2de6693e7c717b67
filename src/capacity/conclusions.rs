//! The conclusions in words, each with the numbers it was computed from.
//!
//! In: a [`Capacity`]. Out: CommonMark. Names of functions and files are others' text and are escaped.

use super::markdown::{MAX_NAME_CHARS, escape, number};
use super::planning::replicas_needed;
use super::{Capacity, PathCores, QuotaVerdict};
use crate::render::escape::code;

/// Nobody plans by the twentieth path.
const MAX_PATHS: usize = 10;
const MAX_PATHS_IN_SHORT: usize = 3;

/// Paragraphs and lists between the tables and what runs out first.
pub(super) fn section(capacity: &Capacity) -> String {
    let mut out = String::new();
    if let Some(range) = uncertainty(capacity) {
        out += &format!("\n{range}\n");
    }
    if let Some(headroom) = &capacity.headroom {
        out += &format!("\nHeadroom: {}.", headroom.arithmetic);
        if headroom.load_factor.is_some_and(|factor| factor > 0.0) {
            out += " The factor assumes that CPU use grows in proportion to load.";
        }
        out.push('\n');
    }
    if let Some(quota) = &capacity.quota {
        out += &format!("\n{}\n", quota.sentence);
    }
    if let Some(replicas) = replicas(capacity) {
        out += &format!("\n{replicas}\n");
    }
    if let Some(cost) = &capacity.cost {
        let source = capacity.load_source.as_deref().unwrap_or("a load test");
        out += &format!(
            "\nCost of a request: {}; {:.1} requests per second of CPU time. Throughput from {}, which must be of the same \
             load as this recording.\n",
            cost.arithmetic,
            cost.requests_per_core_second,
            escape(source)
        );
    }
    if !capacity.path_cores.is_empty() {
        out += &format!("\n{}\n\n", cores_heading(capacity));
        for path in capacity.path_cores.iter().take(MAX_PATHS) {
            out += &format!("- {}\n", path_words(path));
        }
    }
    out
}

/// List items for the profiling report.
pub(super) fn in_short(capacity: &Capacity) -> Vec<String> {
    let mut items = Vec::new();
    if let Some(quota) = &capacity.quota
        && quota.verdict != QuotaVerdict::NotThrottled
    {
        items.push(quota.sentence.clone());
    }
    items.extend(replicas(capacity));
    if let Some(cost) = &capacity.cost {
        items.push(format!("Cost of a request: {}", cost.arithmetic));
    }
    let paths = capacity.path_cores.iter().take(MAX_PATHS_IN_SHORT);
    items.extend(paths.map(path_words));
    items
}

fn uncertainty(capacity: &Capacity) -> Option<String> {
    let range = capacity.p95_range?;
    let p95 = capacity.cpu_cores.as_ref()?.p95;
    let high = match range.open_above {
        true => format!("no upper end: {} was the most", number(range.high)),
        false => number(range.high),
    };
    Some(format!(
        "p95 is {} cores, with a 95 % interval from {} to {high}. Uses that follow each other are alike: the {} intervals are \
         worth {:.0} independent ones.",
        number(p95),
        number(range.low),
        capacity.intervals,
        range.independent
    ))
}

fn replicas(capacity: &Capacity) -> Option<String> {
    let replicas = capacity.replicas.as_ref()?;
    let high = replicas
        .high
        .map_or("more than that".to_owned(), |n| n.to_string());
    let span = match (replicas.low, replicas.high) {
        (low, Some(high)) if low == high => String::new(),
        (low, _) => format!("; by the interval of p95 {low} to {high}"),
    };
    let caution = throttling_and_replicas(capacity, replicas.now);
    let is_bursty = |quota: &super::QuotaAdvice| quota.verdict == QuotaVerdict::Bursty;
    let heading = match capacity.quota.as_ref().is_some_and(is_bursty) {
        true => "Replicas needed by utilization alone",
        false => "Replicas needed",
    };
    Some(format!(
        "{heading}: {}, from {}{span}. Load is taken to spread evenly.{caution}",
        replicas.needed, replicas.arithmetic
    ))
}

/// Use ends at the quota, so that it tells too little of a load that is stopped by it.
fn throttling_and_replicas(capacity: &Capacity, now: u32) -> String {
    let Some(quota) = &capacity.quota else {
        return String::new();
    };
    match (quota.verdict, &quota.demand_cores, capacity.ceiling_cores) {
        (QuotaVerdict::Bursty, _, _) => " They do not end the throttling, see above.".to_owned(),
        (QuotaVerdict::TooSmall, Some(demand), Some(limit)) => {
            let target = capacity.target_utilization;
            let needed = replicas_needed(now, demand.p95 / limit, target);
            format!(
                " The quota hides what more was wanted: at most {} cores at p95, for which it takes {needed}.",
                number(demand.p95)
            )
        }
        _ => String::new(),
    }
}

/// What the cores in the list are of.
fn cores_heading(capacity: &Capacity) -> String {
    let used = capacity.path_cores.first().map_or(0.0, |p| p.used_cores);
    let of = capacity.ceiling_cores.map_or(String::new(), |cores| {
        format!(" of {cores:.2} ({})", capacity.ceiling_kind.words())
    });
    format!("Where the cores go, {used:.2}{of} used on average:")
}

/// The beginning of a long name.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME_CHARS) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    }
}

fn path_words(path: &PathCores) -> String {
    let interval = match (path.low, path.high) {
        (Some(low), Some(high)) => format!(" ({low:.2} to {high:.2})"),
        _ => String::new(),
    };
    format!(
        "{} is {:.2} of {:.2} cores{interval}",
        code(&shortened(&path.name)),
        path.cores,
        path.of_cores
    )
}
