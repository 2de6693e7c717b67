//! What happens beside the sampling, about ten times a second: the gauges are read and progress is shown.

use super::status::Log;
use crate::profile::{CapacityFacts, CgroupCpu};
use crate::recorder::Progress;
use crate::sampling::{SamplingPlan, Scope};
use crate::sys::perf::StackSource;
use crate::sys::usage::OwnUsage;
use crate::target::gauges::Gauges;

/// Off a terminal, progress is a log line this often.
const LOG_EVERY_NS: u64 = 10_000_000_000;

/// Shortest time between two readings; CPU time is counted in ticks of 4 ms at worst.
const MIN_INTERVAL_NS: u64 = 50_000_000;

/// Reads gauges and shows progress.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    gauges: Gauges,
    log: &'a Log,
    last_read_ns: Option<u64>,
    next_log_ns: u64,
    own_at_start: OwnUsage,
    /// Whether a stack is complete is known while recording; frame pointers need names for it.
    knows_complete: bool,
}

impl<'a> Watch<'a> {
    pub fn new(sampling: &SamplingPlan, log: &'a Log) -> Watch<'a> {
        let pids = match sampling.scope {
            Scope::All => Vec::new(),
            _ => sampling.scope.current_pids(),
        };
        let gauges = Gauges::open(&pids);
        Watch {
            gauges,
            log,
            last_read_ns: None,
            next_log_ns: LOG_EVERY_NS,
            own_at_start: OwnUsage::now(),
            knows_complete: matches!(
                sampling.stack,
                StackSource::Copy { .. } | StackSource::Tables { .. }
            ),
        }
    }

    pub fn observe(&mut self, progress: &Progress) {
        if !progress.new_pids.is_empty() {
            self.gauges.add_pids(&progress.new_pids);
        }
        self.read(progress.elapsed_ns);
        if self.log.has_progress_line() {
            self.log.progress(&self.line(progress));
        } else if progress.elapsed_ns >= self.next_log_ns {
            self.next_log_ns += LOG_EVERY_NS;
            self.log.info(self.line(progress));
        }
    }

    /// Reads the gauges, unless they have just been read: over a moment, a rate is mostly error.
    fn read(&mut self, at_ns: u64) {
        if self
            .last_read_ns
            .is_none_or(|last| at_ns >= last + MIN_INTERVAL_NS)
        {
            self.gauges.read();
            self.last_read_ns = Some(at_ns);
        }
    }

    fn line(&self, progress: &Progress) -> String {
        let seconds = progress.elapsed_ns as f64 / 1e9;
        let complete = match progress.samples {
            0 => "no samples yet".to_owned(),
            _ if !self.knows_complete => "stacks judged at the end".to_owned(),
            n => format!(
                "{:.1} % complete stacks",
                100.0 * progress.complete as f64 / n as f64
            ),
        };
        let own_ns = OwnUsage::now().cpu_ns - self.own_at_start.cpu_ns;
        let own = 100.0 * own_ns as f64 / progress.elapsed_ns.max(1) as f64;
        format!(
            "{seconds:.1} s · {} samples · {} lost · {complete} · own CPU {own:.1} %",
            progress.samples, progress.lost
        )
    }

    /// The cgroup's CPU time and all readings, after a last one.
    pub fn finish(mut self, duration_ns: u64) -> (Option<CgroupCpu>, CapacityFacts) {
        self.read(duration_ns);
        (self.gauges.cgroup_cpu(), self.gauges.finish())
    }
}
