//! Results of load tests as a table for the terminal.

use super::escape::code_cell;
use super::table::{Align, Table};
use super::units;
use crate::load_test::LoadTest;

/// One row per scenario.
pub fn summary(tests: &[LoadTest]) -> String {
    let mut table = Table::new(&[
        ("scenario", Align::Left),
        ("tool", Align::Left),
        ("users", Align::Right),
        ("requests", Align::Right),
        ("requests/s", Align::Right),
        ("p50 ms", Align::Right),
        ("p95 ms", Align::Right),
        ("p99 ms", Align::Right),
        ("errors", Align::Right),
    ]);
    let unknown = || "–".to_owned();
    let count = |n: Option<u64>| n.map_or_else(unknown, units::count);
    let figure = |n: Option<f64>| n.map_or_else(unknown, |n| format!("{n:.2}"));
    for test in tests {
        table.row([
            code_cell(test.scenario.as_deref().unwrap_or("")),
            code_cell(&test.tool),
            count(test.peak_concurrency),
            count(test.requests),
            figure(Some(test.throughput_per_second)),
            figure(test.latency.p50_ms),
            figure(test.latency.p95_ms),
            figure(test.latency.p99_ms),
            test.error_rate.map_or_else(unknown, units::percent),
        ]);
    }
    table.to_markdown()
}
