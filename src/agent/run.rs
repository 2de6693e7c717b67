//! The agent from its beginning to its end: what is opened, which threads there are, and in which order they stop.
//!
//! In: settings and whoever plans, owns, and pushes. Out: [`End`]. What makes a beginning impossible is an error; later, a
//! sampler that cannot be armed is tried again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::deep::{DeepRecordings, DeepWords};
use super::finishing::{Finishing, Outlet};
use super::http::{self, Door, Site, Token};
use super::metrics::SinkFigures;
use super::services::{Owners, Services};
use super::session::{ENDED, Found, SessionEnd, Sessions};
use super::settings::Settings;
use super::state::State;
use super::upkeep::Upkeep;
use super::windows::Windows;
use super::{Effort, Recorder, Say};
use crate::recorder::StopSignals;
use crate::symbolize::options::SymbolOptions;
use crate::sys::usage::monotonic_ns;

/// First and longest pause before a sampler is armed again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a pause looks for signals.
const STEP: Duration = Duration::from_millis(50);

/// What signals have asked for. `interrupted` goes with each of the others.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    pub stop: StopSignals,
    pub terminate: Arc<AtomicBool>,
    pub reload: Arc<AtomicBool>,
}

impl Lasting {
    /// Whether nothing has run yet.
    pub fn is_new(&self) -> bool {
        self.door.is_none()
    }
}

/// Why the agent stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Terminated,
    /// The settings are to be read again.
    Reload,
}

/// Why it could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to read the token in `{}`", path.display())]
    Token { path: PathBuf, source: io::Error },
    #[error("failed to listen on {addr}")]
    Listen {
        addr: std::net::SocketAddr,
        source: io::Error,
    },
    /// The recorder knows more.
    #[error("{0}")]
    Arm(String),
}

/// What outlives a reload: counters go on, and nobody who connects meanwhile is turned away.
#[derive(Debug, Default)]
pub struct Lasting {
    state: Arc<State>,
    door: Option<Door>,
}

impl Lasting {
    /// What an agent that was killed has left in its data directory is not true any more; to be asked before anything can fail.
    pub fn forget_killed(&self, data: &Path) {
        if self.door.is_none() {
            Door::forget_killed(data);
        }
    }
}

/// Whom an agent works with.
pub struct Staff<'a> {
    /// Opened before anything else in the data directory.
    pub windows: Windows,
    pub recorder: &'a mut dyn Recorder,
    pub owners: Box<dyn Owners>,
    pub outlet: Box<dyn Outlet>,
    pub sinks: Box<dyn Fn() -> Vec<SinkFigures> + Send + Sync>,
    /// With which words `perfprof record` records the same.
    pub deep_words: DeepWords,
    pub symbols: &'a (dyn Fn(Effort) -> SymbolOptions + Sync),
    pub say: &'a dyn Say,
}

impl std::fmt::Debug for Staff<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staff").finish_non_exhaustive()
    }
}

