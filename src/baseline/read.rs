//! Reads a baseline, told by its content: JSON or CSV. Others write such files by hand, so every error names row or field.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

use super::document::{COLUMNS, SCHEMA, SCHEMA_VERSION};
use super::{Baseline, BaselineError, CSV_FILE, JSON_FILE, Measurement};
use crate::artifacts::{InsideError, read_named};
use crate::load_test::check::MAX_NAME;
use crate::load_test::field::Field;
use crate::load_test::table::Table;
use crate::load_test::{ContentError, json_value};

/// A hundred thousand figures.
const MAX_BYTES: u64 = 16 << 20;
const WHAT: &str = "baseline";
const TOO_LONG: &str = "has more than 4,000 characters";

/// The baseline of an artifact root: the JSON file, or else the CSV file; `None` where there is neither.
pub fn find(root: &Path) -> Option<PathBuf> {
    let mut files = [JSON_FILE, CSV_FILE]
        .into_iter()
        .map(|name| root.join(name));
    files.find(|path| path.exists())
}

pub fn read(path: &Path) -> Result<Baseline, BaselineError> {
    let bytes = bounded(path, MAX_BYTES)?;
    from_bytes(&bytes).map_err(BaselineError::content(path, WHAT))
}

/// A regular file of at most `limit` bytes that the user has named.
fn bounded(path: &Path, limit: u64) -> Result<Vec<u8>, BaselineError> {
    let bytes = opened(path, read_named(path, limit))?;
    bytes.ok_or_else(|| BaselineError::Io {
        file: path.display().to_string(),
        source: nix::errno::Errno::ENOENT.into(),
    })
}

/// What reading came to, with the file's name.
pub(super) fn opened(
    path: &Path,
    read: Result<Option<Vec<u8>>, InsideError>,
) -> Result<Option<Vec<u8>>, BaselineError> {
    let file = || path.display().to_string();
    read.map_err(|error| match error {
        InsideError::TooLarge { limit } => BaselineError::TooLong {
            file: file(),
            limit,
        },
        InsideError::Io(source) => BaselineError::Io {
            file: file(),
            source,
        },
        error => BaselineError::Io {
            file: file(),
            source: io::Error::other(error),
        },
    })
}

pub fn from_bytes(bytes: &[u8]) -> Result<Baseline, ContentError> {
    let text = std::str::from_utf8(bytes).map_err(|error| ContentError::NotText {
        at: error.valid_up_to(),
    })?;
    let text = text.trim_start_matches('\u{feff}');
    match text.trim_start().chars().next() {
        None => Err(ContentError::Empty),
        Some('{' | '[') => from_json(&json_value(text)?),
        Some(_) => from_csv(text),
    }
}

fn from_json(value: &Value) -> Result<Baseline, ContentError> {
    let root = Field::root(value);
    let schema = root.at("schema");
    if schema.value() != SCHEMA {
        return Err(schema.fault("is not `perfprof.baseline`"));
    }
    if root.at("schema_version").count()? != Some(SCHEMA_VERSION) {
        return Err(root.at("schema_version").fault("is not 1"));
    }
    let metrics = root.at("metrics");
    if metrics.is_absent() {
        return Err(metrics.fault("is missing"));
    }
    let measurements = metrics.items()?.into_iter().map(|item| {
        let text = |name: &str| {
            let field = item.at(name);
            let text = field.required(field.text())?;
            match text.trim() {
                "" => Err(field.fault("is empty")),
                text if is_long(text) => Err(field.fault(TOO_LONG)),
                text => Ok(text.to_owned()),
            }
        };
        let (value, time) = (item.at("value"), item.at("timestamp"));
        let timestamp = text("timestamp")?.parse();
        Ok(Measurement {
            service: text("service")?,
            metric: text("metric")?,
            value: value.required(value.any_number())?,
            unit: text("unit")?,
            timestamp: timestamp.map_err(|_| time.fault("is no RFC 3339 time"))?,
            source: item.at("source").text()?.unwrap_or_default(),
        })
    });
    Ok(Baseline::new(measurements.collect::<Result<Vec<_>, _>>()?))
}

/// A metric's name holds that of a scenario.
fn is_long(text: &str) -> bool {
    text.chars().count() > 2 * MAX_NAME
}

/// Columns in any order, others among them; `source` may be missing.
fn from_csv(text: &str) -> Result<Baseline, ContentError> {
    let mut table = Table::new(text, b',', None)?;
    let [service, metric, value, unit, time] =
        ["service", "metric", "value", "unit", "timestamp"].map(|name| table.column(&[name]));
    let (service, metric, value, unit, time) = (service?, metric?, value?, unit?, time?);
    let source = table.find(&[COLUMNS[5]]);
    let mut measurements = Vec::new();
    while table.advance()? {
        let text = |column: usize| match table.text(column) {
            "" => Err(table.fault_at(column, "is empty")),
            text if is_long(text) => Err(table.fault_at(column, TOO_LONG)),
            text => Ok(text.to_owned()),
        };
        let number = table.text(value).parse::<f64>().ok();
        let number = number.filter(|n| n.is_finite());
        let timestamp: Option<Timestamp> = table.text(time).parse().ok();
        measurements.push(Measurement {
            service: text(service)?,
            metric: text(metric)?,
            value: number.ok_or_else(|| table.fault_at(value, "is no number"))?,
            unit: text(unit)?,
            timestamp: timestamp.ok_or_else(|| table.fault_at(time, "is no RFC 3339 time"))?,
            source: source.map_or("", |column| table.text(column)).to_owned(),
        });
    }
    Ok(Baseline::new(measurements))
}
