//! One program in every packaging: compiled, linked, compressed, stripped, split and placed in all the ways that are in
//! use. The names, files and lines of its hot stacks are the same in all of them, down to what each packaging tells.
//!
//! A packaging is a row: a name, and the shell commands that make it (`make.rs` says which words they may use). All rows
//! of a test burn at a time and are recorded together.

mod files;
mod hostile;
mod make;
mod matrix;
mod separate;
mod spoil;
mod truth;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::pprof::{self, Stack};
use crate::support::proc::wait_for_cpu;
use crate::support::recording::Finished;
use crate::support::stacks::BY_TABLES;
use crate::support::{Need, Record, Workload, missing};

use self::truth::Tells;

/// CPU time of each program under the recorder's eyes, and the rate: some 200 samples.
const CPU_NS: u64 = 110_000_000;
const HZ: &str = "1997";

/// A row of the matrix.
#[derive(Clone, Copy, Debug)]
struct Packaging {
    name: &'static str,
    /// Programs that the recipe runs and that may be missing.
    needs: &'static [&'static str],
    recipe: &'static str,
    tells: Tells,
    starts: Starts,
}

/// How the program is started.
#[derive(Clone, Copy, Debug)]
enum Starts {
    AsItIs,
    /// `/app/program` in the folder's `root`, which is its root folder.
    InRoot,
}

const fn row(name: &'static str, recipe: &'static str) -> Packaging {
    Packaging {
        name,
        needs: &[],
        recipe,
        tells: Tells::Lines,
        starts: Starts::AsItIs,
    }
}

impl Packaging {
    const fn needs(self, needs: &'static [&'static str]) -> Packaging {
        Packaging { needs, ..self }
    }

    const fn tells(self, tells: Tells) -> Packaging {
        Packaging { tells, ..self }
    }

    const fn in_root(self) -> Packaging {
        Packaging {
            starts: Starts::InRoot,
            ..self
        }
    }

    /// Its folder; `None`, and said, where something is missing.
    fn make(&self) -> Option<PathBuf> {
        let needs: Vec<Need> = self.needs.iter().map(|need| Need::Program(need)).collect();
        let root = match self.starts {
            Starts::AsItIs => &[][..],
            Starts::InRoot => &[Need::Root],
        };
        if missing(&needs) || missing(root) {
            return None;
        }
        Some(make::make(self.name, self.recipe).unwrap_or_else(|words| panic!("{words}")))
    }

    fn start(&self, folder: &Path) -> Workload {
        let workload = match self.starts {
            Starts::AsItIs => Workload::start_program(&folder.join("program"), &[]),
            Starts::InRoot => {
                let mut command = Command::new("chroot");
                Workload::spawn(command.arg(folder.join("root")).arg("/app/program"))
            }
        };
        workload.signal(Signal::SIGSTOP); // or all would burn while the recorder begins
        workload
    }
}

/// All rows in one recording.
struct Recorded {
    finished: Finished,
    stacks: Vec<Stack>,
    rows: Vec<(Packaging, u32)>,
}

impl Recorded {
    /// With further words for `perfprof record`. Rows for which something is missing are left out; `None` when none is
    /// left.
    fn of(rows: &[Packaging], words: &[OsString]) -> Option<Recorded> {
        let made = rows.iter().filter_map(|row| Some((*row, row.make()?)));
        let made: Vec<(Packaging, PathBuf)> = made.collect();
        if made.is_empty() {
            return None;
        }
        let running: Vec<(Packaging, Workload)> = made
            .iter()
            .map(|(row, folder)| (*row, row.start(folder)))
            .collect();
        let pids = running
            .iter()
            .flat_map(|(_, workload)| ["--pid".into(), workload.pid().to_string()]);
        let record = Record::new().args(pids).args(words).args(BY_TABLES);
        let profile = record.folder().join("out.pb.gz");
        let mut recording = record
            .args(["-F", HZ, "--no-kernel", "--no-symbol-cache", "-o"])
            .args([&profile])
            .start();
        recording.wait_until_armed();
        if !recording.has_ended() {
            running.iter().for_each(|(_, workload)| burn(workload));
            recording.signal(Signal::SIGINT);
        }
        let rows = running.iter().map(|(row, workload)| (*row, workload.pid()));
        let rows = rows.collect();
        drop(running); // or they would burn while names are looked up
        let finished = recording.wait();
        finished.assert_recorded();
        let stacks = pprof::stacks(&profile_of(&finished));
        Some(Recorded {
            finished,
            stacks,
            rows,
        })
    }

    fn stacks_of(&self, pid: u32) -> Vec<&Stack> {
        self.stacks
            .iter()
            .filter(|stack| stack.pid == pid)
            .collect()
    }

    /// Checks every row, and tells of all that disagree.
    #[track_caller]
    fn assert_as_known(&self) {
        let wrong = self.rows.iter().filter_map(|(row, pid)| {
            let why = truth::disagreement(&self.stacks_of(*pid), row.tells)?;
            Some(format!("{}: {why}", row.name))
        });
        let wrong: Vec<String> = wrong.collect();
        assert!(
            wrong.is_empty(),
            "{} of {} packagings:\n{}\n{}",
            wrong.len(),
            self.rows.len(),
            wrong.join("\n"),
            warnings(&self.finished)
        );
    }
}

/// Lets it have its CPU time, one after the other, so that no more is recorded than is asked for.
fn burn(workload: &Workload) {
    workload.signal(Signal::SIGCONT);
    wait_for_cpu(workload.pid(), CPU_NS);
    workload.signal(Signal::SIGSTOP);
}

/// What the report warns of, to be shown with a failure.
fn warnings(finished: &Finished) -> String {
    let report = finished.report();
    let rest = report.split("### Warnings").nth(1).unwrap_or_default();
    rest.split("### ").next().unwrap_or_default().to_string()
}

fn profile_of(finished: &Finished) -> PathBuf {
    finished.artifact("").join("../out.pb.gz")
}
