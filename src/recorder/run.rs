//! The loop itself: read, put in order, follow the processes, walk, count, until it is time to stop. A recording may be
//! cut into windows: each brings what came since the cut before, and the processes, their tables and the sampler go on.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sampling::{Losses, Sampler, SamplingError, SamplingPlan, Scope};
use crate::sys::bpf::RunStatistics;
use crate::sys::usage::monotonic_ns;
use crate::target::binary::Binary;
use crate::target::jit::{CodeNames, MapProblems};
use crate::target::process;

use super::accounting::{Accountant, pids_now};
use super::filter::TargetFilter;
use super::interpret::Interpreter;
use super::jvms::{self, JvmAsked};
use super::kernel_tables::{KernelTables, KernelWalks};
use super::off_cpu::OffCpu;
use super::order::TimeOrder;
use super::recent::RecentStacks;
use super::selected::Selected;
use super::tally::{RawFrame, Tally};

/// Length of a time slice: short enough that ten seconds give a hundred blocks for statistics.
pub const SLICE_NS: u64 = 100_000_000;

const POLL_MS: u64 = 50;

/// Longest wait for ends of threads: RCU grace periods take some ten milliseconds, more on a busy machine.
const MAX_GRACE_NS: u64 = 200_000_000;

/// Longest wait while it is known that a process has changed, but not yet how.
const NEWS_POLL_MS: u64 = 1;

/// How often a loop wakes up without being woken, and reports: what a recording that goes on for days can leave out.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Longest wait for records; also how often ends of targets and signals are noticed.
    pub poll_ms: u64,
    /// The same while it is known that a process has changed, but not yet how.
    pub news_poll_ms: u64,
    /// How often the observer hears of progress.
    pub observe_ns: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            poll_ms: POLL_MS,
            news_poll_ms: NEWS_POLL_MS,
            observe_ns: 100_000_000,
        }
    }
}

/// How often threads are looked at where their ends are not reported.
const LOOK_NS: u64 = 500_000_000;

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    Duration,
    Interrupted,
    TargetExited,
    /// The window is over, and the recording goes on.
    Cut,
}

/// What asks the loop to stop from outside: set by signal handlers.
#[derive(Clone, Debug, Default)]
pub struct StopSignals {
    pub interrupted: Arc<AtomicBool>,
}

/// How far the recording is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub elapsed_ns: u64,
    pub samples: u64,
    pub complete: u64,
    pub lost: u64,
    /// Processes that have joined the target since the last report.
    pub new_pids: Vec<u32>,
    /// Processes and who forked them, since the last report; of those that the loop follows.
    pub forks: Vec<(u32, u32)>,
    /// Frames that were seen first since the last report; and all binaries so far, where there are such frames.
    pub new_frames: Vec<RawFrame>,
    pub binaries: Vec<Arc<Binary>>,
}

/// Everything a recording, or a window of it, brought, before names.
#[derive(Debug)]
pub struct Recorded {
    pub tally: Tally,
    pub binaries: Vec<Arc<Binary>>,
    /// Of the frames in generated code.
    pub generated: CodeNames,
    pub map_problems: MapProblems,
    /// Where they were to be asked.
    pub jvms: Vec<JvmAsked>,
    pub accountant: Accountant,
    pub counts: SamplerCounts,
    pub stopped_by: StopReason,
    pub duration_ns: u64,
    pub processes_seen: usize,
    /// Processes of the target that were alive at the end.
    pub left_running: Vec<u32>,
    pub bpf: Option<RunStatistics>,
    /// Where stacks were walked in the kernel by tables.
    pub kernel_walks: Option<KernelWalks>,
    /// Processes of a selection that the sampler could not take in while running.
    pub not_followed: u64,
    /// What no observer has been told of: [`Progress::new_pids`], [`Progress::forks`].
    pub new_pids: Vec<u32>,
    pub forks: Vec<(u32, u32)>,
}

/// What the sampler itself counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct SamplerCounts {
    pub losses: Losses,
    /// Whether ends of threads were reported.
    pub exits_reported: bool,
    /// CPU time counted by the sampling events, where exits are not reported.
    pub counted_cpu_ns: Option<u64>,
}

impl SamplerCounts {
    fn of(sampler: &dyn Sampler) -> SamplerCounts {
        SamplerCounts {
            losses: sampler.losses(),
            exits_reported: sampler.reports_exits(),
            counted_cpu_ns: sampler.counted_cpu_ns(),
        }
    }

    fn since(self, before: SamplerCounts) -> SamplerCounts {
        let counted = |now: u64| now.saturating_sub(before.counted_cpu_ns.unwrap_or(0));
        SamplerCounts {
            losses: self.losses.since(before.losses),
            exits_reported: self.exits_reported,
            counted_cpu_ns: self.counted_cpu_ns.map(counted),
        }
    }
}

