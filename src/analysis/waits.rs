//! What the service waits for: by cause, by stack, who ends it; and which code used a CPU quota up.
//!
//! In: a profile with waits. Out: rankings, of which each is a list of names; equal call chains are one entry, whatever
//! their addresses. Waiting for work is told from waiting within work by `idle`.

use std::collections::BTreeMap;

use super::idle::Idle;
use super::weight::ratio;
use crate::profile::{
    Cause, Frame, FrameKind, KERNEL_SUFFIX, Profile, StackEnd, StackIx, Waits, Why,
};

/// The longest waits that are kept, and wakers of each.
const PATHS: usize = 50;
const WAKERS: usize = 8;
/// Functions that used a quota up.
const QUOTA_PATHS: usize = 20;

/// All waits for one cause.
#[derive(Clone, Debug, PartialEq)]
pub struct CauseTotal {
    pub cause: Cause,
    pub ns: u64,
    /// Of that, waiting for work to come.
    pub idle_ns: u64,
    /// Waits that ended; for [`Cause::Runnable`] and [`Cause::Throttled`] as far as stacks stand for them.
    pub waits: u64,
}

/// One call chain that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitPath {
    pub cause: Cause,
    pub idle: bool,
    pub ns: u64,
    /// Waits that its stacks stand for, and stacks that were taken.
    pub waits: u64,
    pub stacks: u64,
    /// The innermost function of the program itself, outside the C library and the kernel.
    pub function: String,
    /// Root to leaf.
    pub chain: Vec<String>,
    pub end: StackEnd,
    /// Who ended these waits, the longest first.
    pub wakers: Vec<WakerPath>,
}

/// A call chain that ended waits.
#[derive(Clone, Debug, PartialEq)]
pub struct WakerPath {
    pub ns: u64,
    pub waits: u64,
    pub thread: String,
    pub chain: Vec<String>,
}

/// A function that ran in periods of the CPU quota that ended with the service stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaPath {
    pub function: String,
    pub ticks: u64,
    pub cpu_ns: u64,
    /// Of all ticks of such periods.
    pub share: f64,
}

/// Everything the reports say of waits.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitAnalysis {
    /// The most time first.
    pub causes: Vec<CauseTotal>,
    pub paths: Vec<WaitPath>,
    pub quota: Vec<QuotaPath>,
    /// Waited time of all stacks, and that of stacks that reached their root, nanoseconds; without what has no stack.
    pub with_stack_ns: u64,
    pub complete_ns: u64,
    /// For which no stack was taken.
    pub without_stack_ns: u64,
    /// Which of [`Waits::samples`] wait for work, by their place.
    pub idle: Vec<bool>,
}

impl WaitAnalysis {
    /// `None` where waits were not recorded.
    pub fn of(profile: &Profile) -> Option<WaitAnalysis> {
        let waits = profile.waits.as_ref()?;
        let idle = Idle::of(profile, waits);
        let paths = paths(profile, waits, &idle);
        let not_taken = StackEnd::Truncated(Why::NotTaken);
        let sum = |wanted: &dyn Fn(StackEnd) -> bool| {
            let samples = waits.samples.iter().filter(|sample| wanted(sample.end));
            samples.map(|sample| sample.wait_ns).sum()
        };
        Some(WaitAnalysis {
            causes: causes(waits, &idle),
            paths,
            quota: quota(profile, waits),
            with_stack_ns: sum(&|end| end != not_taken),
            complete_ns: sum(&|end| end == StackEnd::Root),
            without_stack_ns: sum(&|end| end == not_taken),
            idle: idle.into_flags(),
        })
    }
}

fn causes(waits: &Waits, idle: &Idle) -> Vec<CauseTotal> {
    let mut totals: BTreeMap<Cause, CauseTotal> = BTreeMap::new();
    let empty = |cause| CauseTotal {
        cause,
        ns: 0,
        idle_ns: 0,
        waits: 0,
    };
    for thread in &waits.facts.threads {
        for cause in Cause::ALL {
            let total = totals.entry(cause).or_insert_with(|| empty(cause));
            total.ns = total.ns.saturating_add(thread.of(cause));
            if let Some(count) = thread.blocked_count.get(cause as usize) {
                total.waits = total.waits.saturating_add(*count);
            }
        }
    }
    for (ix, sample) in waits.samples.iter().enumerate() {
        let total = totals
            .entry(sample.cause)
            .or_insert_with(|| empty(sample.cause));
        if !sample.cause.is_blocked() {
            total.waits = total.waits.saturating_add(sample.count);
        }
        if idle.is_idle(ix) {
            total.idle_ns = total.idle_ns.saturating_add(sample.wait_ns);
        }
    }
    let mut totals: Vec<CauseTotal> = totals.into_values().filter(|t| t.ns > 0).collect();
    totals
        .iter_mut()
        .for_each(|total| total.idle_ns = total.idle_ns.min(total.ns));
    totals.sort_by_key(|total| (std::cmp::Reverse(total.ns), total.cause));
    totals
}

