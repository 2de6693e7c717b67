//! The comparison for machines: `performance-comparison.json` and `optimization-validation-report.json`.
//!
//! In: a [`Comparison`]. Out: JSON; the schemas are in `schemas/`. Costs are in the unit that `unit` names, changes are
//! relative (-0.2: a fifth less), and what is not known is null.

use serde_json::{Value, json};

use super::comparison::RunFacts;
use super::evaluate::RelativeInterval;
use super::{Basis, Comparison, Figure, Kpi, Measure, Path, Shift, Verdict};
use crate::render::units;

pub const SCHEMA: &str = "perfprof.comparison";
pub const SCHEMA_VERSION: u64 = 1;
pub const VALIDATION_SCHEMA: &str = "perfprof.optimization-validation";
pub const VALIDATION_SCHEMA_VERSION: u64 = 1;

/// `performance-comparison.json`. `generated_unix_ns` is when it was made.
pub fn document(comparison: &Comparison, generated_unix_ns: u64) -> Value {
    let total = comparison.total.as_ref().map(|(total, verdict)| {
        let mut value = figure(total);
        value["verdict"] = verdict.id().into();
        value
    });
    let check = comparison.self_check.as_ref().map(|check| {
        json!({
            "comparisons": check.comparisons,
            "false_alarms": check.false_alarms,
            "rate": check.rate(),
            "dealt": check.dealt,
            "passed": check.passed(),
        })
    });
    let options = &comparison.options;
    json!({
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "generated_at": units::timestamp(generated_unix_ns),
        "service": comparison.service,
        "verdict": comparison.verdict.id(),
        "reason": comparison.reason,
        "doubts": comparison.doubts,
        "warnings": comparison.warnings,
        "measure": comparison.measure.id(),
        "unit": unit(comparison),
        "thresholds": {
            "tolerance": options.tolerance,
            "min_share": options.min_share,
            "hot_share": options.hot_share,
            "false_discovery_rate": options.false_discovery_rate,
        },
        "before": side(&comparison.runs[0]),
        "after": side(&comparison.runs[1]),
        "interleaved": comparison.interleaved,
        "total": total,
        "self_check": check,
        "design_effect": comparison.design_effect,
        "functions": comparison.paths.iter().map(path).collect::<Vec<Value>>(),
        "untested": {
            "functions": comparison.untested.functions,
            "self_share": two(comparison.untested.self_share),
        },
        "kpis": comparison.kpis.iter().map(kpi).collect::<Vec<Value>>(),
    })
}

/// `optimization-validation-report.json`: was what should improve improved, and did nothing else regress?
pub fn validation(comparison: &Comparison, generated_unix_ns: u64) -> Value {
    let told = |verdict: Verdict| {
        let paths = comparison
            .paths
            .iter()
            .filter(|path| path.verdict == verdict);
        paths.map(|path| path.name.as_str()).collect::<Vec<&str>>()
    };
    let regressed: Vec<&str> = told(Verdict::Regressed)
        .into_iter()
        .chain(
            comparison
                .kpis
                .iter()
                .filter(|k| k.verdict == Verdict::Regressed)
                .map(|k| k.name.as_str()),
        )
        .collect();
    let targets = &comparison.options.targets;
    let counts = |kpi: &&Kpi| targets.is_empty() || targets.contains(&kpi.name);
    let enough = comparison
        .kpis
        .iter()
        .filter(counts)
        .any(|kpi| kpi.improved_enough);
    let missing: Vec<&String> = targets
        .iter()
        .filter(|target| !comparison.paths.iter().any(|path| path.name == **target))
        .collect();
    let (verdict, reason) =
        if !comparison.doubts.is_empty() || comparison.verdict == Verdict::Inconclusive {
            ("inconclusive", comparison.reason.clone())
        } else if !regressed.is_empty() {
            ("failed", format!("{} regressed", regressed.len()))
        } else if enough {
            (
                "passed",
                "a targeted figure improved by at least the threshold, and nothing regressed"
                    .to_owned(),
            )
        } else {
            (
                "failed",
                "no targeted figure improved by at least the threshold".to_owned(),
            )
        };
    json!({
        "schema": VALIDATION_SCHEMA,
        "schema_version": VALIDATION_SCHEMA_VERSION,
        "generated_at": units::timestamp(generated_unix_ns),
        "service": comparison.service,
        "verdict": verdict,
        "reason": reason,
        "comparison_verdict": comparison.verdict.id(),
        "improvement_threshold": comparison.options.improvement_threshold,
        "targets": targets,
        "targets_not_found": missing,
        "kpis": comparison.kpis.iter().map(kpi).collect::<Vec<Value>>(),
        "improved": told(Verdict::Improved),
        "regressions": { "count": regressed.len(), "names": regressed },
        "comparison": "performance-comparison.json",
    })
}

