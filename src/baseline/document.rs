//! `baseline-metrics.json`, schema `perfprof.baseline` (`schemas/baseline-metrics.schema.json`), and the same as CSV.

use serde_json::{Value, json};

use super::{Baseline, Measurement};

pub const SCHEMA: &str = "perfprof.baseline";
pub const SCHEMA_VERSION: u64 = 1;

/// The columns of the CSV, which are also the fields of the JSON.
pub(super) const COLUMNS: [&str; 6] = ["service", "metric", "value", "unit", "timestamp", "source"];

pub fn to_json(baseline: &Baseline) -> Value {
    let entry = |m: &Measurement| {
        json!({
            "service": m.service,
            "metric": m.metric,
            "value": m.value,
            "unit": m.unit,
            "timestamp": m.timestamp.to_string(),
            "source": m.source,
        })
    };
    let metrics: Vec<Value> = baseline.measurements().iter().map(entry).collect();
    json!({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "metrics": metrics})
}

pub fn to_csv(baseline: &Baseline) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(COLUMNS).and_then(|()| {
        baseline.measurements().iter().try_for_each(|m| {
            let (value, time) = (m.value.to_string(), m.timestamp.to_string());
            writer.write_record([&m.service, &m.metric, &value, &m.unit, &time, &m.source])
        })
    });
    written.expect("memory takes every record, and all have the same length");
    let bytes = writer.into_inner().expect("memory is flushed");
    String::from_utf8(bytes).expect("fields are UTF-8")
}
