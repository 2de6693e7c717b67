//! `cargo xtask bench soak`: whether the agent leaks, and what it costs all day.
//!
//! The agent records two workloads by their common name, at ten times its default rate, in windows of a minute: one that is
//! always busy, and one that is started anew every two minutes. Beside them programs come and go that are none of its
//! business, and which it hears of all the same. Once a minute, a window's length, the bench reads what the agent holds: memory (its own and its workers'), open files, threads, BPF
//! maps and programs, and the CPU time used since. Told are the medians of each quarter of the run and what the last is
//! over the second: the first holds what has to be learnt. `--minutes N` makes it shorter than the hour, `--program FILE` takes a program that is
//! built already.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::spread::Spread;
use super::{build_perfprof, number, perfprof, run_folder};
use crate::workload::Workload;

/// Ten times the agent's default of 19.
const FREQUENCY_HZ: &str = "190";
/// How often the agent is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// The workloads' name.
const NAME: &str = "split_70_30";
/// How often a workload is started anew.
const RESTART: Duration = Duration::from_secs(120);
/// Programs that end at once, started so often.
const BRIEF: Duration = Duration::from_millis(100);
/// What a quarter's median may grow over an earlier one's: pages of an allocator come and go,
const MOST_GROWTH: f64 = 1.10;
/// and the CPU time of a window depends on what else the machine does.
const MOST_CPU_GROWTH: f64 = 1.50;
const PORT: u16 = 9879;

/// What the agent held at one time.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    resident_mib: f64,
    files: f64,
    threads: f64,
    maps: f64,
    programs: f64,
    /// Since the look before, of one CPU.
    cpu_percent: f64,
}

type Figure = (&'static str, fn(&Held) -> f64, f64);

/// Name, figure, and what it may grow.
const FIGURES: [Figure; 6] = [
    ("resident MiB", |held| held.resident_mib, MOST_GROWTH),
    ("open files", |held| held.files, MOST_GROWTH),
    ("threads", |held| held.threads, MOST_GROWTH),
    ("BPF maps", |held| held.maps, MOST_GROWTH),
    ("BPF programs", |held| held.programs, MOST_GROWTH),
    ("CPU %", |held| held.cpu_percent, MOST_CPU_GROWTH),
];

#[derive(Debug, PartialEq)]
pub(super) struct Options {
    minutes: usize,
    /// A program that is built already.
    program: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            minutes: 60,
            program: None,
        }
    }
}

impl Options {
    pub(super) fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = *words
                .next()
                .with_context(|| format!("`{word}` needs a value"))?;
            match *word {
                "--minutes" => options.minutes = number(value)?,
                "--program" => options.program = Some(value.into()),
                _ => bail!("`bench soak` takes `--minutes N` and `--program FILE`"),
            }
        }
        Ok(options)
    }
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let minutes = options.minutes;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => {
            build_perfprof()?;
            perfprof()
        }
    };
    let folder = run_folder();
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).context("failed to make the run's folder")?;
    let _busy = Workload::start("split_70_30.cpp", &[])?;
    let is_over = AtomicBool::new(false);
    let mut agent = Agent::start(&program, &folder)?;
    let looks = thread::scope(|threads| {
        threads.spawn(|| come_and_go(&is_over));
        let looks = agent.watch(Duration::from_secs(60 * minutes as u64));
        is_over.store(true, Ordering::Relaxed);
        looks
    })?;
    let page = agent.metrics()?;
    agent.end()?;
    tell(&looks, minutes, &page);
    ensure!(is_flat(&looks), "the agent grew");
    Ok(())
}

/// Processes that are there for two minutes, and many that are there for a moment.
fn come_and_go(is_over: &AtomicBool) {
    let mut since = Instant::now();
    let mut workload = Workload::start("split_70_30.rs", &[]).ok();
    while !is_over.load(Ordering::Relaxed) {
        let _ = Command::new("/bin/true").status();
        thread::sleep(BRIEF);
        if since.elapsed() > RESTART {
            since = Instant::now();
            drop(workload.take());
            workload = Workload::start("split_70_30.rs", &[]).ok();
        }
    }
}

struct Agent {
    child: Child,
    cpu_s: f64,
    looked: Instant,
}

