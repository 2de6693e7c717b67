//! `cargo xtask bench waits`: what it costs a target that its waits are accounted for.
//!
//! Pairs of threads pass a byte to and fro (`fixtures/workloads/switcher.c`) at three speeds: each turn works so long that a
//! busy CPU makes 10 thousand or 100 thousand switches a second, or not at all, on all CPUs, which is as near to a million
//! as the machine comes. *Loss* is what a recorder takes of the rounds done per second of the target's own CPU time: other
//! load on the machine takes time away from the target, but not rounds from its CPU time. It holds everything that
//! happens on the target's account: the hooks in the scheduler, the ticks, caches that were emptied. *Per switch* is the
//! same in nanoseconds above running alone.
//!
//! perfprof records on-CPU only and everything; the peers hook the scheduler (or the system calls), too: `perf sched record`
//! writes an event for each switch, of all processes, and no stack; `perf trace -s` counts system calls; a program for
//! bpftrace adds up time off the CPU by stack (frame pointers), as `offcputime` does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::book::{Book, Target};
use super::peers::{Peers, WITH_TRACEFS};
use super::running::{Running, clear, size_of_tree};
use super::spread::Spread;
use crate::workload::Workload;

/// From the first sign that a recorder is armed until it certainly is, with what it does at first.
const WARM_UP: Duration = Duration::from_secs(1);

/// Between the two readings of the target's books.
const WINDOW: Duration = Duration::from_secs(3);

/// The least of the rounds that accounting for waits may leave at a hundred thousand switches a second.
const LEAST_KEPT: f64 = 0.95;

/// What this benchmark does not measure, said each time it runs.
const NOT_MEASURED: &[&str] = &[
    "a hook's time by itself (it is part of the target's CPU time per switch)",
    "the target's latency: only its CPU time per round is measured",
    "what hooks cost the other processes of the machine, which run through them, too",
    "for the peers, the way from their files to a report: their CPU time ends with the recording",
    "`perf record --off-cpu`: Debian's perf is built without it",
];

/// Switches a second, and pairs of threads.
#[derive(Clone, Copy, Debug)]
struct Speed {
    name: &'static str,
    switches: &'static str,
    on_all_cpus: bool,
    /// The least of its rounds that the target must keep.
    target: Target,
}

