//! JTL as CSV. Delimiter, columns, header and the format of times are all configurable in JMeter; the columns `timeStamp`
//! and `elapsed` are needed, and `success` or `responseCode`.
//!
//! Without a header the columns are those of JMeter's defaults: the first eight have been the same in all versions, and the
//! number of columns tells where the users stand.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::super::samples::Sample;
use super::super::table::{Table, fields};
use super::super::{ContentError, LoadTest, Split};
use super::Collected;

const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// The defaults that all versions begin with.
const COMMON: [&str; 8] = [
    "timeStamp",
    "elapsed",
    "label",
    "responseCode",
    "responseMessage",
    "threadName",
    "dataType",
    "success",
];
/// What follows since version 3, with `URL` (4.0) or without.
const SINCE_3: [&str; 9] = [
    "failureMessage",
    "bytes",
    "sentBytes",
    "grpThreads",
    "allThreads",
    "URL",
    "Latency",
    "IdleTime",
    "Connect",
];

/// Formats of times that JMeter itself tries, after milliseconds since 1970.
const TIMES: [&str; 5] = [
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S",
    "%m/%d/%y %H:%M:%S",
];

pub(in super::super) fn is_rows(first_line: &str) -> bool {
    delimiter(first_line).is_some()
}

/// The delimiter with which the line is a header with the columns we need, or a row of the default columns.
fn delimiter(first_line: &str) -> Option<u8> {
    DELIMITERS.into_iter().find(|delimiter| {
        let line = fields(first_line, *delimiter);
        is_head(&line) || is_row(&line)
    })
}

fn is_head(line: &[String]) -> bool {
    let has = |name: &str| line.iter().any(|column| column == name);
    line.len() > 1
        && (has("timeStamp") || has("elapsed"))
        && (has("label") || has("success") || has("responseCode"))
}

/// A time, milliseconds, and in the eighth column a truth value.
fn is_row(line: &[String]) -> bool {
    let truth = |text: &String| matches!(text.as_str(), "true" | "false");
    line.len() >= COMMON.len()
        && time_ms(&line[0]).is_some()
        && line[1].parse::<u64>().is_ok()
        && truth(&line[7])
}

pub(in super::super) fn read(text: &str, split: Split) -> Result<Vec<LoadTest>, ContentError> {
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("");
    let delimiter = delimiter(first).ok_or(ContentError::Unknown)?;
    let line = fields(first, delimiter);
    let columns = (!is_head(&line)).then(|| default_columns(line.len()));
    let mut table = Table::new(text, delimiter, columns)?;
    let time = table.column(&["timeStamp"])?;
    let elapsed = table.column(&["elapsed"])?;
    let (label, message) = (table.find(&["label"]), table.find(&["responseMessage"]));
    let users = table.find(&["allThreads"]);
    let success = table.find(&["success"]);
    let code = match success {
        Some(_) => table.find(&["responseCode"]),
        None => Some(table.column(&["success", "responseCode"])?),
    };
    let mut collected = Collected::new(split);
    while table.advance()? {
        let begin = time_ms(table.text(time)).ok_or_else(|| table.fault_at(time, "is no time"))?;
        collected.epoch &= begin.epoch;
        let failed = match (success, code) {
            (Some(column), _) => match table.text(column) {
                "true" => false,
                "false" => true,
                _ => return Err(table.fault_at(column, "is neither `true` nor `false`")),
            },
            (None, Some(column)) => !table.text(column).starts_with(['2', '3']),
            (None, None) => false,
        };
        let text = |column: Option<usize>| column.map_or("", |column| table.text(column));
        let sample = Sample {
            begin_ms: begin.ms,
            took_ms: table.number(elapsed)?,
            failed,
            users: table.number_if_any(users)?.map(|n| n as u64),
        };
        if !collected.add(text(label), text(message), sample) {
            return Err(table.fault("there are too many labels".into()));
        }
    }
    collected.tests()
}

/// Names for a line without header; a column that may be anything has none.
fn default_columns(count: usize) -> Vec<String> {
    let rest: Vec<&str> = match count {
        17 => SINCE_3.to_vec(),
        16 => SINCE_3.into_iter().filter(|name| *name != "URL").collect(),
        _ => Vec::new(),
    };
    let known = COMMON.into_iter().chain(rest).map(str::to_owned);
    let mut columns: Vec<String> = known.take(count).collect();
    columns.resize(count, String::new());
    columns
}

#[derive(Clone, Copy, Debug)]
struct Time {
    ms: f64,
    /// Counted from 1970; else on a clock whose time zone nobody says.
    epoch: bool,
}

fn time_ms(text: &str) -> Option<Time> {
    if let Ok(ms) = text.parse::<u64>() {
        return Some(Time {
            ms: ms as f64,
            epoch: true,
        });
    }
    let mut formats = TIMES.iter();
    let civil = formats.find_map(|format| DateTime::strptime(format, text).ok())?;
    let zoned = civil.to_zoned(TimeZone::UTC).ok()?;
    Some(Time {
        ms: zoned.timestamp().as_millisecond() as f64,
        epoch: false,
    })
}
