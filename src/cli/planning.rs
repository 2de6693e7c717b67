//! What is to be planned: the target utilization, the replicas, and a load test read from its file.

use super::args::PlanningArgs;
use super::stop::{Exit, Failure};
use crate::analysis::{self, HotPaths};
use crate::capacity::{HotPath, Load, Planning};
use crate::load_test;

/// Functions whose cores are told.
const MAX_PATHS: usize = 10;
/// Share of the CPU time from which a function can be scaffolding.
const NEARLY_EVERYTHING: f64 = 0.9;

pub(super) fn of(args: &PlanningArgs) -> Result<Planning, Failure> {
    let load = args.load_test.as_ref().map(|path| {
        let test = load_test::read(path).map_err(|error| {
            Failure::new(Exit::BadInput, error).hint(
                "results of k6 (JSON), Locust (`_stats.csv`), hey, oha (JSON) and wrk are read, and \
                 `{\"throughput_per_second\": 120.5}`",
            )
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Load {
            requests_per_second: test.throughput_per_second,
            source: format!("{name} ({})", test.tool),
        })
    });
    Ok(Planning {
        target_utilization: args.target_utilization,
        replicas: args.replicas,
        load: load.transpose()?,
        hot_paths: Vec::new(),
    })
}

/// The hottest functions by total time that are more than scaffolding; with nothing else, that.
pub(super) fn hot_paths(hot: &HotPaths) -> Vec<HotPath> {
    let functions = || hot.by_total.iter().filter(|path| !path.is_group);
    let telling: Vec<_> = functions().filter(|path| !is_scaffolding(path)).collect();
    let chosen = match telling.is_empty() {
        true => functions().collect(),
        false => telling,
    };
    chosen
        .into_iter()
        .take(MAX_PATHS)
        .map(|path| HotPath {
            name: path.name.clone(),
            share: path.share.value,
            low: path.share.interval.map(|interval| interval.low),
            high: path.share.interval.map(|interval| interval.high),
        })
        .collect()
}

/// `main`, the start of a thread, an event loop: nearly everything runs below it, and little in it.
fn is_scaffolding(path: &analysis::HotPath) -> bool {
    let (own, total) = (path.self_weight.ticks, path.total_weight.ticks);
    path.share.value >= NEARLY_EVERYTHING && own.saturating_mul(10) < total
}
