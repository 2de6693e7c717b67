//! The top of the report: every service with its verdict.

use serde_json::Value;

use super::NAME_CHARS;
use crate::render::escape::inline;
use crate::render::table::{Align::Left, Align::Right, Table};
use crate::render::{fit, units};

/// A service in the overview of the report.
#[derive(Clone, Copy, Debug)]
pub struct OverviewRow<'a> {
    /// Of its section.
    pub anchor: &'a str,
    /// Its entry in `coverage.json`, made by any version; `None` when there is none.
    pub coverage: Option<&'a Value>,
}

/// The top of the report: title, and every service with its verdict.
pub fn overview(rows: &[OverviewRow<'_>]) -> String {
    let head = [
        ("Service", Left),
        ("Verdict", Left),
        ("CPU time seen", Right),
        ("Complete stacks", Right),
        ("Named frames", Right),
        ("Recorded", Left),
    ];
    let mut table = Table::new(&head);
    for row in rows {
        let at = |pointer: &str| row.coverage.and_then(|entry| entry.pointer(pointer));
        let text = |pointer: &str| at(pointer).and_then(Value::as_str);
        let metric = |id: &str| {
            let value = at(&format!("/metrics/{id}/value")).and_then(Value::as_f64);
            value.map_or_else(|| "–".to_owned(), units::coverage)
        };
        let name = fit::middle(text("/service").unwrap_or(row.anchor), NAME_CHARS);
        table.row([
            format!("[{}](#{})", inline(&name), row.anchor),
            text("/verdict").map_or_else(|| "unknown".to_owned(), inline),
            metric("cpu_time"),
            metric("stacks"),
            metric("symbols"),
            text("/recorded_at").map_or_else(|| "–".to_owned(), inline),
        ]);
    }
    format!("# Profiling report\n\n{}", table.to_markdown())
}
