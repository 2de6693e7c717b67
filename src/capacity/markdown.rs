//! The analysis in words: a section of `capacity-analysis.md`, and a few lines for the profiling report.
//!
//! In: a [`Capacity`]. Out: CommonMark. Names of services and cgroups are others' text and are escaped.

use super::usage::Percentiles;
use super::{Capacity, conclusions};

/// Longer names are cut; a table must stay readable.
pub(super) const MAX_NAME_CHARS: usize = 200;

/// The gap by which the gauges say that parents of the cgroup, and limits set there, are out of sight. It is their text,
/// `target::gauges::HIDDEN_PARENTS`, and a test holds both together.
pub(super) const HIDDEN_PARENTS: &str =
    "limits set above the container's own cgroup cannot be seen from here";

/// The section of one service, from its `##` heading on.
pub fn markdown_section(capacity: &Capacity) -> String {
    let mut out = format!("## {}\n\n", escape(&capacity.service));
    out += &format!("**{}**\n\n", verdict(capacity));
    for doubt in &capacity.inconclusive {
        out += &format!("- inconclusive: {}\n", escape(doubt));
    }
    if !capacity.is_conclusive() {
        out.push('\n');
    }
    out += &table(&facts(capacity));
    out.push('\n');
    out += &table(&cpu_rows(capacity));
    out += &conclusions::section(capacity);
    if !capacity.runs_out.is_empty() {
        out += "\nWhat runs out first:\n\n";
        for (ix, resource) in capacity.runs_out.iter().enumerate() {
            out += &format!("{}. {}\n", ix + 1, resource.sentence);
        }
    }
    if !capacity.gaps.is_empty() {
        out += "\nTo know when reading these figures:\n\n";
        for gap in &capacity.gaps {
            out += &format!("- {}\n", escape(gap));
        }
    }
    out
}

/// A few list items, for the profiling report.
pub fn summary_markdown(capacity: &Capacity) -> String {
    let mut items = vec![verdict(capacity)];
    if let Some(cores) = &capacity.cpu_cores {
        items.push(format!(
            "CPU: {} cores at p50, {} at p95, {} at most; {}",
            number(cores.p50),
            number(cores.p95),
            number(cores.max),
            ceiling_words(capacity)
        ));
    }
    items.push(format!("Throttling: {}", throttling_words(capacity)));
    items.push(format!("Memory: {}", memory_words(capacity)));
    if let Some(headroom) = &capacity.headroom {
        items.push(format!("Headroom: {}", headroom.arithmetic));
    }
    items.extend(conclusions::in_short(capacity));
    if let Some(doubt) = capacity.inconclusive.first() {
        items.push(format!("Inconclusive: {}", escape(doubt)));
    }
    items.iter().map(|item| format!("- {item}\n")).collect()
}

/// One sentence: how full, and what ends first.
fn verdict(capacity: &Capacity) -> String {
    let first = capacity.runs_out.first();
    let Some(first) = first else {
        return "Inconclusive: nothing was measured".to_owned();
    };
    let lead = match (capacity.is_conclusive(), first.exhausted) {
        (false, _) => "Inconclusive; as far as seen, first to run out",
        (true, true) => "Exhausted",
        (true, false) => "First to run out",
    };
    format!("{lead}: {}", first.sentence)
}

