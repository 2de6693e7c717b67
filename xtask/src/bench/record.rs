//! `cargo xtask bench record`: what `perfprof record` costs as users get it, beside `perf record`.
//!
//! A workload of equal units of work runs alone, under perfprof and under `perf record`, by turns.

use super::measure::{self, Cost, Recorder};
use super::spread::Spread;
use crate::compile::on_path;
use crate::workload::Workload;

/// What this benchmark does not measure, said each time it runs.
const NOT_MEASURED: &[&str] = &[
    "time inside BPF programs (it is part of the target's CPU time per unit)",
    "the target's latency: only its CPU time per unit of work is measured",
    "hardware counters: `cpu-clock` is the event for both recorders here",
];

/// All rounds of one recorder.
#[derive(Debug)]
struct Series {
    recorder: Recorder,
    /// CPU time per unit of work over that of the same round without a recorder.
    slowdowns: Vec<f64>,
    costs: Vec<Cost>,
}

pub(super) fn run(rounds: usize) -> anyhow::Result<()> {
    super::build_perfprof()?;
    let mut recorders = vec![Recorder::Perfprof];
    let has_perf = on_path("perf");
    if has_perf {
        recorders.push(Recorder::Perf);
    }
    let mut all: Vec<Series> = recorders.into_iter().map(Series::new).collect();
    let mut alone = Vec::new();
    for round in 1..=rounds {
        println!("bench: round {round} of {rounds}");
        let mut workload = Workload::start("steady.c", &["2"])?;
        let baseline = measure::alone(&mut workload)?;
        alone.push(baseline);
        for series in &mut all {
            let (ns_per_unit, cost) = measure::under(series.recorder, &mut workload)?;
            series.slowdowns.push(ns_per_unit / baseline);
            series.costs.push(cost);
        }
    }
    print_results(&alone, &all);
    if !has_perf {
        println!("not measured: `perf record`, which is not installed (package linux-perf)");
    }
    NOT_MEASURED
        .iter()
        .for_each(|what| println!("not measured: {what}"));
    Ok(())
}

impl Series {
    fn new(recorder: Recorder) -> Series {
        Series {
            recorder,
            slowdowns: Vec::new(),
            costs: Vec::new(),
        }
    }

    /// The figures of a row of the table, one per round.
    fn row(&self, row: Row) -> Vec<f64> {
        match row {
            Row::Slowdown => self.slowdowns.clone(),
            Row::Cost(_, of) => self.costs.iter().map(of).collect(),
        }
    }
}

#[derive(Clone, Copy)]
enum Row {
    Slowdown,
    Cost(&'static str, fn(&Cost) -> f64),
}

const ROWS: &[Row] = &[
    Row::Slowdown,
    Row::Cost("own CPU per 1000 samples, ms", |cost| {
        cost.cpu_seconds * 1e6 / cost.samples as f64
    }),
    Row::Cost("peak resident memory, MiB", |cost| {
        cost.rss_bytes as f64 / 1048576.0
    }),
    Row::Cost("from stop to stacks on disk, s", |cost| cost.finish_seconds),
    Row::Cost("written per 1000 samples, KiB", |cost| {
        cost.written_bytes as f64 / 1.024 / cost.samples as f64
    }),
    Row::Cost("samples", |cost| cost.samples as f64),
];

fn print_results(alone: &[f64], all: &[Series]) {
    println!("\nTarget alone, CPU ns per unit: {}", Spread::of(alone));
    println!("Each figure: median [least … most] of n rounds.");
    for row in ROWS {
        let name = match row {
            Row::Slowdown => "target's CPU time per unit, times that of running alone",
            Row::Cost(name, _) => name,
        };
        println!("\n{name}");
        for series in all {
            let figures = series.row(*row);
            println!(
                "  {:10} {}",
                format!("{:?}", series.recorder),
                Spread::of(&figures)
            );
        }
        if let [ours, theirs] = all {
            let pairs = ours.row(*row).into_iter().zip(theirs.row(*row));
            let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
            println!("  {:10} {}", "ratio", Spread::of(&ratios));
        }
    }
    println!();
}
