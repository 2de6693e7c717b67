//! The end summary: about a dozen lines for whoever waits at the terminal. In: a profile, its analysis and the files
//! written. Out: text with line breaks. Everything from outside is made visible, so that no name can drive the terminal.

use std::path::PathBuf;

use super::escape::visible;
use super::{fit, units};
use crate::analysis::books::Books;
use crate::analysis::quality::Metric;
use crate::analysis::{Analysis, HotPath, Verdict};
use crate::profile::Profile;

const TOP: usize = 5;
const BAR_CELLS: f64 = 20.0;
const NAME_CHARS: usize = 48;
/// Reasons for an inconclusive verdict shown; the report has all.
const MAX_REASONS: usize = 3;

/// Whether the terminal shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Ansi,
}

impl Colour {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Colour::Plain => text.to_owned(),
            Colour::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// The summary, every line ended.
pub fn summary(
    profile: &Profile,
    analysis: &Analysis,
    files: &[PathBuf],
    colour: Colour,
) -> String {
    let mut lines = verdict(profile, &analysis.coverage.verdict, colour);
    lines.push(coverage(analysis));
    lines.extend(
        analysis
            .hot
            .by_self
            .iter()
            .take(TOP)
            .map(|path| hot_path(path, colour)),
    );
    lines.extend(analysis.books.as_ref().map(time));
    lines.extend(written(files));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn verdict(profile: &Profile, verdict: &Verdict, colour: Colour) -> Vec<String> {
    let service = visible(&fit::middle(&profile.recording.service, NAME_CHARS));
    let mut what = format!("{service}: {} ticks", units::count(profile.total_count()));
    // Another tool's profile may know no times.
    if profile.total_cpu_ns() > 0 {
        let cpu_time = units::duration_ns(profile.total_cpu_ns());
        let duration = units::duration_ns(profile.recording.duration_ns);
        what.push_str(&format!(", {cpu_time} of CPU time in {duration}"));
    }
    match verdict {
        Verdict::Trusted => vec![format!("{}  {what}", colour.paint("1;32", "trusted"))],
        Verdict::Inconclusive { reasons } => {
            let first = format!("{}  {what}", colour.paint("1;33", "inconclusive"));
            let mut lines = vec![first];
            lines.extend(
                reasons
                    .iter()
                    .take(MAX_REASONS)
                    .map(|r| format!("  because {}", visible(r))),
            );
            if reasons.len() > MAX_REASONS {
                lines.push(format!(
                    "  and {} more reasons, see the report",
                    reasons.len() - MAX_REASONS
                ));
            }
            lines
        }
    }
}

/// Where the time of all threads went.
fn time(books: &Books) -> String {
    let all = &books.all;
    let share = |ns: u64| units::percent(ns as f64 / all.wall_ns.max(1) as f64);
    format!(
        "time of {} threads: on CPU {}, runnable {}, throttled {}, blocked {}, residual {:+.2} %",
        units::count(books.threads.len() as u64),
        share(all.on_cpu_ns),
        share(all.runnable_ns),
        share(all.throttled_ns),
        share(all.blocked_ns),
        100.0 * all.residual_share()
    )
}

fn coverage(analysis: &Analysis) -> String {
    let coverage = &analysis.coverage;
    let value = |name: &str, metric: &Metric| {
        let value = metric
            .value
            .map_or_else(|| "not measured".to_owned(), units::coverage);
        format!("{name} {value}")
    };
    let parts = [
        value("CPU time", &coverage.cpu_time),
        value("delivered", &coverage.delivery),
        value("complete stacks", &coverage.stacks),
        value("named frames", &coverage.symbols),
        value("threads", &coverage.threads),
    ];
    format!("coverage: {}", parts.join(", "))
}

fn hot_path(path: &HotPath, colour: Colour) -> String {
    let share = path.share.value;
    let half_width = match path.share.half_width() {
        Some(half_width) => format!("± {:>4.1}", half_width * 100.0),
        None => "      ".to_owned(),
    };
    let cells = (share * BAR_CELLS).round() as usize;
    let bar = format!("{:<20}", "█".repeat(cells.min(BAR_CELLS as usize)));
    let kernel = if path.kernel { "_[k]" } else { "" };
    format!(
        "{:>5.1} {half_width} %  {}  {}{kernel}",
        share * 100.0,
        colour.paint("36", &bar),
        visible(&fit::middle(&path.name, NAME_CHARS))
    )
}

fn written(files: &[PathBuf]) -> Vec<String> {
    files
        .iter()
        .map(|file| format!("wrote {}", visible(&file.display().to_string())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Thresholds, canned};

    fn show(profile: &Profile, colour: Colour) -> String {
        let analysis = Analysis::of(profile, &Thresholds::default());
        summary(
            profile,
            &analysis,
            &["out/profiling-report.md".into()],
            colour,
        )
    }

    #[test]
    fn a_dozen_lines_tell_verdict_coverage_paths_and_files() {
        let text = show(&canned::server(), Colour::Plain);
        assert!(text.lines().count() <= 12, "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("inconclusive  tiny-server: 8,256 ticks"),
            "{text}"
        );
        assert!(lines[1].starts_with("  because `threads`"), "{text}");
        assert!(
            lines[2].starts_with("coverage: CPU time 99.1 %, delivered 99.9 %"),
            "{text}"
        );
        assert!(
            lines[3].starts_with(" 47.8 ± ") && lines[3].ends_with("hash_step"),
            "{text}"
        );
        assert!(lines[5].ends_with("copy_to_user_[k]"), "{text}");
        assert_eq!(
            *lines.last().expect("lines"),
            "wrote out/profiling-report.md"
        );
    }

    #[test]
    fn escape_codes_are_ours_or_none() {
        let hostile = canned::named_server("a\x1b]0;x\x07\n", ["s", "\u{9b}31m\u{202e}w\r"]);
        let plain = show(&hostile, Colour::Plain);
        assert!(
            !plain
                .chars()
                .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}')
        );
        assert!(plain.contains("\\x9b31m"));
        let coloured = show(&hostile, Colour::Ansi);
        assert!(coloured.contains("\x1b[1;33minconclusive\x1b[0m"));
        assert_eq!(
            coloured
                .replace("\x1b[1;33m", "")
                .replace("\x1b[36m", "")
                .replace("\x1b[0m", ""),
            plain
        );
    }
}