fn facts(capacity: &Capacity) -> Vec<[String; 2]> {
    let pressure = &capacity.pressure;
    let of = if pressure.scope == "cgroup" {
        "the service"
    } else {
        "the whole node"
    };
    let mut rows = vec![
        ["Fact".to_owned(), "Value".to_owned()],
        ["Measured".to_owned(), scope_words(capacity)],
        [
            "Window".to_owned(),
            format!(
                "{:.1} s in {} intervals of {:.0} ms",
                capacity.window_ns as f64 / 1e9,
                capacity.intervals,
                capacity.interval_ns as f64 / 1e6
            ),
        ],
        ["CPU ceiling".to_owned(), ceiling_words(capacity)],
        ["CPU request".to_owned(), request_words(capacity)],
        ["Throttling".to_owned(), throttling_words(capacity)],
        ["Memory".to_owned(), memory_words(capacity)],
        [
            format!("CPU pressure of {of}"),
            some_and_full(pressure.cpu, pressure.cpu_full),
        ],
        [
            format!("Memory pressure of {of}"),
            some_and_full(pressure.memory, pressure.memory_full),
        ],
        [
            format!("I/O pressure of {of}"),
            some_and_full(pressure.io, pressure.io_full),
        ],
        [
            "Waiting for a CPU".to_owned(),
            capacity
                .run_delay
                .map_or(unknown(), |delay| run_delay_words(capacity, delay)),
        ],
        [
            "Taken by the hypervisor (steal)".to_owned(),
            share(capacity.steal_share),
        ],
        [
            "Threads".to_owned(),
            capacity
                .threads
                .map_or(unknown(), |n| format!("{n} at most")),
        ],
        ["CPUs evenly used".to_owned(), balance_words(capacity)],
    ];
    if let Some(s) = &capacity.steadiness {
        let word = if s.steady { "steady" } else { "not steady" };
        rows.push([
            "Load".to_owned(),
            format!(
                "{word}: {} cores in the first half, {} in the second ({:+.0} %)",
                number(s.first_half_cores),
                number(s.second_half_cores),
                s.drift * 100.0
            ),
        ]);
    }
    rows
}

fn cpu_rows(capacity: &Capacity) -> Vec<[String; 6]> {
    let head = ["CPU, cores", "mean", "p50", "p95", "p99", "max"].map(str::to_owned);
    let row = |name: &str, of: &Option<Percentiles>| match of {
        None => [
            name.to_owned(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
        ],
        Some(p) => [
            name.to_owned(),
            number(p.mean),
            number(p.p50),
            number(p.p95),
            p.p99.map_or("too few intervals".to_owned(), number),
            number(p.max),
        ],
    };
    let each = |ns: u64| format!("service, each {:.0} ms", ms(ns));
    let mut rows = vec![head, row(&each(capacity.interval_ns), &capacity.cpu_cores)];
    // Without a quota readings are not joined, and this row would be the same.
    if capacity.fine_interval_ns < capacity.interval_ns {
        rows.push(row(&each(capacity.fine_interval_ns), &capacity.fine_cores));
    }
    rows.push(row("node, with everything on it", &capacity.node_cores));
    rows
}

fn scope_words(capacity: &Capacity) -> String {
    match capacity.scope.as_str() {
        "cgroup" => format!("the cgroup {}", escape(&capacity.cgroup)),
        "processes" => "the profiled processes".to_owned(),
        "node" => "the whole node".to_owned(),
        other => escape(other),
    }
}

fn ceiling_words(capacity: &Capacity) -> String {
    match capacity.ceiling_cores {
        None => unknown(),
        Some(cores) => {
            let used = capacity.p95_share().map_or(String::new(), |s| {
                format!(", {:.0} % used at p95", s * 100.0)
            });
            let caveat = match hides_parents(capacity) {
                true => "; a tighter limit above its container cannot be seen from here",
                false => "",
            };
            format!(
                "{} cores ({}{caveat}){used}",
                number(cores),
                capacity.ceiling_kind.words()
            )
        }
    }
}

fn hides_parents(capacity: &Capacity) -> bool {
    capacity.gaps.iter().any(|gap| gap == HIDDEN_PARENTS)
}

fn throttling_words(capacity: &Capacity) -> String {
    match (&capacity.throttling, capacity.ceiling_kind) {
        (Some(t), _) => format!(
            "stopped in {} of {} periods ({:.0} %), {:.2} s in all",
            t.throttled_periods,
            t.periods,
            t.share * 100.0,
            t.throttled_ns as f64 / 1e9
        ),
        (None, super::CeilingKind::Quota) => unknown(),
        (None, _) if hides_parents(capacity) => {
            "not known, no quota is visible from here".to_owned()
        }
        (None, _) => "none possible, no quota is set".to_owned(),
    }
}

fn memory_words(capacity: &Capacity) -> String {
    let memory = &capacity.memory;
    let Some(max) = memory.max_bytes else {
        return unknown();
    };
    let mut words = format!("{} at most", mib(max));
    words += &match (memory.limit_bytes, memory.node_bytes) {
        (Some(limit), _) => format!(" of a limit of {}", mib(limit)),
        (None, Some(node)) => {
            let visible = match hides_parents(capacity) {
                true => " visible from here",
                false => "",
            };
            format!(", no limit{visible}, the node has {}", mib(node))
        }
        (None, None) => String::new(),
    };
    if let Some(left) = memory.headroom_bytes {
        words += &format!(", {} left", mib(left));
    }
    if let Some(hits) = memory.events.limit_hits.filter(|hits| *hits > 0) {
        words += &format!("; the limit was hit {hits} times meanwhile");
    }
    if let Some(swap) = memory.swap_bytes.filter(|swap| *swap > 0) {
        words += &format!("; {} swapped out", mib(swap));
    }
    if let Some(kills) = memory.oom_kills.filter(|kills| *kills > 0) {
        let meanwhile = match memory.events.oom_kills {
            Some(0) => ", none of them meanwhile".to_owned(),
            Some(n) => format!(", {n} of them meanwhile"),
            None => String::new(),
        };
        words += &format!(
            "; {kills} processes killed for lack of memory over the cgroup's life{meanwhile}"
        );
    }
    words
}

fn request_words(capacity: &Capacity) -> String {
    let Some(weight) = capacity.cpu_weight else {
        return unknown();
    };
    let mut words = format!("weight {weight}");
    if let Some(millicores) = capacity.request_millicores {
        words += &format!(", in Kubernetes a request of {millicores:.0} m");
    }
    if let Some(cores) = capacity.guaranteed_cores {
        words += &format!("; guarantees {} cores on a full node", number(cores));
    }
    if let Some(share) = capacity.p95_share_of_request() {
        words += &format!(", {:.0} % used at p95", share * 100.0);
    }
    words
}

/// The scheduler's run delay does not tell a thread without a CPU from one that the quota stops.
fn run_delay_words(capacity: &Capacity, delay: f64) -> String {
    let stopped = match capacity.throttling {
        Some(t) if t.throttled_periods > 0 => ", stopped by the quota included",
        _ => "",
    };
    format!("{:.1} ms per second, all threads{stopped}", delay * 1e3)
}

fn balance_words(capacity: &Capacity) -> String {
    let Some(balance) = &capacity.balance else {
        return unknown();
    };
    let over = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.2} times the mean"));
    let node = over(balance.node).unwrap_or_else(unknown);
    match over(balance.service) {
        Some(service) => format!("busiest {node}; by the service alone {service}"),
        None => format!("busiest {node}"),
    }
}

