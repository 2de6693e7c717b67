//! The gauges beside the sampler: what the service used and what it ran under, read about ten times a second.
//!
//! In: the PIDs of the service. Out: a [`CapacityPoint`] per reading, and [`CapacityFacts`] at the end.
//! It draws no conclusion; `capacity` does.
//!
//! Whose CPU time? The service's own cgroup when all PIDs share one that is not the root of the machine: then nothing
//! escapes. Otherwise the PIDs themselves. Files are opened once and read in place. CPU counters are stamped with the
//! time at which they were read, whatever else the reader was kept from. Figures that cost a read per thread (run
//! delay, thread count, memory) are taken once a second and are `None` in between.

use std::collections::BTreeSet;
use std::path::Path;

use super::cgroup::Cgroup;
use super::small_file::HeldFile;
use crate::profile::{CapacityFacts, CapacityPoint, CgroupCpu, CpuBusy, LimitFacts, MemoryEvents};
use crate::sys::usage::monotonic_ns;

mod moment;
mod node;
mod pressure;
mod processes;
mod scope;

pub use scope::HIDDEN_PARENTS;

use moment::read_at_once;
use node::{NodeStat, by_cpu_since, memory_used_bytes};
use pressure::PressureFiles;
use processes::{Latecomer, Processes};
use scope::{Scope, choose_scope, common_cgroup, own_scope, read_limits, refresh_limits};

/// How often the costly figures are read, unless somebody asks for less.
const SLOW_EVERY_NS: u64 = 1_000_000_000;

/// Beyond this many points every second one is given up and later ones are kept half as often: the counters are
/// cumulative, so only resolution is lost. At ten a second the first thinning comes after 13 minutes.
const MAX_POINTS: usize = 8192;

/// Longer than `memory.stat`, the longest file read here; of `/proc/stat` only the first line is wanted.
const BUFFER_BYTES: usize = 16 << 10;

/// The reader of one service's gauges.
#[derive(Debug)]
pub struct Gauges {
    scope: Scope,
    processes: Processes,
    node_stat: NodeStat,
    pressure: PressureFiles,
    limits: LimitFacts,
    memory_events_before: MemoryEvents,
    cpu_busy_before: Vec<CpuBusy>,
    /// Readings' times count from here.
    opened_ns: u64,
    points: Vec<CapacityPoint>,
    /// The last reading, kept or not.
    latest: CapacityPoint,
    /// Readings closer than this to the last kept point are not kept.
    spacing_ns: u64,
    slow_every_ns: u64,
    next_slow_ns: u64,
    gaps: BTreeSet<String>,
    buffer: Vec<u8>,
}

impl Gauges {
    /// Opens everything that can be opened for these PIDs; without a PID, for the whole machine. What cannot be
    /// opened becomes a gap.
    pub fn open(pids: &[u32]) -> Gauges {
        let mut gaps = BTreeSet::new();
        let cgroup = (!pids.is_empty())
            .then(|| common_cgroup(pids, &mut gaps))
            .flatten();
        let limits = read_limits(cgroup.as_ref(), pids, &mut gaps);
        let scope = match (pids, cgroup) {
            ([], _) => Scope::Node,
            (_, Some(cgroup)) => choose_scope(cgroup, &limits, &mut gaps),
            (_, None) => Scope::Processes,
        };
        Gauges::of_scope(scope, limits, pids, gaps)
    }

    /// Reads the costly figures no more often than that.
    pub fn costly_every(mut self, every_ns: u64) -> Gauges {
        self.slow_every_ns = every_ns;
        self
    }

    /// The same for a cgroup, whoever is in it; the profiler may be.
    pub fn open_cgroup(cgroup: Cgroup) -> Gauges {
        let mut gaps = BTreeSet::new();
        let pids = cgroup.pids();
        let limits = read_limits(Some(&cgroup), &pids, &mut gaps);
        let scope = own_scope(cgroup, &mut gaps);
        Gauges::of_scope(scope, limits, &pids, gaps)
    }

