//! What the agent itself uses: read after each window, held against the budget, and told.
//!
//! In: CPU time of this process, its workers and its BPF programs, all counted since they began. Out: the cost of the window,
//! and the effort of the next. What deep recordings use was asked for and does not count.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use super::budget::{Budget, Cost, Limits, Reduction};
use super::state::State;
use super::{Effort, Say};
use crate::sys::usage::OwnUsage;
use crate::target::small_file::{field, read_text};

/// More open files than this are not asked whether they are maps.
const MAX_FILES: usize = 65_536;

/// What a window cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WindowCost {
    pub cpu_ns: u64,
    pub bpf_run_ns: u64,
    pub memory_bytes: u64,
    pub workers_were_asked: bool,
}

/// Counters as of the window before.
#[derive(Debug, Default)]
struct Before {
    own_cpu_ns: u64,
    workers_cpu_ns: u64,
    session: u64,
    bpf_run_ns: u64,
}

#[derive(Debug)]
struct Book {
    budget: Budget,
    before: Before,
}

/// Shared by the thread that records and the one that finishes.
pub(super) struct Upkeep<'a> {
    book: Mutex<Book>,
    state: &'a State,
    say: &'a dyn Say,
}

impl std::fmt::Debug for Upkeep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upkeep").finish_non_exhaustive()
    }
}

impl<'a> Upkeep<'a> {
    pub fn new(limits: Limits, state: &'a State, say: &'a dyn Say) -> Upkeep<'a> {
        let mut figures = state.figures();
        figures.cpu_budget_cores = limits.cpu_cores;
        figures.memory_budget_bytes = limits.memory_bytes;
        figures.frequency_asked_hz = limits.frequency_hz;
        drop(figures);
        let before = Before {
            own_cpu_ns: OwnUsage::now().cpu_ns,
            ..Before::default()
        };
        Upkeep {
            book: Mutex::new(Book {
                budget: Budget::new(limits),
                before,
            }),
            state,
            say,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What the next session is to be recorded with.
    pub fn effort(&self) -> Effort {
        self.book().budget.effort()
    }

    /// Workers that have ended: their counters begin anew.
    pub fn former_workers(&self, cpu_ns: u64) {
        let mut book = self.book();
        let since = cpu_ns.saturating_sub(book.before.workers_cpu_ns);
        self.state.figures().self_cpu_ns += since;
        book.before.workers_cpu_ns = 0;
    }

    /// A window has ended.
    pub fn window(
        &self,
        session: u64,
        duration_ns: u64,
        bpf_run_ns: u64,
        workers_cpu_ns: u64,
        workers: &[u32],
    ) -> WindowCost {
        let mut book = self.book();
        let own_cpu_ns = OwnUsage::now().cpu_ns;
        let before = std::mem::replace(
            &mut book.before,
            Before {
                own_cpu_ns,
                workers_cpu_ns,
                session,
                bpf_run_ns,
            },
        );
        let bpf_before = if before.session == session {
            before.bpf_run_ns
        } else {
            0
        };
        let asked = workers_cpu_ns.saturating_sub(before.workers_cpu_ns);
        let bpf = bpf_run_ns.saturating_sub(bpf_before);
        let cpu_ns = own_cpu_ns.saturating_sub(before.own_cpu_ns) + asked;
        let (resident, anonymous) = memory_of(workers);
        let bpf_memory = memory_of_maps();
        let cost = WindowCost {
            cpu_ns,
            bpf_run_ns: bpf,
            memory_bytes: anonymous + bpf_memory,
            workers_were_asked: asked > 0,
        };
        let reduction = book.budget.window(Cost {
            wall_s: duration_ns as f64 / 1e9,
            cpu_s: (cpu_ns + bpf) as f64 / 1e9,
            memory_bytes: cost.memory_bytes,
        });
        let effort = book.budget.effort();
        drop(book);
        self.tell(&cost, resident, bpf_memory, reduction, effort);
        cost
    }

    fn tell(
        &self,
        cost: &WindowCost,
        resident: u64,
        bpf_memory: u64,
        reduction: Option<Reduction>,
        effort: Effort,
    ) {
        let mut figures = self.state.figures();
        figures.self_cpu_ns += cost.cpu_ns + cost.bpf_run_ns;
        figures.self_memory_bytes = cost.memory_bytes;
        figures.resident_memory_bytes = resident;
        figures.bpf_memory_bytes = bpf_memory;
        let (reason, sentence) = match reduction {
            None => return,
            Some(Reduction::Cpu) => (
                "cpu",
                format!(
                    "over the CPU budget: sampling at {} Hz from now on",
                    effort.frequency_hz
                ),
            ),
            Some(Reduction::Memory) => (
                "memory",
                format!(
                    "near the memory budget ({} MiB in use): sampling at {} Hz, with {} MiB for unwind tables, from now on",
                    cost.memory_bytes >> 20,
                    effort.frequency_hz,
                    effort.unwind_bytes >> 20
                ),
            ),
            // In the same words each time, so that it is said once.
            Some(Reduction::Exhausted) => (
                "exhausted",
                "over the budget, and nothing is left to lower; /metrics has what is used"
                    .to_owned(),
            ),
        };
        *figures.reductions.entry(reason).or_default() += 1;
        drop(figures);
        self.say.warning(sentence);
    }
}

/// Resident memory of this process and its workers; and the part of it that is theirs alone.
fn memory_of(workers: &[u32]) -> (u64, u64) {
    let mut sum = (0, 0);
    let own = std::iter::once("self".to_owned());
    for pid in own.chain(workers.iter().map(u32::to_string)) {
        let status = read_text(Path::new(&format!("/proc/{pid}/status"))).unwrap_or_default();
        let kib = |name| field(&status, name).and_then(kib);
        sum.0 += kib("VmRSS:").unwrap_or(0);
        sum.1 += kib("RssAnon:").unwrap_or(0);
    }
    sum
}

/// `1234 kB`, in bytes.
fn kib(text: &str) -> Option<u64> {
    let number = text.trim().strip_suffix("kB")?.trim();
    Some(number.parse::<u64>().ok()? << 10)
}

/// What the kernel says our BPF maps take (`memlock` in fdinfo, proc_pid_fdinfo(5)).
fn memory_of_maps() -> u64 {
    let (mut seen, mut sum) = (HashSet::new(), 0);
    let Ok(files) = std::fs::read_dir("/proc/self/fdinfo") else {
        return 0;
    };
    for file in files.flatten().take(MAX_FILES) {
        let text = read_text(&file.path()).unwrap_or_default();
        let Some(id) = field(&text, "map_id:") else {
            continue;
        };
        if seen.insert(id.trim().to_owned()) {
            let bytes = field(&text, "memlock:").and_then(|text| text.trim().parse::<u64>().ok());
            sum += bytes.unwrap_or(0);
        }
    }
    sum
}