fn some_and_full(some: Option<f64>, full: Option<f64>) -> String {
    let full = full.map_or(String::new(), |v| format!(", {:.1} % full", v * 100.0));
    some.map_or(unknown(), |v| format!("{:.1} % some{full}", v * 100.0))
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1048576.0)
}

fn share(value: Option<f64>) -> String {
    value.map_or(unknown(), |v| format!("{:.1} % of the time", v * 100.0))
}

pub(super) fn number(value: f64) -> String {
    format!("{value:.3}")
}

fn unknown() -> String {
    "not known".to_owned()
}

/// A table whose columns align in the source, too; the first row is the head.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [3; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for (ix, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        out += &format!("| {} |\n", cells.join(" | "));
        if ix == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            out += &format!("| {} |\n", rules.join(" | "));
        }
    }
    out
}

/// Others' text as plain text: no markup, no HTML, no line break, no control character.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(MAX_NAME_CHARS) {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    if text.chars().nth(MAX_NAME_CHARS).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_on_one_line_and_are_no_markup() {
        let name = escape("a|b`c\n<script>[x](y)\u{1b}[0m *_#");
        assert_eq!(
            name,
            "a\\|b\\`c\u{fffd}&lt;script&gt;\\[x\\](y)\u{fffd}\\[0m \\*\\_\\#"
        );
        assert!(escape(&"x".repeat(1000)).chars().count() <= MAX_NAME_CHARS + 1);
    }
}
