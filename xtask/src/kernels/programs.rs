//! What runs in a guest: the test program and perfprof as the host builds them, and the script that runs them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::guest::Cgroups;
use crate::{cargo, compile, repository};

/// What depends on the kernel: how it samples, walks stacks, reports processes, and accounts.
const TESTS: &[&str] = &[
    "kernel_walks::",
    "ground_truth::",
    "following::",
    "capacity::",
    "capacity_command::",
];

/// What is run again with cgroup v1: samplers and accounting. Stacks and processes have nothing to do with it.
const TESTS_WITH_V1: &[&str] = &["ground_truth::", "capacity::", "capacity_command::"];

/// Files that a guest leaves in its folder.
pub(super) const DOCTOR: &str = "doctor.txt";
pub(super) const PROGRAMS: &str = "programs.txt";
pub(super) const TEST_LOG: &str = "tests.log";
pub(super) const SKIPPED: &str = "skipped.log";

/// Exit status of a guest's script when its control groups are not there.
pub(super) const NO_CGROUPS: i32 = 77;

/// What runs in the guests.
#[derive(Debug)]
pub(super) struct Programs {
    perfprof: PathBuf,
    tests: PathBuf,
}

impl Programs {
    /// Builds the programs, for release because guests are slow, and the workloads, which would take a guest minutes.
    pub(super) fn build() -> anyhow::Result<Programs> {
        let output = cargo(&[
            "test",
            "--release",
            "--no-run",
            "--locked",
            "--message-format=json",
        ])
        .args(["--package", "perfprof", "--test", "it"])
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run `cargo test`")?;
        ensure!(output.status.success(), "the tests cannot be built");
        let messages = String::from_utf8_lossy(&output.stdout);
        let programs = Programs {
            perfprof: executable(&messages, "perfprof").context("cargo built no perfprof")?,
            tests: executable(&messages, "it").context("cargo built no tests")?,
        };
        build_workloads()?;
        Ok(programs)
    }

    /// What a guest does.
    pub(super) fn script(&self, cgroups: Cgroups) -> String {
        let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
        let variable = |name: &str| {
            let value = env::var(name).unwrap_or_default();
            format!("export {name}={}\n", quoted(Path::new(&value)))
        };
        let (has_cgroups, tests) = match cgroups {
            Cgroups::V1 => ("/sys/fs/cgroup/cpu/cgroup.procs", TESTS_WITH_V1),
            Cgroups::V2 => ("/sys/fs/cgroup/cgroup.controllers", TESTS),
        };
        let perfprof = quoted(&self.perfprof);
        format!(
            "{}{}test -e {has_cgroups} || exit {NO_CGROUPS}\n\
             cd {} || exit\n\
             {perfprof} doctor > /out/{DOCTOR} || exit\n\
             {perfprof} show programs > /out/{PROGRAMS} || exit\n\
             PERFPROF_SKIP_LOG=/out/{SKIPPED} {} --test-threads 1 {} > /out/{TEST_LOG} 2>&1\n\
             exit 0 # what came of the tests is in the log\n",
            variable("PATH"),
            variable("HOME"),
            quoted(repository()),
            quoted(&self.tests),
            tests.join(" ")
        )
    }
}

/// The program that cargo has built for a target of this name. `messages` are cargo's, a JSON document each line.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

fn build_workloads() -> anyhow::Result<()> {
    let folder = repository().join("fixtures/workloads");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("failed to list `{}`", folder.display()))?;
    for entry in entries {
        let source = entry.context("failed to list the workloads")?.path();
        let text = fs::read_to_string(&source).unwrap_or_default();
        if compile::recipe(&text).is_some() {
            // Where the tests look for them.
            compile::compile(&source, &repository().join("target/workloads"))
                .map_err(anyhow::Error::msg)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_what_cargo_says() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"it","kind":["test"]},"executable":"/t/it-1"}
{"reason":"compiler-artifact","target":{"name":"perfprof","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"perfprof","kind":["bin"]},"executable":"/t/perfprof"}
not JSON
"#;
        assert_eq!(executable(messages, "it"), Some("/t/it-1".into()));
        assert_eq!(executable(messages, "perfprof"), Some("/t/perfprof".into()));
        assert_eq!(executable(messages, "other"), None);
    }

    #[test]
    fn paths_in_a_guests_script_are_quoted() {
        let programs = Programs {
            perfprof: "/a b/perfprof".into(),
            tests: "/it's/it".into(),
        };
        let script = programs.script(Cgroups::V1);
        assert!(script.contains("'/a b/perfprof' doctor"), "{script}");
        assert!(
            script.contains(r"'/it'\''s/it' --test-threads 1"),
            "{script}"
        );
    }
}
