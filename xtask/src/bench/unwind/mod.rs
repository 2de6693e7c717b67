//! `cargo xtask bench unwind`: the unwinder inside the kernel (`--sampler bpf --unwind dwarf`) beside its peers, in one run.
//!
//! Six figures, a module each; every one says what it measures and how. `book` keeps the figures of all rounds and ends
//! with a table of perfprof, peer, ratio and target. What cannot be measured is said, with the reason, and the run goes
//! on.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use self::scene::{PLAYS, Play};
use crate::bench::book::Book;
use crate::bench::peers::Peers;

mod completeness;
mod in_kernel;
mod kernel_cost;
mod own_cost;
mod perf_script;
mod recorder;
mod scene;
mod short_lived;
mod stacks;
mod tables;
mod target_cpu;

const FIGURES: [&str; 6] = ["kernel", "target", "own", "stacks", "brief", "tables"];

/// Which figures of which workloads.
#[derive(Debug, PartialEq)]
struct Parts {
    figures: Vec<&'static str>,
    plays: Vec<Play>,
}

pub(super) fn run(rounds: usize, only: &[String]) -> anyhow::Result<()> {
    let begin = Instant::now();
    let parts = parts(only)?;
    println!("figures: {}", parts.figures.join(", "));
    println!(
        "workloads: {}",
        parts
            .plays
            .iter()
            .map(|play| play.name())
            .collect::<Vec<_>>()
            .join(", ")
    );
    super::build_perfprof()?;
    let peers = Peers::find();
    let statistics = keep_statistics(&peers);
    let mut book = Book::default();
    for absent in &peers.absent {
        book.gap(absent.clone());
    }
    println!("load before: {}", load());
    for figure in &parts.figures {
        let done = match *figure {
            "kernel" => in_kernel::measure(&peers, &parts.plays, rounds, &mut book),
            "target" => target_cpu::measure(&peers, rounds, &mut book),
            "own" => own_cost::measure(&peers, rounds, &mut book),
            "stacks" => completeness::measure(&peers, &parts.plays, &mut book),
            "brief" => short_lived::measure(&peers, rounds, &mut book),
            _ => tables::measure(&peers, rounds, &mut book),
        };
        if let Err(error) = done {
            book.gap(format!("figure `{figure}`: {error:#}"));
        }
    }
    if parts.figures.contains(&"stacks") {
        completeness::report(&parts.plays, &mut book);
    }
    drop(statistics);
    println!("\nMedian [least … most] of {rounds} rounds; ratios are taken round by round.");
    book.print_table();
    println!(
        "not measured: hardware counters (`cpu-clock` is everybody's event here); lightswitch's and bpftrace's own CPU time"
    );
    println!(
        "load after: {}; {:.0} s in all",
        load(),
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// All, or what the words name: workloads, figures, or both.
fn parts(only: &[String]) -> anyhow::Result<Parts> {
    let figures = FIGURES
        .into_iter()
        .filter(|name| only.iter().any(|word| word == name));
    let plays = PLAYS
        .into_iter()
        .filter(|play| only.iter().any(|word| word == play.name()));
    let (mut figures, mut plays): (Vec<_>, Vec<_>) = (figures.collect(), plays.collect());
    let is_known = |word: &&String| {
        FIGURES.contains(&word.as_str()) || PLAYS.iter().any(|play| play.name() == *word)
    };
    if let Some(word) = only.iter().find(|word| !is_known(word)) {
        let plays = PLAYS.map(Play::name).join(", ");
        bail!(
            "`{word}` is neither a figure ({}) nor a workload ({plays})",
            FIGURES.join(", ")
        );
    }
    if figures.is_empty() {
        figures = match plays.is_empty() {
            true => FIGURES.to_vec(),
            false => vec!["kernel", "stacks"],
        };
    }
    if plays.is_empty() {
        plays = PLAYS.to_vec();
    }
    Ok(Parts { figures, plays })
}

/// While it lives the kernel keeps run-time statistics of all BPF programs, also of peers that do not ask for them.
fn keep_statistics(peers: &Peers) -> Option<Statistics> {
    let floor = peers.floor.as_ref()?;
    let child = Command::new(&floor.program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("failed to run it");
    child.ok().map(Statistics)
}

#[derive(Debug)]
struct Statistics(Child);

impl Drop for Statistics {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg")
        .unwrap_or_default()
        .trim()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_figures_and_workloads() {
        let of = |words: &[&str]| {
            parts(
                &words
                    .iter()
                    .map(|word| word.to_string())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(&[]).expect("valid").plays.len(), PLAYS.len());
        let redis = of(&["redis"]).expect("valid");
        assert_eq!(
            (redis.figures, redis.plays),
            (vec!["kernel", "stacks"], vec![Play::Redis])
        );
        let own = of(&["own"]).expect("valid");
        assert_eq!((own.figures, own.plays.len()), (vec!["own"], PLAYS.len()));
        assert!(of(&["nothing"]).is_err());
    }
}
