//! Locust: `_stats.csv` (a row per endpoint, and `Aggregated`), `_stats_history.csv` (a row per second, with the number
//! of users, which no other file has), and `--json`.
//!
//! The history's percentiles are of the last ten seconds, so none of them is taken. Start and users of a test come from
//! its history: [`complete`].

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::field::Field;
use super::table::{Table, fields};
use super::{ContentError, Latency, LoadTest, MAX_RESULTS, Split};

const WHOLE: &str = "Aggregated";

pub(super) fn is_statistics(first_line: &str) -> bool {
    let head = fields(first_line, b',');
    matches!(head.as_slice(), [kind, name, ..] if kind == "Type" && name == "Name")
}

pub(super) fn is_history(first_line: &str) -> bool {
    let head = fields(first_line, b',');
    matches!(head.as_slice(), [time, users, ..] if time == "Timestamp" && users == "User Count")
}

/// `_failures.csv` and `_exceptions.csv`, which `--csv` writes, too.
pub(super) fn beside(first_line: &str) -> Option<ContentError> {
    let head = fields(first_line, b',');
    let head: Vec<&str> = head.iter().map(|name| &**name).collect();
    let what = match head.as_slice() {
        ["Method", "Name", "Error", "Occurrences", ..] => {
            "it is Locust's list of failures; the figures are in `_stats.csv`"
        }
        ["Count", "Message", "Traceback", ..] => {
            "it is Locust's list of exceptions; the figures are in `_stats.csv`"
        }
        _ => return None,
    };
    Some(ContentError::Beside(what))
}

pub(super) fn read_statistics(text: &str, split: Split) -> Result<Vec<LoadTest>, ContentError> {
    let mut table = Table::new(text, b',', None)?;
    let name = table.column(&["Name"])?;
    let kind = table.column(&["Type"])?;
    let requests = table.column(&["Request Count", "# requests"])?;
    let failures = table.column(&["Failure Count", "# failures"])?;
    let rate = table.column(&["Requests/s"])?;
    let figures = ["50%", "95%", "99%"].map(|name| table.find(&[name]));
    let max = table.find(&["Max Response Time", "Max response time"]);
    let (mut whole, mut endpoints) = (None, Vec::new());
    while table.advance()? {
        let is_whole = table.text(name) == WHOLE && table.text(kind).is_empty();
        if !is_whole && (split != Split::Endpoints || endpoints.len() >= MAX_RESULTS) {
            continue;
        }
        let (count, errors) = (table.number(requests)?, table.number(failures)?);
        let test = LoadTest {
            tool: "locust".into(),
            scenario: (!is_whole).then(|| endpoint(table.text(kind), table.text(name))),
            requests: Some(count as u64),
            throughput_per_second: table.number(rate)?,
            latency: Latency {
                p50_ms: table.number_if_any(figures[0])?,
                p95_ms: table.number_if_any(figures[1])?,
                p99_ms: table.number_if_any(figures[2])?,
                max_ms: table.number_if_any(max)?,
            },
            errors: Some(errors as u64),
            error_rate: (count > 0.0).then(|| errors / count),
            ..LoadTest::default()
        };
        match is_whole {
            true => whole = Some(test),
            false => endpoints.push(test),
        }
    }
    if !endpoints.is_empty() {
        return Ok(endpoints);
    }
    let message = format!("no row is called `{WHOLE}`");
    Ok(vec![whole.ok_or_else(|| ContentError::line(1, message))?])
}

fn endpoint(method: &str, name: &str) -> String {
    format!("{method} {name}").trim().to_owned()
}

/// The rows `Aggregated`, in order of time.
pub(super) fn read_history(text: &str) -> Result<LoadTest, ContentError> {
    let mut table = Table::new(text, b',', None)?;
    let name = table.column(&["Name"])?;
    let time = table.column(&["Timestamp"])?;
    let users = table.column(&["User Count"])?;
    let requests = table.column(&["Total Request Count"])?;
    let failures = table.column(&["Total Failure Count"])?;
    let median = table.find(&["Total Median Response Time"]);
    let max = table.find(&["Total Max Response Time"]);
    let mut test = LoadTest {
        tool: "locust".into(),
        ..LoadTest::default()
    };
    let mut first = None;
    while table.advance()? {
        if table.text(name) != WHOLE {
            continue;
        }
        let now = table.number(time)?;
        let first = *first.get_or_insert(now);
        let count = table.number(requests)?;
        let errors = table.number(failures)?;
        let seconds = now - first;
        test.peak_concurrency = test.peak_concurrency.max(Some(table.number(users)? as u64));
        test.duration_seconds = Some(seconds);
        test.start = Timestamp::from_millisecond((first * 1e3) as i64)
            .ok()
            .map(|start| start.to_string());
        test.requests = Some(count as u64);
        test.errors = Some(errors as u64);
        test.error_rate = (count > 0.0).then(|| errors / count);
        test.throughput_per_second = if seconds > 0.0 { count / seconds } else { 0.0 };
        test.latency.p50_ms = table.number_if_any(median)?;
        test.latency.max_ms = table.number_if_any(max)?;
    }
    match test.requests {
        Some(_) => Ok(test),
        None => Err(ContentError::line(1, format!("no row is called `{WHOLE}`"))),
    }
}

