//! Figure 2, what a sample costs the target.
//!
//! Two ways. *Per unit of work*: the target's own CPU time per unit under a recorder, less that under `perf record`
//! without stacks at the same rate, per tick; it holds everything, caches that the recorder has emptied included, and is
//! as noisy as the machine. *By interruption*: a target that only looks at the clock notes how long each interruption
//! lasted; the median, less the same under perf without stacks. It is exact, and holds only the interruption itself.
//! perfprof's timers belong to CPUs, perf's and samply's to the target's threads, which is part of what they cost.
//! A tick is one period of CPU time, whether or not the recorder kept its sample. Both are the least of several short
//! windows of one recording: whatever else happens on the machine only adds.

use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::recorder::{Recording, Tool};
use super::scene::{Play, Scene};
use crate::bench::book::{Book, Target};
use crate::bench::peers::Peers;

/// High, so that what a tick costs stands out of the noise: at 10 µs a tick it is a tenth of the target's CPU time.
const HZ: u32 = 9973;
const WARM_UP: Duration = Duration::from_millis(200);
const WINDOWS: usize = 6;
const WINDOW: Duration = Duration::from_millis(400);

const TOOLS: [Tool; 4] = [Tool::PerfPlain, Tool::Perfprof, Tool::Samply, Tool::PerfFp];

const PER_UNIT: &str = "target's CPU per tick above perf without stacks, ns, w1";
const PER_GAP: &str = "interruption per tick above perf without stacks, ns, w1";
const GAP: &str = "interruption per tick, median, ns, w1";
const UNIT: &str = "target's CPU per unit of work, ns, w1";
const GOT: &str = "samples got over ticks, %, w1 at 9973 Hz";

pub(super) fn measure(peers: &Peers, rounds: usize, book: &mut Book) -> anyhow::Result<()> {
    if !peers.perf {
        book.gap(
            "what a sample costs the target: perf, which is the base, is not installed".into(),
        );
        return Ok(());
    }
    let mut units = Scene::start(Play::W1)?;
    let mut gaps = Scene::of_fixture(Play::W1, "interrupted.c", &[])?;
    gaps.pause()?;
    for round in 1..=rounds {
        println!("what a sample costs the target: round {round} of {rounds}");
        let mut base = None;
        for tool in TOOLS.into_iter().filter(|tool| tool.is_there(peers)) {
            match turn(tool, peers, &mut units, &mut gaps, book) {
                Ok(costs) => note(tool, costs, *base.get_or_insert(costs), book),
                Err(error) => {
                    units.pause()?;
                    gaps.pause()?;
                    ensure!(base.is_some(), "perf, which is the base: {error:#}");
                    book.gap(format!(
                        "cost for the target under {}: {error:#}",
                        tool.name()
                    ));
                    note(tool, Costs::UNKNOWN, Costs::UNKNOWN, book);
                }
            }
        }
    }
    [UNIT, PER_UNIT, GAP, PER_GAP, GOT]
        .iter()
        .for_each(|figure| book.print(figure));
    book.row(PER_UNIT, "samply", Target::Times(1.0));
    book.row(PER_UNIT, "perf -g", Target::None);
    book.row(PER_GAP, "samply", Target::Times(1.0));
    book.row(PER_GAP, "perf -g", Target::None);
    Ok(())
}

#[derive(Clone, Copy)]
struct Costs {
    ns_per_unit: f64,
    gap_ns: f64,
}

impl Costs {
    const UNKNOWN: Costs = Costs {
        ns_per_unit: f64::NAN,
        gap_ns: f64::NAN,
    };
}

fn note(tool: Tool, costs: Costs, base: Costs, book: &mut Book) {
    let name = tool.name();
    book.note(UNIT, &name, costs.ns_per_unit);
    book.note(GAP, &name, costs.gap_ns);
    if tool != Tool::PerfPlain {
        // A second of undisturbed CPU time holds HZ ticks.
        let excess = (costs.ns_per_unit / base.ns_per_unit - 1.0) * 1e9 / f64::from(HZ);
        book.note(PER_UNIT, &name, excess);
        book.note(PER_GAP, &name, costs.gap_ns - base.gap_ns);
    }
}

fn turn(
    tool: Tool,
    peers: &Peers,
    units: &mut Scene,
    gaps: &mut Scene,
    book: &mut Book,
) -> anyhow::Result<Costs> {
    units.resume()?;
    let recording = Recording::start(tool, peers, units.scope(), HZ)?;
    let begun = books(units)?;
    thread::sleep(WARM_UP);
    let ns_per_unit = least(|| {
        let before = books(units)?;
        thread::sleep(WINDOW);
        let after = books(units)?;
        Ok((after.cpu_ns - before.cpu_ns) / (after.units - before.units))
    })?;
    let after = books(units)?;
    let taken = recording.finish()?;
    units.pause()?;
    let ticks = (after.cpu_ns - begun.cpu_ns) / 1e9 * f64::from(HZ);
    book.note(GOT, &tool.name(), 100.0 * taken.samples / ticks);

    gaps.resume()?;
    let recording = Recording::start(tool, peers, gaps.scope(), HZ)?;
    thread::sleep(WARM_UP);
    let gap_ns = least(|| {
        gaps.truth_so_far()?; // begins anew
        thread::sleep(WINDOW);
        median_gap_ns(&gaps.truth_so_far()?)
    })?;
    recording.finish()?;
    gaps.pause()?;
    Ok(Costs {
        ns_per_unit,
        gap_ns,
    })
}

/// The least of several measurements of the same.
fn least(mut measure: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..WINDOWS {
        least = least.min(measure()?);
    }
    Ok(least)
}

struct Books {
    cpu_ns: f64,
    units: f64,
}

fn books(scene: &mut Scene) -> anyhow::Result<Books> {
    let truth = scene.truth_so_far()?;
    let of = |name: &str| {
        truth[name]
            .as_f64()
            .with_context(|| format!("no `{name}` in the workload's books"))
    };
    Ok(Books {
        cpu_ns: of("cpu_ns")?,
        units: of("units")?,
    })
}

/// The median interruption, to a bucket, with the place within the bucket taken as even.
fn median_gap_ns(truth: &serde_json::Value) -> anyhow::Result<f64> {
    let width = truth["bucket_ns"]
        .as_f64()
        .context("no `bucket_ns` in the workload's books")?;
    let counts = truth["gaps"]
        .as_array()
        .context("no `gaps` in the workload's books")?;
    let counts: Vec<f64> = counts
        .iter()
        .filter_map(serde_json::Value::as_f64)
        .collect();
    let longer = truth["longer"].as_f64().unwrap_or(0.0);
    let half = (counts.iter().sum::<f64>() + longer) / 2.0;
    ensure!(half >= 50.0, "only {} interruptions were noted", half * 2.0);
    let mut seen = 0.0;
    for (bucket, count) in counts.iter().enumerate() {
        if seen + count >= half {
            return Ok((bucket as f64 + (half - seen) / count) * width);
        }
        seen += count;
    }
    anyhow::bail!("half of the interruptions lasted longer than the workload notes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_median_interruption_lies_within_its_bucket() {
        let mut counts = vec![0; 100];
        (counts[60], counts[61], counts[90]) = (50, 40, 10);
        let truth = json!({"bucket_ns": 20, "longer": 0, "gaps": counts});
        assert_eq!(median_gap_ns(&truth).expect("there is one"), 61.0 * 20.0);
        let few = json!({"bucket_ns": 20, "longer": 0, "gaps": [3]});
        assert!(median_gap_ns(&few).is_err());
    }
}
