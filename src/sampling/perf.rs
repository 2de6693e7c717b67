//! The sampler whose records perf itself writes: call chains, or registers and a copy of the stack.
//!
//! Where BPF is permitted there is one event per CPU, and a BPF program drops what is not the target. Events of a task
//! are switched on and off with it, and miss what the scheduler does in between: a server that switches 20,000 times a
//! second then lacks 5 to 7 % of its CPU time. Events of a CPU do not.
//!
//! Without BPF there is one event per thread and CPU, inherited by what the threads start, all events of a CPU writing
//! into one ring. Attaching races with threads that start meanwhile: the list of threads is read again until it brings
//! nothing new, and a thread that was both inherited and listed is recognised by its samples carrying another event's
//! number than the one opened for it, and counted once.
//!
//! Each event also reports mappings, names, forks and exits.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use crate::sys::bpf::{BpfPrograms, RunStatistics};
use crate::sys::perf::{Event as PerfEvent, EventSpec, Observed, StackSource, Trigger};
use crate::sys::ring::Ring;
use crate::target::process;

use super::decode::{self, Record};
use super::event::{Event, Timed};
use super::throttle::ThrottleClock;
use super::{Losses, Sampler, SamplingError, SamplingPlan, Scope};

/// A stack copy reserves its whole size in the ring, whatever it fills: 64 KB at 999 Hz are 64 MB/s per busy CPU, of
/// which this holds a quarter of a second.
const COPY_RING_BYTES: usize = 16 << 20;
/// Call chains are small.
const CHAIN_RING_BYTES: usize = 1 << 20;
/// What an unprivileged user may lock per CPU (`kernel.perf_event_mlock_kb`, 516 by default), as a power of two.
const SMALL_RING_BYTES: usize = 256 << 10;
/// The list of threads is read at most so often while attaching.
pub(super) const MAX_LISTINGS: usize = 64;

/// The perf sampler.
#[derive(Debug)]
pub struct PerfSampler {
    rings: Vec<Ring>,
    /// Events that write into the ring of another.
    redirected: Vec<PerfEvent>,
    /// Numbers of the events opened for a thread itself.
    own_events: HashMap<u32, HashSet<u64>>,
    copied: bool,
    frequency_hz: u32,
    /// The events count the target's CPU time and nothing else.
    counts_target_ns: bool,
    throttle: ThrottleClock,
    lost: u64,
    undecoded: u64,
    /// Drops what is not the target and reports the CPU time of ended threads, where BPF is permitted.
    filter: Option<BpfPrograms>,
}

impl PerfSampler {
    /// Opens all events, disabled. With a `filter` they observe whole CPUs.
    pub fn arm(
        plan: &SamplingPlan,
        filter: Option<BpfPrograms>,
    ) -> Result<PerfSampler, SamplingError> {
        let per_thread = matches!(plan.scope, Scope::Pids { .. }) && filter.is_none();
        let mut sampler = PerfSampler {
            rings: Vec::new(),
            redirected: Vec::new(),
            own_events: HashMap::new(),
            copied: matches!(plan.stack, StackSource::Copy { .. }),
            frequency_hz: plan.frequency_hz,
            counts_target_ns: per_thread && plan.trigger == Trigger::CpuClock,
            throttle: ThrottleClock::default(),
            lost: 0,
            undecoded: 0,
            filter,
        };
        let spec = spec(plan, per_thread);
        if per_thread {
            sampler.open_threads(plan, &spec)?;
        } else {
            sampler.open_cpus(plan, &spec)?;
        }
        if sampler.rings.is_empty() {
            return Err(SamplingError::TargetEnded);
        }
        Ok(sampler)
    }

    fn open_cpus(&mut self, plan: &SamplingPlan, spec: &EventSpec) -> Result<(), SamplingError> {
        for cpu in &plan.cpus {
            let event = open(spec, Observed::Cpu(*cpu), plan.cpus.len())?;
            if let Some(filter) = &mut self.filter {
                filter
                    .attach_filter(&event)
                    .map_err(|source| SamplingError::Bpf {
                        doing: "attach the filter",
                        source,
                    })?;
                // libbpf enables an event as it attaches to it; ticks begin at `start`.
                event
                    .disable()
                    .map_err(|source| SamplingError::EventFailed {
                        what: format!("CPU {cpu}"),
                        source,
                    })?;
            }
            self.rings.push(map_ring(event, ring_bytes(plan))?);
        }
        Ok(())
    }

