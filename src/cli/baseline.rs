//! `perfprof baseline save|show`: the figures of a baseline, taken from what stands in the artifact root.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::args::{BaselineArgs, BaselineSaveArgs, BaselineShowArgs, FiguresArgs};
use super::artifact_root;
use super::load_test::{read as read_load_test, with_source};
use super::report::read as read_profile;
use super::status::Log;
use super::stdout::print;
use super::stop::{Exit, Failure};
use super::words;
use crate::analysis::{Analysis, Thresholds};
use crate::artifacts::{ArtifactRoot, LOAD_TESTS, publish_baseline, read_inside};
use crate::baseline::{self, BaselineError, Measurement, Sources};
use crate::history::{self, History, HistoryError};
use crate::load_test::{self, LoadTest, Split};
use crate::render::{baselines, bottleneck, coverage};
use crate::sys::usage::unix_ns;

pub(super) fn run(args: &BaselineArgs, log: &Log) -> Result<Exit, Failure> {
    match args {
        BaselineArgs::Save(args) => save(args, log),
        BaselineArgs::Show(args) => show(args, log),
    }
}

fn save(args: &BaselineSaveArgs, log: &Log) -> Result<Exit, Failure> {
    let artifacts = &artifact_root::of(args.figures.artifacts.as_deref(), log)?;
    let found = figures(&args.figures, artifacts)?;
    let root = ArtifactRoot::open(artifacts).map_err(words::not_written)?;
    // A history that cannot be used is found before anything is replaced.
    let history = match args.no_history {
        true => None,
        false => Some(open_history(args.figures.history.as_deref(), artifacts)?),
    };
    let (all, published) =
        publish_baseline(&root, found.clone(), unix_ns()).map_err(words::not_written)?;
    published.notes.iter().for_each(|note| log.warning(note));
    for file in &published.files {
        log.info(format!("wrote {}", file.display()));
    }
    if let Some((path, mut history)) = history {
        add(&mut history, &path, &found, log)?;
    }
    log.info(format!(
        "{} figures of {}",
        all.measurements().len(),
        all.services().join(", ")
    ));
    if args.json {
        print(&format!("{:#}\n", baseline::to_json(&all)))?;
    }
    Ok(Exit::Success)
}

fn show(args: &BaselineShowArgs, log: &Log) -> Result<Exit, Failure> {
    let path = match &args.file {
        Some(file) => file.clone(),
        None => {
            let root = artifact_root::of(args.artifacts.as_deref(), log)?;
            baseline::find(&root).ok_or_else(|| {
                let message = format!("there is no baseline in `{}`", root.display());
                Failure::message(Exit::BadInput, message)
                    .hint("make one with `perfprof baseline save`")
            })?
        }
    };
    let baseline = baseline::read(&path).map_err(bad_input)?;
    if let Some(age) = baseline.age(Timestamp::now()) {
        log.info(format!(
            "{}: {} figures, the oldest {}, the newest {}",
            path.display(),
            baseline.measurements().len(),
            baselines::age(age.oldest_seconds),
            baselines::age(age.newest_seconds),
        ));
    }
    match args.json {
        true => print(&format!("{:#}\n", baseline::to_json(&baseline)))?,
        false => print(&baselines::table(&baseline))?,
    }
    Ok(Exit::Success)
}

/// Everything that was measured, at least one figure.
pub(super) fn figures(args: &FiguresArgs, root: &Path) -> Result<Vec<Measurement>, Failure> {
    let mut sources = Sources::of_root(root).map_err(bad_input)?;
    sources.service = args.service.clone();
    for path in &args.profile {
        let profile = read_profile(path, None)?;
        let analysis = Analysis::of(&profile, &Thresholds::default());
        put(&mut sources.coverage, coverage::entry(&profile, &analysis));
        put(
            &mut sources.bottlenecks,
            bottleneck::entry(&profile, &analysis),
        );
    }
    let mut tests = standing_load_tests(root)?;
    for path in &args.load_test {
        tests.extend(read_load_test(path, Split::Scenarios)?);
    }
    for test in tests {
        sources
            .load_tests
            .retain(|old| old.scenario != test.scenario);
        sources.load_tests.push(test);
    }
    let found = baseline::collect(&sources, Timestamp::now()).map_err(bad_input)?;
    if found.is_empty() {
        let message = format!("there is nothing measured in `{}`", root.display());
        return Err(Failure::message(Exit::BadInput, message).hint(
            "run `perfprof record`, `perfprof capacity` or `perfprof load-test` first, or give `--profile FILE` or \
             `--load-test FILE`",
        ));
    }
    Ok(found)
}

/// Those of the artifact root, where others can write: no link is followed, and a FIFO is no file.
fn standing_load_tests(root: &Path) -> Result<Vec<LoadTest>, Failure> {
    let path = root.join(LOAD_TESTS);
    let bad = |error: anyhow::Error| {
        let message = format!("failed to read `{}`", path.display());
        Failure::new(Exit::BadInput, error.context(message))
    };
    let bytes = read_inside(root, Path::new(LOAD_TESTS), load_test::MAX_BYTES);
    match bytes.map_err(|error| bad(error.into()))? {
        None => Ok(Vec::new()),
        Some(bytes) => {
            let mut tests = load_test::all_from_bytes(&bytes, Split::Scenarios)
                .map_err(|error| bad(error.into()))?;
            with_source(&mut tests, &path);
            Ok(tests)
        }
    }
}

/// In the place of the same service's entry.
fn put(entries: &mut Vec<serde_json::Value>, entry: serde_json::Value) {
    entries.retain(|old| old["service"] != entry["service"]);
    entries.push(entry);
}

/// The file that was asked for, or that of the artifact root, made where it is missing.
pub(super) fn open_history(
    asked: Option<&Path>,
    artifacts: &Path,
) -> Result<(PathBuf, History), Failure> {
    let path = asked.map_or_else(|| artifacts.join(history::FILE), Path::to_owned);
    if asked.is_none() {
        ArtifactRoot::open(artifacts).map_err(words::not_written)?;
    }
    let history = History::open(&path).map_err(history_failed)?;
    Ok((path, history))
}

pub(super) fn add(
    history: &mut History,
    path: &Path,
    found: &[Measurement],
    log: &Log,
) -> Result<(), Failure> {
    let added = history
        .add(found, Timestamp::now())
        .map_err(history_failed)?;
    log.info(format!(
        "added {} figures to {}; {} were there",
        added.new,
        path.display(),
        added.known
    ));
    Ok(())
}

pub(super) fn history_failed(error: HistoryError) -> Failure {
    let exit = match error.is_bad_input() {
        true => Exit::BadInput,
        false => Exit::NotWritten,
    };
    let hint = error.hint();
    Failure::new(exit, error).hint(hint)
}

fn bad_input(error: BaselineError) -> Failure {
    Failure::new(Exit::BadInput, error)
}