/// Runs until a signal says otherwise.
pub fn run(
    settings: &Settings,
    staff: Staff<'_>,
    signals: &Signals,
    lasting: &mut Lasting,
) -> Result<End, StartError> {
    let Staff {
        windows,
        recorder,
        owners,
        outlet,
        sinks,
        deep_words,
        symbols,
        say,
    } = staff;
    let latest = windows.latest();
    let state = lasting.state.clone();
    tell_disk(&state, &windows, &*outlet);
    let windows = Arc::new(Mutex::new(windows));
    let token = match &settings.token_file {
        Some(path) => Token::read(path),
        None => Token::keep_in(&settings.data),
    };
    let token = token.map_err(|source| StartError::Token {
        path: settings
            .token_file
            .clone()
            .unwrap_or_else(|| settings.data.clone()),
        source,
    })?;
    let addr = settings.listen;
    let door = Door::keep_or_open(&mut lasting.door, addr);
    let door = door.map_err(|source| StartError::Listen { addr, source })?;
    say.info(format!("HTTP at http://{}/", door.addr()));
    // Also when the disk is full, there is somebody to ask.
    if let Err(error) = door.announce(&settings.data) {
        state.error("http-address");
        say.warning(format!("{:#}", anyhow::Error::new(error)));
    }
    let door = &*door;
    let upkeep = Upkeep::new(settings.limits, &state, say);
    let ending = Arc::new(AtomicBool::new(false));
    let deep = DeepRecordings {
        windows: windows.clone(),
        target_words: deep_words,
        state: state.clone(),
        ending: ending.clone(),
        one_at_a_time: Mutex::default(),
    };
    let site = Arc::new(Site {
        state: state.clone(),
        latest,
        token,
        deep: Arc::new(deep),
        max_recording: settings.max_recording,
        sinks,
    });
    let (end_serving, served_until) = watch::channel(false);
    let (to_finish, to_be_finished) = sync_channel(1);
    let ended_ns = AtomicU64::new(0);
    let (ended_ns, grace) = (&ended_ns, settings.grace);
    std::thread::scope(|threads| {
        let mut finishing = Finishing::new(windows, outlet, &state, &upkeep, say, symbols);
        threads.spawn(move || {
            for window in to_be_finished {
                finishing.finish(window);
            }
            let since_ns = monotonic_ns().saturating_sub(ended_ns.load(Ordering::Relaxed));
            finishing.end(grace.saturating_sub(Duration::from_nanos(since_ns)));
        });
        let serving = state.clone();
        threads.spawn(move || {
            if let Err(error) = http::serve(door, site, served_until) {
                serving.error("http");
                say.warning(format!("the HTTP server has ended: {error}"));
            }
        });
        let mut sessions = Sessions {
            recorder,
            services: Services::new(owners),
            window: settings.window,
            stop: signals.stop.clone(),
            state: &state,
            windows: to_finish,
            say,
            number: 0,
            found: Found::default(),
        };
        let ended = record(&mut sessions, &upkeep, signals);
        // Whoever reloads does not wait for others to take what is queued.
        let has_grace = matches!(ended, Ok(End::Terminated));
        ended_ns.store(
            if has_grace { monotonic_ns() } else { 0 },
            Ordering::Relaxed,
        );
        ending.store(true, Ordering::Relaxed);
        // Nothing more is to be finished.
        drop(sessions);
        // Whoever serves has ended already if this fails.
        let _ = end_serving.send(true);
        ended
    })
}

/// What stands on disk already.
fn tell_disk(state: &State, windows: &Windows, outlet: &dyn Outlet) {
    let mut figures = state.figures();
    figures.disk_used_bytes = windows.used_bytes() + windows.cache_bytes() + outlet.waiting_bytes();
    figures.disk_budget_bytes = windows.budget_bytes();
    figures.disk_windows = windows.count() as u64;
}

/// Session after session.
fn record(
    sessions: &mut Sessions<'_>,
    upkeep: &Upkeep<'_>,
    signals: &Signals,
) -> Result<End, StartError> {
    let (mut pause, mut has_begun) = (FIRST_PAUSE, false);
    loop {
        let effort = upkeep.effort();
        let ended = sessions.record(effort, &mut || upkeep.effort());
        sessions.state.figures().recording = false;
        sessions.state.lives();
        match ended {
            Ok(end) => {
                (pause, has_begun) = (FIRST_PAUSE, true);
                if end == SessionEnd::Interrupted
                    && let Some(end) = asked_for(signals)
                {
                    return Ok(end);
                }
            }
            Err(why) if !has_begun || why == ENDED => return Err(StartError::Arm(why)),
            Err(why) => {
                sessions.state.error("recording");
                let why = format!(
                    "cannot record: {why}; trying again in {} s",
                    pause.as_secs()
                );
                sessions.state.figures().trouble = Some(why.clone());
                sessions.say.warning(why);
                if let Some(end) = wait(pause, signals) {
                    return Ok(end);
                }
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }
}

fn asked_for(signals: &Signals) -> Option<End> {
    signals.stop.interrupted.store(false, Ordering::Relaxed);
    if signals.terminate.load(Ordering::Relaxed) {
        return Some(End::Terminated);
    }
    signals
        .reload
        .swap(false, Ordering::Relaxed)
        .then_some(End::Reload)
}

fn wait(pause: Duration, signals: &Signals) -> Option<End> {
    let begun = Instant::now();
    while begun.elapsed() < pause {
        if let Some(end) = asked_for(signals) {
            return Some(end);
        }
        std::thread::sleep(STEP);
    }
    None
}