impl Agent {
    fn start(program: &Path, folder: &Path) -> anyhow::Result<Agent> {
        let log = fs::File::create(folder.join("agent.log")).context("failed to make the log")?;
        let child = Command::new(program)
            .args([
                "agent",
                "--comm",
                NAME,
                "--frequency",
                FREQUENCY_HZ,
                "--max-cpu",
                "100%",
            ])
            .args(["--listen", &format!("127.0.0.1:{PORT}"), "--data"])
            .arg(folder.join("data"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .context("failed to start the agent")?;
        Ok(Agent {
            child,
            cpu_s: 0.0,
            looked: Instant::now(),
        })
    }

    fn watch(&mut self, time: Duration) -> anyhow::Result<Vec<Held>> {
        let (begun, mut looks) = (Instant::now(), Vec::new());
        while begun.elapsed() < time {
            thread::sleep(LOOK.min(time));
            ensure!(
                self.child.try_wait()?.is_none(),
                "the agent has ended; see agent.log"
            );
            looks.push(self.look()?);
        }
        Ok(looks)
    }

    fn look(&mut self) -> anyhow::Result<Held> {
        let family = family(self.child.id());
        let sum = |figure: fn(u32) -> f64| family.iter().map(|pid| figure(*pid)).sum::<f64>();
        let metrics = self.metrics()?;
        let cpu_s = sample(&metrics, "perfprof_self_cpu_seconds_total");
        let own = self.child.id();
        let (maps, programs) = bpf_objects(own);
        let held = Held {
            resident_mib: sum(resident_mib),
            files: entries(own, "fd"),
            threads: entries(own, "task"),
            maps,
            programs,
            cpu_percent: 100.0 * (cpu_s - self.cpu_s) / self.looked.elapsed().as_secs_f64(),
        };
        (self.cpu_s, self.looked) = (cpu_s, Instant::now());
        Ok(held)
    }

    fn metrics(&self) -> anyhow::Result<String> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", PORT))
            .context("the agent does not listen")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream
            .read_to_string(&mut page)
            .context("the agent did not answer")?;
        Ok(page)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process and those it has started.
fn family(pid: u32) -> BTreeSet<u32> {
    let mut family = BTreeSet::from([pid]);
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        family.extend(
            children
                .split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
    }
    family
}

fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn entries(pid: u32, folder: &str) -> f64 {
    fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0.0, |entries| entries.count() as f64)
}

/// Maps and programs that a process holds, each once.
fn bpf_objects(pid: u32) -> (f64, f64) {
    let (mut maps, mut programs) = (BTreeSet::new(), BTreeSet::new());
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        let id = |name: &str| {
            text.lines()
                .find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        maps.extend(id("map_id:"));
        programs.extend(id("prog_id:"));
    }
    (maps.len() as f64, programs.len() as f64)
}

/// The sum of a metric's samples.
fn sample(page: &str, name: &str) -> f64 {
    let samples = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    samples.sum()
}

fn quarters(looks: &[Held], figure: fn(&Held) -> f64) -> Vec<Spread> {
    let length = looks.len().div_ceil(4).max(1);
    let quarters = looks.chunks(length);
    quarters
        .map(|quarter| Spread::of(&quarter.iter().map(figure).collect::<Vec<_>>()))
        .collect()
}

fn growth(looks: &[Held], figure: fn(&Held) -> f64) -> Option<f64> {
    match quarters(looks, figure).as_slice() {
        [_, second, .., last] if second.median > 0.0 => Some(last.median / second.median),
        _ => None,
    }
}

fn is_flat(looks: &[Held]) -> bool {
    let grew =
        |(_, figure, most): &&Figure| growth(looks, *figure).is_some_and(|growth| growth > *most);
    !FIGURES.iter().any(|figure| grew(&figure))
}

fn tell(looks: &[Held], minutes: usize, page: &str) {
    println!(
        "soak: {minutes} min at {FREQUENCY_HZ} Hz, n = {} looks",
        looks.len()
    );
    for (name, figure, most) in FIGURES {
        let each: Vec<String> = quarters(looks, figure).iter().map(Spread::brief).collect();
        let grown = match growth(looks, figure) {
            Some(growth) => format!("; last over second quarter {growth:.2}, at most {most}"),
            None => "; too few looks to compare quarters".to_owned(),
        };
        println!("  {name}: quarters {}{grown}", each.join(" | "));
    }
    for name in [
        "perfprof_samples_total",
        "perfprof_samples_lost_total",
        "perfprof_windows_total",
        "perfprof_windows_dropped_total",
        "perfprof_budget_reductions_total",
        "perfprof_errors_total",
        "perfprof_sampling_frequency_hertz",
    ] {
        println!("  {name}: {}", sample(page, name));
    }
    println!(
        "  not measured: the slowdown of the workloads (see `bench record` and `bench unwind`); a pod's own memory accounting"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_and_flatness_is_not() {
        let held = |resident_mib: f64| Held {
            resident_mib,
            files: 10.0,
            ..Held::default()
        };
        let flat: Vec<Held> = (0..40).map(|i| held(50.0 + f64::from(i % 3))).collect();
        assert!(is_flat(&flat));
        let leaks: Vec<Held> = (0..40).map(|i| held(50.0 + f64::from(i))).collect();
        assert!(!is_flat(&leaks));
        let page = "a_total 3\na_total{x=\"1\"} 4\na_totals 5\n";
        assert_eq!(sample(page, "a_total"), 7.0);
    }
}