    fn open_threads(&mut self, plan: &SamplingPlan, spec: &EventSpec) -> Result<(), SamplingError> {
        let mut ring_of_cpu: HashMap<u32, usize> = HashMap::new();
        for _ in 0..MAX_LISTINGS {
            let tids: Vec<u32> = plan
                .scope
                .current_pids()
                .into_iter()
                .flat_map(|pid| process::threads(pid).unwrap_or_default())
                .filter(|tid| !self.own_events.contains_key(tid))
                .collect();
            if tids.is_empty() {
                return Ok(());
            }
            for tid in tids {
                self.own_events.entry(tid).or_default();
                for cpu in &plan.cpus {
                    let needed = (self.redirected.len() + 1).max(plan.cpus.len());
                    let observed = Observed::ThreadOnCpu { tid, cpu: *cpu };
                    let event = match open(spec, observed, needed) {
                        Err(SamplingError::TargetEnded) => continue,
                        other => other?,
                    };
                    self.own_events.entry(tid).or_default().insert(event.id());
                    match ring_of_cpu.get(cpu) {
                        Some(ix) => self.redirect(event, *ix)?,
                        None => {
                            ring_of_cpu.insert(*cpu, self.rings.len());
                            self.rings.push(map_ring(event, ring_bytes(plan))?);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn redirect(&mut self, event: PerfEvent, ring_ix: usize) -> Result<(), SamplingError> {
        event
            .redirect_to(self.rings[ring_ix].event())
            .map_err(|source| SamplingError::EventFailed {
                what: "the ring of another".into(),
                source,
            })?;
        self.redirected.push(event);
        Ok(())
    }

    /// Ends of threads whose CPU time could not be delivered.
    fn exits_lost(&self) -> u64 {
        let counters = self.filter.as_ref().map(BpfPrograms::counters);
        counters
            .and_then(Result::ok)
            .map_or(0, |counters| counters.exits_lost)
    }

    fn events(&self) -> impl Iterator<Item = &PerfEvent> {
        self.rings.iter().map(Ring::event).chain(&self.redirected)
    }

    /// Whether the sample also arrives by the event opened for its thread itself.
    fn is_duplicate(own_events: &HashMap<u32, HashSet<u64>>, tid: u32, event_id: u64) -> bool {
        own_events
            .get(&tid)
            .is_some_and(|own| !own.is_empty() && !own.contains(&event_id))
    }
}

/// Opens side-band and sampling as one event.
fn spec(plan: &SamplingPlan, inherit: bool) -> EventSpec {
    EventSpec {
        trigger: plan.trigger,
        frequency_hz: plan.frequency_hz,
        stack: plan.stack,
        kernel: plan.kernel,
        side_band: true,
        build_ids: true,
        inherit,
        wakeup_bytes: (ring_bytes(plan) / 8) as u32,
    }
}

fn ring_bytes(plan: &SamplingPlan) -> usize {
    match (plan.large_rings, plan.stack) {
        (true, StackSource::Copy { .. }) => COPY_RING_BYTES,
        (true, _) => CHAIN_RING_BYTES,
        (false, _) => SMALL_RING_BYTES,
    }
}

/// Opens an event; on kernels before 5.12, without build IDs.
pub(super) fn open(
    spec: &EventSpec,
    observed: Observed,
    needed: usize,
) -> Result<PerfEvent, SamplingError> {
    let opened = PerfEvent::open(spec, observed).or_else(|error| {
        let unsupported = Errno::EINVAL as i32;
        if spec.build_ids && error.raw_os_error() == Some(unsupported) {
            return PerfEvent::open(
                &EventSpec {
                    build_ids: false,
                    ..*spec
                },
                observed,
            );
        }
        Err(error)
    });
    opened.map_err(|source| {
        let what = match observed {
            Observed::ThreadOnCpu { tid, .. } => format!("thread {tid}"),
            Observed::Cpu(cpu) => format!("CPU {cpu}"),
        };
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ESRCH) => SamplingError::TargetEnded,
            Some(Errno::EACCES | Errno::EPERM) => SamplingError::EventNotPermitted { what, source },
            Some(Errno::EMFILE | Errno::ENFILE) => SamplingError::TooManyEvents {
                events: needed,
                source,
            },
            _ => SamplingError::EventFailed { what, source },
        }
    })
}

/// Maps a ring, halving its size while the kernel refuses to lock so much memory.
pub(super) fn map_ring(mut event: PerfEvent, bytes: usize) -> Result<Ring, SamplingError> {
    let mut size = bytes;
    loop {
        match Ring::map(event, size) {
            Ok(ring) => return Ok(ring),
            Err((again, error)) if size > SMALL_RING_BYTES / 2 => {
                let refused = matches!(error.kind(), io::ErrorKind::PermissionDenied)
                    || error.raw_os_error() == Some(Errno::ENOMEM as i32);
                if !refused {
                    return Err(SamplingError::RingFailed {
                        bytes: size,
                        source: error,
                    });
                }
                event = again;
                size /= 2;
            }
            Err((_, source)) => {
                return Err(SamplingError::RingFailed {
                    bytes: size,
                    source,
                });
            }
        }
    }
}

/// Whether an event of this kind can be opened at all, tried on ourselves.
pub fn can_open(trigger: Trigger, kernel: bool) -> bool {
    let spec = EventSpec {
        trigger,
        frequency_hz: 1,
        stack: StackSource::None,
        kernel,
        side_band: false,
        build_ids: false,
        inherit: false,
        wakeup_bytes: 0,
    };
    let own_pid = std::process::id();
    PerfEvent::open(
        &spec,
        Observed::ThreadOnCpu {
            tid: own_pid,
            cpu: 0,
        },
    )
    .is_ok()
}

impl Sampler for PerfSampler {
    fn start(&mut self) -> Result<(), SamplingError> {
        for event in self.events() {
            event
                .enable()
                .map_err(|source| SamplingError::EventFailed {
                    what: "the target".into(),
                    source,
                })?;
        }
        Ok(())
    }

    fn wakeup_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.rings.iter().map(AsFd::as_fd).collect()
    }

    fn read(&mut self, out: &mut Vec<Timed>) -> Result<(), SamplingError> {
        let PerfSampler {
            rings,
            own_events,
            throttle,
            lost,
            undecoded,
            copied,
            ..
        } = self;
        for ring in rings {
            ring.drain(
                |header, body| match decode::perf_record(header, body, *copied) {
                    Some(Record::Event { timed, event_id }) => {
                        let duplicate = matches!(&timed.event, Event::Sample(sample)
                        if Self::is_duplicate(own_events, sample.tid, event_id));
                        if !duplicate {
                            out.push(timed);
                        }
                    }
                    Some(Record::Lost(count)) => *lost += count,
                    Some(Record::Throttle {
                        time_ns,
                        stream_id,
                        on,
                    }) => {
                        throttle.record(stream_id, time_ns, on);
                    }
                    Some(Record::Other) => {}
                    None => *undecoded += 1,
                },
            );
        }
        if let Some(filter) = &self.filter {
            filter
                .drain(|bytes| out.extend(decode::bpf_record(bytes)))
                .map_err(|source| SamplingError::Bpf {
                    doing: "read the BPF ring",
                    source,
                })?;
        }
        Ok(())
    }

    fn stop_ticks(&mut self) {
        for event in self.events() {
            // An event whose thread has ended is disabled already.
            let _ = event.disable();
        }
    }

    fn losses(&self) -> Losses {
        Losses {
            lost: self.lost + self.undecoded,
            throttled: self.throttle.missed(self.frequency_hz),
            side_band: self.exits_lost(),
        }
    }

    fn reports_exits(&self) -> bool {
        self.filter.is_some()
    }

    fn counted_cpu_ns(&self) -> Option<u64> {
        self.counts_target_ns
            .then(|| self.events().filter_map(|event| event.count().ok()).sum())
    }

    fn bpf_statistics(&self) -> Option<RunStatistics> {
        self.filter.as_ref()?.run_statistics()
    }
}