fn paths(profile: &Profile, waits: &Waits, idle: &Idle) -> Vec<WaitPath> {
    let mut paths: BTreeMap<(Cause, bool, Vec<String>, StackEnd), WaitPath> = BTreeMap::new();
    let mut chain_of: BTreeMap<StackIx, Vec<String>> = BTreeMap::new();
    for (ix, sample) in waits.samples.iter().enumerate() {
        let names = chain_of
            .entry(sample.stack)
            .or_insert_with(|| chain(profile, sample.stack));
        let key = (sample.cause, idle.is_idle(ix), names.clone(), sample.end);
        let path = paths.entry(key).or_insert_with(|| WaitPath {
            cause: sample.cause,
            idle: idle.is_idle(ix),
            ns: 0,
            waits: 0,
            stacks: 0,
            function: own_function(profile, sample.stack, sample.end),
            chain: names.clone(),
            end: sample.end,
            wakers: Vec::new(),
        });
        path.ns = path.ns.saturating_add(sample.wait_ns);
        path.waits = path.waits.saturating_add(sample.count);
        path.stacks = path.stacks.saturating_add(sample.stacks);
    }
    let mut paths: Vec<WaitPath> = paths.into_values().collect();
    paths.sort_by(|a, b| b.ns.cmp(&a.ns).then_with(|| a.chain.cmp(&b.chain)));
    paths.truncate(PATHS);
    let wakers = wakers(profile, waits);
    let mut of_chain: BTreeMap<(Cause, Vec<String>), u64> = BTreeMap::new();
    for path in &paths {
        *of_chain
            .entry((path.cause, path.chain.clone()))
            .or_default() += path.ns;
    }
    for path in &mut paths {
        let key = (path.cause, path.chain.clone());
        // The same chain waits for work in one thread and within work in another: each has its part.
        let part = path.ns as f64 / of_chain.get(&key).map_or(1, |ns| *ns).max(1) as f64;
        let found = wakers.get(&key).cloned().unwrap_or_default();
        // What stands for others may stand for a little too much.
        let told: u64 = found.iter().map(|waker| waker.ns).sum();
        let part = part.min(path.ns as f64 / told.max(1) as f64);
        path.wakers = found.into_iter().map(|waker| waker.part(part)).collect();
    }
    paths
}

impl WakerPath {
    fn part(self, part: f64) -> WakerPath {
        WakerPath {
            ns: (self.ns as f64 * part).round() as u64,
            waits: (self.waits as f64 * part).round() as u64,
            ..self
        }
    }
}

/// Time and waits by the waker's thread and chain.
type ByWaker = BTreeMap<(String, Vec<String>), (u64, u64)>;

type WakersByChain = BTreeMap<(Cause, Vec<String>), Vec<WakerPath>>;

/// The heaviest wakers of every chain.
fn wakers(profile: &Profile, waits: &Waits) -> WakersByChain {
    let mut all: BTreeMap<(Cause, Vec<String>), ByWaker> = BTreeMap::new();
    for waker in &waits.wakers {
        let woken = (waker.cause, chain(profile, waker.waiter));
        let thread = profile.thread(waker.thread).name.clone();
        let by = (thread, chain(profile, waker.stack));
        let sum = all.entry(woken).or_default().entry(by).or_default();
        sum.0 = sum.0.saturating_add(waker.wait_ns);
        sum.1 = sum.1.saturating_add(waker.count);
    }
    let ranked = |by: ByWaker| {
        let mut list: Vec<WakerPath> = by
            .into_iter()
            .map(|((thread, chain), (ns, waits))| WakerPath {
                ns,
                waits,
                thread,
                chain,
            })
            .collect();
        list.sort_by_key(|waker| std::cmp::Reverse(waker.ns));
        list.truncate(WAKERS);
        list
    };
    all.into_iter().map(|(key, by)| (key, ranked(by))).collect()
}

fn quota(profile: &Profile, waits: &Waits) -> Vec<QuotaPath> {
    let mut functions: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut all = 0u64;
    for ticks in &waits.quota {
        let name = match profile.stacks.leaf(ticks.stack) {
            Some(leaf) => leaf_name(profile, profile.frame(leaf)),
            None => "[no frames]".to_owned(),
        };
        let sum = functions.entry(name).or_default();
        sum.0 = sum.0.saturating_add(ticks.count);
        sum.1 = sum.1.saturating_add(ticks.cpu_ns);
        all = all.saturating_add(ticks.count);
    }
    let mut list: Vec<QuotaPath> = functions
        .into_iter()
        .map(|(function, (ticks, cpu_ns))| QuotaPath {
            function,
            ticks,
            cpu_ns,
            share: ratio(ticks, all),
        })
        .collect();
    list.sort_by_key(|path| std::cmp::Reverse(path.ticks));
    list.truncate(QUOTA_PATHS);
    list
}

