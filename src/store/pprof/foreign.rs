//! What perfprof makes of other tools' pprof files (and, by the same rules, of its own): which column is CPU time, which
//! labels name a thread, and a [`Recording`] that claims no more than the file says.
//!
//! Known files: Go's `runtime/pprof` (`samples/count`, `cpu/nanoseconds`), `perf_to_profile` (`…_sample/count`), and
//! those of profilers that record wall-clock time. Heap, block and mutex profiles are refused: they are no CPU time.

use super::DecodeError;
use super::label;
use super::tables::{Parts, Row};
use crate::profile::{Origin, Recording};
use crate::store::folded::excerpt;

/// Labels that matter, under the names tools give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LabelKey {
    Slice,
    Pid,
    Tid,
    Thread,
    Process,
    StackEnd,
}

impl LabelKey {
    pub(super) fn from_name(name: &[u8]) -> Option<LabelKey> {
        match std::str::from_utf8(name).ok()? {
            label::SLICE => Some(LabelKey::Slice),
            label::PID | "process_id" | "process id" => Some(LabelKey::Pid),
            label::TID | "thread_id" | "thread id" => Some(LabelKey::Tid),
            label::THREAD | "thread_name" | "thread name" => Some(LabelKey::Thread),
            label::PROCESS | "process_name" | "process name" | "comm" => Some(LabelKey::Process),
            label::STACK_END => Some(LabelKey::StackEnd),
            _ => None,
        }
    }
}

/// The columns of a sample's values that give its weight.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// Which column counts ticks.
    count: Option<usize>,
    /// Which column is time, and nanoseconds per unit.
    time: Option<(usize, u64)>,
    /// Nanoseconds between ticks, where the file says.
    pub(super) period_ns: Option<u64>,
    /// What the time column is called, as in `cpu` or `wall`.
    pub(super) event: String,
}

impl Columns {
    pub(super) fn choose(parts: &Parts<'_>) -> Result<Columns, DecodeError> {
        let text = |ix| parts.text(ix).unwrap_or_default();
        let types = parts.sample_types.iter();
        let types: Vec<_> = types.map(|t| (text(t.kind), text(t.unit))).collect();
        let default = text(parts.default_sample_type);
        let times = types.iter().enumerate().filter_map(|(i, (kind, unit))| {
            // `delay` is how long others waited, in block and mutex profiles.
            let scale = ns_per(unit).filter(|_| kind != "delay")?;
            // CPU time first, then what the file itself prefers.
            let rank = match kind.as_ref() {
                "cpu" => 0,
                kind if kind == default => 1,
                _ => 2,
            };
            Some((rank, i, scale))
        });
        let time = times.min().map(|(_, i, scale)| (i, scale));
        let count = types.iter().position(|(kind, unit)| {
            unit == "count" && (kind == "samples" || kind == "sample" || kind.ends_with("_sample"))
        });
        let Some(event) = time.map(|(i, _)| i).or(count) else {
            let found = types
                .iter()
                .map(|(kind, unit)| format!("`{}/{}`", excerpt(kind), excerpt(unit)));
            let found = found.collect::<Vec<_>>().join(", ");
            return Err(DecodeError::NotCpu { found });
        };
        let period_unit = parts.period_type.and_then(|t| ns_per(&text(t.unit)));
        let period = period_unit.zip(u64::try_from(parts.period).ok());
        let period_ns = period.and_then(|(scale, period)| period.checked_mul(scale));
        Ok(Columns {
            count,
            time,
            period_ns: period_ns.filter(|ns| *ns > 0),
            event: types[event].0.to_string(),
        })
    }

    /// Ticks and nanoseconds of one sample. What the file lacks follows from its period; without one, a count is 1 for
    /// each of the file's records, and CPU time is 0.
    pub(super) fn weight(&self, row: Row, values: &[i64]) -> Result<(u64, u64), DecodeError> {
        let column = |i: usize| match values.get(i).map(|value| u64::try_from(*value)) {
            Some(Ok(value)) => Ok(value),
            Some(Err(_)) => Err(row.value("a negative value")),
            None => Err(row.value("fewer values than sample types")),
        };
        let overflow = || row.value("a value exceeds 2⁶⁴ ns");
        let count = self.count.map(column).transpose()?;
        let time = match self.time {
            Some((i, scale)) => Some(column(i)?.checked_mul(scale).ok_or_else(overflow)?),
            None => None,
        };
        match (count, time, self.period_ns) {
            (Some(count), Some(ns), _) => Ok((count, ns)),
            (Some(count), None, Some(period)) => {
                Ok((count, count.checked_mul(period).ok_or_else(overflow)?))
            }
            (Some(count), None, None) => Ok((count, 0)),
            (None, Some(0), _) | (None, None, _) => Ok((0, 0)),
            (None, Some(ns), Some(period)) => Ok(((ns / period).max(1), ns)),
            (None, Some(ns), None) => Ok((1, ns)),
        }
    }
}

fn ns_per(unit: &str) -> Option<u64> {
    match unit {
        "nanoseconds" | "ns" => Some(1),
        "microseconds" | "us" => Some(1_000),
        "milliseconds" | "ms" => Some(1_000_000),
        "seconds" | "s" => Some(1_000_000_000),
        _ => None,
    }
}

/// How another tool's profile was recorded, as far as it says.
pub(super) fn recording(
    parts: &Parts<'_>,
    columns: &Columns,
    service: String,
    file: &str,
) -> Recording {
    let mut warnings = vec![
        "The profile was recorded by another tool, which does not say which stacks are complete or what it lost."
            .to_owned(),
    ];
    if columns.event != "cpu" && columns.time.is_some() {
        let event = excerpt(&columns.event);
        warnings.push(format!(
            "Its times are called \"{event}\" and may not be CPU time."
        ));
    }
    if columns.period_ns.is_none() {
        let missing = match (columns.count, columns.time) {
            (None, _) => "each of its records counts as one sample",
            (_, None) => "CPU time is not known",
            _ => "its sampling rate is not known",
        };
        warnings.push(format!("The file states no sampling period: {missing}."));
    }
    Recording {
        origin: Origin::Foreign {
            format: "pprof".into(),
            file: file.into(),
        },
        service,
        event: columns.event.clone(),
        frequency_hz: columns.period_ns.map_or(0.0, |ns| 1e9 / ns as f64),
        started_unix_ns: u64::try_from(parts.time_nanos).unwrap_or(0),
        duration_ns: u64::try_from(parts.duration_nanos).unwrap_or(0),
        warnings,
        ..Recording::default()
    }
}
