//! The load part of the diagnostic gate: did the load that matters really run?
//!
//! In: the scenarios of the config, and results of load tests. Out: a check per scenario. A scenario counts when it is
//! there, reached the concurrency that it asks for, and failed little.

use std::path::{Path, PathBuf};

use super::Setting;
use super::check::{Check, Status, percent};
use super::config::{Scenario, Share};
use super::documents::{BadInput, unreadable};
use super::load_remedy::{bring, rerun};
use super::waiver::{Scope, Waivers};
use crate::artifacts::{read_inside, read_named};
use crate::load_test::{self, ContentError, LoadTest, MAX_BYTES, Split};

/// A part of the score: how much of it was reached, its checks, and what it was computed from.
#[derive(Debug, Default)]
pub(super) struct Scored {
    /// 0 to 1; `None` when there is nothing to score.
    pub score: Option<f64>,
    pub checks: Vec<Check>,
}

/// The results that a scenario is looked for in.
#[derive(Debug)]
struct Results {
    shown: String,
    /// `None`: there is no such file.
    tests: Option<Vec<LoadTest>>,
}

/// Scores the scenarios; without any in the config, the tests that are there.
pub(super) fn score(setting: &Setting, waivers: &mut Waivers) -> Result<Scored, BadInput> {
    let plan = &setting.config.own.diagnostics;
    let general = general_results(setting)?;
    if plan.scenarios.is_empty() {
        return Ok(implied(setting, &general));
    }
    let mut scored = Scored::default();
    let (mut reached, mut whole) = (0.0, 0.0);
    let named: Vec<&str> = plan
        .scenarios
        .iter()
        .map(|s| s.name.value.0.as_str())
        .collect();
    for scenario in &plan.scenarios {
        let own = match &scenario.results {
            Some(name) => Some(inside(setting, name)?),
            None => None,
        };
        let results = match own.as_ref() {
            Some(own) if !in_general(&general, own, scenario) => own,
            _ => &general,
        };
        // A result without a name can only be that of a scenario that has the file for itself.
        let same_file = plan
            .scenarios
            .iter()
            .filter(|s| s.results == scenario.results);
        let alone = same_file.count() == 1 && !(own.is_some() && std::ptr::eq(results, &general));
        let test = matching(results, &scenario.name.value.0, &named, alone);
        let check = judge(setting, scenario, results, test, waivers);
        if check.status != Status::Waived {
            whole += scenario.weight.0;
            reached += match check.status {
                Status::Pass => scenario.weight.0,
                _ => 0.0,
            };
        }
        scored.checks.push(check);
    }
    scored.score = (whole > 0.0).then(|| reached / whole);
    Ok(scored)
}

/// Whether the general results have a scenario by its name, when the file that is its own is missing, or does not say
/// how many at once: `perfprof load-test --concurrency` writes there.
fn in_general(general: &Results, own: &Results, scenario: &Scenario) -> bool {
    let lacks = match own.tests.as_deref() {
        None => true,
        Some(tests) => {
            scenario.concurrency.is_some() && tests.iter().all(|t| t.peak_concurrency.is_none())
        }
    };
    let mut tests = general.tests.iter().flatten();
    lacks && tests.any(|test| is_called(test, &scenario.name.value.0))
}

fn is_called(test: &LoadTest, scenario: &str) -> bool {
    let name = test.scenario.as_deref().map(str::trim);
    name.is_some_and(|name| name.eq_ignore_ascii_case(scenario))
}

/// The highest concurrency of any test, for the verdict's figures.
pub(super) fn peak_concurrency(setting: &Setting) -> Result<Option<u64>, BadInput> {
    let tests = general_results(setting)?.tests.unwrap_or_default();
    Ok(tests.iter().filter_map(|test| test.peak_concurrency).max())
}

fn general_results(setting: &Setting) -> Result<Results, BadInput> {
    match &setting.given.report {
        Some(path) => named(path),
        None => inside(setting, &setting.config.own.diagnostics.load_results),
    }
}

fn named(path: &Path) -> Result<Results, BadInput> {
    let bytes = read_named(path, MAX_BYTES).map_err(|error| unreadable(path, &error))?;
    let tests = bytes.map(|bytes| parse(path, &bytes)).transpose()?;
    Ok(Results {
        shown: path.display().to_string(),
        tests,
    })
}

