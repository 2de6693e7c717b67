//! What the user asks to have planned, and the answers that need it: replicas, the cost of a request, cores by path.
//!
//! In: a target utilization, how many replicas there are, a load test's throughput, hot paths with their shares. Out:
//! figures, each with its arithmetic in words.

use super::{Capacity, Range};

/// What is known beside the readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Planning {
    /// Share of the ceiling to be used at p95.
    pub target_utilization: f64,
    /// How many instances like this one share the load now.
    pub replicas: Option<u32>,
    pub load: Option<Load>,
    /// The hottest first.
    pub hot_paths: Vec<HotPath>,
}

impl Default for Planning {
    fn default() -> Self {
        Planning {
            target_utilization: super::TARGET_UTILIZATION,
            replicas: None,
            load: None,
            hot_paths: Vec::new(),
        }
    }
}

/// What a load test says of the load on this one instance, or on all `replicas`.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    pub requests_per_second: f64,
    /// `wrk`, `k6`, …; and the file.
    pub source: String,
}

/// A function and its share of the service's CPU time, with the interval of that share.
#[derive(Clone, Debug, PartialEq)]
pub struct HotPath {
    pub name: String,
    pub share: f64,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// How many instances the same load needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicas {
    pub now: u32,
    pub needed: u32,
    /// From the interval of p95; `high` is `None` where that has no upper end.
    pub low: u32,
    pub high: Option<u32>,
    pub arithmetic: String,
}

/// What a request costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    pub requests_per_second: f64,
    /// CPU time per request.
    pub cpu_ms: f64,
    pub requests_per_core_second: f64,
    /// What one instance carries at the target utilization; `None` without a ceiling.
    pub requests_per_second_at_target: Option<f64>,
    pub arithmetic: String,
}

/// A path's part of the cores.
#[derive(Clone, Debug, PartialEq)]
pub struct PathCores {
    pub name: String,
    pub cores: f64,
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// What the service may use, else what it used: "`json::parse` is 1.40 of 4.00 cores".
    pub of_cores: f64,
    /// What it used on average: what the share is of.
    pub used_cores: f64,
}

/// `replicas · utilization ÷ target`, rounded up. Load spread over more instances is less for each in proportion.
pub fn replicas_needed(replicas: u32, utilization: f64, target: f64) -> u32 {
    let needed = f64::from(replicas) * utilization / target;
    // 8.000000001 is 8 and a rounding error.
    ((needed - 1e-6).ceil() as u32).max(1)
}

pub(super) fn replicas(capacity: &Capacity, planning: &Planning) -> Option<Replicas> {
    let now = planning.replicas?;
    let target = planning.target_utilization;
    let ceiling = capacity.ceiling_cores.filter(|cores| *cores > 0.0)?;
    let p95 = capacity.p95_share()?;
    let needed = replicas_needed(now, p95, target);
    let bound = |cores: f64| replicas_needed(now, cores / ceiling, target);
    let range = capacity.p95_range;
    let arithmetic = format!(
        "{now} replicas × {:.0} % used at p95 ÷ {:.0} % target = {:.2}, rounded up {needed}",
        p95 * 100.0,
        target * 100.0,
        f64::from(now) * p95 / target,
    );
    Some(Replicas {
        now,
        needed,
        low: range.map_or(needed, |range| bound(range.low)),
        high: match range {
            Some(Range {
                open_above: true, ..
            }) => None,
            Some(range) => Some(bound(range.high)),
            None => None,
        },
        arithmetic,
    })
}

pub(super) fn cost(capacity: &Capacity, planning: &Planning) -> Option<Cost> {
    let load = planning.load.as_ref()?;
    let all = load.requests_per_second;
    let instances = f64::from(planning.replicas.unwrap_or(1));
    let mean = capacity.cpu_cores.as_ref()?.mean;
    let each = all / instances;
    if each <= 0.0 || mean <= 0.0 {
        return None;
    }
    let cpu_ms = mean / each * 1e3;
    let at_target = capacity
        .ceiling_cores
        .map(|ceiling| planning.target_utilization * ceiling / mean * each);
    let spread = match planning.replicas {
        Some(replicas) if replicas > 1 => format!(" ({all:.1} ÷ {replicas} replicas)"),
        _ => String::new(),
    };
    let mut arithmetic = format!(
        "{mean:.3} cores on average ÷ {each:.1} requests per second{spread} = {cpu_ms:.3} ms of CPU time per request"
    );
    if let Some(at_target) = at_target {
        arithmetic += &format!(
            "; one instance carries {at_target:.1} requests per second at {:.0} % of its ceiling",
            planning.target_utilization * 100.0
        );
    }
    Some(Cost {
        requests_per_second: each,
        cpu_ms,
        requests_per_core_second: each / mean,
        requests_per_second_at_target: at_target,
        arithmetic,
    })
}

/// Shares of the CPU time turned into cores.
pub(super) fn path_cores(capacity: &Capacity, planning: &Planning) -> Vec<PathCores> {
    let Some(mean) = capacity.cpu_cores.as_ref().map(|cores| cores.mean) else {
        return Vec::new();
    };
    let of_cores = capacity.ceiling_cores.unwrap_or(mean);
    let paths = planning.hot_paths.iter();
    paths
        .map(|path| PathCores {
            name: path.name.clone(),
            cores: path.share * mean,
            low: path.low.map(|low| low * mean),
            high: path.high.map(|high| high * mean),
            of_cores,
            used_cores: mean,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_replicas_at_82_percent_become_eight_at_65() {
        assert_eq!(replicas_needed(6, 0.82, 0.65), 8);
        assert_eq!(replicas_needed(6, 0.65, 0.65), 6);
        assert_eq!(replicas_needed(13, 0.5, 0.65), 10);
        assert_eq!(replicas_needed(6, 0.1, 0.65), 1);
        assert_eq!(replicas_needed(6, 0.0, 0.65), 1);
    }
}
