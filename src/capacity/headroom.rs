//! How much is left, with the arithmetic, and what runs out first.
//!
//! In: the measured use. Out: figures and sentences. The growth factor assumes that CPU use grows in proportion to
//! load; memory is held against its limit as it stands, because it need not grow with load at all.

use super::{Capacity, CeilingKind};

/// More throttled periods than this mean that the quota is too small now, whatever the mean use.
const THROTTLED_TOO_OFTEN: f64 = 0.05;

/// Room below the target utilization, of the service's own ceiling or of the node, whichever is less.
#[derive(Clone, Debug, PartialEq)]
pub struct Headroom {
    pub target_utilization: f64,
    /// Target times ceiling, less p95; negative when the target is exceeded.
    pub cores: f64,
    /// How many times the load of the recording fits below the target, with everything else on the node unchanged;
    /// `None` when the service used no CPU.
    pub load_factor: Option<f64>,
    /// How the two were computed, with the numbers.
    pub arithmetic: String,
}

/// A resource and how full it is.
#[derive(Clone, Debug, PartialEq)]
pub struct RunsOut {
    /// Stable: `cpu_quota`, `allowed_cpus`, `node_cpus` (other services included), `memory_limit`, `node_memory`.
    pub resource: &'static str,
    /// 0 to 1, more when exhausted.
    pub share: f64,
    pub exhausted: bool,
    pub sentence: String,
}

pub(super) fn of(capacity: &Capacity) -> Option<Headroom> {
    let p95 = capacity.cpu_cores.as_ref()?.p95;
    let own = (capacity.ceiling_cores?, p95, capacity.ceiling_kind.words());
    let node = capacity
        .node_cores
        .as_ref()
        .filter(|_| capacity.node_cpus > 0)
        .map(|cores| {
            let words = "CPUs of the node, all that runs there counted";
            (f64::from(capacity.node_cpus), cores.p95, words)
        });
    let target = capacity.target_utilization;
    let room = |bound: &(f64, f64, &str)| target * bound.0 - bound.1;
    let tightest = [Some(own), node].into_iter().flatten();
    let bound = tightest.min_by(|a, b| room(a).total_cmp(&room(b)))?;
    let (ceiling, used, words) = bound;
    let cores = room(&bound);
    let load_factor = (p95 > 0.0).then(|| ((p95 + cores) / p95).max(0.0));
    let mut arithmetic = format!(
        "{ceiling:.2} cores ({words}) × {target:.2} target − {used:.3} cores at p95 = {cores:.3} cores",
    );
    arithmetic += &factor_words(p95, cores, load_factor);
    Some(Headroom {
        target_utilization: target,
        cores,
        load_factor,
        arithmetic,
    })
}

/// Of a load that must shrink to fit, and of one that does not fit even then: others take more than the target.
fn factor_words(p95: f64, cores: f64, load_factor: Option<f64>) -> String {
    let Some(factor) = load_factor else {
        return String::new();
    };
    if p95 + cores < 0.0 {
        return "; not even this load fits below the target, nor any part of it: the others exceed it alone"
            .to_owned();
    }
    let (sign, verdict) = match cores < 0.0 {
        true => ('−', ": not even this load fits below the target"),
        false => ('+', ""),
    };
    format!(
        "; ({p95:.3} {sign} {:.3}) ÷ {p95:.3} = {factor:.2} times this load{verdict}",
        cores.abs()
    )
}

/// All resources whose use and bound are known, exhausted ones first, then the fullest.
pub(super) fn runs_out(capacity: &Capacity) -> Vec<RunsOut> {
    let mut found: Vec<RunsOut> = [own_cpu(capacity), node_cpu(capacity), memory(capacity)]
        .into_iter()
        .flatten()
        .collect();
    found.sort_by(|a, b| {
        b.exhausted
            .cmp(&a.exhausted)
            .then(b.share.total_cmp(&a.share))
    });
    found
}

/// The service against its own ceiling; without one of its own, [`node_cpu`] says all there is to say.
fn own_cpu(capacity: &Capacity) -> Option<RunsOut> {
    let resource = match capacity.ceiling_kind {
        CeilingKind::Quota => "cpu_quota",
        CeilingKind::AllowedCpus => "allowed_cpus",
        CeilingKind::NodeCpus => return None,
    };
    let share = capacity.p95_share()?;
    let throttled = capacity.throttling.map_or(0.0, |t| t.share);
    let words = capacity.ceiling_kind.words();
    let mut sentence = format!("{words}: {:.0} % used at p95", share * 100.0);
    let exhausted = throttled > THROTTLED_TOO_OFTEN;
    if exhausted {
        sentence += &format!(", stopped in {:.0} % of the periods", throttled * 100.0);
    }
    Some(RunsOut {
        resource,
        share,
        exhausted,
        sentence,
    })
}

/// The node as a whole, other services included.
fn node_cpu(capacity: &Capacity) -> Option<RunsOut> {
    if capacity.node_cpus == 0 {
        return None;
    }
    let used = capacity.node_cores.as_ref()?.p95;
    // The rest above 1 is the rounding of ticks.
    let share = (used / f64::from(capacity.node_cpus)).min(1.0);
    let sentence = format!(
        "CPUs of the node, with everything on it: {:.0} % used at p95",
        share * 100.0
    );
    Some(RunsOut {
        resource: "node_cpus",
        share,
        exhausted: false,
        sentence,
    })
}

fn memory(capacity: &Capacity) -> Option<RunsOut> {
    let memory = &capacity.memory;
    let used = memory.max_bytes?;
    let (bound, resource, words) = match (memory.limit_bytes, memory.node_bytes) {
        (Some(limit), _) => (limit, "memory_limit", "memory limit"),
        (None, Some(node)) => (node, "node_memory", "memory of the node"),
        (None, None) => return None,
    };
    let share = used as f64 / bound.max(1) as f64;
    // Those from before the recording say nothing of the load that was recorded.
    let kills = memory.events.oom_kills.unwrap_or(0);
    let mut sentence = format!("{words}: {:.0} % used at most", share * 100.0);
    match kills {
        0 => {}
        1 => sentence += ", 1 process was killed for it meanwhile",
        _ => sentence += &format!(", {kills} processes were killed for it meanwhile"),
    }
    Some(RunsOut {
        resource,
        share,
        exhausted: kills > 0,
        sentence,
    })
}
