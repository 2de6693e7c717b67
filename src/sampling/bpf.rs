//! The sampler that filters in the kernel: one timer per CPU, a BPF program that drops what is not the target.
//!
//! No event per thread, so attaching does not race with threads that start, and thousands of threads cost nothing.
//! Mappings and names come through a side-band event per CPU, since BPF has no mmap records.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::abi::{THROTTLE_BY_QUEUE, THROTTLE_BY_TASK, TargetMode};
use crate::sys::books::BookMaps;
use crate::sys::bpf::{BpfConfig, BpfPrograms, RunStatistics, is_permission};
use crate::sys::perf::{Event as PerfEvent, EventSpec, Observed, StackSource, Trigger};
use crate::sys::ring::Ring;
use crate::sys::unwind_maps::UnwindMaps;

use super::decode::{self, Record};
use super::event::Timed;
use super::perf::{MAX_LISTINGS, map_ring, open};
use super::waking::WakingPace;
use super::{
    Losses, Sampler, SamplingError, SamplingPlan, Scope, ThrottleSource, WaitFigures, WalkFigures,
    causes,
};

/// Samples of 40 bytes and 8 a frame: a thousand stacks of 60 frames are half a megabyte.
const RING_BYTES: u32 = 8 << 20;
/// A dlopen storm writes some thousand records of 150 bytes.
const SIDE_BAND_RING_BYTES: usize = 1 << 20;

/// The BPF sampler.
#[derive(Debug)]
pub struct BpfSampler {
    programs: BpfPrograms,
    ticks: Vec<PerfEvent>,
    side_band: Vec<Ring>,
    side_band_lost: u64,
    undecoded: u64,
    /// Where unwind tables go, until somebody has taken it.
    unwind_maps: Option<UnwindMaps>,
    keeps_books: bool,
    /// The books, until somebody has taken them.
    books: Option<BookMaps>,
    waking: WakingPace,
}

/// Loads the programs for the perf sampler: to drop what is not the target, and for the CPU time of ended threads.
pub fn load_filter(plan: &SamplingPlan) -> Result<BpfPrograms, SamplingError> {
    load(&SamplingPlan {
        waits: false,
        ..plan.clone()
    })
}

/// Loads the programs for a plan and begins to follow forks and exits.
fn load(plan: &SamplingPlan) -> Result<BpfPrograms, SamplingError> {
    let (target, target_name) = match &plan.scope {
        Scope::All => (TargetMode::All, String::new()),
        Scope::Pids { .. } | Scope::Selected(_) => (TargetMode::Pids, String::new()),
        Scope::Name(name) => (TargetMode::Name, name.clone()),
    };
    let config = BpfConfig {
        target,
        target_name,
        pid_namespace_inum: plan.pid_namespace_inum,
        kernel_stacks: plan.kernel,
        ring_bytes: RING_BYTES,
        table_bytes: match plan.stack {
            StackSource::Tables { budget_bytes } => budget_bytes,
            _ => 0,
        },
        waits: plan.waits.then(causes::by_syscall),
    };
    let mut programs = BpfPrograms::load(&config).map_err(|source| {
        if is_permission(&source) {
            SamplingError::BpfNotPermitted { source }
        } else {
            SamplingError::Bpf {
                doing: "load the BPF programs",
                source,
            }
        }
    })?;
    programs.follow().map_err(|source| SamplingError::Bpf {
        doing: "attach to fork and exit",
        source,
    })?;
    if target == TargetMode::Pids {
        add_targets(&programs, &plan.scope)?;
    }
    Ok(programs)
}

/// Children of a known target are followed in the kernel; the list is read again for those that were started between
/// listing a process and making it a target.
fn add_targets(programs: &BpfPrograms, scope: &Scope) -> Result<(), SamplingError> {
    let mut added = BTreeSet::new();
    for _ in 0..MAX_LISTINGS {
        let new: Vec<u32> = scope
            .current_pids()
            .into_iter()
            .filter(|pid| !added.contains(pid))
            .collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            programs
                .add_target(pid)
                .map_err(|source| SamplingError::Bpf {
                    doing: "add a target",
                    source,
                })?;
            added.insert(pid);
        }
    }
    Ok(())
}

/// Last of all, so that the books do not hold what arming takes.
fn keep_books(programs: &mut BpfPrograms) -> Result<BookMaps, SamplingError> {
    let failed = |doing| move |source| SamplingError::Bpf { doing, source };
    let books = programs.book_maps().map_err(failed("map the books"))?;
    programs
        .attach_waits()
        .map_err(failed("attach to the scheduler"))?;
    Ok(books)
}