/// The state of a running recording.
#[derive(Debug)]
pub struct RecordingLoop<'a> {
    pub(super) plan: &'a SamplingPlan,
    duration_ns: Option<u64>,
    stop: StopSignals,
    pace: Pace,
    /// Whether Java virtual machines are to write maps.
    asks_jvms: bool,
    jvms_before: Vec<JvmAsked>,
    pub(super) filter: TargetFilter,
    /// Where the target is whatever a selection lists.
    selected: Option<Selected>,
    pub(super) interpreter: Interpreter,
    pub(super) tables: KernelTables,
    order: TimeOrder,
    pub(super) tally: Tally,
    pub(super) recent: RecentStacks,
    pub(super) accountant: Accountant,
    /// Where the sampler keeps books.
    pub(super) off_cpu: Option<OffCpu>,
    /// When the recording, or its present window, began.
    pub(super) begun_ns: u64,
    /// What the sampler had counted by then.
    counts_before: SamplerCounts,
    pub(super) new_pids: Vec<u32>,
    pub(super) forks: Vec<(u32, u32)>,
    /// Frames the observer has heard of.
    frames_told: usize,
    /// A target process that was alive when last looked at.
    last_alive: Option<u32>,
}

impl<'a> RecordingLoop<'a> {
    /// Takes stock of the target. The sampler is armed already, so that nothing escapes between.
    pub fn new(plan: &'a SamplingPlan, duration: Option<Duration>, stop: StopSignals) -> Self {
        let alive = plan.scope.current_pids();
        let mut interpreter = Interpreter::default();
        alive
            .iter()
            .for_each(|pid| interpreter.processes.read(*pid));
        RecordingLoop {
            plan,
            duration_ns: duration.map(|d| d.as_nanos() as u64),
            stop,
            pace: Pace::default(),
            asks_jvms: false,
            jvms_before: Vec::new(),
            filter: TargetFilter::new(&plan.scope, &alive),
            selected: match &plan.scope {
                Scope::Selected(list) => Some(Selected::new(list.clone(), &alive)),
                _ => None,
            },
            interpreter,
            tables: KernelTables::default(),
            order: TimeOrder::default(),
            tally: Tally::default(),
            recent: RecentStacks::default(),
            accountant: Accountant::default(),
            off_cpu: None,
            begun_ns: 0,
            counts_before: SamplerCounts::default(),
            new_pids: Vec::new(),
            forks: Vec::new(),
            frames_told: 0,
            last_alive: None,
        }
    }

    /// Also has Java virtual machines write their perf maps, before and after.
    pub fn asking_jvms(mut self, yes: bool) -> Self {
        self.asks_jvms = yes;
        self
    }

    /// Wakes up as often as `pace` says.
    pub fn at_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Samples until told to stop. `go` is called once ticks are being taken, and lets a held child run.
    pub fn run(
        mut self,
        sampler: &mut dyn Sampler,
        go: impl FnOnce() -> std::io::Result<()>,
        observe: &mut dyn FnMut(&Progress),
    ) -> Result<Recorded, RunError> {
        self.begin(sampler)?;
        go().map_err(RunError::Release)?;
        let stopped_by = self.until_stopped(sampler, observe)?;
        Ok(self.finish(sampler, stopped_by)?)
    }

    /// Begins to take ticks.
    pub fn begin(&mut self, sampler: &mut dyn Sampler) -> Result<(), SamplingError> {
        if self.asks_jvms {
            self.jvms_before = jvms::ask(&self.interpreter.processes, &[]);
        }
        self.tables = KernelTables::of(sampler);
        for pid in self.target_pids() {
            self.tables.changed(pid);
        }
        self.tables.upload(&self.interpreter.processes);
        self.tables.build_aside();
        self.accountant = Accountant::begin(&self.plan.scope.current_pids());
        self.begun_ns = monotonic_ns();
        self.off_cpu = sampler
            .take_books()
            .map(|maps| OffCpu::begin(maps, self.begun_ns, SLICE_NS, self.plan.quota_period_ns));
        sampler.start()
    }

