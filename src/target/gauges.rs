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
use std::path::{Path, PathBuf};

use nix::unistd::{SysconfVar, sysconf};

use super::cgroup::{Cgroup, parse_psi_some_us};
use super::small_file::HeldFile;
use crate::profile::{CapacityFacts, CapacityPoint, CgroupCpu, LimitFacts};
use crate::sys::usage::monotonic_ns;

mod moment;
mod processes;
mod scope;

use moment::read_at_once;
use processes::Processes;
use scope::{Scope, choose_scope, common_cgroup, read_limits, refresh_limits};

/// How often the costly figures are read.
const SLOW_EVERY_NS: u64 = 1_000_000_000;

/// Beyond this many points every second one is given up and later ones are kept half as often: the counters are
/// cumulative, so only resolution is lost. At ten a second the first thinning comes after 100 s.
const MAX_POINTS: usize = 1024;

/// Longer than `memory.stat`, the longest file read here; of `/proc/stat` only the first line is wanted.
const BUFFER_BYTES: usize = 16 << 10;

/// The reader of one service's gauges.
#[derive(Debug)]
pub struct Gauges {
    scope: Scope,
    processes: Processes,
    node_stat: Option<HeldFile>,
    /// CPU, memory and I/O.
    pressure: [Option<HeldFile>; 3],
    psi_scope: &'static str,
    limits: LimitFacts,
    /// Readings' times count from here.
    opened_ns: u64,
    points: Vec<CapacityPoint>,
    /// The last reading, kept or not.
    latest: CapacityPoint,
    /// Readings closer than this to the last kept point are not kept.
    spacing_ns: u64,
    next_slow_ns: u64,
    tick_ns: u64,
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
        // A service known only by its PIDs has no pressure of its own: the node's is read.
        let (pressure, psi_scope) = open_pressure(scope.cgroup(), &mut gaps);
        Gauges {
            processes: Processes::open(pids),
            node_stat: held(Path::new("/proc/stat"), &mut gaps),
            scope,
            pressure,
            psi_scope,
            limits,
            opened_ns: monotonic_ns(),
            points: Vec::new(),
            latest: CapacityPoint::default(),
            spacing_ns: 0,
            next_slow_ns: 0,
            tick_ns: tick_ns(),
            gaps,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Adds processes that belong to the service, too; known ones may be among them. One that began after
    /// [`Gauges::open`] counts from its start, and one that has ended keeps its share of the sum.
    pub fn add_pids(&mut self, pids: &[u32]) {
        if !matches!(self.scope, Scope::Node) {
            self.processes.add(pids);
        }
    }

    /// Reads all gauges and keeps the point.
    pub fn read(&mut self) -> CapacityPoint {
        let mut point = CapacityPoint::default();
        self.read_node(&mut point);
        self.read_cpu(&mut point);
        let slow = point.at_ns >= self.next_slow_ns;
        if slow {
            self.next_slow_ns = point.at_ns.saturating_add(SLOW_EVERY_NS);
            self.read_slowly(&mut point);
        }
        point.psi_cpu_some_us = self.read_pressure(0);
        point.psi_memory_some_us = self.read_pressure(1);
        point.psi_io_some_us = self.read_pressure(2);
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
            psi_scope: self.psi_scope.to_owned(),
            ..CapacityFacts::default()
        };
        if let Scope::Cgroup(files) = &self.scope {
            if let Some(place) = files.cgroup.memory.as_ref().filter(|p| !p.is_root()) {
                let memory = place.memory();
                facts.memory_peak_bytes = memory.peak_bytes;
                facts.oom_kills = memory.oom_kills;
            }
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
        let Some(file) = &self.node_stat else {
            return;
        };
        let since = self.opened_ns;
        let buffer = &mut self.buffer;
        let reading = read_at_once(
            || monotonic_ns() - since,
            || file.read(buffer).and_then(parse_node_ticks),
        );
        point.node_at_ns = reading.at_ns;
        if let Some((busy, steal)) = reading.value {
            point.node_busy_ns = busy.saturating_mul(self.tick_ns);
            point.node_steal_ns = steal.saturating_mul(self.tick_ns);
        }
    }

    /// CPU time and throttling, which belong together, and the time of both.
    fn read_cpu(&mut self, point: &mut CapacityPoint) {
        let since = self.opened_ns;
        let now_ns = || monotonic_ns() - since;
        match &self.scope {
            Scope::Node => {
                point.at_ns = match &self.node_stat {
                    Some(_) => point.node_at_ns,
                    None => now_ns(),
                };
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
            return;
        }
        let slow = self.processes.read_slowly();
        point.threads = Some(slow.threads);
        point.run_delay_ns = slow.run_delay_ns;
        point.memory_bytes = match &self.scope {
            Scope::Cgroup(files) => files.read_working_set(&mut self.buffer),
            Scope::Processes | Scope::Node => slow.memory_bytes,
        };
    }

    fn read_pressure(&mut self, which: usize) -> Option<u64> {
        let file = self.pressure.get(which)?.as_ref()?;
        parse_psi_some_us(file.read(&mut self.buffer)?)
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

/// Pressure files of the service's v2 directory, else of the node; and which of the two it is.
fn open_pressure(
    cgroup: Option<&Cgroup>,
    gaps: &mut BTreeSet<String>,
) -> ([Option<HeldFile>; 3], &'static str) {
    let own = cgroup
        .and_then(|c| c.unified.as_ref())
        .filter(|place| !place.is_root());
    let open = |paths: [PathBuf; 3]| paths.map(|path| open_readable(&path));
    if let Some(place) = own {
        let files = open(["cpu", "memory", "io"].map(|r| place.file(&format!("{r}.pressure"))));
        if files.iter().any(Option::is_some) {
            return (files, "cgroup");
        }
    }
    let files = open(["cpu", "memory", "io"].map(|r| Path::new("/proc/pressure").join(r)));
    if files.iter().all(Option::is_none) {
        gaps.insert(
            "pressure stall information is not available (kernel built or booted without psi)"
                .into(),
        );
    }
    (files, "node")
}

/// With `psi=0` the files exist and opening succeeds, reading fails.
fn open_readable(path: &Path) -> Option<HeldFile> {
    let file = HeldFile::open(path).ok()?;
    file.read(&mut [0; 256]).is_some().then_some(file)
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

/// Busy and steal ticks of the first line of `/proc/stat`: user nice system idle iowait irq softirq steal. Guest time
/// is already in user.
fn parse_node_ticks(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map_while(|w| w.parse().ok())
        .collect();
    let tick = |ix: usize| ticks.get(ix).copied().unwrap_or(0);
    if ticks.len() < 4 {
        return None;
    }
    Some((tick(0) + tick(1) + tick(2) + tick(5) + tick(6), tick(7)))
}

fn tick_ns() -> u64 {
    match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(hz)) if hz > 0 => 1_000_000_000 / hz as u64,
        _ => 10_000_000,
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
mod tests;
