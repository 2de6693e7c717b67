//! What the kernel measured of a recorder's sampling program, and what that program has counted.
//!
//! The kernel adds up the time of all runs of a BPF program, also of those for ticks that hit somebody else and return at
//! once. The cost per hit is therefore what is left after taking those out:
//! `(run time - (runs - hits) x miss) / hits`, where `hits` is the program's own count of ticks that hit its target and
//! `miss` is the mean run of the same program while its target sleeps, measured in the same round.
//!
//! Run time and runs are read from `/proc/PID/fdinfo` (`prog_type` 7 is BPF_PROG_TYPE_PERF_EVENT in bpf.h), counters
//! from a per-CPU map called `counts`, by bpftool, which knows its layout from the program's own types.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

const PERF_EVENT_PROGRAM: &str = "7";

/// Where the figures of a running recorder are found.
#[derive(Debug)]
pub(super) struct KernelCost {
    pid: u32,
    counts_map: Option<String>,
}

/// Totals since the recorder began, or their growth.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    pub(super) run_ns: f64,
    pub(super) runs: f64,
    /// As the program names them: `ticks`, `reads`, …; all CPUs added up.
    pub(super) counters: BTreeMap<String, f64>,
}

impl KernelCost {
    pub(super) fn of(pid: u32) -> KernelCost {
        KernelCost {
            pid,
            counts_map: counts_map(pid),
        }
    }

    pub(super) fn read(&self) -> anyhow::Result<Reading> {
        let counters = self.counts_map.as_deref().map(counters).transpose()?;
        let programs = sampling_programs(self.pid);
        ensure!(
            !programs.is_empty(),
            "it runs no BPF program on perf events"
        );
        let sum = |field: &str| programs.iter().map(|fields| number(fields, field)).sum();
        Ok(Reading {
            run_ns: sum("run_time_ns"),
            runs: sum("run_cnt"),
            counters: counters.unwrap_or_default(),
        })
    }
}

impl Reading {
    pub(super) fn since(&self, before: &Reading) -> Reading {
        let grown = |(name, count): (&String, &f64)| (name.clone(), count - before.counter(name));
        Reading {
            run_ns: self.run_ns - before.run_ns,
            runs: self.runs - before.runs,
            counters: self.counters.iter().map(grown).collect(),
        }
    }

    pub(super) fn counter(&self, name: &str) -> f64 {
        self.counters.get(name).copied().unwrap_or(0.0)
    }

    /// Ticks that hit the target.
    pub(super) fn hits(&self) -> f64 {
        self.counter("ticks")
    }

    pub(super) fn ns_per_run(&self) -> f64 {
        self.run_ns / self.runs
    }

    /// The cost of a hit where a run for somebody else's tick takes `miss_ns`.
    pub(super) fn ns_per_hit(&self, miss_ns: f64) -> f64 {
        // The counter is read some microseconds apart from the runs and may be ahead.
        let misses = (self.runs - self.hits()).max(0.0);
        (self.run_ns - misses * miss_ns) / self.hits()
    }
}

/// Whether the sampling program has run.
pub(super) fn has_ticked(pid: u32) -> bool {
    sampling_programs(pid)
        .iter()
        .any(|fields| number(fields, "run_cnt") > 0.0)
}

type Fields = BTreeMap<String, String>;

/// The perf_event programs a process holds, each once.
fn sampling_programs(pid: u32) -> Vec<Fields> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .into_iter()
        .flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let programs = texts.map(|text| fields(&text)).filter(is_sampling_program);
    let by_id = programs.filter_map(|fields| Some((fields.get("prog_id")?.clone(), fields)));
    by_id.collect::<BTreeMap<_, _>>().into_values().collect()
}

fn is_sampling_program(fields: &Fields) -> bool {
    fields
        .get("prog_type")
        .is_some_and(|kind| kind == PERF_EVENT_PROGRAM)
}

fn fields(text: &str) -> Fields {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| (name.to_string(), value.trim().to_string()))
        .collect()
}

fn number(fields: &Fields, name: &str) -> f64 {
    let text = fields.get(name).map_or("0", String::as_str);
    text.parse().unwrap_or(0.0)
}

/// The ID of the map `counts` of the recorder's sampling program.
fn counts_map(pid: u32) -> Option<String> {
    let programs = sampling_programs(pid);
    let ids = programs.iter().filter_map(|fields| fields.get("prog_id"));
    let maps = ids.filter_map(|id| bpftool(&["prog", "show", "id", id]).ok());
    let mut maps = maps.flat_map(|about| about["map_ids"].as_array().cloned().unwrap_or_default());
    maps.find_map(|id| {
        let about = bpftool(&["map", "show", "id", &id.to_string()]).ok()?;
        (about["name"] == "counts").then(|| id.to_string())
    })
}

fn counters(map: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let dump = bpftool(&["map", "dump", "id", map])?;
    let cpus = dump[0]["formatted"]["values"]
        .as_array()
        .context("bpftool does not show the counters' fields")?;
    let mut sum = BTreeMap::new();
    let fields = cpus.iter().filter_map(|cpu| cpu["value"].as_object());
    for (name, value) in fields.flatten() {
        *sum.entry(name.clone()).or_insert(0.0) += value.as_f64().unwrap_or(0.0);
    }
    Ok(sum)
}

fn bpftool(words: &[&str]) -> anyhow::Result<Value> {
    let output = Command::new("bpftool")
        .arg("-j")
        .args(words)
        .output()
        .context("failed to run bpftool")?;
    ensure!(
        output.status.success(),
        "bpftool failed: {}",
        words.join(" ")
    );
    serde_json::from_slice(&output.stdout).context("bpftool writes no JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_for_others_are_taken_out_of_the_cost_of_a_hit() {
        let counters = |ticks| BTreeMap::from([("ticks".to_string(), ticks)]);
        let before = Reading {
            run_ns: 500.0,
            runs: 10.0,
            counters: counters(5.0),
        };
        let after = Reading {
            run_ns: 500.0 + 100.0 * 2000.0 + 300.0 * 60.0,
            runs: 410.0,
            counters: counters(105.0),
        };
        let grown = after.since(&before);
        assert_eq!(grown.hits(), 100.0);
        assert_eq!(grown.ns_per_hit(60.0), 2000.0);
    }

    #[test]
    fn programs_are_told_by_their_kind() {
        let of = |text| is_sampling_program(&fields(text));
        assert!(of(
            "pos:\t0\nprog_type:\t7\nprog_id:\t3\nrun_time_ns:\t12\n"
        ));
        assert!(!of("prog_type:\t26\nprog_id:\t3\n"));
        assert!(!of("link_type:\tperf\nprog_id:\t3\n"));
    }
}