    /// Ends the window: hands out what it brought and begins the next, without a tick between them. Not while waits are
    /// recorded.
    pub fn cut(&mut self, sampler: &mut dyn Sampler) -> Result<Recorded, SamplingError> {
        // What had been read is certain once more has.
        self.read_batch(sampler)?;
        self.read_batch(sampler)?;
        let ended_ns = monotonic_ns();
        let pids = self.target_pids();
        self.accountant.look(&pids);
        let accountant = self.accountant.cut(&pids);
        let counts = SamplerCounts::of(sampler);
        let generated = &self.interpreter.processes.generated;
        let tally = std::mem::take(&mut self.tally);
        let recorded = Recorded {
            generated: generated.names_of(tally.generated_code()),
            map_problems: generated.problems(),
            jvms: Vec::new(),
            left_running: Vec::new(),
            processes_seen: tally.processes_seen(),
            binaries: self.interpreter.processes.binaries.all().to_vec(),
            tally,
            accountant,
            counts: counts.since(self.counts_before),
            stopped_by: StopReason::Cut,
            duration_ns: ended_ns - self.begun_ns,
            bpf: sampler.bpf_statistics(),
            kernel_walks: None,
            not_followed: self.selected.as_ref().map_or(0, Selected::not_followed),
            new_pids: std::mem::take(&mut self.new_pids),
            forks: std::mem::take(&mut self.forks),
        };
        self.counts_before = counts;
        self.recent = RecentStacks::default();
        self.frames_told = 0;
        self.begun_ns = ended_ns;
        Ok(recorded)
    }

    /// Stops ticking, and reads what is left.
    pub fn finish(
        mut self,
        sampler: &mut dyn Sampler,
        stopped_by: StopReason,
    ) -> Result<Recorded, SamplingError> {
        let ended_ns = monotonic_ns();
        if let Some(off_cpu) = &mut self.off_cpu {
            off_cpu.end(ended_ns);
        }
        self.accountant.look(&self.target_pids());
        let left_running = self
            .target_pids()
            .into_iter()
            .filter(|pid| process::is_alive(*pid));
        let left_running = left_running.collect();
        sampler.stop_ticks();
        self.read_rest(sampler)?;
        let jvms = match self.asks_jvms {
            true => jvms::ask(&self.interpreter.processes, &self.jvms_before),
            false => Vec::new(),
        };
        if let Some(off_cpu) = self.off_cpu.take() {
            let figures = sampler.wait_figures().unwrap_or_default();
            let interpreter = &self.interpreter;
            let off_cpu = off_cpu.finish(&mut self.tally, figures, |pid, tid| {
                interpreter.known_thread(pid, tid)
            });
            self.tally.off_cpu = Some(off_cpu);
        }
        let mut generated = std::mem::take(&mut self.interpreter.processes.generated);
        generated.look_for_the_last_time();
        Ok(Recorded {
            generated: generated.names_of(self.tally.generated_code()),
            map_problems: generated.problems(),
            jvms,
            left_running,
            processes_seen: self.interpreter.processes.pids_seen(),
            binaries: self.interpreter.processes.binaries.all().to_vec(),
            tally: self.tally,
            accountant: self.accountant,
            counts: SamplerCounts::of(sampler).since(self.counts_before),
            stopped_by,
            duration_ns: ended_ns - self.begun_ns,
            bpf: sampler.bpf_statistics(),
            kernel_walks: self.tables.finish(sampler),
            not_followed: self.selected.as_ref().map_or(0, Selected::not_followed),
            new_pids: self.new_pids,
            forks: self.forks,
        })
    }

    /// Samples until `until_ns`, and answers why it stopped: [`StopReason::Cut`] then, or earlier for another reason.
    pub fn until(
        &mut self,
        sampler: &mut dyn Sampler,
        until_ns: u64,
        observe: &mut dyn FnMut(&Progress),
    ) -> Result<StopReason, SamplingError> {
        self.duration_ns = Some(until_ns.saturating_sub(self.begun_ns));
        match self.until_stopped(sampler, observe)? {
            StopReason::Duration => Ok(StopReason::Cut),
            reason => Ok(reason),
        }
    }

    fn until_stopped(
        &mut self,
        sampler: &mut dyn Sampler,
        observe: &mut dyn FnMut(&Progress),
    ) -> Result<StopReason, SamplingError> {
        let (mut observe_at, mut look_at) = (self.begun_ns, self.begun_ns + LOOK_NS);
        loop {
            self.wait(&sampler.wakeup_fds());
            self.read_batch(sampler)?;
            let now = monotonic_ns();
            self.follow_selection(sampler, now)?;
            if now >= observe_at {
                observe_at = now + self.pace.observe_ns;
                sampler.adapt(now);
                observe(&self.progress(sampler, now));
            }
            if !sampler.reports_exits() && now >= look_at {
                look_at = now + LOOK_NS;
                let pids = self.target_pids();
                self.accountant.look(&pids);
            }
            if let Some(reason) = self.reason_to_stop(now) {
                observe(&self.progress(sampler, now));
                return Ok(reason);
            }
        }
    }

