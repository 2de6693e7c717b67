//! `coverage.json`: the coverage metrics, one entry per service. Schema: `schemas/coverage.schema.json`.
//!
//! Out: the entry of one service. Putting a new entry into an existing file is the
//! business of `artifacts`.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::units;
use crate::analysis::quality::{Metric, ModuleGap, Reason};
use crate::analysis::unnamed::Unnamed;
use crate::analysis::{Analysis, Coverage, Verdict, debug_packages};
use crate::profile::Profile;

/// Value of the document's `schema`.
pub const SCHEMA: &str = "perfprof.coverage";
/// Raised when a reader of the former version would go wrong.
pub const SCHEMA_VERSION: u64 = 1;

/// Binaries listed as unnamed; the lightest of more than this weigh next to nothing.
const MAX_UNNAMED: usize = 50;

/// A finite number, or `null`: JSON has no other.
pub(super) fn number(value: Option<f64>) -> Value {
    value
        .and_then(serde_json::Number::from_f64)
        .map_or(Value::Null, Value::Number)
}

/// The facts every machine-readable entry begins with.
pub(super) fn head(profile: &Profile, verdict: &Verdict) -> Map<String, Value> {
    let recording = &profile.recording;
    let reasons = match verdict {
        Verdict::Trusted => &[][..],
        Verdict::Inconclusive { reasons } => reasons,
    };
    let fields = json!({
        "service": recording.service,
        "recorded_at": units::timestamp(recording.started_unix_ns),
        "duration_seconds": number(Some(recording.duration_ns as f64 / 1e9)),
        "target": recording.target,
        "origin": recording.origin,
        "version": recording.version,
        "ticks": profile.total_count(),
        "cpu_seconds": number(Some(profile.total_cpu_ns() as f64 / 1e9)),
        "verdict": verdict.id(),
        "verdict_reasons": reasons,
    });
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[derive(Serialize)]
struct MetricEntry<'a> {
    value: Value,
    numerator: Value,
    denominator: Value,
    unit: &'a str,
    threshold: Value,
    tolerance: Value,
    gating: bool,
    ok: Option<bool>,
    not_measured: Option<&'a str>,
    reasons: Vec<Value>,
    modules: Vec<Value>,
    remedy: Option<&'a str>,
}

/// One service's entry.
pub fn entry(profile: &Profile, analysis: &Analysis) -> Value {
    let coverage = &analysis.coverage;
    let mut metrics = Map::new();
    for metric in coverage.metrics() {
        metrics.insert(metric.id.to_owned(), metric_entry(metric));
    }
    let mut entry = head(profile, &coverage.verdict);
    entry.insert("metrics".to_owned(), Value::Object(metrics));
    entry.insert("hottest".to_owned(), hottest(coverage));
    let rows = analysis.unnamed.iter().take(MAX_UNNAMED);
    entry.insert("unnamed".to_owned(), rows.map(unnamed).collect());
    entry.insert("gaps".to_owned(), json!(profile.accounting.gaps));
    Value::Object(entry)
}

fn metric_entry(metric: &Metric) -> Value {
    let entry = MetricEntry {
        value: number(metric.value),
        numerator: number(metric.numerator),
        denominator: number(metric.denominator),
        unit: metric.unit,
        threshold: number(metric.threshold),
        tolerance: number(Some(metric.tolerance)),
        gating: metric.gating,
        ok: metric.ok,
        not_measured: metric.not_measured.as_deref(),
        reasons: metric.reasons.iter().map(reason).collect(),
        modules: metric.modules.iter().map(module).collect(),
        remedy: metric.remedy.as_deref(),
    };
    json!(entry)
}

fn reason(reason: &Reason) -> Value {
    json!({
        "id": reason.id,
        "explanation": reason.explanation,
        "count": reason.count,
        "share": number(Some(reason.share)),
    })
}

fn module(gap: &ModuleGap) -> Value {
    json!({
        "module": gap.module,
        "build_id": gap.build_id.map(|id| id.to_string()),
        "reason": gap.reason,
        "count": gap.count,
        "share": number(Some(gap.share)),
        "remedy": gap.remedy,
    })
}