fn inside(setting: &Setting, name: &str) -> Result<Results, BadInput> {
    let path = setting.documents.path(name);
    let bytes = read_inside(setting.documents.root(), Path::new(name), MAX_BYTES);
    let bytes = bytes.map_err(|error| unreadable(&path, &error))?;
    let tests = bytes.map(|bytes| parse(&path, &bytes)).transpose()?;
    Ok(Results {
        shown: path.display().to_string(),
        tests,
    })
}

/// All tests of a file.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<LoadTest>, BadInput> {
    let bad = |error: ContentError| BadInput::of(path, format!("is no load-test result: {error}"));
    load_test::all_from_bytes(bytes, Split::Scenarios).map_err(bad)
}

/// All tests of the files that the user has named.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<Vec<LoadTest>, BadInput> {
    let mut tests = Vec::new();
    for path in paths {
        let results = named(path)?;
        let missing = || BadInput::of(path, "is not there");
        tests.extend(results.tests.ok_or_else(missing)?);
    }
    Ok(tests)
}

/// The newest test of that name. One that no tool named is taken where nothing else can be meant.
fn matching<'a>(
    results: &'a Results,
    scenario: &str,
    others: &[&str],
    alone: bool,
) -> Option<&'a LoadTest> {
    let tests = results.tests.as_ref()?;
    let same = |test: &&LoadTest| is_called(test, scenario);
    if let Some(test) = tests.iter().rev().find(same) {
        return Some(test);
    }
    let stranger = |test: &&LoadTest| {
        let name = test.scenario.as_deref();
        !name.is_some_and(|name| others.contains(&name))
    };
    let mut strangers = tests.iter().filter(stranger);
    match (alone, strangers.next(), strangers.next()) {
        (true, Some(only), None) => Some(only),
        _ => None,
    }
}

fn judge(
    setting: &Setting,
    scenario: &Scenario,
    results: &Results,
    test: Option<&LoadTest>,
    waivers: &mut Waivers,
) -> Check {
    let name = &scenario.name.value.0;
    let limit = scenario
        .max_error_rate
        .unwrap_or(setting.config.own.diagnostics.max_error_rate);
    let asked = scenario.concurrency;
    let check = Check::new(format!("load:{name}"), format!("load scenario `{name}`"))
        .of_score()
        .expected(expectation(asked, limit))
        .evidence(&results.shown);
    let rerun = rerun(setting, Some(scenario));
    let Some(test) = test else {
        if let Some(waiver) = waivers.excuse(Scope::Scenario, name) {
            let actual = format!(
                "missing, waived by {} until {}",
                waiver.approver, waiver.expires
            );
            return check.found(Status::Waived, actual);
        }
        let mut actual = match &results.tests {
            None => format!("there is no `{}`", results.shown),
            Some(tests) => format!("not among the results: {}", names(tests)),
        };
        if let Some(refusal) = waivers.refusal(Scope::Scenario, name) {
            actual = format!("{actual}; its waiver {refusal}");
        }
        return check.fail(actual, rerun);
    };
    let actual = description(test);
    match fault(test, asked, limit) {
        None => check.pass(actual),
        Some(fault) => {
            let remedy = match (asked, test.peak_concurrency) {
                (Some(asked), None) => format!(
                    "if it had {asked} at once or more, say how many: {}",
                    bring(setting, Some(scenario), true)
                ),
                _ => rerun,
            };
            check.fail(format!("{fault} ({actual})"), remedy)
        }
    }
}

/// Without scenarios in the config, every test that is there is one, and there has to be one.
fn implied(setting: &Setting, results: &Results) -> Scored {
    let limit = setting.config.own.diagnostics.max_error_rate;
    let new = |id: &str| {
        Check::new(format!("load:{id}"), format!("load test `{id}`"))
            .of_score()
            .expected(expectation(None, limit))
            .evidence(&results.shown)
    };
    let tests = results.tests.as_deref().unwrap_or_default();
    if tests.is_empty() {
        let actual = format!("there is no `{}`", results.shown);
        return Scored {
            score: Some(0.0),
            checks: vec![new("any").fail(actual, rerun(setting, None))],
        };
    }
    let checks: Vec<Check> = tests
        .iter()
        .map(|test| {
            let check = new(test.scenario.as_deref().unwrap_or(&test.tool));
            match fault(test, None, limit) {
                None => check.pass(description(test)),
                Some(fault) => check.fail(fault, rerun(setting, None)),
            }
        })
        .collect();
    let passed = checks.iter().filter(|c| c.status == Status::Pass).count();
    Scored {
        score: Some(passed as f64 / checks.len() as f64),
        checks,
    }
}

