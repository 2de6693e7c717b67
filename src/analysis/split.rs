//! The same CPU time cut two other ways: by thread and by binary.

use std::collections::BTreeMap;

use super::weight::{Measure, Weight, ratio};
use crate::profile::{BuildId, Profile, Thread};

/// One thread of the target. Threads that used CPU and got no tick are listed, too.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadSplit {
    pub pid: u32,
    pub tid: u32,
    /// The names most of its ticks were under; empty for a thread without ticks.
    pub process: String,
    pub name: String,
    /// CPU time by the kernel's own count; `None` where that is not known.
    pub kernel_cpu_ns: Option<u64>,
    pub sampled: Weight,
    /// Share of all samples.
    pub share: f64,
}

/// Ticks with the leaf in one binary.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleSplit {
    /// Path, or `[kernel]` and its like; `[unknown]` where no mapping is known, also for stacks without frames.
    pub path: String,
    pub build_id: Option<BuildId>,
    pub weight: Weight,
    pub share: f64,
    /// Of those ticks, the share whose leaf has a name.
    pub named: f64,
}

/// Threads, most CPU time first.
pub fn by_thread(profile: &Profile) -> Vec<ThreadSplit> {
    let mut sampled: BTreeMap<(u32, u32), BTreeMap<u32, Weight>> = BTreeMap::new();
    for sample in &profile.samples {
        let Thread { pid, tid, .. } = profile.thread(sample.thread);
        let names = sampled.entry((*pid, *tid)).or_default();
        *names.entry(sample.thread.0).or_default() += sample.into();
    }
    let mut kernel: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for thread in &profile.accounting.threads {
        *kernel.entry((thread.pid, thread.tid)).or_default() += thread.cpu_ns;
        sampled.entry((thread.pid, thread.tid)).or_default();
    }
    let measure = Measure::of(profile);
    let whole: u64 = profile.samples.iter().map(|s| measure.read(s.into())).sum();
    let mut rows: Vec<ThreadSplit> = sampled
        .into_iter()
        .map(|((pid, tid), names)| {
            let mut weight = Weight::default();
            names.values().for_each(|w| weight += *w);
            // An exec changes a thread's name; it goes under the one it spent most ticks with.
            let main = names.iter().max_by_key(|(ix, w)| (w.ticks, **ix));
            let thread = main.map(|(ix, _)| &profile.threads[*ix as usize]);
            ThreadSplit {
                pid,
                tid,
                process: thread.map_or_else(String::new, |t| t.process.clone()),
                name: thread.map_or_else(String::new, |t| t.name.clone()),
                kernel_cpu_ns: kernel.get(&(pid, tid)).copied(),
                sampled: weight,
                share: ratio(measure.read(weight), whole),
            }
        })
        .collect();
    rows.sort_by_key(|row| {
        let heaviest = row.kernel_cpu_ns.unwrap_or(0).max(row.sampled.cpu_ns);
        (
            std::cmp::Reverse((heaviest, row.sampled.ticks)),
            row.pid,
            row.tid,
        )
    });
    rows
}

/// Binaries by the ticks that have their leaf in them, heaviest first.
pub fn by_module(profile: &Profile) -> Vec<ModuleSplit> {
    let measure = Measure::of(profile);
    let mut modules: BTreeMap<(&str, Option<BuildId>), (Weight, u64)> = BTreeMap::new();
    let mut whole = 0;
    for sample in &profile.samples {
        let frame = profile
            .stacks
            .leaf(sample.stack)
            .map(|ix| profile.frame(ix));
        let mapping = frame.and_then(|f| f.mapping).map(|ix| profile.mapping(ix));
        let key = mapping.map_or(("[unknown]", None), |m| (m.path.as_str(), m.build_id));
        let (weight, named) = modules.entry(key).or_default();
        *weight += sample.into();
        let read = measure.read(sample.into());
        whole += read;
        if frame.is_some_and(|f| f.unresolved.is_none()) {
            *named += read;
        }
    }
    let mut rows: Vec<ModuleSplit> = modules
        .into_iter()
        .map(|((path, build_id), (weight, named))| ModuleSplit {
            path: path.to_owned(),
            build_id,
            weight,
            share: ratio(measure.read(weight), whole),
            named: ratio(named, measure.read(weight)),
        })
        .collect();
    rows.sort_by(|a, b| {
        let read = |row: &ModuleSplit| measure.read(row.weight);
        read(b)
            .cmp(&read(a))
            .then_with(|| (&a.path, a.build_id).cmp(&(&b.path, b.build_id)))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned;

    #[test]
    fn both_splits_add_up_and_keep_the_thread_that_was_never_sampled() {
        let profile = canned::server();
        let threads = by_thread(&profile);
        let ticks: u64 = threads.iter().map(|row| row.sampled.ticks).sum();
        assert_eq!(ticks, profile.total_count());
        let unseen = threads.iter().find(|row| row.tid == canned::UNSAMPLED_TID);
        let unseen = unseen.expect("listed");
        assert_eq!((unseen.sampled.ticks, unseen.name.as_str()), (0, ""));
        assert!(unseen.kernel_cpu_ns.is_some());

        let modules = by_module(&profile);
        let share: f64 = modules.iter().map(|row| row.share).sum();
        assert!((share - 1.0).abs() < 1e-9);
        let stripped = modules.iter().find(|row| row.path.ends_with("libz.so.1"));
        assert_eq!(stripped.expect("listed").named, 0.0);
    }
}
