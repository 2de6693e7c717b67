//! A baseline as a table for people.

use super::escape::{code_cell, inline};
use super::table::{Align, Table};
use crate::baseline::Baseline;

pub fn table(baseline: &Baseline) -> String {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("metric", Align::Left),
        ("value", Align::Right),
        ("unit", Align::Left),
        ("measured at", Align::Left),
        ("source", Align::Left),
    ]);
    for m in baseline.measurements() {
        table.row([
            code_cell(&m.service),
            code_cell(&m.metric),
            figure(m.value),
            inline(&m.unit),
            m.timestamp.to_string(),
            inline(&m.source),
        ]);
    }
    table.to_markdown()
}

/// Four digits that say something: `0.001235`, `12.35`, `1234567`.
pub(super) fn figure(value: f64) -> String {
    let whole = value.abs().max(f64::MIN_POSITIVE).log10().floor() as i32;
    let digits = (3 - whole).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `3.2 hours old`; a negative age is in the future.
pub fn age(seconds: f64) -> String {
    let (value, unit) = match seconds.abs() {
        s if s < 120.0 => (seconds, "seconds"),
        s if s < 7_200.0 => (seconds / 60.0, "minutes"),
        s if s < 172_800.0 => (seconds / 3_600.0, "hours"),
        _ => (seconds / 86_400.0, "days"),
    };
    match seconds < 0.0 {
        true => format!("{:.0} {unit} in the future", -value),
        false => format!("{value:.1} {unit} old"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits_that_say_something() {
        let shown = [0.0, 0.001_234_56, 0.25, 12.345_6, 1_234_567.8, -3.0].map(figure);
        assert_eq!(shown, ["0", "0.001235", "0.25", "12.35", "1234568", "-3"]);
        let ages = [30.0, 600.0, 11_520.0, 864_000.0, -60.0].map(age);
        let expected = [
            "30.0 seconds old",
            "10.0 minutes old",
            "3.2 hours old",
            "10.0 days old",
            "60 seconds in the future",
        ];
        assert_eq!(ages, expected);
    }
}
