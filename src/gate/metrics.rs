//! The baseline's figures, from `baseline-metrics.json` or `baseline-metrics.csv`.
//!
//! In: either file. Out: rows of service, metric, value, unit, time and source. A figure that is no number is an error
//! with its place, not a gap.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::documents::{BadInput, Documents, expect_schema};

pub(super) const JSON: &str = "baseline-metrics.json";
pub(super) const CSV: &str = "baseline-metrics.csv";
const SCHEMA: &str = "perfprof.baseline";
const SCHEMA_VERSION: u64 = 1;
const MAX_ROWS: usize = 1_000_000;

/// What a baseline has to say of each service where the config does not list it.
pub(super) const REQUIRED_BY_DEFAULT: [&str; 5] = [
    "cpu_cores_p95",
    "memory_peak",
    "throughput",
    "p95_latency",
    "error_rate",
];

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub service: String,
    pub metric: String,
    /// `None` where the row is there without a figure.
    pub value: Option<f64>,
    pub timestamp: Option<Timestamp>,
}

impl Row {
    /// A figure may be one of a part of the service: `p95_latency[checkout]` is a `p95_latency`.
    pub fn is_of(&self, metric: &str) -> bool {
        let base = self.metric.split('[').next().unwrap_or_default();
        self.metric == metric || base == metric
    }
}

/// The rows, and the file they come from; `None` when there is neither file.
pub(super) fn read(documents: &Documents) -> Result<Option<(&'static str, Vec<Row>)>, BadInput> {
    if let Some(document) = documents.json(JSON)? {
        return of_json(&documents.path(JSON), &document).map(|rows| Some((JSON, rows)));
    }
    match documents.text(CSV)? {
        Some(text) => of_csv(&documents.path(CSV), &text).map(|rows| Some((CSV, rows))),
        None => Ok(None),
    }
}

fn of_json(path: &Path, document: &Value) -> Result<Vec<Row>, BadInput> {
    expect_schema(path, document, SCHEMA, SCHEMA_VERSION)?;
    let rows = document["metrics"].as_array();
    let rows = rows.ok_or_else(|| BadInput::of(path, "is no list").at("`metrics`"))?;
    if rows.len() > MAX_ROWS {
        return Err(BadInput::of(path, "has too many rows").at("`metrics`"));
    }
    let row = |(index, row): (usize, &Value)| {
        let text = |key: &str| {
            let value = row[key].as_str().filter(|text| !text.trim().is_empty());
            let at = format!("`metrics[{index}].{key}`");
            value
                .map(str::to_owned)
                .ok_or_else(|| BadInput::of(path, "is no text").at(at))
        };
        let value = match &row["value"] {
            Value::Null => None,
            Value::Number(number) => number.as_f64(),
            _ => {
                let at = format!("`metrics[{index}].value`");
                return Err(BadInput::of(path, "is no number").at(at));
            }
        };
        Ok(Row {
            service: text("service")?,
            metric: text("metric")?,
            value,
            timestamp: time(
                path,
                &format!("`metrics[{index}].timestamp`"),
                row["timestamp"].as_str(),
            )?,
        })
    };
    rows.iter().enumerate().map(row).collect()
}

fn time(path: &Path, at: &str, text: Option<&str>) -> Result<Option<Timestamp>, BadInput> {
    let text = text.map(str::trim).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse::<Timestamp>();
    parsed.map(Some).map_err(|_| {
        BadInput::of(
            path,
            format!("`{text}` is no ISO 8601 time with its offset"),
        )
        .at(at)
    })
}

fn of_csv(path: &Path, text: &str) -> Result<Vec<Row>, BadInput> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let header = lines
        .next()
        .map(|(_, line)| fields(line))
        .unwrap_or_default();
    let column = |name: &str| {
        let found = header
            .iter()
            .position(|h| h.trim().eq_ignore_ascii_case(name));
        found.ok_or_else(|| BadInput::of(path, format!("has no column `{name}`")).at("line 1"))
    };
    let (service, metric, value) = (column("service")?, column("metric")?, column("value")?);
    let timestamp = column("timestamp")?;
    let mut rows = Vec::new();
    for (index, line) in lines {
        if line.trim().is_empty() {
            continue;
        }
        let at = format!("line {}", index + 1);
        let fields = fields(line);
        let field = |column: usize| fields.get(column).map_or("", |field| field.trim());
        if field(service).is_empty() || field(metric).is_empty() {
            return Err(BadInput::of(path, "names no service or no metric").at(at));
        }
        let figure = match field(value) {
            "" => None,
            text => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Some(number),
                _ => {
                    return Err(
                        BadInput::of(path, format!("`value`: `{text}` is no number")).at(at),
                    );
                }
            },
        };
        rows.push(Row {
            service: field(service).to_owned(),
            metric: field(metric).to_owned(),
            value: figure,
            timestamp: time(path, &at, Some(field(timestamp)))?,
        });
        if rows.len() > MAX_ROWS {
            return Err(BadInput::of(path, "has too many rows").at(at));
        }
    }
    Ok(rows)
}

/// The fields of a line; a field in quotes may hold commas, and doubled quotes.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("there is always one");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn csv(text: &str) -> Result<Vec<Row>, String> {
        of_csv(Path::new("b.csv"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_give_the_same_rows() {
        let document = json!({"schema": SCHEMA, "schema_version": 1, "metrics": [
            {"service": "a, b", "metric": "m", "value": 1.5, "unit": "ms", "timestamp": "2026-01-02T03:04:05Z", "source": "k6"},
            {"service": "c", "metric": "m", "value": null, "unit": "", "timestamp": "", "source": ""},
        ]});
        let text = "service,metric,value,unit,timestamp,source\r\n\"a, b\",m,1.5,ms,2026-01-02T03:04:05Z,k6\r\n\nc,m,,,,\n";
        let rows = of_json(Path::new("b.json"), &document).expect("rows");
        assert_eq!(csv(text).expect("rows"), rows);
        assert_eq!((rows.len(), rows[1].value), (2, None));
    }

    #[test]
    fn damage_has_a_place() {
        let head = "service,metric,value,timestamp\n";
        for (text, words) in [
            ("service,value\n", "line 1: has no column `metric`"),
            (
                &format!("{head}a,m,x,\n"),
                "line 2: `value`: `x` is no number",
            ),
            (&format!("{head}a,m,inf,\n"), "is no number"),
            (
                &format!("{head}a,m,1,yesterday\n"),
                "line 2: `yesterday` is no ISO 8601",
            ),
            (&format!("{head},m,1,\n"), "line 2: names no service"),
        ] {
            let error = csv(text).expect_err(text);
            assert!(error.contains(words), "{error}");
        }
        let bad = json!({"schema": SCHEMA, "schema_version": 1, "metrics": [{"service": "a", "metric": "m", "value": "1"}]});
        let error = of_json(Path::new("b.json"), &bad)
            .expect_err("text")
            .to_string();
        assert!(error.contains("`metrics[0].value`"), "{error}");
    }
}