/// Of `before` and `after` in the document.
fn unit(comparison: &Comparison) -> &'static str {
    match (comparison.measure, comparison.by_cpu_time) {
        (Measure::Cost, true) => "CPU seconds per unit of work",
        (Measure::Cost, false) => "samples per unit of work",
        (Measure::Cores, _) => "CPU seconds per second",
        (Measure::Share, _) => "share",
    }
}

fn side(runs: &[RunFacts]) -> Value {
    let run = |run: &RunFacts| {
        json!({
            "file": run.label,
            "samples": run.samples,
            "cpu_seconds": run.cpu_seconds,
            "seconds": run.seconds,
            "work": run.work,
            "work_source": run.work_source,
            "started_at": run.started_unix_ns.and_then(units::timestamp),
            "event": run.event,
            "unwind": run.unwind,
            "command": run.command,
        })
    };
    json!({
        "samples": runs.iter().map(|run| run.samples).sum::<u64>(),
        "runs": runs.iter().map(run).collect::<Vec<Value>>(),
    })
}

fn path(path: &Path) -> Value {
    let mut value = figure(&path.figure);
    let shift = path.shift.as_ref().map(|shift| match shift {
        Shift::InlinedInto(caller) => json!({"kind": "inlined", "caller": caller}),
        Shift::OutlinedFrom(caller) => json!({"kind": "outlined", "caller": caller}),
    });
    let settle = path.settle.map(|settle| {
        json!({"scale": settle.scale, "by": if settle.by_length { "length" } else { "runs" }})
    });
    let figures = &path.figures;
    let rest = json!({
        "name": path.name,
        "verdict": path.verdict.id(),
        "kernel": path.kernel,
        "module": path.module,
        "renamed_from": path.renamed_from,
        "shift": shift,
        "explained_by": path.explained_by,
        "basis": match path.basis {
            Basis::Measure => "measure",
            Basis::RestOfProfile => "rest-of-profile",
        },
        "against_rest": {
            "change": path.against_rest.change,
            "interval": interval(path.against_rest.interval),
        },
        "only_common_growth": path.only_common,
        "p_value": path.p,
        "false_discovery_rate": path.q,
        "smallest_change": path.smallest_change,
        "settle": settle,
        "self_share": two(path.self_share),
        "measures": {
            "cost": figures.cost.as_ref().map(figure),
            "cores": figures.cores.as_ref().map(figure),
            "share": figure(&figures.share),
        },
    });
    if let (Value::Object(value), Value::Object(rest)) = (&mut value, rest) {
        value.extend(rest);
    }
    value
}

fn figure(figure: &Figure) -> Value {
    json!({
        "before": figure.before,
        "after": figure.after,
        "change": figure.change,
        "interval": interval(figure.interval),
    })
}

fn interval(interval: RelativeInterval) -> Value {
    json!({"low": interval.low, "high": interval.high})
}

fn two([before, after]: [f64; 2]) -> Value {
    json!({"before": before, "after": after})
}

fn kpi(kpi: &Kpi) -> Value {
    json!({
        "name": kpi.name,
        "unit": kpi.unit,
        "better": if kpi.lower_is_better { "lower" } else { "higher" },
        "before": kpi.before,
        "after": kpi.after,
        "change": kpi.change,
        "interval": kpi.interval.map(interval),
        "verdict": kpi.verdict.id(),
        "improved_enough": kpi.improved_enough,
    })
}
