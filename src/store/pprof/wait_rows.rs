//! Reading rows that are no ticks: waits, the ticks that used a quota up, and wakers.
//!
//! In: a row of one of our own files. Out: an entry of [`Waits`]. A row is told by its labels; its values stand in the
//! columns that `super::column` names.

use super::tables::{Parts, Place, Row};
use super::{DecodeError, column, label, proto};
use crate::profile::{Cause, FrameIx};

/// What a row is about besides thread and stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowKind {
    Ticks,
    Waits { cause: Cause, stacks: u64 },
    Quota { ticks: u64 },
    Waker { cause: Cause, waits: u64 },
}

impl RowKind {
    pub(super) fn of(
        parts: &Parts<'_>,
        row: Row,
        message: &proto::Sample,
    ) -> Result<RowKind, DecodeError> {
        let (mut cause, mut stacks, mut ticks, mut waits) = (None, None, None, None);
        for entry in &message.label {
            let key = row.text(parts, entry.key)?;
            let number = || u64::try_from(entry.num).map_err(|_| row.value("a negative label"));
            match &*key {
                label::WAIT => {
                    let id = row.text(parts, entry.str)?;
                    let known = Cause::from_id(&id);
                    cause = Some(known.ok_or_else(|| row.value("an unknown cause of waits"))?);
                }
                label::STACKS => stacks = Some(number()?),
                label::TICKS => ticks = Some(number()?),
                label::WAITS => waits = Some(number()?),
                _ => {}
            }
        }
        Ok(match (cause, stacks, waits, ticks) {
            (Some(cause), Some(stacks), None, None) => RowKind::Waits { cause, stacks },
            (Some(cause), None, Some(waits), None) => RowKind::Waker { cause, waits },
            (None, None, None, Some(ticks)) => RowKind::Quota { ticks },
            (None, None, None, None) => RowKind::Ticks,
            _ => return Err(row.value("labels of rows of different kinds")),
        })
    }
}

/// The value in a column.
pub(super) fn value_in(
    row: Row,
    message: &proto::Sample,
    column: usize,
) -> Result<u64, DecodeError> {
    match message.value.get(column).map(|value| u64::try_from(*value)) {
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) => Err(row.value("a negative value")),
        None => Err(row.value("fewer values than sample types")),
    }
}

/// Waits and their time.
pub(super) fn waited(row: Row, message: &proto::Sample) -> Result<(u64, u64), DecodeError> {
    let count = value_in(row, message, column::WAITS)?;
    Ok((count, value_in(row, message, column::OFF_CPU)?))
}

/// The frames of a waker and those of the stack it woke, each root first.
pub(super) fn split(
    row: Row,
    leaf_to_root: &[u64],
    place_of: impl Fn(u64) -> Option<Place>,
) -> Result<(Vec<FrameIx>, Vec<FrameIx>), DecodeError> {
    let mut parts = leaf_to_root.splitn(2, |id| place_of(*id) == Some(Place::WokenBy));
    let (Some(waker), Some(woken)) = (parts.next(), parts.next()) else {
        return Err(row.value("a waker without the stack that it woke"));
    };
    let frame = |id: &u64| match place_of(*id) {
        Some(Place::Frame(ix)) => Ok(ix),
        Some(_) => Err(row.value("a reason frame in the stacks of a waker")),
        None => Err(row.reference("location", *id)),
    };
    // The waker stands upside down: its root comes first.
    let waker = waker.iter().map(frame).collect::<Result<_, _>>()?;
    let woken = woken.iter().rev().map(frame).collect::<Result<_, _>>()?;
    Ok((waker, woken))
}
