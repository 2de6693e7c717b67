//! Recordings of one real program at a fixed amount of work, one after the other, while the machine does what it does.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::bench::running::clear;
use crate::repository;

pub(super) const USUAL_SIZE: usize = 60;
/// Two sides of five runs.
pub(super) const LEAST_SIZE: usize = 10;

/// Rounds of `fixtures/compare/busy.py`: some 2 s of CPU time.
const WORK: &str = "600";
const HZ: &str = "499";

/// A recording in both shapes: with time slices and accounting, and without.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) pprof: PathBuf,
    pub(super) folded: PathBuf,
}

pub(super) fn recordings(size: usize, reuse: bool) -> anyhow::Result<Vec<Recorded>> {
    let folder = super::folder().join("pool");
    let pool: Vec<Recorded> = (0..size)
        .map(|number| Recorded {
            pprof: folder.join(format!("{number:04}.pb.gz")),
            folded: folder.join(format!("{number:04}.folded")),
        })
        .collect();
    if reuse {
        let there = pool
            .iter()
            .all(|one| one.pprof.is_file() && one.folded.is_file());
        ensure!(
            there,
            "there are no {size} recordings in `{}`",
            folder.display()
        );
        return Ok(pool);
    }
    clear(&folder)?;
    println!("{size} recordings, load average {}", super::load_average());
    for (number, one) in pool.iter().enumerate() {
        record(one).with_context(|| format!("recording {number}"))?;
        if (number + 1) % 10 == 0 {
            println!(
                "  {} of {size}, load average {}",
                number + 1,
                super::load_average()
            );
        }
    }
    Ok(pool)
}

fn record(one: &Recorded) -> anyhow::Result<()> {
    let status = Command::new(crate::bench::perfprof())
        .args(["--quiet", "record", "--mode", "on-cpu", "-F", HZ])
        .args(["--service", "busy", "--artifacts"])
        .arg(super::folder().join("reports"))
        .arg("-o")
        .arg(&one.pprof)
        .arg("-o")
        .arg(&one.folded)
        .arg("--")
        .arg(python())
        .arg(repository().join("fixtures/compare/busy.py"))
        .arg(WORK)
        .stdout(Stdio::null())
        .status()
        .context("failed to run perfprof")?;
    // Short recordings may be inconclusive by themselves.
    let recorded = matches!(status.code(), Some(0 | 5)) && fs::exists(&one.pprof)?;
    ensure!(recorded, "perfprof record ended with {status}");
    Ok(())
}

/// The system's own before any manager's wrapper, which would be a program of its own.
fn python() -> &'static str {
    match fs::exists("/usr/bin/python3") {
        Ok(true) => "/usr/bin/python3",
        _ => "python3",
    }
}
