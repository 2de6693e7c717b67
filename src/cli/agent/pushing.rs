//! Where profiles are sent: sinks as they were typed, and the queue between.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

use crate::agent::metrics::SinkFigures;
use crate::agent::{Offer, Outlet, Say, SinkNews};
use crate::cli::args::{AgentArgs, PushArgs};
use crate::cli::stop::{Exit, Failure};
use crate::push::{Batch, DropReason, Header, Pusher, SinkConfig, SinkKind};

/// Below the data directory.
const QUEUE: &str = "queue";
/// What waits takes at most this part of the disk budget: windows are to have the rest.
const QUEUE_PART: u64 = 2;

/// A pusher, until it is finished; none where nothing is pushed.
pub(super) struct Pushing {
    pusher: Shared,
    /// How each sink was when it was last looked at, by name.
    seen: BTreeMap<String, Seen>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Option<Pusher>>>);

/// Of one sink.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    sent: u64,
    /// Attempts that failed, and profiles that the backend will not have.
    wrong: u64,
    is_failing: bool,
}

/// Takes up what was queued before, and sends from now on. The data directory is this agent's already.
pub(super) fn start(args: &AgentArgs, say: &dyn Say) -> Result<Pushing, Failure> {
    let sinks = sinks(&args.push)?;
    if sinks.is_empty() {
        return Ok(Pushing::of(None));
    }
    for sink in sinks.iter().filter(|sink| sink.exposes_headers()) {
        say.warning(format!("headers go to {} without TLS", sink.url()));
    }
    let folder = args.data.join(QUEUE);
    let budget_bytes = args.push.push_budget.min(args.disk_budget / QUEUE_PART);
    let pusher = Pusher::start(&folder, &sinks, budget_bytes)
        .with_context(|| format!("failed to open the queue in `{}`", folder.display()))
        .map_err(|error| Failure::new(Exit::NotWritten, error))?;
    Ok(Pushing::of(Some(pusher)))
}

fn sinks(args: &PushArgs) -> Result<Vec<SinkConfig>, Failure> {
    let wrong = |error| Failure::new(Exit::Usage, error);
    let headers = args.push_header.iter().map(|text| Header::parse(text));
    let headers: Vec<Header> = headers.collect::<Result<_, _>>().map_err(wrong)?;
    let asked = [
        (SinkKind::Pyroscope, &args.push_pyroscope),
        (SinkKind::Parca, &args.push_parca),
        (SinkKind::OtlpGrpc, &args.push_otlp_grpc),
        (SinkKind::OtlpHttp, &args.push_otlp_http),
    ];
    let urls = asked
        .into_iter()
        .filter_map(|(kind, url)| Some((kind, url.as_ref()?)));
    let sinks = urls.map(|(kind, url)| SinkConfig::new(kind, url, headers.clone()));
    sinks.collect::<Result<_, _>>().map_err(wrong)
}

impl Shared {
    fn with<T: Default>(&self, ask: impl FnOnce(&Pusher) -> T) -> T {
        let pusher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pusher.as_ref().map_or_else(T::default, ask)
    }

    fn figures(&self) -> Vec<crate::push::SinkFigures> {
        self.with(Pusher::figures)
    }
}

impl Pushing {
    fn of(pusher: Option<Pusher>) -> Pushing {
        Pushing {
            pusher: Shared(Arc::new(Mutex::new(pusher))),
            seen: BTreeMap::new(),
        }
    }

    /// What the sinks say of themselves, for the metrics.
    pub fn figures(&self) -> Box<dyn Fn() -> Vec<SinkFigures> + Send + Sync> {
        let pusher = self.pusher.clone();
        Box::new(move || pusher.figures().into_iter().map(told).collect())
    }
}

impl Seen {
    /// Looks again. Answers what is to be said: that it fails, once, and that it does so no more.
    fn look(&mut self, figures: &crate::push::SinkFigures) -> Option<SinkNews> {
        let refused = [
            DropReason::Rejected,
            DropReason::Poison,
            DropReason::PartlyRejected,
        ];
        let refused = refused.iter().filter_map(|why| figures.dropped.get(why));
        let now = Seen {
            sent: figures.sent,
            wrong: figures.failures + refused.sum::<u64>(),
            is_failing: self.is_failing,
        };
        let before = std::mem::replace(self, now);
        if now.wrong > before.wrong {
            self.is_failing = true;
            let why = figures.last_error.as_deref().unwrap_or("of unknown cause");
            let sentence = format!("pushing to {} fails: {why}", figures.sink);
            return (!before.is_failing).then_some(SinkNews::Fails(sentence));
        }
        if before.is_failing && now.sent > before.sent {
            self.is_failing = false;
            let sentence = format!("pushing to {} works again", figures.sink);
            return Some(SinkNews::Works(sentence));
        }
        None
    }
}

/// Every reason is told, also those that nothing was dropped for.
fn told(figures: crate::push::SinkFigures) -> SinkFigures {
    let dropped = DropReason::ALL.map(|reason| {
        let count = figures.dropped.get(&reason).copied().unwrap_or(0);
        (reason.id().to_owned(), count)
    });
    SinkFigures {
        dropped: dropped.into(),
        sink: figures.sink,
        queued_items: figures.queued_items,
        queued_bytes: figures.queued_bytes,
        sent: figures.sent,
        failures: figures.failures,
    }
}

impl Outlet for Pushing {
    fn offer(&mut self, offer: &Offer<'_>) -> io::Result<()> {
        let pusher = self.pusher.0.lock();
        let pusher = pusher.unwrap_or_else(PoisonError::into_inner);
        let Some(pusher) = pusher.as_ref() else {
            return Ok(());
        };
        pusher.offer(&Batch {
            service: offer.service.name.clone(),
            labels: offer.service.labels.clone(),
            started_unix_ns: offer.started_unix_ns,
            duration_ns: offer.duration_ns,
            pprof_gz: offer.pprof_gz.to_vec(),
        })
    }

    fn waiting_bytes(&self) -> u64 {
        let figures = self.pusher.figures();
        figures.iter().map(|sink| sink.queued_bytes).sum()
    }

    fn news(&mut self) -> Vec<SinkNews> {
        let figures = self.pusher.figures();
        let news = figures.iter().map(|sink| {
            let seen = self.seen.entry(sink.sink.clone()).or_default();
            seen.look(sink)
        });
        news.flatten().collect()
    }

    fn finish(self: Box<Self>, within: Duration) {
        let pusher = self.pusher.0.lock();
        let pusher = pusher.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(pusher) = pusher {
            pusher.finish(within);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_fails_is_told_of_once_and_so_is_its_recovery() {
        let (mut seen, mut figures) = (Seen::default(), crate::push::SinkFigures::default());
        figures.sink = "parca".into();
        figures.sent = 3;
        assert_eq!(seen.look(&figures), None);
        figures.failures = 1;
        figures.last_error = Some("connection refused".into());
        let told = SinkNews::Fails("pushing to parca fails: connection refused".into());
        assert_eq!(seen.look(&figures), Some(told));
        figures.failures = 2;
        figures.sent = 4;
        assert_eq!(seen.look(&figures), None, "some pass, some do not");
        assert_eq!(seen.look(&figures), None, "nothing has happened");
        figures.sent = 5;
        let told = SinkNews::Works("pushing to parca works again".into());
        assert_eq!(seen.look(&figures), Some(told));
        figures.dropped.insert(DropReason::Rejected, 1);
        assert!(matches!(seen.look(&figures), Some(SinkNews::Fails(_))));
    }
}