const SPEEDS: [Speed; 3] = [
    Speed {
        name: "10k/s",
        switches: "10000",
        on_all_cpus: false,
        target: Target::None,
    },
    Speed {
        name: "100k/s",
        switches: "100000",
        on_all_cpus: false,
        target: Target::AtLeast(LEAST_KEPT),
    },
    Speed {
        name: "most",
        switches: "0",
        on_all_cpus: true,
        target: Target::None,
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Alone,
    OnCpu,
    All,
    PerfSched,
    PerfTrace,
    Bpftrace,
}

const TOOLS: [Tool; 6] = [
    Tool::Alone,
    Tool::OnCpu,
    Tool::All,
    Tool::PerfSched,
    Tool::PerfTrace,
    Tool::Bpftrace,
];

const KEPT: &str = "rounds per CPU second, times those alone";
const ADDED: &str = "CPU per switch above alone, ns";
const SWITCH: &str = "CPU per switch, ns";
const RATE: &str = "switches a second reached";
const OWN: &str = "own CPU, % of one CPU, outputs included";
const MEMORY: &str = "peak resident memory, MiB";
const WRITTEN: &str = "written, MiB per second recorded";
const FIGURES: [&str; 7] = [KEPT, ADDED, SWITCH, RATE, OWN, MEMORY, WRITTEN];

pub(super) fn run(rounds: usize) -> anyhow::Result<()> {
    super::build_perfprof()?;
    let peers = Peers::find_for_waits();
    let mut book = Book::default();
    peers
        .absent
        .iter()
        .for_each(|absent| book.gap(absent.clone()));
    println!("load before: {}", load());
    for speed in SPEEDS {
        if let Err(error) = measure(speed, &peers, rounds, &mut book) {
            book.gap(format!("{}: {error:#}", speed.name));
        }
    }
    println!(
        "\nMedian [least … most] of n rounds; what is times or above alone is taken round by round."
    );
    for speed in SPEEDS {
        FIGURES
            .iter()
            .for_each(|figure| book.print(&of(figure, speed)));
    }
    for speed in SPEEDS {
        for peer in [
            Tool::OnCpu,
            Tool::PerfSched,
            Tool::PerfTrace,
            Tool::Bpftrace,
        ] {
            book.row(&of(KEPT, speed), peer.name(), speed.target);
            book.row(&of(ADDED, speed), peer.name(), Target::None);
        }
        for figure in [OWN, MEMORY, WRITTEN] {
            book.row(&of(figure, speed), Tool::PerfSched.name(), Target::None);
        }
    }
    println!("\nperfprof is `record --mode all`. A ratio is perfprof's figure over the peer's.");
    book.print_table();
    say_what_was_reached(&book);
    NOT_MEASURED
        .iter()
        .for_each(|what| println!("not measured: {what}"));
    println!("load after: {}", load());
    Ok(())
}

fn measure(speed: Speed, peers: &Peers, rounds: usize, book: &mut Book) -> anyhow::Result<()> {
    let pairs = match speed.on_all_cpus {
        true => thread::available_parallelism()
            .context("failed to count the CPUs")?
            .get(),
        false => 1,
    };
    let mut workload = Workload::start("switcher.c", &[speed.switches, &pairs.to_string()])?;
    for round in 1..=rounds {
        println!("{}: round {round} of {rounds}", speed.name);
        let mut alone = None;
        for tool in TOOLS.into_iter().filter(|tool| tool.is_there(peers)) {
            match turn(tool, &mut workload) {
                Ok(cost) => note(speed, tool, cost, *alone.get_or_insert(cost), book),
                Err(error) => {
                    ensure!(tool != Tool::Alone, "the target alone: {error:#}");
                    book.gap(format!("{} under {}: {error:#}", speed.name, tool.name()));
                    // Rounds stay rounds: ratios are taken one by one.
                    note(speed, tool, Cost::UNKNOWN, Cost::UNKNOWN, book);
                }
            }
        }
    }
    Ok(())
}

fn note(speed: Speed, tool: Tool, cost: Cost, alone: Cost, book: &mut Book) {
    let mut note = |figure, value| book.note(&of(figure, speed), tool.name(), value);
    note(SWITCH, cost.ns_per_switch);
    note(RATE, cost.switches_per_second);
    if tool == Tool::Alone {
        return;
    }
    note(
        KEPT,
        cost.rounds_per_cpu_second / alone.rounds_per_cpu_second,
    );
    note(ADDED, cost.ns_per_switch - alone.ns_per_switch);
    note(OWN, cost.own_cpu_pct);
    note(MEMORY, cost.rss_mib);
    note(WRITTEN, cost.written_mib_per_second);
}

/// A figure's name with its speed.
fn of(figure: &str, speed: Speed) -> String {
    format!("{figure}, {}", speed.name)
}

/// Of one turn; not a number where nothing was measured.
#[derive(Clone, Copy, Debug)]
struct Cost {
    ns_per_switch: f64,
    rounds_per_cpu_second: f64,
    switches_per_second: f64,
    own_cpu_pct: f64,
    rss_mib: f64,
    written_mib_per_second: f64,
}

impl Cost {
    const UNKNOWN: Cost = Cost {
        ns_per_switch: f64::NAN,
        rounds_per_cpu_second: f64::NAN,
        switches_per_second: f64::NAN,
        own_cpu_pct: f64::NAN,
        rss_mib: f64::NAN,
        written_mib_per_second: f64::NAN,
    };
}

fn turn(tool: Tool, workload: &mut Workload) -> anyhow::Result<Cost> {
    let Some(mut command) = tool.command(workload.pid(), &super::run_folder()) else {
        thread::sleep(WARM_UP);
        return Cost::between(&books(workload)?, &after_window(workload)?);
    };
    let folder = super::run_folder();
    clear(&folder)?;
    let mut running = Running::start(&mut command, &folder.join("log"))?;
    running.wait_until_armed()?;
    let armed = books(workload)?;
    thread::sleep(WARM_UP);
    let before = books(workload)?;
    let after = after_window(workload)?;
    let ended = running.stop()?;
    tool.check(&ended.status, &folder)?;
    let recorded_seconds = (after.at_ns - armed.at_ns) / 1e9;
    Ok(Cost {
        own_cpu_pct: 100.0 * ended.cpu_seconds / recorded_seconds,
        rss_mib: ended.rss_bytes as f64 / 1_048_576.0,
        written_mib_per_second: size_of_tree(&folder, "")? as f64 / 1_048_576.0 / recorded_seconds,
        ..Cost::between(&before, &after)?
    })
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Tool::Alone => "alone",
            Tool::OnCpu => "perfprof --mode on-cpu",
            Tool::All => "perfprof",
            Tool::PerfSched => "perf sched record",
            Tool::PerfTrace => "perf trace -s",
            Tool::Bpftrace => "bpftrace off-CPU stacks",
        }
    }

    fn is_there(self, peers: &Peers) -> bool {
        match self {
            Tool::Alone | Tool::OnCpu | Tool::All => true,
            Tool::PerfSched | Tool::PerfTrace => peers.perf,
            Tool::Bpftrace => peers.bpftrace,
        }
    }

    /// None for the target alone.
    fn command(self, pid: u32, folder: &Path) -> Option<Command> {
        let pid_text = pid.to_string();
        let mode = match self {
            Tool::Alone => return None,
            Tool::OnCpu => "on-cpu",
            Tool::All => "all",
            Tool::PerfSched => {
                let mut command = with_tracefs("perf");
                command
                    .args(["sched", "record", "-o"])
                    .arg(folder.join("perf.data"));
                return Some(command);
            }
            Tool::PerfTrace => {
                let mut command = with_tracefs("perf");
                command.args(["trace", "-s", "-p", &pid_text]);
                return Some(command);
            }
            Tool::Bpftrace => {
                let mut command = with_tracefs("bpftrace");
                command.args(["-e", &off_cpu_program(pid)]);
                return Some(command);
            }
        };
        let mut command = Command::new(super::perfprof());
        command.args(["record", "--quiet", "--mode", mode, "--pid", &pid_text]);
        command.arg("--artifacts").arg(folder.join("artifacts"));
        Some(command)
    }

    /// An error on the way must not look like a cheap recording.
    fn check(self, status: &std::process::ExitStatus, folder: &Path) -> anyhow::Result<()> {
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        let said = |word: &str| log().contains(word);
        let did = match self {
            Tool::Alone => true,
            // 5: complete, and below a threshold of trust.
            Tool::OnCpu | Tool::All => matches!(status.code(), Some(0 | 5)),
            Tool::PerfSched => said("samples)"),
            Tool::PerfTrace => said("switcher") && said("write"),
            Tool::Bpftrace => said("@off["),
        };
        ensure!(
            did,
            "it ended with {status} and said: {}",
            super::running::end_of(log().as_bytes())
        );
        Ok(())
    }
}

