//! The thread that makes windows readable: names, one profile for each service, files, and copies for whoever they are pushed
//! to.
//!
//! In: a [`Window`] as it was recorded. Out: a directory under `windows/`, figures, and an offer to the sinks. A full disk costs
//! the oldest windows; what cannot be written all the same is dropped and counted.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::Say;
use super::services::{Service, Used};
use super::session::Window;
use super::state::State;
use super::upkeep::{Upkeep, WindowCost};
use super::windows::{self, Windows, locked};
use crate::analysis::{Analysis, Thresholds};
use crate::artifacts::{self, ArtifactError, ArtifactRoot, Export, write_atomic};
use crate::capacity::Planning;
use crate::profile::{Accounting, Profile, ProfileBuilder, Recording, SelfCost};
use crate::render::{flamegraph, units};
use crate::store::pprof;
use crate::symbolize::options::SymbolOptions;
use crate::symbolize::{KeptNames, KernelNames, Places};
use crate::sys::usage::{give_back_memory, monotonic_ns};
use crate::target::gauges::Gauges;

/// Services with a section in the report, those that used most; the others have their profile only, because drawing costs
/// more than recording.
const MAX_REPORTED: usize = 8;

/// A profile is written once for the window and once for each sink.
const MOST_COPIES: u64 = 5;

/// What one service brought in a window.
#[derive(Debug)]
pub struct Offer<'a> {
    pub service: &'a Service,
    pub started_unix_ns: u64,
    pub duration_ns: u64,
    pub pprof_gz: &'a [u8],
}

/// A sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkNews {
    Fails(String),
    Works(String),
}

/// Where profiles go besides the disk.
pub trait Outlet: Send {
    fn offer(&mut self, offer: &Offer<'_>) -> io::Result<()>;
    /// Bytes of what waits to be sent.
    fn waiting_bytes(&self) -> u64;
    /// What has happened to the sinks since this was last asked.
    fn news(&mut self) -> Vec<SinkNews>;
    /// Sends what can be sent in that time; the rest waits for the next start.
    fn finish(self: Box<Self>, within: Duration);
}

/// A profile of one service, judged.
struct Finished {
    service: Arc<Service>,
    profile: Profile,
    analysis: Analysis,
    /// Of the profile, once it is complete.
    pprof_gz: Vec<u8>,
}

/// The state of the thread.
pub(super) struct Finishing<'a> {
    pub windows: Arc<Mutex<Windows>>,
    pub outlet: Box<dyn Outlet>,
    pub state: &'a State,
    pub upkeep: &'a Upkeep<'a>,
    pub say: &'a dyn Say,
    pub symbols: &'a (dyn Fn(super::Effort) -> SymbolOptions + Sync),
    names: Option<(u64, KeptNames)>,
}

