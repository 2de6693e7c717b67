//! `cargo xtask demo`: from a fresh machine to a finished report in one command.
//!
//! The workload is a C++ program of two threads, without frame pointers, that spends 70 % of its CPU time in
//! `hot_seventy` and 30 % in `hot_thirty`: a reader can check the report against that.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

use crate::setup::{self, Purpose};
use crate::workload::Workload;
use crate::{cargo, must_succeed, target_dir};

/// Exit code of a recording that is complete but below a coverage threshold.
const INCONCLUSIVE: u8 = 5;

/// Ends with the path of the report as the last line; with the recorder's own exit code when that is not 0.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    setup::run(&[Purpose::Build])?;
    println!("demo: building perfprof for release");
    must_succeed(&mut cargo(&["build", "--release", "--bin", "perfprof"]))?;

    let artifacts = target_dir().join("demo");
    if artifacts.exists() {
        fs::remove_dir_all(&artifacts)
            .with_context(|| format!("failed to clear `{}`", artifacts.display()))?;
    }
    let workload = Workload::start("split_70_30.cpp", &["2"])?;
    println!("demo: recording PID {} for 8 s", workload.pid());
    let status = Command::new(target_dir().join("release/perfprof"))
        .args(["record", "--pid", &workload.pid().to_string()])
        .args(["-d", "8", "-F", "499", "--service", "demo", "--artifacts"])
        .arg(&artifacts)
        .status()
        .context("failed to run `perfprof record`")?;
    drop(workload);

    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let code = code.with_context(|| format!("`perfprof record` was ended: {status}"))?;
    ensure!(
        matches!(code, 0 | INCONCLUSIVE),
        "`perfprof record` ended with {status}"
    );
    let report = artifacts.join("profiling-report.md");
    let report = fs::canonicalize(&report)
        .with_context(|| format!("`perfprof record` has written no `{}`", report.display()))?;
    println!("{}", report.display());
    Ok(ExitCode::from(code))
}