/// A binary with frames that are only addresses, and what it takes to name them.
fn unnamed(row: &Unnamed) -> Value {
    let package = row.origin.as_ref().map(|origin| {
        json!({
            "distribution": origin.distribution,
            "release": origin.release,
            "package": origin.package,
            "version": origin.version,
        })
    });
    json!({
        "module": row.module,
        "build_id": row.build_id.map(|id| id.to_string()),
        "reason": row.reason.id(),
        "self_share": number(Some(row.self_share)),
        "total_share": number(Some(row.total_share)),
        "package": package,
        "remedy": row.remedy,
        "debuginfod": row.build_id.map(debug_packages::request_path),
    })
}

/// What `confidence` is about; `null` without samples.
fn hottest(coverage: &Coverage) -> Value {
    let Some(hottest) = &coverage.hottest else {
        return Value::Null;
    };
    json!({
        "function": hottest.name,
        "share": number(Some(hottest.share.value)),
        "interval": hottest.share.interval,
        "n": hottest.share.n,
        "blocks": hottest.share.blocks,
        "design_effect": number(hottest.share.design_effect),
        "precision": number(Some(hottest.precision)),
        "needed_seconds": number(hottest.needed_s),
    })
}

/// Fails with the errors when `document` does not conform to `schema`.
#[cfg(test)]
pub(super) fn validate(schema: &str, document: &Value) {
    let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Thresholds, canned};
    use crate::profile::{Accounting, Origin, ProfileBuilder, Recording};
    use crate::render::document;

    const SCHEMA_TEXT: &str = include_str!("../../schemas/coverage.schema.json");

    fn document_of(profile: &Profile) -> Value {
        let analysis = Analysis::of(profile, &Thresholds::default());
        document(SCHEMA, SCHEMA_VERSION, vec![entry(profile, &analysis)])
    }

    #[test]
    fn real_entries_conform_to_the_schema() {
        let mut foreign = canned::server();
        foreign.accounting = Accounting::default();
        foreign.recording.frequency_hz = f64::NAN;
        foreign.recording.precision = f64::INFINITY;
        foreign.recording.origin = Origin::Foreign {
            format: "folded".into(),
            file: "a.folded".into(),
        };
        let empty = ProfileBuilder::default().build(Recording::default(), Accounting::default());
        for profile in [canned::server(), foreign, empty] {
            validate(SCHEMA_TEXT, &document_of(&profile));
        }
        for seed in 0..5 {
            validate(SCHEMA_TEXT, &document_of(&canned::random(seed)));
        }
    }

    #[test]
    fn the_schema_refuses_what_is_not_coverage() {
        let schema: Value = serde_json::from_str(SCHEMA_TEXT).expect("JSON");
        let validator = jsonschema::validator_for(&schema).expect("schema");
        let good = document_of(&canned::server());
        let damages: [(&str, Value); 3] = [
            ("/schema", json!("other")),
            ("/services/0/verdict", json!("fine")),
            ("/services/0/metrics/stacks/value", json!("high")),
        ];
        for (path, value) in damages {
            let mut bad = good.clone();
            *bad.pointer_mut(path).expect("path exists") = value;
            assert!(!validator.is_valid(&bad), "{path}");
        }
    }

    #[test]
    fn metrics_have_the_names_and_numbers_of_the_contract() {
        let document = document_of(&canned::server());
        let metrics = &document["services"][0]["metrics"];
        for id in [
            "cpu_time",
            "delivery",
            "stacks",
            "symbols",
            "source_lines",
            "threads",
            "service",
            "confidence",
        ] {
            assert!(metrics[id]["value"].is_number(), "{id}");
        }
        assert_eq!(metrics["stacks"]["reasons"][0]["id"], "frame-pointer-lost");
        let unnamed = &document["services"][0]["unnamed"][0];
        assert_eq!(unnamed["package"]["package"], "zlib1g");
        assert_eq!(unnamed["debuginfod"], "/buildid/0badcafe/debuginfo");
        assert_eq!(
            document["services"][0]["recorded_at"],
            "2023-11-14T22:13:20Z"
        );
    }
}
