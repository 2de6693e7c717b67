//! `perfprof compare`: two sets of runs, one verdict.

use std::path::{Path, PathBuf};

use super::args::{CompareArgs, JudgingArgs};
use super::gate::found;
use super::report::read;
use super::status::Log;
use super::stdout::print;
use super::stop::{Exit, Failure};
use super::words;
use crate::artifacts::{ArtifactRoot, ComparisonOutput, publish_comparison};
use crate::compare::{self, Comparison, LoadSide, Options, Pictures, Run, Verdict};
use crate::load_test::{self, LoadTest};
use crate::render::diff_flamegraph::{self, DiffPicture, Shape};
use crate::sys::usage::unix_ns;

/// More runs a side than anybody records; a shell pattern that caught everything.
const MAX_RUNS: usize = 1000;

pub(super) fn run(args: &CompareArgs, log: &Log) -> Result<Exit, Failure> {
    let before = Side::read("before", &args.before, &args.work_before, &args.load_before)?;
    let after = Side::read("after", &args.after, &args.work_after, &args.load_after)?;
    let forced = refuse(&before.runs, &after.runs, args.force)?;
    let commands = vec![words::command_line(std::env::args_os())];
    conclude(
        [before, after],
        &args.judging,
        (&commands, forced),
        args.json,
        log,
    )
}

/// One side as it was given.
pub(super) struct Side {
    pub runs: Vec<Run>,
    pub loads: LoadSide,
}

impl Side {
    fn read(
        name: &str,
        files: &[PathBuf],
        work: &[f64],
        loads: &[PathBuf],
    ) -> Result<Side, Failure> {
        if files.len() > MAX_RUNS {
            let message = format!(
                "`--{name}` was given {} files, and {MAX_RUNS} are the most",
                files.len()
            );
            return Err(Failure::message(Exit::Usage, message));
        }
        for (what, count) in [("work", work.len()), ("load", loads.len())] {
            if count > 1 && count != files.len() {
                let message = format!(
                    "`--{what}-{name}` was given {count} times, and `--{name}` has {} profiles",
                    files.len()
                );
                return Err(Failure::message(Exit::Usage, message)
                    .hint("give it once for all runs of the side, or once for each"));
            }
        }
        let loads = loads
            .iter()
            .map(|path| read_load(path))
            .collect::<Result<Vec<LoadTest>, Failure>>()?;
        let of_run = |(ix, path): (usize, &PathBuf)| {
            let mut run = Run::new(path.display().to_string(), read(path, None)?);
            run.work = each(work, ix).copied();
            run.work_source = run.work.map(|_| format!("--work-{name}"));
            if let Some(load) = each(&loads, ix) {
                let seconds = run.seconds().ok_or_else(|| no_length(path))?;
                run.work = Some(load.throughput_per_second * seconds);
                run.work_source = Some(format!("throughput of {}", load.tool));
            }
            Ok(run)
        };
        Ok(Side {
            runs: files
                .iter()
                .enumerate()
                .map(of_run)
                .collect::<Result<Vec<Run>, Failure>>()?,
            loads: LoadSide { tests: loads },
        })
    }
}

/// One value for all, or one for each.
fn each<T>(values: &[T], ix: usize) -> Option<&T> {
    match values {
        [all] => Some(all),
        values => values.get(ix),
    }
}

fn read_load(path: &Path) -> Result<LoadTest, Failure> {
    load_test::read(path).map_err(|error| Failure::new(Exit::BadInput, error))
}

fn no_length(path: &Path) -> Failure {
    let message = format!("`{}` does not say how long it was recorded", path.display());
    Failure::message(Exit::Usage, message)
        .hint("give the amount of work by `--work-before` and `--work-after` instead of load-test results")
}

/// Sides that were recorded differently are not compared, unless that is insisted on.
pub(super) fn refuse(before: &[Run], after: &[Run], force: bool) -> Result<Vec<String>, Failure> {
    let differences = compare::check(before, after);
    let Some(first) = differences.first() else {
        return Ok(Vec::new());
    };
    if force {
        let all = differences.iter();
        return Ok(all
            .map(|difference| format!("compared all the same: {}", difference.reason))
            .collect());
    }
    let reasons: Vec<&str> = differences
        .iter()
        .map(|difference| difference.reason.as_str())
        .collect();
    let message = format!("these cannot be compared: {}", reasons.join("; "));
    Err(Failure::message(Exit::Usage, message)
        .hint(format!("{}; or insist with `--force`", first.remedy)))
}

