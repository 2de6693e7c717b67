//! `capacity-analysis.json`, schema `perfprof.capacity` (`schemas/capacity-analysis.schema.json`).
//!
//! In: a [`Capacity`] per service. Out: JSON values. A figure that is not known is `null`, with the reason in `gaps`.

use serde_json::{Value, json};

use super::usage::Percentiles;
use super::{Capacity, CeilingKind};

pub const SCHEMA: &str = "perfprof.capacity";
pub const SCHEMA_VERSION: u32 = 2;

/// The whole file, from the entries of its services.
pub fn document(entries: Vec<Value>) -> Value {
    json!({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "services": entries})
}

/// One service's entry.
pub fn json_entry(capacity: &Capacity) -> Value {
    json!({
        "service": capacity.service,
        "conclusive": capacity.is_conclusive(),
        "inconclusive_because": capacity.inconclusive,
        "scope": capacity.scope,
        "cgroup": capacity.cgroup,
        "window_seconds": seconds(capacity.window_ns),
        "intervals": capacity.intervals,
        "interval_seconds": seconds(capacity.interval_ns),
        "utilization": utilization(capacity),
        "limit": limit(capacity),
        "throttling": throttling(capacity),
        "headroom": headroom(capacity),
        "node": {
            "cpus": capacity.node_cpus,
            "cores": percentiles(capacity.node_cores.as_ref()),
            "steal_share": finite(capacity.steal_share),
        },
        "memory": memory(capacity),
        "pressure": {
            "scope": capacity.pressure.scope,
            "cpu_some_share": finite(capacity.pressure.cpu),
            "memory_some_share": finite(capacity.pressure.memory),
            "io_some_share": finite(capacity.pressure.io),
            "cpu_full_share": finite(capacity.pressure.cpu_full),
            "memory_full_share": finite(capacity.pressure.memory_full),
            "io_full_share": finite(capacity.pressure.io_full),
        },
        "run_delay_seconds_per_second": finite(capacity.run_delay),
        "threads": capacity.threads,
        "balance": balance(capacity),
        "advice": {
            "quota": quota(capacity),
            "replicas": replicas(capacity),
            "cost": cost(capacity),
            "hot_paths": hot_paths(capacity),
        },
        "steadiness": steadiness(capacity),
        "runs_out": runs_out(capacity),
        "documented": documented(capacity),
        "gaps": capacity.gaps,
    })
}

/// The same with the time at which the measurement began, RFC 3339, where that is known.
pub fn json_entry_at(capacity: &Capacity, recorded_at: Option<&str>) -> Value {
    let mut entry = json_entry(capacity);
    entry["recorded_at"] = json!(recorded_at);
    entry
}

fn utilization(capacity: &Capacity) -> Value {
    json!({
        "cores": percentiles(capacity.cpu_cores.as_ref()),
        "p95_interval": capacity.p95_range.map(|range| json!({
            "low": finite(Some(range.low)),
            "high": finite(Some(range.high)),
            "open_above": range.open_above,
            "independent_intervals": finite(Some(range.independent)),
        })),
        "cores_reading_by_reading": percentiles(capacity.fine_cores.as_ref()),
        "reading_seconds": seconds(capacity.fine_interval_ns),
        "p95_share_of_limit": finite(capacity.p95_share()),
        "p95_share_of_request": finite(capacity.p95_share_of_request()),
    })
}

fn limit(capacity: &Capacity) -> Value {
    json!({
        "cores": finite(capacity.ceiling_cores),
        "kind": capacity.ceiling_kind.id(),
        "period_seconds": capacity.cpu_period_ns.map(seconds),
        "cpu_weight": capacity.cpu_weight,
        "request_millicores": finite(capacity.request_millicores),
        "guaranteed_cores": finite(capacity.guaranteed_cores),
    })
}

fn throttling(capacity: &Capacity) -> Value {
    let applies = capacity.ceiling_kind == CeilingKind::Quota;
    let measured = capacity.throttling.as_ref();
    json!({
        "applies": applies || measured.is_some(),
        "periods": measured.map(|t| t.periods),
        "throttled_periods": measured.map(|t| t.throttled_periods),
        "share": finite(measured.map(|t| t.share)),
        "throttled_seconds": measured.map(|t| seconds(t.throttled_ns)),
    })
}

fn headroom(capacity: &Capacity) -> Value {
    let headroom = capacity.headroom.as_ref();
    json!({
        "target_utilization": capacity.target_utilization,
        "cores": finite(headroom.map(|h| h.cores)),
        "load_factor": finite(headroom.and_then(|h| h.load_factor)),
        "arithmetic": headroom.map(|h| &h.arithmetic),
    })
}

