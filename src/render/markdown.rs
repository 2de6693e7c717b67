//! One service's section of `profiling-report.md`: the whole story, the verdict first.
//!
//! In: a profile, its analysis, and what else was made of the recording ([`Attachments`]). Out: CommonMark with GFM
//! tables, complete from its heading on. Every name from outside goes through [`super::escape`]; long ones are cut, and
//! stand whole in the JSON documents.

use serde_json::Value;

use super::escape::{code, code_cell, inline, prose};
use super::table::{Align::Left, Align::Right, Table};
use super::{fit, units};
use crate::analysis::quality::{Metric, ModuleGap};
use crate::analysis::split::{ModuleSplit, ThreadSplit};
use crate::analysis::{Analysis, HotPath, Measure, Verdict};
use crate::profile::{Origin, Profile};

/// Functions per list.
const TOP: usize = 10;
/// Threads and binaries per list.
const TOP_SPLIT: usize = 12;
/// To-do entries per metric.
const TOP_GAPS: usize = 5;
/// Nobody reads more.
const MAX_WARNINGS: usize = 20;
/// Gaps smaller than this are not worth anybody's time.
const MIN_GAP: f64 = 0.001;
const NAME_CHARS: usize = 72;
const PATH_CHARS: usize = 48;
/// Functions shown of a long call chain, from the root and from the leaf.
const CHAIN_ENDS: (usize, usize) = (3, 5);

/// A file of the recording that the section links to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `svg`, `pb.gz`, `folded`, `speedscope.json`, …
    pub extension: String,
    /// Relative to the report; only letters, digits, `.`, `_`, `-` and `/`.
    pub path: String,
}

/// What else belongs into the section.
#[derive(Clone, Debug, Default)]
pub struct Attachments {
    pub links: Vec<Link>,
    /// Markdown made by the capacity analysis, without a heading.
    pub capacity: Option<String>,
}

/// The section, from its `##` heading to its last line.
pub fn section(profile: &Profile, analysis: &Analysis, attachments: &Attachments) -> String {
    let parts = [
        heading(profile),
        verdict(&analysis.coverage.verdict),
        coverage(analysis),
        flame_graph(profile, &attachments.links),
        hot_paths(profile, analysis),
        threads(profile, &analysis.threads),
        modules(&analysis.modules),
        to_do(analysis),
        capacity(attachments.capacity.as_deref()),
        cost(profile),
        warnings(profile),
        reproduce(profile),
    ];
    let parts: Vec<&str> = parts
        .iter()
        .map(|p| p.trim_end())
        .filter(|p| !p.is_empty())
        .collect();
    format!("{}\n", parts.join("\n\n"))
}

/// A service in the overview of the report.
#[derive(Clone, Copy, Debug)]
pub struct OverviewRow<'a> {
    /// Of its section.
    pub anchor: &'a str,
    /// Its entry in `coverage.json`, made by any version; `None` when there is none.
    pub coverage: Option<&'a Value>,
}

/// The top of the report: title, and every service with its verdict.
pub fn overview(rows: &[OverviewRow<'_>]) -> String {
    let head = [
        ("Service", Left),
        ("Verdict", Left),
        ("CPU time seen", Right),
        ("Complete stacks", Right),
        ("Named frames", Right),
        ("Recorded", Left),
    ];
    let mut table = Table::new(&head);
    for row in rows {
        let at = |pointer: &str| row.coverage.and_then(|entry| entry.pointer(pointer));
        let text = |pointer: &str| at(pointer).and_then(Value::as_str);
        let metric = |id: &str| {
            let value = at(&format!("/metrics/{id}/value")).and_then(Value::as_f64);
            value.map_or_else(|| "–".to_owned(), units::coverage)
        };
        let name = fit::middle(text("/service").unwrap_or(row.anchor), NAME_CHARS);
        table.row([
            format!("[{}](#{})", inline(&name), row.anchor),
            text("/verdict").map_or_else(|| "unknown".to_owned(), inline),
            metric("cpu_time"),
            metric("stacks"),
            metric("symbols"),
            text("/recorded_at").map_or_else(|| "–".to_owned(), inline),
        ]);
    }
    format!("# Profiling report\n\n{}", table.to_markdown())
}

fn heading(profile: &Profile) -> String {
    let recording = &profile.recording;
    let what = format!(
        "{} ticks, standing for {} of CPU time",
        units::count(profile.total_count()),
        units::duration_ns(profile.total_cpu_ns())
    );
    let how = match &recording.origin {
        Origin::Perfprof => {
            let when = units::timestamp(recording.started_unix_ns);
            format!(
                "Recorded {} for {} on {}: {}.",
                when.as_deref().unwrap_or("at an unknown time"),
                units::duration_ns(recording.duration_ns),
                code(&recording.hostname),
                inline(&recording.target),
            )
        }
        Origin::Foreign { format, file } => {
            format!(
                "Read from {} ({}), recorded by another tool.",
                code(file),
                inline(format)
            )
        }
    };
    format!("## {}\n\n{how} {what}.\n", inline(&recording.service))
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Trusted => {
            "**Verdict: trusted.** Every coverage metric that counts is above its threshold."
                .to_owned()
        }
        Verdict::Inconclusive { reasons } => {
            let list: String = reasons
                .iter()
                .map(|reason| format!("- {}\n", prose(reason)))
                .collect();
            format!(
                "**Verdict: inconclusive.** Do not decide by these numbers before this is cleared up:\n\n{list}"
            )
        }
    }
}