fn expectation(asked: Option<u64>, limit: Share) -> String {
    let rate = format!("error rate at most {}", percent(limit.0));
    match asked {
        Some(asked) => format!("at least {asked} at once, {rate}"),
        None => rate,
    }
}

fn fault(test: &LoadTest, asked: Option<u64>, limit: Share) -> Option<String> {
    match (asked, test.peak_concurrency) {
        (Some(asked), Some(peak)) if peak < asked => {
            return Some(format!("{peak} at once, of {asked}"));
        }
        (Some(_), None) => {
            return Some(format!(
                "{}'s result does not say how many at once",
                test.tool
            ));
        }
        _ => {}
    }
    match test.error_rate {
        Some(rate) if rate <= limit.0 => None,
        Some(rate) => Some(format!("error rate {}", percent(rate))),
        None => Some(format!(
            "{}'s result does not say its error rate",
            test.tool
        )),
    }
}

fn description(test: &LoadTest) -> String {
    let mut parts = Vec::new();
    if let Some(peak) = test.peak_concurrency {
        parts.push(format!("{peak} at once"));
    }
    parts.push(format!("{:.0} requests/s", test.throughput_per_second));
    if let Some(rate) = test.error_rate {
        parts.push(format!("error rate {}", percent(rate)));
    }
    format!("{}: {}", test.tool, parts.join(", "))
}

fn names(tests: &[LoadTest]) -> String {
    let name = |test: &LoadTest| match &test.scenario {
        Some(name) => format!("`{name}`"),
        None => format!("one of {} without a name", test.tool),
    };
    let mut names: Vec<String> = tests.iter().take(5).map(name).collect();
    if tests.len() > names.len() {
        names.push(format!("{} more", tests.len() - names.len()));
    }
    match names.is_empty() {
        true => "there are none".into(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: Option<&str>, peak: Option<u64>, rate: Option<f64>) -> LoadTest {
        LoadTest {
            tool: "k6".into(),
            scenario: name.map(Into::into),
            peak_concurrency: peak,
            throughput_per_second: 10.0,
            error_rate: rate,
            ..LoadTest::default()
        }
    }

    fn results(tests: Vec<LoadTest>) -> Results {
        Results {
            shown: "load-test-results.json".into(),
            tests: Some(tests),
        }
    }

    #[test]
    fn a_test_counts_only_for_the_scenario_it_was_run_for() {
        let several = results(vec![
            test(Some("a"), Some(1), None),
            test(None, Some(2), None),
        ]);
        let peak = |name, alone| {
            let found = matching(&several, name, &["a", "b"], alone);
            found.and_then(|test| test.peak_concurrency)
        };
        assert_eq!(peak("A", false), Some(1));
        assert_eq!(peak("b", false), None, "the nameless one may be anything");
        assert_eq!(peak("b", true), Some(2));
        let newest = results(vec![
            test(Some("a"), Some(1), None),
            test(Some("a"), Some(9), None),
        ]);
        let found = matching(&newest, "a", &["a"], true);
        assert_eq!(found.and_then(|t| t.peak_concurrency), Some(9));
    }

    #[test]
    fn what_a_tool_does_not_say_is_no_pass() {
        let limit = Share(0.02);
        let fault = |peak, rate, asked| fault(&test(None, peak, rate), asked, limit);
        assert_eq!(fault(Some(64), Some(0.02), Some(64)), None);
        assert_eq!(fault(None, Some(0.0), None), None);
        for (got, words) in [
            (fault(Some(63), Some(0.0), Some(64)), "63 at once, of 64"),
            (fault(None, Some(0.0), Some(1)), "does not say how many"),
            (fault(Some(64), Some(0.021), Some(64)), "error rate 2.1 %"),
            (
                fault(Some(64), None, Some(64)),
                "does not say its error rate",
            ),
        ] {
            assert!(got.expect("a fault").contains(words));
        }
    }

    #[test]
    fn expectations_name_both_bounds() {
        assert_eq!(
            expectation(Some(8), Share(0.02)),
            "at least 8 at once, error rate at most 2 %"
        );
        assert_eq!(expectation(None, Share(0.02)), "error rate at most 2 %");
    }
}
