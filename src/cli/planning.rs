//! What is to be planned: the target utilization, the replicas, and a load test read from its file.

use super::args::PlanningArgs;
use super::stop::{Exit, Failure};
use crate::analysis::{self, HotPaths};
use crate::capacity::{HotPath, Load, Planning};
use crate::load_test;

/// Functions whose cores are told.
const MAX_PATHS: usize = 10;
/// Share of all stacks from which a function is scaffolding: `main`, an event loop.
const EVERYWHERE: f64 = 0.99;

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

/// The hottest functions by total time that are more than scaffolding, and not merely callers of one of them.
pub(super) fn hot_paths(hot: &HotPaths) -> Vec<HotPath> {
    let telling = hot
        .by_total
        .iter()
        .filter(|path| !path.is_group && path.share.value < EVERYWHERE)
        .filter(|path| !only_calls(path, &hot.by_total));
    telling
        .take(MAX_PATHS)
        .map(|path| HotPath {
            name: path.name.clone(),
            share: path.share.value,
            low: path.share.interval.map(|interval| interval.low),
            high: path.share.interval.map(|interval| interval.high),
        })
        .collect()
}

/// Whether nearly all of its time is that of a function below it, which then says more.
fn only_calls(path: &analysis::HotPath, all: &[analysis::HotPath]) -> bool {
    let chain = &path.chain.names;
    let below = chain.iter().skip_while(|name| **name != path.name).skip(1);
    below.filter(|name| **name != path.name).any(|name| {
        let callee = all.iter().find(|other| other.name == *name);
        callee.is_some_and(|callee| callee.share.value >= EVERYWHERE * path.share.value)
    })
}
