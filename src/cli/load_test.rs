//! `perfprof load-test`: results of load-test tools brought into one form, in `load-test-results.json`.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::args::LoadTestArgs;
use super::artifact_root;
use super::status::Log;
use super::stdout::print;
use super::stop::{Exit, Failure};
use super::words;
use crate::artifacts::{ArtifactRoot, publish_load_tests};
use crate::load_test::{self, LoadTest, ReadError, Source, Split};
use crate::render::{escape::visible, load_tests};
use crate::sys::usage::unix_ns;

/// What a scenario without a name is called; k6 does, too.
const UNNAMED: &str = "default";

const WANTED: &str = "give what k6 (`--summary-export`, `handleSummary`), Locust (`--csv`, `--json-file`), JMeter (JTL), Artillery \
     (`--output`), hey, oha (`--output-format json`) or wrk (`--latency`) wrote when the test had ended";

pub(super) fn run(args: &LoadTestArgs, log: &Log) -> Result<Exit, Failure> {
    let split = match args.per_endpoint {
        true => Split::Endpoints,
        false => Split::Scenarios,
    };
    let mut tests = Vec::new();
    for file in &args.files {
        // `locust --csv` writes four files, and a pattern gives all of them.
        match load_test::read_split(file, split) {
            Err(ReadError::Content { fault, .. }) if fault.is_beside() && args.files.len() > 1 => {
                log.warning(format!("`{}` is skipped: {fault}", file.display()));
            }
            read => tests.extend(told(read, file)?),
        }
    }
    if tests.is_empty() {
        let message = "none of the files is a result of a load test";
        return Err(Failure::message(Exit::BadInput, message).hint(WANTED));
    }
    join_history(&mut tests);
    let mut tests = chosen(tests, args)?;
    for test in &mut tests {
        test.peak_concurrency = args.concurrency.or(test.peak_concurrency);
        test.service = args.service.clone().or(test.service.take());
        if test.scenario.is_none() {
            log.warning(format!(
                "{} names no scenario; it is called `{UNNAMED}` (`--scenario NAME` gives it another name)",
                test.tool
            ));
            test.scenario = Some(UNNAMED.into());
        }
        remarks(test).iter().for_each(|remark| log.warning(remark));
    }
    let folder = artifact_root::of(args.artifacts.as_deref(), log)?;
    let root = ArtifactRoot::open(&folder).map_err(words::not_written)?;
    let (all, published) =
        publish_load_tests(&root, tests, unix_ns()).map_err(words::not_written)?;
    published.notes.iter().for_each(|note| log.warning(note));
    log.block(&load_tests::summary(&all));
    for file in &published.files {
        log.info(format!("wrote {}", file.display()));
    }
    if args.json {
        print(&format!("{:#}\n", load_test::document(&all)))?;
    }
    Ok(Exit::Success)
}

/// A file's results, with where they come from.
pub(super) fn read(path: &Path, split: Split) -> Result<Vec<LoadTest>, Failure> {
    told(load_test::read_split(path, split), path)
}

fn told(read: Result<Vec<LoadTest>, ReadError>, path: &Path) -> Result<Vec<LoadTest>, Failure> {
    let mut tests = read.map_err(|error| Failure::new(Exit::BadInput, error).hint(WANTED))?;
    with_source(&mut tests, path);
    Ok(tests)
}

/// Says of results that do not say it which file they are from.
pub(super) fn with_source(tests: &mut [LoadTest], path: &Path) {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    let written = written.ok().and_then(|time| Timestamp::try_from(time).ok());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for test in tests {
        test.source.get_or_insert_with(|| Source {
            file: name.clone().into_owned(),
            written_at: written.map(|time| time.to_string()),
        });
    }
}

/// One Locust test in two files: only the history has the users, only the statistics the percentiles.
fn join_history(tests: &mut Vec<LoadTest>) {
    let is_locust = |test: &LoadTest| test.tool == "locust" && test.scenario.is_none();
    let with = |users: bool| {
        move |test: &LoadTest| is_locust(test) && test.peak_concurrency.is_some() == users
    };
    let alone = |users: bool| tests.iter().filter(|test| with(users)(test)).count() == 1;
    if !(alone(true) && alone(false)) {
        return;
    }
    let at = tests.iter().position(with(true)).expect("there is one");
    let history = tests.remove(at);
    let statistics = tests.iter_mut().find(|test| with(false)(test));
    load_test::complete_by_history(statistics.expect("there is one"), &history);
}

