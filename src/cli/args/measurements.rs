//! What was typed for measurements of other tools, the baseline and its history.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::SignedDuration;

use crate::history::trend::MIN_POINTS;

#[derive(Debug, Args)]
pub(in crate::cli) struct LoadTestArgs {
    /// What a tool wrote, told by its content: k6 (`--summary-export`, `handleSummary`), Locust (`_stats.csv`, with
    /// `_stats_history.csv` for the number of users; JSON), JMeter (JTL, CSV or XML), Artillery, hey, oha, wrk, or
    /// perfprof's own form
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Name of the scenario, where the file says none or another; of several scenarios, the one to take
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub scenario: Option<String>,
    /// Users or connections at once at the peak, where the file does not say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub concurrency: Option<u64>,
    /// The service that was tested
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub service: Option<String>,
    /// Make a scenario of each endpoint (Locust) or label (JMeter)
    #[arg(long)]
    pub per_endpoint: bool,
    /// Folder for load-test-results.json [default: the gate config's, else .artifacts/performance]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Print the JSON document to standard output, too
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BaselineArgs {
    /// Take the figures of what stands in the artifact folder as the baseline, and add them to the history
    Save(BaselineSaveArgs),
    /// Show the baseline
    Show(BaselineShowArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BaselineSaveArgs {
    #[command(flatten)]
    pub figures: FiguresArgs,
    /// Leave the history as it is
    #[arg(long, conflicts_with = "history")]
    pub no_history: bool,
    /// Print the JSON document to standard output, too
    #[arg(long)]
    pub json: bool,
}

/// Where figures are taken from, and the history they go to.
#[derive(Debug, Args)]
pub(in crate::cli) struct FiguresArgs {
    /// Also take figures from this profile (.pb.gz, folded stacks), in the place of the same service's; repeatable
    #[arg(long, value_name = "FILE")]
    pub profile: Vec<PathBuf>,
    /// Also take figures from this load-test result, as `perfprof load-test` reads it; repeatable
    #[arg(long, value_name = "FILE")]
    pub load_test: Vec<PathBuf>,
    /// The service that load tests are of which say none [default: the only one there is, or the scenario's name]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub service: Option<String>,
    /// Folder with coverage.json, bottleneck-report.json, capacity-analysis.json and load-test-results.json [default: the gate config's, else .artifacts/performance]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// The history's file [default: history.sqlite3 in the artifact folder]
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BaselineShowArgs {
    /// JSON or CSV [default: baseline-metrics.json, or .csv, in the artifact folder]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Folder with the baseline [default: the gate config's, else .artifacts/performance]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Print JSON to standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TrendArgs {
    /// How far back the mean reaches, from the newest figure: 90m, 24h, 7d, 2w
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = window)]
    pub window: SignedDuration,
    /// Earlier figures that it takes for a verdict
    #[arg(long, value_name = "N", default_value_t = MIN_POINTS, value_parser = points)]
    pub min_points: usize,
    /// First add what stands in the artifact folder to the history, without making it the baseline
    #[arg(long)]
    pub add: bool,
    #[command(flatten)]
    pub figures: FiguresArgs,
    /// Print JSON to standard output
    #[arg(long)]
    pub json: bool,
}

/// Longer names are no names.
const MAX_NAME_BYTES: usize = 200;

fn name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a name is needed".into()),
        long if long.len() > MAX_NAME_BYTES => Err(format!("has more than {MAX_NAME_BYTES} bytes")),
        name => Ok(name.to_owned()),
    }
}

fn window(text: &str) -> Result<SignedDuration, String> {
    let units = [("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)];
    let parsed = units.into_iter().find_map(|(unit, seconds)| {
        let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(seconds)
    });
    match parsed {
        Some(seconds) if (60..=MAX_WINDOW_SECONDS).contains(&seconds) => {
            Ok(SignedDuration::from_secs(seconds))
        }
        Some(_) => Err("must be at least a minute and at most ten years".into()),
        None => Err("not a number with `m`, `h`, `d` or `w`".into()),
    }
}

/// Ten years.
const MAX_WINDOW_SECONDS: i64 = 10 * 366 * 86_400;

fn points(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(points) if (2..=10_000).contains(&points) => Ok(points),
        _ => Err("not a number from 2 to 10000: a spread takes two".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_units_and_odd_ones_are_refused() {
        assert_eq!(window("7d"), Ok(SignedDuration::from_hours(168)));
        assert_eq!(window("2w"), window("14d"));
        for bad in [
            "",
            "7",
            "d",
            "0d",
            "-1d",
            "30s",
            "9999999999999999w",
            "11w2d",
        ] {
            assert!(window(bad).is_err(), "{bad}");
        }
    }
}
