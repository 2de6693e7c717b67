//! One service's section of `profiling-report.md`: the whole story, the verdict first.
//!
//! In: a profile, its analysis, and what else was made of the recording ([`Attachments`]). Out: CommonMark with GFM
//! tables, complete from its heading on. Every name from outside goes through [`super::escape`]; long ones are cut, and
//! stand whole in the JSON documents.

mod coverage;
mod hot;
mod overview;
mod split;
mod unnamed;
mod waits;

pub use overview::{OverviewRow, overview};

use super::escape::{self, code, inline, prose};
use super::units;
use crate::analysis::{Analysis, Verdict};
use crate::profile::{Origin, Profile};

/// Longer names are cut in the middle.
const NAME_CHARS: usize = 72;
/// Longer paths are cut at the start.
const PATH_CHARS: usize = 48;
/// Nobody reads more.
const MAX_WARNINGS: usize = 20;

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
        coverage::table(analysis),
        flame_graph(profile, &attachments.links),
        hot::hot_paths(profile, analysis),
        waits::time_and_waits(profile, analysis),
        split::threads(profile, &analysis.threads),
        split::modules(&analysis.modules),
        unnamed::to_do(&analysis.unnamed),
        coverage::to_do(analysis),
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
    let service = match recording.service.trim() {
        "" => "unnamed service",
        service => service,
    };
    format!("## {}\n\n{how} {what}.\n", inline(service))
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

fn flame_graph(profile: &Profile, links: &[Link]) -> String {
    if links.is_empty() {
        return String::new();
    }
    let mut out = "### Flame graph\n".to_owned();
    let service = inline(&profile.recording.service);
    for (extension, what) in [
        ("svg", "Flame graph"),
        ("off-cpu.svg", "Off-CPU flame graph"),
    ] {
        if let Some(svg) = links.iter().find(|link| link.extension == extension) {
            out.push_str(&format!("\n![{what} of {service}]({})\n", svg.path));
        }
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
        "off-cpu.svg" => "waits, SVG".to_owned(),
        "off-cpu.folded" => "waits, folded (µs)".to_owned(),
        "pb.gz" => "pprof".to_owned(),
        "folded" => "folded stacks".to_owned(),
        "speedscope.json" => "speedscope".to_owned(),
        other => inline(other),
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
        escape::visible(&recording.command)
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
        ("Waits", waits_recorded(profile)),
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

/// Whether waits were recorded, and why (not); empty where a profile does not say.
fn waits_recorded(profile: &Profile) -> String {
    let reason = profile.recording.waits_reason.as_str();
    match (profile.waits.is_some(), reason) {
        (_, "") => String::new(),
        (true, reason) => format!("recorded: {}", prose(reason)),
        (false, reason) => format!("not recorded: {}", prose(reason)),
    }
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