/// The results that are meant, with the name that was given.
fn chosen(mut tests: Vec<LoadTest>, args: &LoadTestArgs) -> Result<Vec<LoadTest>, Failure> {
    if let Some(name) = &args.scenario {
        if tests.len() > 1 {
            let names = names(&tests);
            tests.retain(|test| test.scenario.as_ref() == Some(name));
            if tests.len() != 1 {
                let message = format!("the files hold {names}, not one `{}`", visible(name));
                return Err(Failure::message(Exit::Usage, message)
                    .hint("give one file at a time, or a scenario's name as the tool wrote it"));
            }
        }
        tests
            .iter_mut()
            .for_each(|test| test.scenario = Some(name.clone()));
    }
    if tests.len() > 1 && args.concurrency.is_some() {
        let message = format!(
            "`--concurrency` is of one scenario, and there are {}",
            names(&tests)
        );
        return Err(
            Failure::message(Exit::Usage, message).hint("choose one with `--scenario NAME`")
        );
    }
    let mut seen: Vec<_> = tests.iter().map(|test| test.scenario.as_deref()).collect();
    seen.sort_unstable();
    if let Some(pair) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
        let what = pair[0].map_or("without a name".into(), |name| {
            format!("called `{}`", visible(name))
        });
        let message = format!("two results are {what}");
        return Err(Failure::message(Exit::Usage, message)
            .hint("give one file at a time, with `--scenario NAME`"));
    }
    Ok(tests)
}

fn names(tests: &[LoadTest]) -> String {
    let name = |test: &LoadTest| match &test.scenario {
        Some(name) => format!("`{}`", visible(name)),
        None => format!("{}'s result without a name", test.tool),
    };
    tests.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// What a gate will miss, and what the tool itself was not content with.
fn remarks(test: &LoadTest) -> Vec<String> {
    let name = visible(test.scenario.as_deref().unwrap_or(UNNAMED));
    let mut remarks = Vec::new();
    if test.peak_concurrency.is_none() {
        remarks.push(format!(
            "{} does not say how many users `{name}` had; say it with `--scenario NAME --concurrency N`",
            visible(&test.tool)
        ));
    }
    if test.error_rate.is_none() {
        remarks.push(format!(
            "{} does not say how many requests of `{name}` failed",
            visible(&test.tool)
        ));
    }
    for threshold in &test.thresholds_failed {
        let threshold = visible(threshold);
        remarks.push(format!(
            "`{name}` crossed a threshold of the tool's own: {threshold}"
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(scenario: Option<&str>, concurrency: Option<u64>) -> LoadTestArgs {
        LoadTestArgs {
            files: Vec::new(),
            scenario: scenario.map(str::to_owned),
            concurrency,
            service: None,
            per_endpoint: false,
            artifacts: None,
            json: false,
        }
    }

    fn test(scenario: Option<&str>) -> LoadTest {
        LoadTest {
            tool: "k6".into(),
            scenario: scenario.map(str::to_owned),
            throughput_per_second: 1.0,
            ..LoadTest::default()
        }
    }

    #[test]
    fn a_name_is_given_to_one_result_or_chooses_one_of_many() {
        let one = chosen(vec![test(Some("a"))], &args(Some("mine"), Some(3))).expect("one");
        assert_eq!(one, [test(Some("mine"))]);
        let two = || vec![test(Some("a")), test(Some("b"))];
        assert_eq!(
            chosen(two(), &args(Some("b"), Some(3))).expect("one of them"),
            [test(Some("b"))]
        );
        assert_eq!(chosen(two(), &args(None, None)).expect("both"), two());
        for (tests, args) in [
            (two(), args(Some("c"), None)),
            (two(), args(None, Some(3))),
            (vec![test(None), test(None)], args(None, None)),
            (vec![test(Some("a")), test(Some("a"))], args(None, None)),
        ] {
            assert_eq!(chosen(tests, &args).expect_err("unclear").exit, Exit::Usage);
        }
    }

    #[test]
    fn the_users_of_a_locust_test_come_from_its_history() {
        let locust = |users| LoadTest {
            tool: "locust".into(),
            peak_concurrency: users,
            ..test(None)
        };
        let mut joined = vec![locust(Some(4)), locust(None)];
        join_history(&mut joined);
        assert_eq!(joined, [locust(Some(4))]);
        let mut unclear = vec![locust(Some(4)), locust(None), locust(None)];
        join_history(&mut unclear);
        assert_eq!(unclear.len(), 3);
    }
}
