//! What came of the tests in a guest, from what the test program printed and which tests it skipped.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};

/// Names of tests by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: Vec<String>,
    pub(crate) skipped: Vec<String>,
    pub(crate) failed: Vec<String>,
    /// `SKIP <need>: <reason> (<test>)`, sorted.
    pub(crate) skip_lines: Vec<String>,
}

impl Outcome {
    /// `log` is what libtest printed, `skip_lines` are `SKIP <need>: <reason> (<test>)`. An error when the program did
    /// not come to its end or ran no test.
    pub(crate) fn of(log: &str, skip_lines: &str) -> anyhow::Result<Outcome> {
        log.lines()
            .find(|line| line.starts_with("test result: "))
            .context("the test program did not come to its end")?;
        // A skipped test returns early, so libtest has counted it as passed.
        let skipped: BTreeSet<&str> = skip_lines
            .lines()
            .filter_map(|line| line.strip_suffix(')')?.rsplit_once(" ("))
            .map(|(_, test)| test)
            .collect();
        let mut outcome = Outcome {
            skip_lines: skip_lines.lines().map(str::to_string).collect(),
            ..Outcome::default()
        };
        outcome.skip_lines.sort();
        for (name, result) in results(log) {
            let list = match result {
                "ok" if skipped.contains(name) => &mut outcome.skipped,
                "ok" => &mut outcome.passed,
                _ => &mut outcome.failed,
            };
            list.push(name.to_string());
        }
        ensure!(
            !outcome.passed.is_empty() || !outcome.failed.is_empty(),
            "no test ran"
        );
        Ok(outcome)
    }
}

/// Lines such as `test following::x ... ok`; ignored tests are none.
fn results(log: &str) -> impl Iterator<Item = (&str, &str)> {
    log.lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .filter(|(_, result)| !result.starts_with("ignored"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "test result: FAILED. 2 passed; 1 failed\n";

    #[test]
    fn tests_are_passed_skipped_or_failed() {
        let log = format!(
            "running 4 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ok\ntest e ... ignored\n{END}"
        );
        let outcome = Outcome::of(&log, "SKIP bpf: no (such) thing (d)\n").expect("it has ended");
        let expected = Outcome {
            passed: vec!["a::b".into()],
            skipped: vec!["d".into()],
            failed: vec!["c".into()],
            skip_lines: vec!["SKIP bpf: no (such) thing (d)".into()],
        };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn a_test_program_that_dies_or_runs_nothing_is_an_error() {
        assert!(Outcome::of("test a::b ... ok\n", "").is_err());
        assert!(Outcome::of(END, "").is_err());
    }
}