fn memory(capacity: &Capacity) -> Value {
    let memory = &capacity.memory;
    json!({
        "last_bytes": memory.last_bytes,
        "max_bytes": memory.max_bytes,
        "limit_bytes": memory.limit_bytes,
        "node_bytes": memory.node_bytes,
        "headroom_bytes": memory.headroom_bytes,
        "peak_bytes": memory.peak_bytes,
        "oom_kills": memory.oom_kills,
        "swap_bytes": memory.swap_bytes,
        "limit_hits_within": memory.events.limit_hits,
        "ooms_within": memory.events.ooms,
        "oom_kills_within": memory.events.oom_kills,
    })
}

fn steadiness(capacity: &Capacity) -> Value {
    let steadiness = capacity.steadiness.as_ref();
    json!({
        "steady": steadiness.map(|s| s.steady),
        "first_half_cores": finite(steadiness.map(|s| s.first_half_cores)),
        "second_half_cores": finite(steadiness.map(|s| s.second_half_cores)),
        "drift": finite(steadiness.map(|s| s.drift)),
    })
}

fn balance(capacity: &Capacity) -> Value {
    let Some(balance) = &capacity.balance else {
        return Value::Null;
    };
    let busy = balance.node_busy.iter();
    let busy: Vec<Value> = busy
        .map(|(cpu, share)| json!({"cpu": cpu, "busy_share": finite(Some(*share))}))
        .collect();
    json!({
        "node_max_over_mean": finite(balance.node),
        "service_max_over_mean": finite(balance.service),
        "cpus": busy,
    })
}

fn quota(capacity: &Capacity) -> Value {
    capacity.quota.as_ref().map_or(Value::Null, |advice| {
        json!({
            "verdict": advice.verdict.id(),
            "demand_cores": percentiles(advice.demand_cores.as_ref()),
            "proposed_limit_cores": finite(advice.proposed_limit_cores),
            "sentence": advice.sentence,
        })
    })
}

fn replicas(capacity: &Capacity) -> Value {
    capacity.replicas.as_ref().map_or(Value::Null, |replicas| {
        json!({
            "now": replicas.now,
            "needed": replicas.needed,
            "low": replicas.low,
            "high": replicas.high,
            "arithmetic": replicas.arithmetic,
        })
    })
}

fn cost(capacity: &Capacity) -> Value {
    capacity.cost.as_ref().map_or(Value::Null, |cost| {
        json!({
            "requests_per_second": finite(Some(cost.requests_per_second)),
            "cpu_ms_per_request": finite(Some(cost.cpu_ms)),
            "requests_per_core_second": finite(Some(cost.requests_per_core_second)),
            "requests_per_second_at_target": finite(cost.requests_per_second_at_target),
            "arithmetic": cost.arithmetic,
            "source": capacity.load_source,
        })
    })
}

fn hot_paths(capacity: &Capacity) -> Vec<Value> {
    let paths = capacity.path_cores.iter();
    let entry = |path: &super::PathCores| {
        json!({
            "name": path.name,
            "cores": finite(Some(path.cores)),
            "low": finite(path.low),
            "high": finite(path.high),
            "of_cores": finite(Some(path.of_cores)),
            "used_cores": finite(Some(path.used_cores)),
        })
    };
    paths.map(entry).collect()
}

fn runs_out(capacity: &Capacity) -> Vec<Value> {
    let entries = capacity.runs_out.iter().map(|r| {
        json!({
            "resource": r.resource,
            "share": finite(Some(r.share)),
            "exhausted": r.exhausted,
            "sentence": r.sentence,
        })
    });
    entries.collect()
}

/// What a gate asks for: that each is measured, or known not to apply.
fn documented(capacity: &Capacity) -> Value {
    let throttling_known =
        capacity.throttling.is_some() || capacity.ceiling_kind != CeilingKind::Quota;
    json!({
        "utilization": capacity.cpu_cores.is_some(),
        "limit": capacity.ceiling_cores.is_some(),
        "throttling": throttling_known,
        "headroom": capacity.headroom.is_some(),
    })
}

fn percentiles(of: Option<&Percentiles>) -> Value {
    match of {
        None => Value::Null,
        Some(p) => json!({
            "mean": finite(Some(p.mean)),
            "p50": finite(Some(p.p50)),
            "p95": finite(Some(p.p95)),
            "p99": finite(p.p99),
            "max": finite(Some(p.max)),
        }),
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Six digits after the point: what the readings can carry, and the same bytes on every machine.
fn finite(value: Option<f64>) -> Option<f64> {
    value
        .filter(|v| v.is_finite())
        .map(|v| (v * 1e6).round() / 1e6)
}