/// Both need tracefs, which is not mounted everywhere.
fn with_tracefs(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh", program]);
    command
}

/// Time off the CPU by kernel and user stack, both walked at each switch away from the CPU.
fn off_cpu_program(pid: u32) -> String {
    format!(
        "tracepoint:sched:sched_switch {{ \
           if (pid == {pid}) {{ @start[tid] = nsecs; @user[tid] = ustack; @kernel[tid] = kstack; }} \
           $begin = @start[args->next_pid]; \
           if ($begin) {{ \
             @off[@kernel[args->next_pid], @user[args->next_pid]] = sum(nsecs - $begin); \
             delete(@start[args->next_pid]); }} }}"
    )
}

struct Books {
    at_ns: f64,
    rounds: f64,
    switches: f64,
    cpu_ns: f64,
}

fn after_window(workload: &mut Workload) -> anyhow::Result<Books> {
    thread::sleep(WINDOW);
    books(workload)
}

fn books(workload: &mut Workload) -> anyhow::Result<Books> {
    let truth = workload.truth_so_far()?;
    let figure = |name: &str| {
        truth[name]
            .as_f64()
            .with_context(|| format!("no `{name}` in the workload's books"))
    };
    Ok(Books {
        at_ns: figure("at_ns")?,
        rounds: figure("rounds")?,
        switches: figure("switches")?,
        cpu_ns: figure("cpu_ns")?,
    })
}

impl Cost {
    /// Of the target; the recorder's own figures are unknown.
    fn between(before: &Books, after: &Books) -> anyhow::Result<Cost> {
        let (rounds, switches) = (
            after.rounds - before.rounds,
            after.switches - before.switches,
        );
        let cpu_ns = after.cpu_ns - before.cpu_ns;
        ensure!(rounds > 0.0 && cpu_ns > 0.0, "the workload did nothing");
        Ok(Cost {
            ns_per_switch: cpu_ns / switches,
            rounds_per_cpu_second: rounds / cpu_ns * 1e9,
            switches_per_second: switches / (after.at_ns - before.at_ns) * 1e9,
            ..Cost::UNKNOWN
        })
    }
}

/// A speed that was asked for and not reached must not pass for one that was measured.
fn say_what_was_reached(book: &Book) {
    for speed in SPEEDS {
        let reached = Spread::of(book.series(&of(RATE, speed), Tool::Alone.name()));
        println!(
            "reached alone, {}: {} switches a second",
            speed.name,
            reached.brief()
        );
        if speed.on_all_cpus && reached.median < 1e6 {
            println!("not measured: a million switches a second, which these CPUs do not make");
        }
    }
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_the_target_s_own_cpu_time() {
        let before = Books {
            at_ns: 0.0,
            rounds: 10.0,
            switches: 20.0,
            cpu_ns: 5e8,
        };
        let after = Books {
            at_ns: 4e9,
            rounds: 60.0,
            switches: 120.0,
            cpu_ns: 15e8,
        };
        let cost = Cost::between(&before, &after).expect("it worked");
        assert_eq!(cost.ns_per_switch, 1e7);
        assert_eq!(cost.rounds_per_cpu_second, 50.0);
        assert_eq!(cost.switches_per_second, 25.0);
        assert!(Cost::between(&after, &after).is_err());
    }
}
