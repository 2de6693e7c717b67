//! The thread that records: a sampler is armed, windows are cut, and after some of them everything is begun anew.
//!
//! In: an effort, and flags that signals set. Out: a [`Window`] after the other. Within a session programs, tables and names
//! are kept, and only the ticks change hands; a session ends when the effort changes, and after some time anyway, because
//! whatever is remembered of processes that are long gone goes with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use super::services::{Service, Services, Used};
use super::state::State;
use super::{Effort, Recorder, Say};
use crate::profile::Recording;
use crate::recorder::{Pace, Recorded, RecordingLoop, StopReason, StopSignals};
use crate::sampling::Scope;
use crate::sys::usage::{monotonic_ns, unix_ns};

/// Windows of a session: an hour at a minute each.
const MAX_WINDOWS: u32 = 60;
/// A recording that goes on for days need not know of an end within milliseconds.
const PACE: Pace = Pace {
    poll_ms: 250,
    news_poll_ms: 25,
    observe_ns: 1_000_000_000,
};

/// Nothing that is recorded would be kept.
pub(super) const ENDED: &str = "the thread that writes windows has ended";

/// What a window brought, on its way to being named and written.
#[derive(Debug)]
pub(super) struct Window {
    /// Names are kept as long as this stays the same.
    pub session: u64,
    pub effort: Effort,
    pub started_unix_ns: u64,
    pub recorded: Recorded,
    pub recording: Recording,
    pub by_pid: HashMap<u32, Arc<Service>>,
    pub nobody: Arc<Service>,
    pub used: BTreeMap<Arc<Service>, Used>,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// A signal asked for something.
    Interrupted,
    /// Another effort is to be made, or it has lasted long enough.
    Anew,
}

/// What sessions have in common.
pub(super) struct Sessions<'a> {
    pub recorder: &'a mut dyn Recorder,
    pub services: Services,
    pub window: Duration,
    pub stop: StopSignals,
    pub state: &'a State,
    pub windows: SyncSender<Window>,
    pub say: &'a dyn Say,
    pub number: u64,
    pub found: Found,
}

/// Whether there was anything to record so far: a wrong name looks like a service that sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    #[default]
    NotLookedFor,
    Nothing,
    Something,
}

impl Found {
    fn look(&mut self, processes: usize, say: &dyn Say) {
        match (*self, processes) {
            (Found::NotLookedFor, 0) => {
                *self = Found::Nothing;
                say.warning("nothing matches yet; waiting".into());
            }
            (Found::Nothing, 1..) => {
                *self = Found::Something;
                say.info("found something to record".into());
            }
            (Found::NotLookedFor, _) => *self = Found::Something,
            _ => {}
        }
    }
}

impl Sessions<'_> {
    /// Records until something else is to be done. `next` is asked after each window for the effort of the next.
    pub fn record(
        &mut self,
        effort: Effort,
        next: &mut dyn FnMut() -> Effort,
    ) -> Result<SessionEnd, String> {
        self.number += 1;
        let (mut sampler, sampling) = self.recorder.arm(effort)?;
        let sampler = &mut *sampler;
        let mut recording = RecordingLoop::new(&sampling, None, self.stop.clone()).at_pace(PACE);
        recording
            .begin(sampler)
            .map_err(|error| error.to_string())?;
        let pids = sampling.scope.current_pids();
        if sampling.scope != Scope::All {
            self.found.look(pids.len(), self.say);
        }
        self.services.seen(&pids);
        self.begun(effort);
        for number in 1.. {
            let (started_ns, started_unix_ns) = (monotonic_ns(), unix_ns());
            let until_ns = started_ns + self.window.as_nanos() as u64;
            let (services, state) = (&mut self.services, self.state);
            let (found, say) = (&mut self.found, self.say);
            let observed = recording.until(sampler, until_ns, &mut |progress| {
                found.look(progress.new_pids.len(), say);
                services.seen(&progress.new_pids);
                services.forked(&progress.forks);
                services.read_gauges();
                state.lives();
            });
            let reason = observed.map_err(|error| error.to_string())?;
            // Decided now, so that the last window of a session is read to its end.
            let goes_on = reason == StopReason::Cut && number < MAX_WINDOWS && next() == effort;
            let window = |recorded: Recorded, sessions: &mut Self| {
                let alive = sampling.scope.current_pids();
                sessions.state.figures().target_processes = alive.len() as u64;
                sessions.services.seen(&recorded.new_pids);
                sessions.services.forked(&recorded.forks);
                let (by_pid, used) = sessions.services.cut(&alive);
                Window {
                    session: sessions.number,
                    effort,
                    started_unix_ns,
                    recording: sessions.recorder.describe(&sampling, &recorded),
                    recorded,
                    by_pid,
                    nobody: sessions.services.nobody(),
                    used,
                }
            };
            if goes_on {
                let recorded = recording.cut(sampler).map_err(|error| error.to_string())?;
                let not_followed = recorded.not_followed;
                let window = window(recorded, self);
                self.hand_on(window)?;
                if not_followed == 0 {
                    continue;
                }
            }
            let recorded = recording.finish(sampler, reason);
            let recorded = recorded.map_err(|error| error.to_string())?;
            let window = window(recorded, self);
            // Nothing is being recorded that could be missed.
            self.windows.send(window).map_err(|_| ENDED.to_owned())?;
            return Ok(match reason {
                StopReason::Interrupted => SessionEnd::Interrupted,
                _ => SessionEnd::Anew,
            });
        }
        Ok(SessionEnd::Anew)
    }

    fn begun(&self, effort: Effort) {
        let mut figures = self.state.figures();
        figures.recording = true;
        figures.frequency_hz = effort.frequency_hz;
        figures.trouble = None;
    }

    /// Whoever writes may be slow; recording does not wait.
    fn hand_on(&self, window: Window) -> Result<(), String> {
        match self.windows.try_send(window) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                *self
                    .state
                    .figures()
                    .windows_dropped
                    .entry("busy")
                    .or_default() += 1;
                self.say.warning(
                    "a window was dropped: the one before it is still being written".into(),
                );
            }
            Err(TrySendError::Disconnected(_)) => return Err(ENDED.to_owned()),
        }
        Ok(())
    }
}
