//! CSV: Locust's statistics, a row per endpoint, and hey's, a row per request.
//!
//! In: the text. Out: a [`LoadTest`]. Columns are found by their names in the first line.

use super::{ContentError, Latency, LoadTest, checked};

pub(super) fn is_locust(first_line: &str) -> bool {
    first_line.starts_with("Type,Name,Request Count,")
}

pub(super) fn is_hey(first_line: &str) -> bool {
    first_line.starts_with("response-time,")
}

/// The row `Aggregated` is the whole test.
pub(super) fn read_locust(text: &str) -> Result<LoadTest, ContentError> {
    let mut lines = text.lines().enumerate();
    let head = fields(lines.next().map_or("", |(_, line)| line));
    let row = lines
        .map(|(ix, line)| (ix + 1, fields(line)))
        .find(|(_, row)| row.get(1).is_some_and(|name| name == "Aggregated"));
    let (line, row) = row.ok_or(ContentError::Line {
        line: 1,
        message: "no row is called `Aggregated`".into(),
    })?;
    let number = |name: &str| -> Option<f64> {
        let column = head.iter().position(|column| column == name)?;
        row.get(column)?
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite())
    };
    let requests = number("Request Count");
    let errors = number("Failure Count");
    checked(LoadTest {
        tool: "locust",
        requests: requests.map(|n| n as u64),
        throughput_per_second: number("Requests/s").ok_or_else(|| ContentError::Line {
            line,
            message: "`Requests/s` is missing or no number".into(),
        })?,
        latency: Latency {
            p50_ms: number("50%"),
            p95_ms: number("95%"),
            p99_ms: number("99%"),
            max_ms: number("Max Response Time"),
        },
        errors: errors.map(|n| n as u64),
        error_rate: errors
            .zip(requests.filter(|n| *n > 0.0))
            .map(|(e, n)| e / n),
        ..LoadTest::default()
    })
}

/// `response-time,…,status-code,offset`: seconds, and when the request was sent.
pub(super) fn read_hey(text: &str) -> Result<LoadTest, ContentError> {
    let mut lines = text.lines().enumerate();
    let head = fields(lines.next().map_or("", |(_, line)| line));
    let column = |name: &str| {
        let found = head.iter().position(|column| column == name);
        found.ok_or_else(|| ContentError::Line {
            line: 1,
            message: format!("no column is called `{name}`"),
        })
    };
    let (took, status, offset) = (
        column("response-time")?,
        column("status-code")?,
        column("offset")?,
    );
    let mut times_ms = Vec::new();
    let (mut end, mut errors) = (0.0_f64, 0);
    for (ix, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let row = fields(line);
        let number = |column: usize| -> Result<f64, ContentError> {
            let parsed = row.get(column).and_then(|field| field.parse().ok());
            let finite = parsed.filter(|n: &f64| n.is_finite() && *n >= 0.0);
            finite.ok_or_else(|| ContentError::Line {
                line: ix + 1,
                message: format!("column {} is no number", column + 1),
            })
        };
        let seconds = number(took)?;
        times_ms.push(seconds * 1e3);
        end = end.max(number(offset)? + seconds);
        errors += u64::from(number(status)? >= 400.0);
    }
    times_ms.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * times_ms.len() as f64).ceil().max(1.0) as usize;
        times_ms.get(rank - 1).copied()
    };
    let requests = times_ms.len() as u64;
    checked(LoadTest {
        tool: "hey",
        duration_seconds: Some(end),
        requests: Some(requests),
        throughput_per_second: if end > 0.0 {
            requests as f64 / end
        } else {
            0.0
        },
        latency: Latency {
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: at(1.0),
        },
        errors: Some(errors),
        error_rate: (requests > 0).then(|| errors as f64 / requests as f64),
        ..LoadTest::default()
    })
}

/// The fields of a line; one in quotes may hold commas, and quotes doubled.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut fields, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => push(&mut fields, c),
        }
    }
    fields
}

fn push(fields: &mut [String], c: char) {
    if let Some(last) = fields.last_mut() {
        last.push(c);
    }
}
