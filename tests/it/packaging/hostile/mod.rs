//! Files made to crash, to mislead or to exhaust whoever reads them. A recording of them ends as any other does, in
//! bounded time and memory; their frames have a right name or a reason, never a wrong name; and others keep theirs.

mod cases;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::pprof::{self, Stack};
use crate::support::recording::Finished;
use crate::support::stacks::BY_TABLES;
use crate::support::{Need, Record, Workload, missing};

use super::spoil::Elf;
use super::truth::{self, Tells};
use super::{HZ, Packaging, burn, profile_of, row};

/// Given to perfprof for what it reads, MiB; and what it and its helpers may have at most, all together: twice that for
/// what is mapped from files, and for themselves.
const SYMBOL_MEMORY_MIB: u64 = 128;
const MOST_MEMORY_BYTES: u64 = 400 << 20;

/// Given to perfprof for each file, seconds; and to all of them together.
const SYMBOL_TIMEOUT: &str = "5";
const MOST_TIME: Duration = Duration::from_secs(90);

/// How often memory is looked at.
const POLL: Duration = Duration::from_millis(3);

/// A program and what is done to it.
struct Hostile {
    packaging: Packaging,
    spoil: fn(&mut Elf),
    /// `None`: any right names, or reasons.
    tells: Option<Tells>,
}

const fn hostile(name: &'static str, recipe: &'static str, spoil: fn(&mut Elf)) -> Hostile {
    Hostile {
        packaging: row(name, recipe),
        spoil,
        tells: None,
    }
}

impl Hostile {
    const fn needs(self, needs: &'static [&'static str]) -> Hostile {
        let packaging = self.packaging.needs(needs);
        Hostile { packaging, ..self }
    }

    const fn in_root(self) -> Hostile {
        let packaging = self.packaging.in_root();
        Hostile { packaging, ..self }
    }

    const fn tells(self, tells: Tells) -> Hostile {
        let tells = Some(tells);
        Hostile { tells, ..self }
    }

    /// A folder with the spoiled program; `None`, and said, where something is missing.
    fn make(&self) -> Option<tempfile::TempDir> {
        let made = self.packaging.make()?;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let program = folder.path().join(match self.packaging.starts {
            super::Starts::AsItIs => "program",
            super::Starts::InRoot => "root/app/program",
        });
        run("cp", &["-a".as_ref(), &made.join("."), folder.path()]);
        let mut elf = Elf(fs::read(&program).expect("the program can be read"));
        (self.spoil)(&mut elf);
        // By another process: a file this one has open for writing could be inherited by a child that another test
        // starts at this moment, and then cannot be executed (ETXTBSY).
        let spoiled = folder.path().join("spoiled");
        fs::write(&spoiled, &elf.0).expect("a file can be written");
        fs::remove_file(&program).expect("a file can be removed");
        run("cp", &[&spoiled, &program]);
        run("chmod", &["+x".as_ref(), &program]);
        Some(folder)
    }
}

fn run(program: &str, args: &[&Path]) {
    let status = Command::new(program).args(args).status();
    assert!(
        status.expect("it can be run").success(),
        "{program} {args:?}"
    );
}

/// A recording of several programs, and what it cost.
struct Survived {
    finished: Finished,
    stacks: Vec<Stack>,
    peak_bytes: u64,
    took: Duration,
}

/// Records all of them; `meanwhile` is called again and again from the first to the last moment.
fn record(
    workloads: &[Workload],
    words: &[PathBuf],
    mut meanwhile: impl FnMut() + Send,
) -> Survived {
    let pids = workloads
        .iter()
        .flat_map(|workload| ["--pid".into(), workload.pid().to_string()]);
    let record = Record::new().args(pids).args(words).args(BY_TABLES);
    let profile = record.folder().join("out.pb.gz");
    let mut recording = record
        .args([
            "--symbol-memory",
            &SYMBOL_MEMORY_MIB.to_string(),
            "--symbol-timeout",
            SYMBOL_TIMEOUT,
        ])
        .args(["--no-symbol-cache", "-F", HZ, "--no-kernel", "-o"])
        .args([&profile])
        .start();
    let (pid, is_over) = (recording.pid(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(peak_of_all(pid));
                meanwhile();
                std::thread::sleep(POLL);
            }
            most
        });
        recording.wait_until_armed();
        if !recording.has_ended() {
            workloads.iter().for_each(burn);
            recording.signal(Signal::SIGINT);
        }
        let begin = Instant::now();
        let finished = recording.wait();
        let took = begin.elapsed();
        is_over.store(true, Ordering::Relaxed);
        finished.assert_recorded();
        let stacks = pprof::stacks(&profile_of(&finished));
        Survived {
            finished,
            stacks,
            peak_bytes: watch.join().expect("the watch does not fail"),
            took,
        }
    })
}

/// The largest resident sizes of the recorder and of its helpers that live now, added up.
fn peak_of_all(pid: u32) -> u64 {
    children(pid).into_iter().chain([pid]).map(peak_bytes).sum()
}

/// The processes that a process has started and that live now.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids: String = lists.collect();
    pids.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl Survived {
    fn stacks_of(&self, pid: u32) -> Vec<&Stack> {
        self.stacks
            .iter()
            .filter(|stack| stack.pid == pid)
            .collect()
    }

    #[track_caller]
    fn assert_bounded(&self) {
        let (took, mib) = (self.took, self.peak_bytes >> 20);
        eprintln!("{took:?}, {mib} MiB{}", super::warnings(&self.finished));
        assert!(self.took < MOST_TIME, "it took {:?}", self.took);
        assert!(
            self.peak_bytes < MOST_MEMORY_BYTES,
            "{} MiB",
            self.peak_bytes >> 20
        );
        for text in [&self.finished.stderr, &self.finished.report()] {
            assert!(!text.contains('\x1b'), "an escape character comes through");
            assert!(
                !text.contains("root:x:0"),
                "the content of another file comes through:\n{text}"
            );
        }
    }
}

/// A good program among them, whose names must not suffer.
const BYSTANDER: Hostile =
    hostile("bystander", "gcc -g $ALL -o program", |_| ()).tells(Tells::Lines);

fn assert_survived(rows: &[Hostile]) {
    if missing(&[Need::Bpf, Need::Root]) {
        return;
    }
    let rows = rows.iter().chain([&BYSTANDER]);
    let made = rows.filter_map(|row| Some((row, row.make()?)));
    let made: Vec<(&Hostile, tempfile::TempDir)> = made.collect();
    let start = |(row, folder): &(&Hostile, tempfile::TempDir)| row.packaging.start(folder.path());
    let running: Vec<Workload> = made.iter().map(start).collect();
    let survived = record(&running, &[], || ());
    let wrong = made
        .iter()
        .zip(&running)
        .filter_map(|((row, _), workload)| {
            let stacks = survived.stacks_of(workload.pid());
            let why = match row.tells {
                Some(tells) => truth::disagreement(&stacks, tells),
                None => truth::wrong_names(&stacks),
            };
            Some(format!("{}: {}", row.packaging.name, why?))
        });
    let wrong: Vec<String> = wrong.collect();
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        survived.finished.stderr
    );
    survived.assert_bounded();
}