impl<'a> Finishing<'a> {
    pub fn new(
        windows: Arc<Mutex<Windows>>,
        outlet: Box<dyn Outlet>,
        state: &'a State,
        upkeep: &'a Upkeep<'a>,
        say: &'a dyn Say,
        symbols: &'a (dyn Fn(super::Effort) -> SymbolOptions + Sync),
    ) -> Finishing<'a> {
        Finishing {
            windows,
            outlet,
            state,
            upkeep,
            say,
            symbols,
            names: None,
        }
    }

    /// From what was recorded to files.
    pub fn finish(&mut self, window: Window) {
        self.finish_all(window);
        give_back_memory();
    }

    fn finish_all(&mut self, window: Window) {
        let begun_ns = monotonic_ns();
        let started_unix_ns = window.started_unix_ns;
        let duration_ns = window.recorded.duration_ns;
        let bpf_run_ns = window.recorded.bpf.map_or(0, |bpf| bpf.run_ns);
        let session = window.session;
        self.tell_of_sinks();
        let finished = self.profiles(window);
        let cost = self.account(session, duration_ns, bpf_run_ns);
        let judged = finished
            .iter()
            .map(|f| (&f.service, &f.profile, &f.analysis.coverage));
        self.state.figures().add_window(&judged.collect::<Vec<_>>());
        self.state.figures().last_window_unix_ns = Some(started_unix_ns + duration_ns);
        if finished.is_empty() {
            self.rotate();
            self.tell_disk();
            return;
        }
        let finished = with_cost(finished, cost, monotonic_ns() - begun_ns);
        self.make_room(&finished);
        self.offer(&finished, started_unix_ns, duration_ns);
        self.write(&finished, started_unix_ns, duration_ns);
        self.rotate();
        self.tell_disk();
    }

    /// The oldest windows give way before the disk is full: whoever queues a profile has nothing else to give up.
    fn make_room(&self, finished: &[Finished]) {
        let profiles: usize = finished.iter().map(|part| part.pprof_gz.len()).sum();
        let dropped = locked(&self.windows).make_room(MOST_COPIES * profiles as u64);
        self.dropped("disk-full", dropped);
    }

    fn rotate(&self) {
        let waiting_bytes = self.outlet.waiting_bytes();
        let dropped = {
            let mut windows = locked(&self.windows);
            let others_bytes = waiting_bytes + windows.cache_bytes();
            windows.rotate(others_bytes)
        };
        self.dropped("rotation", dropped);
    }

    fn tell_disk(&self) {
        let mut figures = self.state.figures();
        let windows = locked(&self.windows);
        figures.disk_used_bytes =
            windows.used_bytes() + windows.cache_bytes() + self.outlet.waiting_bytes();
        figures.disk_budget_bytes = windows.budget_bytes();
        figures.disk_windows = windows.count() as u64;
    }

    /// Splits the window by service, names what is new, and judges.
    fn profiles(&mut self, window: Window) -> Vec<Finished> {
        let Window {
            session,
            effort,
            started_unix_ns,
            recorded,
            recording,
            by_pid,
            nobody,
            mut used,
        } = window;
        // What has one name is one service, also when a container of that name has followed another.
        let mut by_name: HashMap<&str, &Arc<Service>> = HashMap::new();
        for service in by_pid.values().chain([&nobody]) {
            let same = by_name.entry(&service.name).or_insert(service);
            *same = (*same).max(service);
        }
        let owner =
            |pid: u32| Arc::clone(by_name[by_pid.get(&pid).unwrap_or(&nobody).name.as_str()]);
        let names = self.names(session, effort);
        let places = Places {
            binaries: &recorded.binaries,
            generated: &recorded.generated,
            kernel: KernelNames::inspect(),
        };
        let accounting = recorded.accountant.finish(recorded.counts, None);
        let all_ticks = recorded.tally.ticks().max(1);
        let parts = recorded.tally.split(|thread| owner(thread.pid));
        let several = parts.len() > 1;
        let mut finished = Vec::new();
        for (service, tally) in parts {
            let share = tally.ticks() as f64 / all_ticks as f64;
            let Used { capacity, cgroup } = used.remove(&service).unwrap_or_else(|| Used {
                capacity: Gauges::open(&[]).finish(),
                cgroup: None,
            });
            let own = Accounting {
                cgroup,
                ..part_of(&accounting, share, several, |pid| owner(pid) == service)
            };
            let recording = Recording {
                service: service.name.clone(),
                started_unix_ns,
                duration_ns: recorded.duration_ns,
                threads_seen: tally.threads_seen() as u32,
                capacity: (!capacity.points.is_empty()).then_some(capacity),
                ..recording.clone()
            };
            let mut builder = ProfileBuilder::default();
            names.name_into(&mut builder, tally, &places);
            let profile = builder.build(recording, own);
            let analysis = Analysis::of(&profile, &Thresholds::default());
            finished.push(Finished {
                service,
                profile,
                analysis,
                pprof_gz: Vec::new(),
            });
        }
        finished.sort_by_key(|f| std::cmp::Reverse(f.profile.total_cpu_ns()));
        finished
    }

    /// Those of the session, whose binaries have numbers of their own.
    fn names(&mut self, session: u64, effort: super::Effort) -> &mut KeptNames {
        let serves = |(of, names): &(u64, KeptNames)| *of == session && !names.are_many();
        if !self.names.as_ref().is_some_and(serves) {
            if let Some((_, names)) = self.names.take() {
                let naming = names.finish();
                self.upkeep.former_workers(naming.cost.cpu_ns);
            }
            self.names = Some((session, KeptNames::new(&(self.symbols)(effort))));
        }
        &mut self.names.as_mut().expect("just made").1
    }

    /// What the window cost; and workers that were not needed give back their memory.
    fn account(&mut self, session: u64, duration_ns: u64, bpf_run_ns: u64) -> WindowCost {
        let mut workers = (0, Vec::new());
        if let Some((_, names)) = &mut self.names {
            workers = (names.cost().cpu_ns, names.worker_pids());
        }
        let cost = self
            .upkeep
            .window(session, duration_ns, bpf_run_ns, workers.0, &workers.1);
        if let Some((_, names)) = &mut self.names
            && !cost.workers_were_asked
        {
            names.rest();
        }
        cost
    }

    fn tell_of_sinks(&mut self) {
        for news in self.outlet.news() {
            match news {
                SinkNews::Fails(sentence) => self.say.warning(sentence),
                SinkNews::Works(sentence) => self.say.info(sentence),
            }
        }
    }

    fn offer(&mut self, finished: &[Finished], started_unix_ns: u64, duration_ns: u64) {
        for part in finished {
            let offer = Offer {
                service: &part.service,
                started_unix_ns,
                duration_ns,
                pprof_gz: &part.pprof_gz,
            };
            if let Err(error) = self.outlet.offer(&offer) {
                self.state.error("queue");
                self.trouble(format!("failed to queue a profile: {error}"));
            }
        }
    }

    /// Writes the window, at the cost of older ones where the disk is full.
    fn write(&mut self, finished: &[Finished], started_unix_ns: u64, duration_ns: u64) {
        loop {
            match self.try_write(finished, started_unix_ns, duration_ns) {
                Ok(()) => break,
                Err(error) if is_full(&error) && locked(&self.windows).drop_oldest() => {
                    self.dropped("disk-full", 1);
                }
                Err(error) => {
                    self.dropped(
                        if is_full(&error) {
                            "disk-full"
                        } else {
                            "not-written"
                        },
                        1,
                    );
                    let error = anyhow::Error::new(error);
                    self.trouble(format!("a window was dropped: {error:#}"));
                    return;
                }
            }
        }
        self.state.figures().trouble = None;
    }

    fn try_write(
        &mut self,
        finished: &[Finished],
        started_unix_ns: u64,
        duration_ns: u64,
    ) -> Result<(), ArtifactError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ArtifactError::Io {
                action: "write",
                path,
                source,
            }
        };
        let windows = locked(&self.windows).windows();
        let begun = locked(&self.windows).begin(started_unix_ns);
        let unfinished = begun.map_err(io(&windows))?;
        let root = ArtifactRoot::open(unfinished.path())?;
        for (ix, part) in finished.iter().enumerate() {
            if ix < MAX_REPORTED {
                let extra =
                    artifacts::with_capacity(&part.profile, &part.analysis, &Planning::default());
                let exports = self.exports(part);
                artifacts::publish(
                    &root,
                    &part.profile,
                    &part.analysis,
                    extra,
                    &exports,
                    started_unix_ns,
                )?;
            } else {
                let stamp = artifacts::basic_stamp(started_unix_ns);
                let name = format!("{}-{stamp}.pb.gz", artifacts::slug(&part.service.name));
                write_atomic(&root.diagnostics().join(name), &part.pprof_gz)?;
            }
        }
        let document = format!("{:#}\n", document(finished, started_unix_ns, duration_ns));
        write_atomic(&unfinished.path().join("window.json"), document.as_bytes())?;
        let finished = locked(&self.windows).finish(unfinished);
        finished.map_err(io(&windows))?;
        Ok(())
    }

    /// The profile, and its picture; one that cannot be drawn is told and counted.
    fn exports(&self, part: &Finished) -> Vec<Export> {
        let mut exports = vec![Export {
            extension: "pb.gz".into(),
            bytes: part.pprof_gz.clone(),
        }];
        if part.profile.total_count() == 0 {
            return exports;
        }
        match flamegraph::render(&part.profile) {
            Ok(svg) => exports.push(Export {
                extension: "svg".into(),
                bytes: svg.into_bytes(),
            }),
            Err(error) => {
                self.state.error("picture");
                self.say.warning(format!(
                    "failed to draw the flame graph of `{}`: {error}",
                    part.service.name
                ));
            }
        }
        exports
    }

    fn dropped(&self, reason: &'static str, count: u64) {
        if count > 0 {
            *self
                .state
                .figures()
                .windows_dropped
                .entry(reason)
                .or_default() += count;
        }
    }

    fn trouble(&self, message: String) {
        self.state.figures().trouble = Some(message.clone());
        self.say.warning(message);
    }

    /// The agent ends: names that were found are kept for the next, and what waits to be sent gets some time.
    pub fn end(self, within: Duration) {
        if let Some((_, names)) = self.names {
            names.finish();
        }
        self.outlet.finish(within);
    }
}

