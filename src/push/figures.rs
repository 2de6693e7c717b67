//! What became of the batches of one sink, for metrics.
//!
//! In: events of the queue and its worker. Out: plain numbers. Every batch that was offered is queued, sent, or dropped
//! for one reason.

use std::collections::BTreeMap;

/// Why a batch, or a part of one, never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The oldest, when the queues came to their budget; or one that is larger than all of it.
    Budget,
    /// It could not be written.
    Disk,
    /// The backend does not want it, and would not later.
    Rejected,
    /// Its file was damaged, or is no profile.
    Damaged,
    /// The backend took others time and again, and failed at this one.
    Poison,
    /// Profiles that the backend left out of batches it took (OTLP's `rejected_profiles`); those batches count as sent.
    PartlyRejected,
}

impl DropReason {
    pub const ALL: [DropReason; 6] = [
        DropReason::Budget,
        DropReason::Disk,
        DropReason::Rejected,
        DropReason::Damaged,
        DropReason::Poison,
        DropReason::PartlyRejected,
    ];

    /// Stable identifier, for metrics.
    pub fn id(self) -> &'static str {
        match self {
            DropReason::Budget => "budget",
            DropReason::Disk => "disk",
            DropReason::Rejected => "rejected",
            DropReason::Damaged => "damaged",
            DropReason::Poison => "poison",
            DropReason::PartlyRejected => "partly-rejected",
        }
    }
}

/// Counted since the pusher was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkFigures {
    /// Name of the sink: its kind, with a number from the second of the kind on.
    pub sink: String,
    pub queued_items: u64,
    pub queued_bytes: u64,
    pub sent: u64,
    /// Requests that failed and may be tried again.
    pub failures: u64,
    pub dropped: BTreeMap<DropReason, u64>,
    /// What the last request or write that failed said; fit for a terminal. Stays after a success.
    pub last_error: Option<String>,
}

impl SinkFigures {
    pub(super) fn drop_for(&mut self, reason: DropReason, count: u64) {
        *self.dropped.entry(reason).or_default() += count;
    }
}
