//! The thread of one sink: takes a batch, translates it, sends it, judges the answer, waits.
//!
//! In: the queue and a sink. Out: nothing but what it tells the queue. It ends when the queue is stopped: then it sends
//! what waits until the first failure, or until the time is over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::backoff::Backoff;
use super::figures::DropReason;
use super::item;
use super::outcome::{Outcome, Retry, shown};
use super::patience::Patience;
use super::queue::{Queue, SinkIx};
use super::sink::Sink;

/// For a request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Works until the queue is stopped.
pub(super) fn run(queue: &Queue, ix: SinkIx, mut sink: Sink, mut random: fastrand::Rng) {
    let mut patience = Patience::new(random.fork());
    let mut backoff = Backoff::new(random);
    while let Some(number) = queue.take(ix, |waiting| patience.choose(waiting)) {
        let body = match body(queue, ix, &sink, number) {
            Ok(body) => body,
            Err(why) => {
                patience.settled(number);
                queue.dropped(ix, number, DropReason::Damaged, why);
                continue;
            }
        };
        let outcome = sink.send(body, queue.time_for_request(REQUEST_TIMEOUT));
        match outcome {
            Outcome::Delivered {
                rejected_profiles,
                note,
            } => {
                patience.delivered(number);
                backoff.succeeded();
                queue.sent(ix, number, rejected_profiles, note);
            }
            Outcome::Rejected { why } => {
                // The backend works, whatever it thinks of this one.
                patience.delivered(number);
                backoff.succeeded();
                queue.dropped(ix, number, DropReason::Rejected, why);
            }
            Outcome::Retry(retry) => {
                if !again_later(queue, ix, number, retry, &mut patience, &mut backoff) {
                    break;
                }
            }
        }
    }
}

/// Waits; `false` when there is nothing to wait for any more.
fn again_later(
    queue: &Queue,
    ix: SinkIx,
    number: u64,
    retry: Retry,
    patience: &mut Patience,
    backoff: &mut Backoff,
) -> bool {
    let waiting = queue.failed(ix, retry.why.clone());
    if !retry.busy && patience.failed(number, &waiting) {
        patience.settled(number);
        queue.dropped(ix, number, DropReason::Poison, retry.why);
    }
    if queue.is_stopping() {
        return false;
    }
    let waited = queue.pause(backoff.failed(retry.after));
    // Woken by a stop, it tries once more, unless the backend asked to be left alone.
    waited || retry.after.is_none()
}

/// What to send; an error says why it never can be.
fn body(queue: &Queue, ix: SinkIx, sink: &Sink, number: u64) -> Result<Vec<u8>, String> {
    let bytes = queue
        .read(ix, number)
        .map_err(|error| shown(format_args!("failed to read a queued batch: {error}")))?;
    let batch = item::decode(&bytes).ok_or("a queued batch is damaged")?;
    drop(bytes);
    // A batch that makes the translation panic must not end the thread and hold up all others.
    let body = catch_unwind(AssertUnwindSafe(|| sink.body(&batch)));
    match body {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(shown(chain(&error))),
        Err(_) => Err("a queued batch cannot be translated: panic".to_owned()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
