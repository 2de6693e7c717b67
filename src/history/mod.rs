//! The history: every figure that was ever measured, in one file, for trends.
//!
//! In: [`Measurement`]s. Out: those of a window of time, and what they say of the newest ([`trend`]).
//!
//! The file is an SQLite database with one table. What a figure is of, and when it was measured, is its key, so adding the
//! same documents twice adds nothing.
//!
//! **Journal.** A rollback journal, not a write-ahead log: a log needs two more files and shared memory, which network file
//! systems lack, and what it would win, many writers at once, a nightly run does not need. A write is one immediate
//! transaction, others wait for it (`open.rs`); `synchronous=EXTRA` is FULL, and also makes the removal of the journal, which
//! is the commit, survive a power cut.
//!
//! **Others' files.** We may be root where others can write. A file that is no history of ours is an error and is never
//! changed: links, other databases, tables or triggers of somebody's own, damaged pages, a journal that belongs to somebody else.
#![forbid(unsafe_code)]

mod check;
mod error;
mod open;
pub mod trend;

pub use error::HistoryError;

use std::path::PathBuf;

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::baseline::Measurement;

/// The file's name in the artifact root.
pub const FILE: &str = "history.sqlite3";

/// Figures of one window; a nightly run of a thousand figures for a year has a third of that.
const MAX_ROWS: usize = 1_000_000;

/// An open history.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    connection: Connection,
}

/// What became of figures that were to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    pub new: usize,
    /// Were there before.
    pub known: usize,
}

impl History {
    /// Adds all figures, or none.
    pub fn add(
        &mut self,
        measurements: &[Measurement],
        now: Timestamp,
    ) -> Result<Added, HistoryError> {
        let path = self.path.clone();
        self.add_all(measurements, now)
            .map_err(|error| HistoryError::of(&path, error))
    }

    fn add_all(
        &mut self,
        measurements: &[Measurement],
        now: Timestamp,
    ) -> Result<Added, rusqlite::Error> {
        // Immediate: a writer that began by reading could not be let wait, only be refused.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut added = Added::default();
        {
            let mut insert = transaction.prepare(
                "INSERT INTO measurement (service, metric, measured_ms, value, unit, source, added_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            )?;
            for m in measurements {
                let measured = m.timestamp.as_millisecond();
                let row = params![
                    m.service,
                    m.metric,
                    measured,
                    m.value,
                    m.unit,
                    m.source,
                    now.as_millisecond()
                ];
                match insert.execute(row)? {
                    0 => added.known += 1,
                    _ => added.new += 1,
                }
            }
        }
        transaction.commit()?;
        Ok(added)
    }

    /// Figures measured at `from` or later, in the order of service, metric and time.
    pub fn since(&self, from: Timestamp) -> Result<Vec<Measurement>, HistoryError> {
        let rows = || {
            let mut select = self.connection.prepare(
                "SELECT service, metric, measured_ms, value, unit, source FROM measurement
                 WHERE measured_ms >= ?1 ORDER BY service, metric, measured_ms LIMIT ?2",
            )?;
            let rows =
                select.query_map(params![from.as_millisecond(), MAX_ROWS as i64], |row| {
                    let measured = Timestamp::from_millisecond(row.get(2)?);
                    Ok(Measurement {
                        service: row.get(0)?,
                        metric: row.get(1)?,
                        value: row.get(3)?,
                        unit: row.get(4)?,
                        timestamp: measured.map_err(|_| {
                            rusqlite::Error::IntegralValueOutOfRange(2, row.get(2).unwrap_or(0))
                        })?,
                        source: row.get(5)?,
                    })
                })?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        rows().map_err(|error| HistoryError::of(&self.path, error))
    }

    /// When the latest figure was measured; `None` without any.
    pub fn latest(&self) -> Result<Option<Timestamp>, HistoryError> {
        let latest: Result<Option<i64>, _> =
            self.connection
                .query_row("SELECT max(measured_ms) FROM measurement", [], |row| {
                    row.get(0)
                });
        let latest = latest.map_err(|error| HistoryError::of(&self.path, error))?;
        Ok(latest.and_then(|ms| Timestamp::from_millisecond(ms).ok()))
    }
}

#[cfg(test)]
mod tests;