/// The part of the accounting that concerns some processes. Whose the lost samples were is not known.
fn part_of(
    all: &Accounting,
    share: f64,
    several: bool,
    is_own: impl Fn(u32) -> bool,
) -> Accounting {
    let mut part = all.clone();
    if !several {
        return part;
    }
    part.threads.retain(|thread| is_own(thread.pid));
    let of_lost = |lost: u64| (lost as f64 * share).ceil() as u64;
    (part.lost, part.throttled) = (of_lost(all.lost), of_lost(all.throttled));
    part.unattributed_cpu_ns = of_lost(all.unattributed_cpu_ns);
    if all.lost + all.throttled + all.unattributed_cpu_ns > 0 {
        part.gaps.push(
            "what was lost is spread over the services of the window by their samples".into(),
        );
    }
    part
}

/// Every section says what the whole agent cost; with that, the profile is complete.
fn with_cost(mut finished: Vec<Finished>, cost: WindowCost, finish_ns: u64) -> Vec<Finished> {
    for part in &mut finished {
        part.profile.recording.self_cost = SelfCost {
            cpu_ns: cost.cpu_ns,
            max_rss_bytes: cost.memory_bytes,
            bpf_run_ns: Some(cost.bpf_run_ns),
            bpf_runs: None,
            finish_ns,
        };
        part.pprof_gz = pprof::encode(&part.profile);
    }
    finished
}

/// `window.json`: which services, with which labels and verdicts.
fn document(finished: &[Finished], started_unix_ns: u64, duration_ns: u64) -> Value {
    let services = finished.iter().map(|part| {
        json!({
            "service": part.service.name,
            "labels": part.service.labels,
            "ticks": part.profile.total_count(),
            "cpu_seconds": part.profile.total_cpu_ns() as f64 / 1e9,
            "frequency_hz": part.profile.recording.frequency_hz,
            "verdict": part.analysis.coverage.verdict.id(),
        })
    });
    json!({
        "schema": "perfprof.window",
        "schema_version": 1,
        "started_at": units::timestamp(started_unix_ns),
        "duration_seconds": duration_ns as f64 / 1e9,
        "services": services.collect::<Vec<_>>(),
    })
}

fn is_full(error: &ArtifactError) -> bool {
    match error {
        ArtifactError::Io { source, .. } => windows::is_full(source),
        ArtifactError::WrongKind { .. } => false,
    }
}