/// The function that has the code: what is inlined into it is the same whoever calls it.
fn leaf_name(profile: &Profile, frame: &Frame) -> String {
    let line = frame.lines.last();
    let name = line.map_or("[unnamed]", |line| &profile.function(line.function).name);
    match frame.kind {
        FrameKind::Kernel => format!("{name}{KERNEL_SUFFIX}"),
        FrameKind::User | FrameKind::Wait => name.to_owned(),
    }
}

/// Names of a stack, root first, inlined functions included; kernel functions with their suffix.
fn chain(profile: &Profile, stack: StackIx) -> Vec<String> {
    let frames = profile
        .stacks
        .root_to_leaf(stack)
        .map(|ix| profile.frame(ix));
    frames
        .flat_map(|frame| {
            frame.lines.iter().rev().map(|line| {
                let name = &profile.function(line.function).name;
                match frame.kind {
                    FrameKind::Kernel => format!("{name}{KERNEL_SUFFIX}"),
                    FrameKind::User | FrameKind::Wait => name.clone(),
                }
            })
        })
        .collect()
}

/// The innermost function that belongs to the program itself.
fn own_function(profile: &Profile, stack: StackIx, end: StackEnd) -> String {
    let mut frames = profile
        .stacks
        .leaf_to_root(stack)
        .map(|ix| profile.frame(ix));
    let own = frames.find(|frame| !is_library(profile, frame));
    let mut frames = profile
        .stacks
        .leaf_to_root(stack)
        .map(|ix| profile.frame(ix));
    let user = frames.find(|frame| frame.kind == FrameKind::User);
    let leaf = profile.stacks.leaf(stack).map(|ix| profile.frame(ix));
    match own.or(user).or(leaf) {
        Some(frame) => frame.lines.first().map_or_else(String::new, |line| {
            profile.function(line.function).name.clone()
        }),
        None => end
            .reason_frame()
            .unwrap_or_else(|| "[no frames]".to_owned()),
    }
}

/// Names of libraries that wait on behalf of others, up to the first dot or digit.
const LIBRARIES: [&str; 8] = [
    "libc",
    "ld",
    "ld-linux-x86-64",
    "libpthread",
    "libstdc++",
    "ld-musl",
    "libjvm",
    "[vdso]",
];

/// Beginnings of names of run-time libraries that are part of the program's file.
const RUNTIMES: [&str; 13] = [
    "std::",
    "core::",
    "<std::",
    "<core::",
    "parking_lot",
    "lock_api::",
    "runtime.",
    "internal/",
    // Java, as compilers and perf maps write it.
    "java.",
    "Ljava/",
    "jdk.",
    "Ljdk/",
    "Interpreter",
];

/// Whether a frame is the kernel's, the C library's or a language's run-time: not where a program's own code waits.
pub(super) fn is_library(profile: &Profile, frame: &Frame) -> bool {
    if frame.kind == FrameKind::Kernel {
        return true;
    }
    let path = frame.mapping.map_or("", |ix| &profile.mapping(ix).path);
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split_once(".so").map_or(file, |(stem, _)| stem);
    let by_file = LIBRARIES.contains(&stem);
    let name = frame.lines.last();
    let name = name.map_or("", |line| profile.function(line.function).name.as_str());
    by_file || RUNTIMES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned;

    #[test]
    fn waits_are_ranked_with_who_ended_them() {
        let profile = canned::waiting_server();
        let analysis = WaitAnalysis::of(&profile).expect("it has waits");
        let lock = analysis
            .paths
            .iter()
            .find(|path| path.cause == Cause::Futex && !path.idle)
            .expect("a lock");
        assert_eq!(lock.function, "read_block");
        assert_eq!(lock.wakers[0].chain, ["main", "serve", "walk_tree"]);
        let idle = analysis
            .causes
            .iter()
            .find(|total| total.cause == Cause::Poll)
            .expect("it polls");
        assert_eq!(idle.idle_ns, idle.ns);
        let all: u64 = analysis.causes.iter().map(|total| total.ns).sum();
        assert_eq!(all, analysis.with_stack_ns + analysis.without_stack_ns);
        assert_eq!(analysis.quota[0].function, "hash_row");
        assert!(WaitAnalysis::of(&canned::server()).is_none());
    }
}