/// Compares, writes everything, prints the summary; the exit code tells the verdict.
pub(super) fn conclude(
    [before, after]: [Side; 2],
    judging: &JudgingArgs,
    (commands, forced): (&[String], Vec<String>),
    json: bool,
    log: &Log,
) -> Result<Exit, Failure> {
    let root = ArtifactRoot::open(&judging.artifacts).map_err(words::not_written)?;
    let options = options(judging)?;
    let service = service(judging, &before.runs, &after.runs);
    let loads = [&before.loads, &after.loads];
    let sides = [before.runs, after.runs];
    let mut comparison = Comparison::of(&service, sides, loads, &options);
    comparison.warnings.extend(forced);
    let now = unix_ns();
    let document = compare::document(&comparison, now);
    let text = |links: &[String]| {
        let link = |ix: usize| links.get(ix).cloned();
        let pictures = Pictures {
            before: link(0),
            after: link(1),
        };
        compare::comment(&comparison, &pictures, commands)
    };
    let output = ComparisonOutput {
        service: &service,
        pictures: pictures(&comparison)?,
        documents: vec![
            ("performance-comparison.json", document.clone()),
            (
                "optimization-validation-report.json",
                compare::validation(&comparison, now),
            ),
        ],
    };
    let published = publish_comparison(&root, &output, text, now).map_err(words::not_written)?;
    log.block(&compare::summary(&comparison));
    for file in &published.files {
        log.info(format!("wrote {}", file.display()));
    }
    if json {
        print(&format!("{document:#}\n"))?;
    }
    Ok(match comparison.verdict {
        Verdict::Regressed => Exit::Failed,
        Verdict::Inconclusive => Exit::Inconclusive,
        Verdict::Improved | Verdict::Unchanged => Exit::Success,
    })
}

/// From the flags, else from the gate config where there is one, else the defaults.
fn options(judging: &JudgingArgs) -> Result<Options, Failure> {
    let config = found(judging.config.as_deref(), None, None)?.config;
    let of_config = config.file.is_some().then_some(&config.own.optimization);
    // A tolerance of 0 is the gate's way of saying: what the comparison told.
    let tolerance = of_config
        .map(|own| own.hot_path_tolerance.0)
        .filter(|t| *t > 0.0);
    let threshold = of_config.map(|own| own.improvement_threshold.0);
    let defaults = Options::default();
    Ok(Options {
        tolerance: judging
            .tolerance
            .or(tolerance)
            .unwrap_or(defaults.tolerance),
        min_share: judging.min_share.unwrap_or(defaults.min_share),
        improvement_threshold: judging
            .improvement_threshold
            .or(threshold)
            .unwrap_or(defaults.improvement_threshold),
        targets: judging.target.clone(),
        ..defaults
    })
}

/// As given, else as the profiles name it.
fn service(judging: &JudgingArgs, before: &[Run], after: &[Run]) -> String {
    let named = |runs: &[Run]| {
        let names = runs.iter().map(|run| run.profile.recording.service.clone());
        names.into_iter().find(|name| !name.trim().is_empty())
    };
    let given = judging
        .service
        .clone()
        .filter(|name| !name.trim().is_empty());
    given
        .or_else(|| named(after))
        .or_else(|| named(before))
        .unwrap_or_else(|| "comparison".into())
}

fn pictures(comparison: &Comparison) -> Result<Vec<(&'static str, String)>, Failure> {
    let picture = compare::picture(comparison);
    let names = picture.names();
    let drawn = DiffPicture {
        title: &picture.title,
        subtitle: &picture.subtitle,
        unit: picture.unit,
        names: &names,
        stacks: &picture.stacks,
        significant: Some(&picture.significant),
        tick: Some(picture.tick),
    };
    Shape::BOTH
        .into_iter()
        .map(|shape| {
            let svg = diff_flamegraph::render(&drawn, shape);
            svg.map(|svg| (shape.id(), svg))
                .map_err(|error| Failure::new(Exit::Failed, error))
        })
        .collect()
}