impl BpfSampler {
    /// Opens the timers, disabled, and the side band.
    pub fn arm(plan: &SamplingPlan) -> Result<BpfSampler, SamplingError> {
        let mut programs = load(plan)?;
        let tick = EventSpec {
            trigger: plan.trigger,
            frequency_hz: plan.frequency_hz,
            stack: StackSource::None,
            kernel: true,
            side_band: false,
            build_ids: false,
            inherit: false,
            wakeup_bytes: 0,
        };
        let side_band_spec = EventSpec {
            trigger: Trigger::Dummy,
            side_band: true,
            build_ids: true,
            wakeup_bytes: match plan.stack {
                // A process that is new or has mapped a library waits for its tables.
                StackSource::Tables { .. } if plan.eager => 1,
                _ => (SIDE_BAND_RING_BYTES / 4) as u32,
            },
            ..tick
        };
        let (mut ticks, mut side_band) = (Vec::new(), Vec::new());
        for cpu in &plan.cpus {
            let event = open(&side_band_spec, Observed::Cpu(*cpu), plan.cpus.len() * 2)?;
            let ring = map_ring(event, SIDE_BAND_RING_BYTES)?;
            ring.event()
                .enable()
                .map_err(|source| SamplingError::EventFailed {
                    what: format!("CPU {cpu}"),
                    source,
                })?;
            side_band.push(ring);
        }
        for cpu in &plan.cpus {
            let event = open(&tick, Observed::Cpu(*cpu), plan.cpus.len() * 2)?;
            ticks.push(event);
        }
        let unwind_maps = match plan.stack {
            StackSource::Tables { .. } => {
                Some(
                    programs
                        .unwind_maps()
                        .map_err(|source| SamplingError::Bpf {
                            doing: "map the maps of unwind tables",
                            source,
                        })?,
                )
            }
            _ => None,
        };
        let books = plan.waits.then(|| keep_books(&mut programs)).transpose()?;
        Ok(BpfSampler {
            unwind_maps,
            keeps_books: plan.waits,
            books,
            waking: WakingPace::default(),
            programs,
            ticks,
            side_band,
            side_band_lost: 0,
            undecoded: 0,
        })
    }
}

impl Sampler for BpfSampler {
    fn start(&mut self) -> Result<(), SamplingError> {
        for event in &self.ticks {
            // libbpf enables the event as it attaches; before this, tables would be missing.
            self.programs
                .attach_tick(event)
                .map_err(|source| SamplingError::Bpf {
                    doing: "attach the sampler",
                    source,
                })?;
        }
        Ok(())
    }

    fn wakeup_fds(&self) -> Vec<BorrowedFd<'_>> {
        let rings = self.side_band.iter().map(AsFd::as_fd);
        rings.chain([self.programs.wakeup_fd()]).collect()
    }

    fn read(&mut self, out: &mut Vec<Timed>) -> Result<(), SamplingError> {
        for ring in &mut self.side_band {
            ring.drain(
                |header, body| match decode::perf_record(header, body, false) {
                    Some(Record::Event { timed, .. }) => out.push(timed),
                    Some(Record::Lost(count)) => self.side_band_lost += count,
                    Some(Record::Throttle { .. } | Record::Other) => {}
                    None => self.undecoded += 1,
                },
            );
        }
        let undecoded = &mut self.undecoded;
        self.programs
            .drain(|bytes| match decode::bpf_record(bytes) {
                Some(timed) => out.push(timed),
                None => *undecoded += 1,
            })
            .map_err(|source| SamplingError::Bpf {
                doing: "read the BPF ring",
                source,
            })
    }

    fn stop_ticks(&mut self) {
        for event in &self.ticks {
            let _ = event.disable();
        }
    }

    fn losses(&self) -> Losses {
        let counters = self.programs.counters().unwrap_or_default();
        Losses {
            lost: counters.lost + self.undecoded,
            throttled: 0,
            side_band: self.side_band_lost + counters.exits_lost,
        }
    }

    fn reports_exits(&self) -> bool {
        true
    }

    fn counted_cpu_ns(&self) -> Option<u64> {
        None
    }

    fn take_unwind_maps(&mut self) -> Option<UnwindMaps> {
        self.unwind_maps.take()
    }

    fn take_books(&mut self) -> Option<BookMaps> {
        self.books.take()
    }

    fn add_target(&mut self, pid: u32) -> Result<bool, SamplingError> {
        let doing = "add a target";
        match self.programs.add_target(pid) {
            Ok(()) => Ok(true),
            Err(source) => Err(SamplingError::Bpf { doing, source }),
        }
    }

    fn remove_target(&mut self, pid: u32) -> Result<(), SamplingError> {
        let doing = "remove a target";
        let removed = self.programs.remove_target(pid);
        removed.map_err(|source| SamplingError::Bpf { doing, source })
    }

    fn adapt(&mut self, now_ns: u64) {
        if !self.keeps_books {
            return;
        }
        if let Ok(counters) = self.programs.counters() {
            let ask = self.waking.look(now_ns, counters.wakings);
            // Where it cannot be attached again, waits have no wakers from here on.
            let _ = self.programs.ask_wakers(ask);
        }
    }

    fn wait_figures(&self) -> Option<WaitFigures> {
        let counters = self.programs.counters().ok()?;
        self.keeps_books.then(|| WaitFigures {
            wait_stacks: counters.wait_stacks,
            waker_stacks: counters.waker_stacks,
            lost: counters.waits_lost,
            without_book: counters.without_book,
            throttle_source: match self.programs.throttle_source() {
                THROTTLE_BY_TASK => ThrottleSource::Task,
                THROTTLE_BY_QUEUE => ThrottleSource::Queue,
                _ => ThrottleSource::Nothing,
            },
        })
    }

    fn walk_figures(&self) -> Option<WalkFigures> {
        let counters = self.programs.counters().ok()?;
        (counters.walks + counters.copies > 0).then_some(WalkFigures {
            walks: counters.walks,
            frames: counters.frames,
            reads: counters.reads,
            cache_hits: counters.cache_hits,
            cache_misses: counters.cache_misses,
            copies: counters.copies,
        })
    }

    fn bpf_statistics(&self) -> Option<RunStatistics> {
        self.programs.run_statistics()
    }
}
