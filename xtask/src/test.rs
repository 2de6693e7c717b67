//! `cargo xtask test`: every check of the repository, cheapest first, and an honest end: what passed, what failed, and
//! what was skipped for want of something on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::{cargo, licences, must_succeed, setup, target_dir, tidy};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Test,
    /// With the documentation.
    Ci,
}

/// Figures of libtest's `test result:` lines, added up over all test programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Goes through all checks also when one fails, so that one run shows everything; an error when any did.
pub(crate) fn run(extent: Extent) -> anyhow::Result<()> {
    setup::run_for_tests()?;
    let mut failures: Vec<String> = Vec::new();
    let mut check = |name: &str, result: anyhow::Result<()>| {
        if let Err(error) = result {
            eprintln!("error: {error:#}");
            failures.push(name.to_string());
        }
    };
    step("format");
    check(
        "format",
        must_succeed(&mut cargo(&["fmt", "--all", "--check"])),
    );
    step("tidy");
    check("tidy", tidy::run());
    step("lints");
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    check("lints", must_succeed(&mut cargo(&clippy)));
    step("licences");
    check("licences", licences::run()); // after clippy, which has fetched every dependency
    if extent == Extent::Ci {
        step("documentation");
        let mut doc = cargo(&[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ]);
        check(
            "documentation",
            must_succeed(doc.env("RUSTDOCFLAGS", "-D warnings")),
        );
    }
    step("tests");
    let (tests, tally, skipped) = run_tests()?;
    check("tests", tests);

    println!();
    for line in &skipped {
        println!("{line}");
    }
    // A skipped test returns early, so libtest has counted it as passed.
    let skipped = tests_named(&skipped);
    let really_passed = tally.passed.saturating_sub(skipped);
    println!(
        "tests: {really_passed} passed, {} failed, {skipped} skipped, {} ignored",
        tally.failed, tally.ignored
    );
    if !failures.is_empty() {
        bail!("failed: {}", failures.join(", "));
    }
    println!("all checks passed");
    Ok(())
}

/// Runs the tests with golden files rewritten.
pub(crate) fn bless() -> anyhow::Result<()> {
    must_succeed(cargo(&["test", "--workspace", "--no-fail-fast"]).env("PERFPROF_BLESS", "1"))?;
    println!("golden files are as the program writes them now; review `git diff fixtures`");
    Ok(())
}

fn step(name: &str) {
    println!("\n== {name}");
}

/// Whether the tests passed, how many did what, and the `SKIP` lines.
fn run_tests() -> anyhow::Result<(anyhow::Result<()>, Tally, Vec<String>)> {
    let target = target_dir();
    fs::create_dir_all(&target)
        .with_context(|| format!("failed to create `{}`", target.display()))?;
    let skip_log = target.join(format!("skipped-{}.log", std::process::id()));
    let mut child = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"])
        .env("PERFPROF_SKIP_LOG", &skip_log)
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to run `cargo test`")?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("failed to read what `cargo test` says")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally.add(&line);
        }
    }
    let status = child.wait().context("failed to wait for `cargo test`")?;
    let mut skipped: Vec<String> = fs::read_to_string(&skip_log)
        .unwrap_or_default() // there only when something was skipped
        .lines()
        .map(str::to_string)
        .collect();
    let _ = fs::remove_file(&skip_log);
    skipped.sort();
    let result = if !status.success() {
        Err(anyhow::anyhow!("`cargo test` ended with {status}"))
    } else if tally.passed == 0 {
        Err(anyhow::anyhow!("`cargo test` ran no test at all"))
    } else {
        Ok(())
    };
    Ok((result, tally, skipped))
}

/// How many tests the lines `SKIP <need>: <reason> (<test>)` are about: one test can lack several things.
fn tests_named(skip_lines: &[String]) -> u64 {
    let tests = skip_lines.iter().filter_map(|line| line.rsplit_once(" ("));
    tests.map(|(_, test)| test).collect::<BTreeSet<_>>().len() as u64
}

impl Tally {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; others add nothing.
    fn add(&mut self, line: &str) {
        let Some(figures) = line.strip_prefix("test result: ") else {
            return;
        };
        let mut words = figures
            .split([' ', ';', '.'])
            .filter(|word| !word.is_empty())
            .peekable();
        while let Some(word) = words.next() {
            let Ok(number) = word.parse::<u64>() else {
                continue;
            };
            match words.peek().copied() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_lacks_two_things_is_skipped_once() {
        let lines = [
            "SKIP bpf: no CAP_BPF (a::b)",
            "SKIP root: not (run as) root (a::b)",
            "SKIP go: gone (c)",
        ];
        assert_eq!(tests_named(&lines.map(str::to_string)), 2);
    }

    #[test]
    fn results_of_all_test_programs_add_up() {
        let mut tally = Tally::default();
        for line in [
            "test profile::tests::x ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.52s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 7.00s",
            "9 passed",
        ] {
            tally.add(line);
        }
        let expected = Tally {
            passed: 15,
            failed: 2,
            ignored: 1,
        };
        assert_eq!(tally, expected);
    }
}
