//! Where profiles are sent: sinks as they were typed, and the queue between.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

use crate::agent::metrics::SinkFigures;
use crate::agent::{Offer, Outlet, Say};
use crate::cli::args::{AgentArgs, PushArgs};
use crate::cli::stop::{Exit, Failure};
use crate::push::{Batch, DropReason, Header, Pusher, SinkConfig, SinkKind};

/// Below the data directory.
const QUEUE: &str = "queue";

/// A pusher, until it is finished; none where nothing is pushed.
#[derive(Clone)]
pub(super) struct Pushing(Arc<Mutex<Option<Pusher>>>);

/// Takes up what was queued before, and sends from now on.
pub(super) fn start(args: &AgentArgs, say: &dyn Say) -> Result<Pushing, Failure> {
    let sinks = sinks(&args.push)?;
    if sinks.is_empty() {
        return Ok(Pushing(Arc::default()));
    }
    for sink in sinks.iter().filter(|sink| sink.exposes_headers()) {
        say.warning(format!("headers go to {} without TLS", sink.url()));
    }
    let folder = args.data.join(QUEUE);
    let pusher = Pusher::start(&folder, &sinks, args.push.push_budget)
        .with_context(|| format!("failed to open the queue in `{}`", folder.display()))
        .map_err(|error| Failure::new(Exit::NotWritten, error))?;
    Ok(Pushing(Arc::new(Mutex::new(Some(pusher)))))
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

impl Pushing {
    fn with<T: Default>(&self, ask: impl FnOnce(&Pusher) -> T) -> T {
        let pusher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pusher.as_ref().map_or_else(T::default, ask)
    }

    /// What the sinks say of themselves, for the metrics.
    pub fn figures(&self) -> Box<dyn Fn() -> Vec<SinkFigures> + Send + Sync> {
        let pushing = self.clone();
        Box::new(move || pushing.with(|pusher| pusher.figures().into_iter().map(told).collect()))
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
        let pusher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.with(|pusher| pusher.figures().iter().map(|sink| sink.queued_bytes).sum())
    }

    fn finish(self: Box<Self>, within: Duration) {
        let pusher = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(pusher) = pusher {
            pusher.finish(within);
        }
    }
}