/// Puts what only the history of a test knows (users, start, duration) into its results.
pub fn complete(statistics: &mut LoadTest, history: &LoadTest) {
    statistics.peak_concurrency = statistics.peak_concurrency.or(history.peak_concurrency);
    statistics.start = statistics.start.take().or_else(|| history.start.clone());
    statistics.duration_seconds = statistics.duration_seconds.or(history.duration_seconds);
}

/// An array with an entry per endpoint.
#[derive(Clone, Debug, Default)]
struct Entry {
    name: String,
    requests: u64,
    failures: u64,
    begin: f64,
    end: f64,
    max_ms: f64,
    /// Requests by milliseconds, rounded as Locust rounds them.
    times: BTreeMap<u64, u64>,
}

pub(super) fn read_json(root: &Field<'_>, split: Split) -> Result<Vec<LoadTest>, ContentError> {
    let entries = root.items()?;
    let entries = entries.iter().take(MAX_RESULTS).map(Entry::of);
    let entries = entries.collect::<Result<Vec<Entry>, ContentError>>()?;
    if split == Split::Endpoints {
        let named = entries.into_iter().map(|entry| {
            let name = entry.name.clone();
            entry.test(Some(name))
        });
        return Ok(named.collect());
    }
    let whole = entries.into_iter().reduce(Entry::and).unwrap_or_default();
    Ok(vec![whole.test(None)])
}

impl Entry {
    fn of(field: &Field<'_>) -> Result<Entry, ContentError> {
        let count = |name: &str| {
            let field = field.at(name);
            field.required(field.count())
        };
        let number = |name: &str| {
            let field = field.at(name);
            field.required(field.number())
        };
        let mut times = BTreeMap::new();
        for (ms, field) in field.at("response_times").members()? {
            let ms = ms.parse::<f64>().ok().filter(|ms| *ms >= 0.0);
            let ms = ms.ok_or_else(|| field.fault("is no number of milliseconds"))?;
            *times.entry(ms as u64).or_insert(0) += field.required(field.count())?;
        }
        let text = |name: &str| Ok(field.at(name).text()?.unwrap_or_default());
        Ok(Entry {
            name: endpoint(&text("method")?, &text("name")?),
            requests: count("num_requests")?,
            failures: count("num_failures")?,
            begin: number("start_time")?,
            // Null without any request.
            end: field.at("last_request_timestamp").number()?.unwrap_or(0.0),
            max_ms: number("max_response_time")?,
            times,
        })
    }

    fn and(mut self, other: Entry) -> Entry {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.begin = self.begin.min(other.begin);
        self.end = self.end.max(other.end);
        self.max_ms = self.max_ms.max(other.max_ms);
        for (ms, count) in other.times {
            *self.times.entry(ms).or_insert(0) += count;
        }
        self
    }

    fn test(self, scenario: Option<String>) -> LoadTest {
        let start = Timestamp::from_millisecond((self.begin * 1e3) as i64).ok();
        // Locust counts less than a second as a second.
        let seconds = (self.end - self.begin).max(1.0);
        LoadTest {
            tool: "locust".into(),
            scenario,
            start: start.map(|start| start.to_string()),
            duration_seconds: Some(seconds),
            requests: Some(self.requests),
            throughput_per_second: self.requests as f64 / seconds,
            latency: Latency {
                p50_ms: self.percentile(0.5),
                p95_ms: self.percentile(0.95),
                p99_ms: self.percentile(0.99),
                max_ms: Some(self.max_ms),
            },
            errors: Some(self.failures),
            error_rate: (self.requests > 0).then(|| self.failures as f64 / self.requests as f64),
            ..LoadTest::default()
        }
    }

    /// As Locust takes it: the largest time that at most the rest of the requests exceed.
    fn percentile(&self, share: f64) -> Option<f64> {
        let total: u64 = self.times.values().sum();
        let below = (total as f64 * share) as u64;
        let mut above = 0;
        for (ms, count) in self.times.iter().rev() {
            above += count;
            if total - above <= below {
                return Some(*ms as f64);
            }
        }
        None
    }
}
