//! Trends as a table for people and as a document: schema `perfprof.trend` (`schemas/trend.schema.json`).

use serde_json::{Value, json};

use super::baselines::figure;
use super::escape::{code_cell, inline, visible};
use super::table::{Align, Table};
use crate::history::trend::{self, Limit, Question, Trend};

pub const SCHEMA: &str = "perfprof.trend";
pub const SCHEMA_VERSION: u64 = 1;

pub fn document(trends: &[Trend], question: Question) -> Value {
    let entry = |t: &Trend| {
        json!({
            "service": t.service,
            "metric": t.metric,
            "unit": t.unit,
            "newest": t.newest,
            "measured_at": t.measured_at.to_string(),
            "n": t.n,
            "mean": t.mean,
            "standard_deviation": t.deviation,
            "change": t.change,
            "change_is": match t.limit {
                Limit::Points(_) => "points",
                Limit::Growth(_) | Limit::Decline(_) => "share_of_mean",
            },
            "limit": t.limit.value(),
            "verdict": t.verdict.id(),
            "reason": t.reason,
        })
    };
    json!({
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "window_seconds": question.window.as_secs(),
        "min_points": question.min_points,
        "verdict": trend::verdict(trends).id(),
        "metrics": trends.iter().map(entry).collect::<Vec<_>>(),
    })
}

pub fn table(trends: &[Trend]) -> String {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("metric", Align::Left),
        ("newest", Align::Right),
        ("mean", Align::Right),
        ("±s", Align::Right),
        ("n", Align::Right),
        ("unit", Align::Left),
        ("change", Align::Right),
        ("limit", Align::Right),
        ("verdict", Align::Left),
    ]);
    let known = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), figure);
    for trend in trends {
        table.row([
            code_cell(&trend.service),
            code_cell(&trend.metric),
            figure(trend.newest),
            known(trend.mean),
            known(trend.deviation),
            trend.n.to_string(),
            inline(&trend.unit),
            change(trend),
            trend.limit.text(),
            trend.verdict.id().to_owned(),
        ]);
    }
    table.to_markdown()
}

fn change(trend: &Trend) -> String {
    let Some(change) = trend.change else {
        return "–".to_owned();
    };
    match trend.limit {
        Limit::Points(_) => format!("{:+.1} points", change * 100.0),
        Limit::Growth(_) | Limit::Decline(_) => format!("{:+.1} %", change * 100.0),
    }
}

/// For the log.
pub fn sentence(trend: &Trend) -> String {
    let figures = match trend.mean {
        Some(mean) => format!(
            "{} against a mean of {} (n = {}, {}), ",
            figure(trend.newest),
            figure(mean),
            trend.n,
            change(trend)
        ),
        None => String::new(),
    };
    format!(
        "`{}` of `{}` {}: {figures}{}",
        visible(&trend.metric),
        visible(&trend.service),
        trend.verdict.id(),
        trend.reason
    )
}

/// The metrics that have limits.
pub fn watched() -> String {
    let each = trend::WATCHED.iter();
    let each = each.map(|(metric, limit)| format!("{} ({})", metric.name, limit.text()));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Measurement;
    use jiff::{SignedDuration, Timestamp};

    fn trends(values: &[f64]) -> (Vec<Trend>, Question) {
        let question = Question {
            window: SignedDuration::from_hours(168),
            min_points: 3,
        };
        let at = |hour: usize| Timestamp::from_second(hour as i64 * 3600).expect("a time");
        let figure = |(hour, value): (usize, &f64)| Measurement {
            service: "a|b\u{1b}".into(),
            metric: "p95_latency".into(),
            value: *value,
            unit: "ms".into(),
            timestamp: at(hour),
            source: String::new(),
        };
        let figures: Vec<_> = values.iter().enumerate().map(figure).collect();
        (trend::of(&figures, question), question)
    }

    #[test]
    fn the_document_conforms_to_its_schema() {
        let schema = include_str!("../../schemas/trend.schema.json");
        for values in [
            &[][..],
            &[1.0],
            &[0.0, 0.0, 0.0, 1.0],
            &[1.0, 1.0, 1.0, 9.0],
        ] {
            let (trends, question) = trends(values);
            crate::render::coverage::validate(schema, &document(&trends, question));
        }
    }

    #[test]
    fn the_table_has_spread_and_count_and_no_name_breaks_it() {
        let (trends, _) = trends(&[90.0, 100.0, 110.0, 200.0]);
        let table = table(&trends);
        let row = table.lines().nth(2).expect("a row");
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        assert_eq!(
            cells[3..11],
            [
                "200",
                "100",
                "10",
                "3",
                "ms",
                "+100.0 %",
                "+20 %",
                "regressed"
            ]
        );
        assert!(!table.contains('\u{1b}') && !sentence(&trends[0]).contains('\u{1b}'));
    }
}