    fn of_scope(
        scope: Scope,
        limits: LimitFacts,
        pids: &[u32],
        mut gaps: BTreeSet<String>,
    ) -> Gauges {
        // A service known only by its PIDs has no pressure of its own: the node's is read.
        let pressure = PressureFiles::open(scope.cgroup(), &mut gaps);
        let node_stat = NodeStat::open(&mut gaps);
        Gauges {
            processes: Processes::open(pids),
            cpu_busy_before: node_stat.by_cpu(scope.cgroup()),
            memory_events_before: scope.memory().map(|m| m.events).unwrap_or_default(),
            node_stat,
            scope,
            pressure,
            limits,
            opened_ns: monotonic_ns(),
            points: Vec::new(),
            latest: CapacityPoint::default(),
            spacing_ns: 0,
            slow_every_ns: SLOW_EVERY_NS,
            next_slow_ns: 0,
            gaps,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// What CPU time is read of, for the user: `None` when the processes are added up or all is read.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.scope.cgroup()
    }

    /// Adds processes that belong to the service, too; known ones may be among them. One that began after
    /// [`Gauges::open`] counts from its start, and one that has ended keeps its share of the sum. What it used before
    /// it was noticed belongs to the readings since its start, not to the next one alone.
    pub fn add_pids(&mut self, pids: &[u32]) {
        if matches!(self.scope, Scope::Node) {
            return;
        }
        let late = self.processes.add(pids);
        if matches!(self.scope, Scope::Processes) {
            let now_ns = monotonic_ns() - self.opened_ns;
            late.iter().for_each(|late| self.spread(late, now_ns));
        }
    }

    /// Adds a latecomer's use to the readings that had missed it, as if it had been even.
    fn spread(&mut self, late: &Latecomer, now_ns: u64) {
        let began_ns = now_ns.saturating_sub(late.age_ns);
        // Kept points are in the order of time, and most of a long recording is from before it began.
        let from = self.points.partition_point(|point| point.at_ns <= began_ns);
        let missed = self.points[from..].iter_mut();
        for point in missed.chain([&mut self.latest]) {
            let so_far_ns = point.at_ns.saturating_sub(began_ns).min(late.age_ns);
            let share = so_far_ns as f64 / late.age_ns.max(1) as f64;
            point.service_cpu_ns += (late.used_ns as f64 * share) as u64;
        }
    }

    /// Reads all gauges and keeps the point.
    pub fn read(&mut self) -> CapacityPoint {
        let mut point = CapacityPoint::default();
        self.read_node(&mut point);
        self.read_cpu(&mut point);
        let slow = point.at_ns >= self.next_slow_ns;
        if slow {
            self.next_slow_ns = point.at_ns.saturating_add(self.slow_every_ns);
            self.read_slowly(&mut point);
        }
        self.pressure.read_into(&mut point, &mut self.buffer);
        self.keep(point.clone());
        point
    }

    /// CPU time of the service's own cgroup between the first and the last reading; `None` when it has none.
    pub fn cgroup_cpu(&self) -> Option<CgroupCpu> {
        let Scope::Cgroup(files) = &self.scope else {
            return None;
        };
        let (first, last) = (self.points.first()?, &self.latest);
        Some(CgroupCpu {
            path: files.cgroup.path().to_owned(),
            cpu_ns: last.service_cpu_ns.saturating_sub(first.service_cpu_ns),
        })
    }

    /// Everything read so far, with limits and life-time figures as they are now, or as they were at the start when
    /// the cgroup is gone.
    pub fn finish(mut self) -> CapacityFacts {
        let mut facts = CapacityFacts {
            scope: match self.scope {
                Scope::Cgroup(_) => "cgroup",
                Scope::Processes => "processes",
                Scope::Node => "node",
            }
            .to_owned(),
            psi_scope: self.pressure.scope.to_owned(),
            ..CapacityFacts::default()
        };
        if let Some(memory) = self.scope.memory() {
            facts.memory_peak_bytes = memory.peak_bytes;
            facts.oom_kills = memory.events.oom_kills;
            facts.memory_events_before = self.memory_events_before;
            facts.memory_events = memory.events;
        }
        let by_cpu = self.node_stat.by_cpu(self.scope.cgroup());
        facts.cpu_busy = by_cpu_since(&self.cpu_busy_before, by_cpu);
        if let Scope::Cgroup(files) = &self.scope {
            if files
                .cgroup
                .cpuacct
                .as_ref()
                .is_some_and(|p| p.dir.is_dir())
            {
                refresh_limits(&mut self.limits, &files.cgroup);
            } else {
                self.gaps.insert(
                    "the cgroup was removed before the end; its limits are those of the start"
                        .into(),
                );
            }
        }
        if matches!(self.scope, Scope::Processes) {
            self.gaps.extend(self.processes.gaps());
        }
        // The end is kept, however coarse the points have become.
        if self
            .points
            .last()
            .is_some_and(|last| last.at_ns < self.latest.at_ns)
        {
            self.points.push(self.latest);
        }
        facts.limits = self.limits;
        facts.points = self.points;
        facts.gaps = self.gaps.into_iter().collect();
        facts
    }

    fn read_node(&mut self, point: &mut CapacityPoint) {
        let since = self.opened_ns;
        let (node_stat, buffer) = (&self.node_stat, &mut self.buffer);
        let reading = read_at_once(|| monotonic_ns() - since, || node_stat.read(buffer));
        point.node_at_ns = reading.at_ns;
        (point.node_busy_ns, point.node_steal_ns) = reading.value.unwrap_or_default();
    }

    /// CPU time and throttling, which belong together, and the time of both.
    fn read_cpu(&mut self, point: &mut CapacityPoint) {
        let since = self.opened_ns;
        let now_ns = || monotonic_ns() - since;
        match &self.scope {
            Scope::Node => {
                point.at_ns = point.node_at_ns;
                point.service_cpu_ns = point.node_busy_ns;
            }
            Scope::Processes => {
                let processes = &mut self.processes;
                let reading = read_at_once(now_ns, || processes.cpu_ns());
                point.at_ns = reading.at_ns;
                point.service_cpu_ns = reading.value;
            }
            Scope::Cgroup(files) => {
                let buffer = &mut self.buffer;
                let reading = read_at_once(now_ns, || {
                    let usage = files.read_usage(buffer);
                    (usage, files.read_throttling(buffer))
                });
                let (usage, throttling) = reading.value;
                let last_cpu_ns = self.latest.service_cpu_ns;
                point.at_ns = reading.at_ns;
                // A cgroup that is gone uses nothing any more: the counter stands still.
                point.service_cpu_ns = usage.unwrap_or(last_cpu_ns).max(last_cpu_ns);
                point.nr_periods = throttling.nr_periods;
                point.nr_throttled = throttling.nr_throttled;
                point.throttled_ns = throttling.throttled_ns;
            }
        }
    }

    fn read_slowly(&mut self, point: &mut CapacityPoint) {
        if matches!(self.scope, Scope::Node) {
            point.memory_bytes = memory_used_bytes();
            return;
        }
        let slow = self.processes.read_slowly();
        point.threads = Some(slow.threads);
        point.run_delay_ns = slow.run_delay_ns;
        match &self.scope {
            Scope::Cgroup(files) => {
                point.memory_bytes = files.read_working_set(&mut self.buffer);
                point.swap_bytes = files.own_memory().and_then(|place| place.swap_bytes());
            }
            Scope::Processes | Scope::Node => point.memory_bytes = slow.memory_bytes,
        }
    }

    fn keep(&mut self, point: CapacityPoint) {
        self.latest = point.clone();
        let due = self
            .points
            .last()
            .is_none_or(|last| point.at_ns.saturating_sub(last.at_ns) >= self.spacing_ns);
        if !due {
            return;
        }
        self.points.push(point);
        if self.points.len() > MAX_POINTS {
            self.spacing_ns = thin(&mut self.points);
        }
    }
}

fn held(path: &Path, gaps: &mut BTreeSet<String>) -> Option<HeldFile> {
    match HeldFile::open(path) {
        Ok(file) => Some(file),
        Err(error) => {
            gaps.insert(format!("`{}` cannot be read: {error}", path.display()));
            None
        }
    }
}

/// Gives up every second point (never the first), moving what is read only once a second to the point before it, and
/// returns the spacing from now on.
fn thin(points: &mut Vec<CapacityPoint>) -> u64 {
    let mut kept: Vec<CapacityPoint> = Vec::with_capacity(points.len() / 2 + 1);
    for (ix, point) in points.drain(..).enumerate() {
        match kept.last_mut() {
            Some(last) if ix % 2 == 1 => {
                last.memory_bytes = last.memory_bytes.max(point.memory_bytes);
                last.swap_bytes = last.swap_bytes.max(point.swap_bytes);
                last.threads = last.threads.max(point.threads);
                last.run_delay_ns = last.run_delay_ns.or(point.run_delay_ns);
            }
            _ => kept.push(point),
        }
    }
    *points = kept;
    let span = points.last().map_or(0, |p| p.at_ns) - points.first().map_or(0, |p| p.at_ns);
    span / (points.len().max(2) as u64 - 1)
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