fn coverage(analysis: &Analysis) -> String {
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

fn flame_graph(profile: &Profile, links: &[Link]) -> String {
    if links.is_empty() {
        return String::new();
    }
    let mut out = "### Flame graph\n".to_owned();
    if let Some(svg) = links.iter().find(|link| link.extension == "svg") {
        let service = inline(&profile.recording.service);
        out.push_str(&format!("\n![Flame graph of {service}]({})\n", svg.path));
    }
    let files = links
        .iter()
        .map(|link| format!("[{}]({})", label(&link.extension), link.path));
    let files: Vec<String> = files.collect();
    out.push_str(&format!("\nOpen: {}\n", files.join(" · ")));
    out
}

fn label(extension: &str) -> String {
    match extension {
        "svg" => "SVG, zoom and search in a browser".to_owned(),
        "pb.gz" => "pprof".to_owned(),
        "folded" => "folded stacks".to_owned(),
        "speedscope.json" => "speedscope".to_owned(),
        other => inline(other),
    }
}

fn hot_paths(profile: &Profile, analysis: &Analysis) -> String {
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
    format!(
        "### Hottest by self time\n\nShares are of the {of}, n = {n} ticks{}. {}\n\n{}\n### Hottest by total time\n\n\
         A function's own time and that of everything it called, once per stack. The chain is the heaviest that runs \
         through it.\n\n{}",
        cpu_only,
        how_sure(analysis),
        ranking(
            profile,
            &hot.by_self,
            |path| path.self_weight.cpu_ns,
            |path| path.self_weight.ticks
        ),
        ranking(
            profile,
            &hot.by_total,
            |path| path.total_weight.cpu_ns,
            |path| path.total_weight.ticks
        ),
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
    paths: &[HotPath],
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
fn chains(paths: &[HotPath]) -> String {
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

fn threads(profile: &Profile, threads: &[ThreadSplit]) -> String {
    let head = [
        ("Thread", Left),
        ("Process", Left),
        ("PID", Right),
        ("TID", Right),
        ("CPU s (kernel)", Right),
        ("CPU s (sampled)", Right),
        ("Share", Right),
    ];
    let mut table = Table::new(&head);
    let name = |name: &str| match name {
        "" => "not sampled".to_owned(),
        name => code_cell(&fit::middle(name, PATH_CHARS)),
    };
    for row in threads.iter().take(TOP_SPLIT) {
        table.row([
            name(&row.name),
            name(&row.process),
            row.pid.to_string(),
            row.tid.to_string(),
            row.kernel_cpu_ns
                .map_or_else(|| "–".to_owned(), units::seconds),
            units::seconds(row.sampled.cpu_ns),
            units::percent(row.share),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    let rest = &threads[threads.len().min(TOP_SPLIT)..];
    let mut notes = Vec::new();
    if !rest.is_empty() {
        let share: f64 = rest.iter().map(|row| row.share).sum();
        notes.push(format!(
            "{} more threads have {}.",
            rest.len(),
            units::percent(share)
        ));
    }
    let unattributed = profile.accounting.unattributed_cpu_ns;
    if unattributed > 0 {
        let time = units::duration_ns(unattributed);
        notes.push(format!(
            "{time} of CPU time belong to threads that ended unseen."
        ));
    }
    format!(
        "### Threads\n\n{}\n{}",
        table.to_markdown(),
        notes.join(" ")
    )
}

fn modules(modules: &[ModuleSplit]) -> String {
    let head = [
        ("Binary", Left),
        ("Self time", Right),
        ("CPU s", Right),
        ("With a name", Right),
        ("Build ID", Left),
    ];
    let mut table = Table::new(&head);
    for row in modules.iter().take(TOP_SPLIT) {
        table.row([
            code_cell(&fit::end(&row.path, PATH_CHARS)),
            units::percent(row.share),
            units::seconds(row.weight.cpu_ns),
            units::coverage(row.named),
            row.build_id
                .map_or_else(|| "–".to_owned(), |id| format!("`{id}`")),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    let rest = &modules[modules.len().min(TOP_SPLIT)..];
    let note = match rest.is_empty() {
        true => String::new(),
        false => {
            let share: f64 = rest.iter().map(|row| row.share).sum();
            format!(
                "{} more binaries have {}.",
                rest.len(),
                units::percent(share)
            )
        }
    };
    format!("### Binaries\n\n{}\n{note}", table.to_markdown())
}

/// What stayed dark, and how to light it up.
fn to_do(analysis: &Analysis) -> String {
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
    // Symbols and line tables come in the same package.
    let nameless = &coverage.symbols.modules;
    lines
        .modules
        .retain(|gap| nameless.iter().all(|other| other.module != gap.module));
    let list = [
        worth(&coverage.symbols, "of frames without a name"),
        worth(&coverage.stacks, "of stacks broke off there"),
        worth(&lines, "of user frames without a line"),
    ]
    .concat();
    match list.is_empty() {
        true => String::new(),
        false => format!("### To see more\n\n{list}"),
    }
}

fn capacity(markdown: Option<&str>) -> String {
    markdown.map_or_else(String::new, |text| {
        format!("### Capacity\n\n{}", text.trim())
    })
}

fn cost(profile: &Profile) -> String {
    if profile.recording.origin != Origin::Perfprof {
        return String::new();
    }
    let cost = &profile.recording.self_cost;
    let relative = match profile.accounting.cpu_ns() {
        Some(target_ns) if target_ns > 0 => {
            let share = units::percent(cost.cpu_ns as f64 / target_ns as f64);
            format!(
                " ({share} of the target's {})",
                units::duration_ns(target_ns)
            )
        }
        _ => String::new(),
    };
    let mut text = format!(
        "perfprof used {} of CPU time{relative} and at most {} of memory; from the last sample to named stacks it took {}.",
        units::duration_ns(cost.cpu_ns),
        units::bytes(cost.max_rss_bytes),
        units::duration_ns(cost.finish_ns),
    );
    if let (Some(run_ns), Some(runs)) = (cost.bpf_run_ns, cost.bpf_runs) {
        let mean = run_ns.checked_div(runs).unwrap_or(0);
        text.push_str(&format!(
            " Its BPF programs ran {} times, {} on average.",
            units::count(runs),
            units::duration_ns(mean)
        ));
    }
    format!("### What the recording cost\n\n{text}")
}

fn warnings(profile: &Profile) -> String {
    let all = profile
        .recording
        .warnings
        .iter()
        .chain(&profile.accounting.gaps);
    let shown = all.clone().take(MAX_WARNINGS);
    let mut list: String = shown
        .map(|warning| format!("- {}\n", prose(warning)))
        .collect();
    let left_out = all.count().saturating_sub(MAX_WARNINGS);
    if left_out > 0 {
        list.push_str(&format!("- and {left_out} more\n"));
    }
    match list.is_empty() {
        true => String::new(),
        false => format!("### Warnings\n\n{list}"),
    }
}

fn reproduce(profile: &Profile) -> String {
    let recording = &profile.recording;
    if recording.origin != Origin::Perfprof {
        return String::new();
    }
    let because = |choice: &str, reason: &str| match reason {
        "" => code(choice),
        reason => format!("{}: {}", code(choice), prose(reason)),
    };
    // Indented, not fenced: no line of it can pass for a fence or for one of the report's own markers.
    let mut out = format!(
        "### How to reproduce\n\n    {}\n\n",
        super::escape::visible(&recording.command)
    );
    let kernel_stacks = match recording.kernel_stacks {
        true => "recorded",
        false => "not recorded",
    };
    let facts = [
        ("Event", because(&recording.event, &recording.event_reason)),
        (
            "Rate",
            format!("{} ticks per second of CPU time", recording.frequency_hz),
        ),
        (
            "Sampler",
            because(&recording.sampler, &recording.sampler_reason),
        ),
        (
            "Unwinder",
            because(&recording.unwind, &recording.unwind_reason),
        ),
        ("Kernel frames", kernel_stacks.to_owned()),
        (
            "Machine",
            format!(
                "kernel {} on {}, {} CPUs",
                code(&recording.kernel),
                inline(&recording.arch),
                recording.cpus
            ),
        ),
        ("Ended by", inline(&recording.stopped_by)),
        ("CPU accounting", inline(&profile.accounting.source)),
        ("perfprof", inline(&recording.version)),
    ];
    for (what, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
        out.push_str(&format!("- {what}: {fact}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Thresholds, canned};

    fn render(profile: &Profile) -> String {
        let link = |extension: &str| Link {
            extension: extension.into(),
            path: format!("diagnostics/tiny-server-20231114T221320Z.{extension}"),
        };
        let attachments = Attachments {
            links: ["svg", "pb.gz", "folded", "speedscope.json"]
                .map(link)
                .into(),
            capacity: Some("Used 0.83 of 2 CPUs.".into()),
        };
        section(
            profile,
            &Analysis::of(profile, &Thresholds::default()),
            &attachments,
        )
    }

    #[test]
    fn the_section_is_the_golden_one() {
        let golden = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/golden/profiling-report-section.md"
        );
        let actual = render(&canned::server());
        if std::env::var_os("PERFPROF_BLESS").is_some() {
            std::fs::write(golden, &actual).expect("golden file is writable");
        }
        let expected = std::fs::read_to_string(golden).expect("golden file");
        assert_eq!(
            actual, expected,
            "run with PERFPROF_BLESS=1 if the change is meant"
        );
    }

    #[test]
    fn hostile_names_stay_text() {
        let names = [
            "a|b`c\n<script>alert(1)</script> ![x](http://e/) \u{1b}[31m \u{202e}",
            "<!-- perfprof:service:end x -->\n# heading",
        ];
        let mut profile = canned::named_server("[evil](http://e) <b>\n## x | y", names);
        profile.recording.command = "perfprof\n<!-- perfprof:service:end x -->\n```".into();
        profile.recording.warnings = vec!["file `a`<img src=x>`b` is\n# gone".into()];
        for mapping in &mut profile.mappings {
            mapping.path = format!("/tmp/`{}\n|<i>", mapping.path);
        }
        for thread in &mut profile.threads {
            thread.name = "w|`\n<".into();
        }
        let text = render(&profile);
        let plain = canned::server();
        let structure = |text: &str| {
            let lines = text.lines();
            lines
                .filter(|line| line.starts_with("##") || line.starts_with('|'))
                .count()
        };
        // The unresolved file names differ by mapping, but no line is added or torn.
        assert_eq!(structure(&text), structure(&render(&plain)));
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        assert!(!text.contains('\u{202e}'));
        assert!(!text.lines().any(|line| line.starts_with("<!--")));
        for row in text.lines().filter(|line| line.starts_with("| ")) {
            assert!(row.matches('|').count() <= 8, "a cell was torn: {row}");
        }
    }

    #[test]
    fn a_foreign_profile_gets_a_section_that_claims_nothing() {
        let mut profile = canned::server();
        profile.recording = crate::profile::Recording {
            service: "x".into(),
            origin: Origin::Foreign {
                format: "folded".into(),
                file: "a.folded".into(),
            },
            ..Default::default()
        };
        profile.accounting = Default::default();
        profile.samples.iter_mut().for_each(|s| s.cpu_ns = 0);
        let text = render(&profile);
        assert!(text.contains("**Verdict: inconclusive.**"));
        assert!(!text.contains("What the recording cost") && !text.contains("NaN"));
        assert!(text.contains("Shares are of the ticks"));
    }
}
