//! Figure 5, processes that live 5 ms, one after another, recorded with everything else on the machine: how many of their
//! samples are got and how many of these have a name, over what their own CPU time makes expect.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::perf_script;
use super::recorder::{Recording, Scope, Tool};
use super::scene;
use crate::bench::book::{Book, Target};
use crate::bench::peers::Peers;

const HZ: u32 = 997;
const TIME: Duration = Duration::from_secs(4);
/// The command name of a process from brief_child.c.
const CHILD: &str = "brief_child";

const GOT: &str = "samples got over expected, %, processes of 5 ms";
const NAMED: &str = "named samples over expected, %, processes of 5 ms";
const COMPLETE: &str = "complete stacks over samples got, %, processes of 5 ms";
const EXPECTED: &str = "samples expected, processes of 5 ms";

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    samples: f64,
    named: f64,
    /// Only perfprof says.
    complete: f64,
}

pub(super) fn measure(peers: &Peers, rounds: usize, book: &mut Book) -> anyhow::Result<()> {
    for round in 1..=rounds {
        println!("processes that live 5 ms: round {round} of {rounds}");
        for tool in [Tool::Perfprof, Tool::PerfFp]
            .into_iter()
            .filter(|tool| tool.is_there(peers))
        {
            if let Err(error) = turn(tool, peers, book) {
                book.gap(format!(
                    "processes of 5 ms under {}: {error:#}",
                    tool.name()
                ));
                for figure in [EXPECTED, GOT, NAMED] {
                    book.note(figure, &tool.name(), f64::NAN);
                }
            }
        }
    }
    [EXPECTED, GOT, NAMED, COMPLETE]
        .iter()
        .for_each(|figure| book.print(figure));
    book.row(GOT, "perf -g", Target::AtLeast(98.0));
    book.row(NAMED, "perf -g", Target::AtLeast(88.0));
    book.row(COMPLETE, "", Target::None);
    Ok(())
}

fn turn(tool: Tool, peers: &Peers, book: &mut Book) -> anyhow::Result<()> {
    let more: &[&str] = match tool {
        Tool::Perfprof => &["-o", "out.folded"],
        _ => &[],
    };
    let recording = Recording::start_with(tool, peers, Scope::All, HZ, more)?;
    thread::sleep(Duration::from_millis(200));
    let expected = run_children()? / 1e9 * f64::from(HZ);
    let taken = recording.finish()?;
    let seen = match tool {
        Tool::Perfprof => of_folded(&fs::read_to_string(taken.folder.join("out.folded"))?),
        _ => of_perf(&taken.folder)?,
    };
    let name = tool.name();
    book.note(EXPECTED, &name, expected);
    book.note(GOT, &name, 100.0 * seen.samples / expected);
    book.note(NAMED, &name, 100.0 * seen.named / expected);
    if tool == Tool::Perfprof {
        book.note(COMPLETE, &name, 100.0 * seen.complete / seen.samples);
    }
    Ok(())
}

/// Runs one child after another for a while; the CPU time they used, in nanoseconds.
fn run_children() -> anyhow::Result<f64> {
    let child = scene::program("brief_child.c")?;
    let mut parent = Command::new(scene::program("brief_parent.c")?)
        .arg(child)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start a workload")?;
    thread::sleep(TIME);
    kill(Pid::from_raw(parent.id() as i32), Signal::SIGTERM).context("failed to end a workload")?;
    let mut said = String::new();
    let mut output = parent.stdout.take().context("standard output is a pipe")?;
    output.read_to_string(&mut said)?;
    parent.wait()?;
    let line = said.lines().last().unwrap_or_default();
    let truth: serde_json::Value =
        serde_json::from_str(line).context("the workload keeps no books")?;
    let cpu_ns = truth["cpu_ns"]
        .as_f64()
        .context("no `cpu_ns` in the workload's books")?;
    ensure!(cpu_ns > 0.0, "the workload did nothing");
    Ok(cpu_ns)
}

/// Lines of `process;outermost;…;innermost count`.
fn of_folded(text: &str) -> Seen {
    let mut seen = Seen::default();
    for line in text.lines() {
        let Some((stack, count)) = line.rsplit_once(' ') else {
            continue;
        };
        let Some(frames) = stack
            .strip_prefix(CHILD)
            .and_then(|rest| rest.strip_prefix(';'))
        else {
            continue;
        };
        let count: f64 = count.parse().unwrap_or(0.0);
        let innermost = frames.rsplit(';').next().unwrap_or_default();
        seen.samples += count;
        if is_name(innermost) {
            seen.named += count;
        }
        if !frames.starts_with("[truncated") {
            seen.complete += count;
        }
    }
    seen
}

/// Paragraphs that begin with the command name; the first frame is the innermost.
fn of_perf(folder: &Path) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    let mut head_was_child = false;
    perf_script::lines(folder, "comm,ip,sym", |line| {
        let is_head = line.starts_with(|first: char| !first.is_whitespace());
        if is_head {
            head_was_child = line.trim() == CHILD;
            seen.samples += f64::from(u8::from(head_was_child));
        } else if head_was_child {
            let name = line.trim().split_once(' ').map_or("", |(_, name)| name);
            seen.named += f64::from(u8::from(is_name(name)));
            head_was_child = false;
        }
    })?;
    Ok(seen)
}

/// Neither nothing nor an address nor a note in brackets.
fn is_name(text: &str) -> bool {
    !(text.is_empty() || text.starts_with('[') || text.starts_with("0x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_children_are_counted_and_told_from_those_without_a_name() {
        let text = "brief_child;_start;main;brief_burn 3\nbrief_child;[truncated: warming];0x12 2\nbrief_parent;main 9\n";
        let seen = of_folded(text);
        assert_eq!((seen.samples, seen.named, seen.complete), (5.0, 3.0, 3.0));
    }
}