    /// Waits for a full ring, a signal or the end of the interval.
    fn wait(&self, fds: &[BorrowedFd]) {
        let news = self.tables.are_used() && self.order.holds_back_news();
        let longest_ms = if news || self.tables.is_building() {
            self.pace.news_poll_ms
        } else {
            self.pace.poll_ms
        };
        let left_ms = self.duration_ns.map_or(longest_ms, |duration_ns| {
            (self.begun_ns + duration_ns).saturating_sub(monotonic_ns()) / 1_000_000
        });
        let timeout = PollTimeout::from(left_ms.min(longest_ms) as u16);
        let mut fds: Vec<PollFd> = fds
            .iter()
            .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
            .collect();
        // A signal ends the wait early; anything else shows when the rings are read.
        let _ = poll(&mut fds, timeout);
    }

    fn read_batch(&mut self, sampler: &mut dyn Sampler) -> Result<(), SamplingError> {
        // What the maps of generated code say by now was there when the events of the batch before came.
        self.interpreter.processes.generated.look();
        let mut batch = Vec::new();
        sampler.read(&mut batch)?;
        let mut order = std::mem::take(&mut self.order);
        order.batch(&mut batch, |timed| self.take(timed));
        self.order = order;
        self.tables.upload(&self.interpreter.processes);
        Ok(())
    }

    /// What is still in the rings; and the ends of threads, which come a grace period late.
    fn read_rest(&mut self, sampler: &mut dyn Sampler) -> Result<(), SamplingError> {
        let deadline_ns = monotonic_ns() + MAX_GRACE_NS;
        loop {
            self.read_batch(sampler)?;
            let mut order = std::mem::take(&mut self.order);
            order.finish(|timed| self.take(timed));
            if !self.accountant.waits_for_ends() || monotonic_ns() > deadline_ns {
                break;
            }
            std::thread::sleep(Duration::from_millis(POLL_MS / 10));
        }
        self.accountant.settle_ends();
        Ok(())
    }

    fn progress(&mut self, sampler: &dyn Sampler, now: u64) -> Progress {
        let new_frames = self.tally.frames()[self.frames_told..].to_vec();
        self.frames_told += new_frames.len();
        let binaries = match new_frames.is_empty() {
            true => Vec::new(),
            false => self.interpreter.processes.binaries.all().to_vec(),
        };
        Progress {
            new_frames,
            binaries,
            new_pids: std::mem::take(&mut self.new_pids),
            forks: std::mem::take(&mut self.forks),
            elapsed_ns: now - self.begun_ns,
            samples: self.tally.ticks(),
            complete: self.tally.complete(),
            lost: sampler.losses().lost,
        }
    }

    fn reason_to_stop(&mut self, now: u64) -> Option<StopReason> {
        if self.stop.interrupted.load(Ordering::Relaxed) {
            return Some(StopReason::Interrupted);
        }
        if self
            .duration_ns
            .is_some_and(|duration_ns| now >= self.begun_ns + duration_ns)
        {
            return Some(StopReason::Duration);
        }
        let TargetFilter::Pids(pids) = &self.filter else {
            return None;
        };
        // A selection may be empty for a while.
        if self.selected.is_some() {
            return None;
        }
        if self.last_alive.is_none_or(|pid| !process::is_alive(pid)) {
            self.last_alive = pids.iter().copied().find(|pid| process::is_alive(*pid));
        }
        self.last_alive
            .is_none()
            .then_some(StopReason::TargetExited)
    }

    /// Takes in what a selection lists newly, and lets go of what it no longer lists.
    fn follow_selection(
        &mut self,
        sampler: &mut dyn Sampler,
        now_ns: u64,
    ) -> Result<(), SamplingError> {
        let Some(selected) = &mut self.selected else {
            return Ok(());
        };
        let change = selected.look(now_ns, |pid| self.filter.contains(pid));
        for pid in change.joined {
            if !sampler.add_target(pid)? {
                self.selected.as_mut().map(Selected::could_not_follow);
                continue;
            }
            self.filter.joined(pid);
            self.accountant.joined(pid);
            self.interpreter.processes.read(pid);
            self.tables.changed(pid);
            self.new_pids.push(pid);
        }
        for pid in change.left {
            sampler.remove_target(pid)?;
            self.accountant.left(pid);
            self.filter.ended(pid);
            self.tables.ended(pid);
        }
        Ok(())
    }

    fn target_pids(&self) -> Vec<u32> {
        match &self.filter {
            TargetFilter::All => pids_now(&self.plan.scope, &[]),
            TargetFilter::Pids(pids) | TargetFilter::Name { pids, .. } => {
                pids.iter().copied().collect()
            }
        }
    }
}

/// Why a recording had to be given up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    #[error("failed to let the command run")]
    Release(#[source] std::io::Error),
}
