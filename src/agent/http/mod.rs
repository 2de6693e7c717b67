//! The agent over HTTP: figures, health, the newest report, and recordings for who has the token.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /healthz` | 200 as long as the agent lives, with what troubles it; 503 where a restart might help |
//! | `GET /readyz` | 200 once ticks are being taken |
//! | `GET /report` | the newest window's `profiling-report.md`; `/diagnostics/FILE` what it links to |
//! | `GET /window` | the newest `window.json` |
//! | `GET /debug/pprof/profile?seconds=N` | a profile of the next N seconds, as Go's `net/http/pprof` gives it (token) |
//! | `POST /recordings?seconds=N&frequency=HZ&mode=all` | records to disk and answers where (token) |
//!
//! In: sockets. Out: answers. Requests are bounded in number, size and time; nothing but the newest window is read.

mod answer;
mod door;
mod guests;
mod query;
mod token;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::deep::DeepRecordings;
use super::metrics::{self, SinkFigures};
use super::state::State;
use crate::sys::usage::monotonic_ns;
use answer::{Answer, Status};
pub use door::Door;
use guests::{Busy, Guests};
pub(super) use token::Token;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// What a client gets to say what it wants.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEAD_BYTES: usize = 16 << 10;
/// What answers that are being made get when the agent ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The thread that records shows every second that it lives, and between two sessions at least every minute.
const MOST_STILL: Duration = Duration::from_secs(180);

/// What requests are answered from.
pub(super) struct Site {
    pub state: Arc<State>,
    pub latest: PathBuf,
    pub token: Token,
    pub deep: Arc<DeepRecordings>,
    pub max_recording: Duration,
    pub sinks: Box<dyn Fn() -> Vec<SinkFigures> + Send + Sync>,
}

/// Answers until `ending` says so, or whoever would say so is gone.
pub(super) fn serve(door: &Door, site: Arc<Site>, ending: watch::Receiver<bool>) -> io::Result<()> {
    let listener = door.listener()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(8)
        .build()?;
    let served = runtime.block_on(accept(listener, site, ending));
    // A recording that is being made notices the end, and holds the data directory until then.
    runtime.shutdown_timeout(LAST_ANSWERS);
    served
}

async fn accept(
    listener: TcpListener,
    site: Arc<Site>,
    mut ending: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut guests = Guests::new(MAX_CONNECTIONS);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        // A connection that ended before it began, or no file left for one: the next may do better.
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (site, busy) = (site.clone(), Busy::default());
        let is_busy = busy.clone();
        let task = tokio::spawn(async move {
            let service = service_fn(move |request| answer(site.clone(), busy.clone(), request));
            // An error is the client's: it went away, or did not speak HTTP.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD_BYTES)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        guests.take_in(is_busy, task.abort_handle());
    }
    guests.see_off(LAST_ANSWERS).await;
    Ok(())
}

/// Somebody waits for an answer; when the connection ends, this is dropped.
#[derive(Debug, Default)]
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn answer(
    site: Arc<Site>,
    busy: Busy,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // Everything is read from disk or waits for a process.
    let head = request.map(|_| ());
    let is_head = head.method() == Method::HEAD;
    busy.set(true);
    let waits = Waits::default();
    let abandoned = waits.0.clone();
    let made = tokio::task::spawn_blocking(move || route(&site, &head, &abandoned)).await;
    busy.set(false);
    let answer = made.unwrap_or_else(|_| Answer::error(Status::Internal, "failed to answer"));
    Ok(answer.into_response(is_head))
}

fn route(site: &Site, request: &Request<()>, abandoned: &AtomicBool) -> Answer {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match path {
        "/debug/pprof/profile" | "/recordings" if site.token.refuses(request.headers()) => {
            Answer::unauthorized()
        }
        "/debug/pprof/profile" if request.method() == Method::GET => {
            profile(site, request, abandoned)
        }
        "/recordings" if *request.method() == Method::POST => recording(site, request, abandoned),
        "/metrics" if reads => metrics_page(site),
        "/healthz" if reads => health(site),
        "/readyz" if reads => readiness(site),
        "/" | "/report" if reads => Answer::file(
            &site.latest,
            "profiling-report.md",
            "text/markdown; charset=utf-8",
        ),
        "/window" if reads => Answer::file(&site.latest, "window.json", "application/json"),
        path if reads && path.starts_with("/diagnostics/") => {
            Answer::export(&site.latest, &path[1..])
        }
        "/debug/pprof/profile"
        | "/recordings"
        | "/metrics"
        | "/healthz"
        | "/readyz"
        | "/"
        | "/report"
        | "/window" => Answer::error(Status::WrongMethod, "this method is not for this path"),
        _ => Answer::error(
            Status::NotFound,
            "paths: /metrics /healthz /readyz /report /window /debug/pprof/profile /recordings",
        ),
    }
}

fn metrics_page(site: &Site) -> Answer {
    let figures = site.state.figures().clone();
    let page = metrics::page(&figures, &(site.sinks)());
    Answer::text(Status::Ok, page, "text/plain; version=0.0.4; charset=utf-8")
}

/// A full disk is no reason to restart an agent; a thread that hangs is.
fn health(site: &Site) -> Answer {
    let figures = site.state.figures();
    let still = Duration::from_nanos(monotonic_ns().saturating_sub(figures.alive_ns));
    if figures.alive_ns > 0 && still > MOST_STILL {
        let why = format!("nothing has been recorded for {} s", still.as_secs());
        return Answer::error(Status::Unavailable, &why);
    }
    match &figures.trouble {
        None => Answer::plain(Status::Ok, "ok"),
        Some(trouble) => Answer::plain(Status::Ok, &format!("alive, but: {trouble}")),
    }
}

fn readiness(site: &Site) -> Answer {
    match site.state.figures().recording {
        true => Answer::plain(Status::Ok, "ok"),
        false => Answer::error(Status::Unavailable, "nothing is being recorded yet"),
    }
}

fn profile(site: &Site, request: &Request<()>, abandoned: &AtomicBool) -> Answer {
    let asked = match query::profile(request.uri().query(), site.max_recording) {
        Ok(asked) => asked,
        Err(why) => return Answer::error(Status::BadRequest, &why),
    };
    match site.deep.record(asked, abandoned) {
        Ok(deep) => Answer::profile(deep),
        Err(error) => Answer::refused(&error),
    }
}

fn recording(site: &Site, request: &Request<()>, abandoned: &AtomicBool) -> Answer {
    let asked = match query::recording(request.uri().query(), site.max_recording) {
        Ok(asked) => asked,
        Err(why) => return Answer::error(Status::BadRequest, &why),
    };
    match site.deep.record(asked, abandoned) {
        Ok(deep) => Answer::recording(&deep),
        Err(error) => Answer::refused(&error),
    }
}
