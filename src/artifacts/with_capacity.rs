//! The capacity analysis of a recording, as it goes into the artifacts beside the profile.
//!
//! In: a profile with readings of gauges, and what was planned. Out: an [`Extra`] for [`super::publish`].

use super::{Document, Extra};
use crate::analysis::{Analysis, HotPaths};
use crate::capacity::{self, Capacity, HotPath, Planning};
use crate::profile::Profile;
use crate::render::units;

/// Functions whose cores are told.
const MAX_PATHS: usize = 10;
/// Share of the CPU time from which a function can be scaffolding. A handler in which a service spends nine tenths of
/// its time is what its user asks about.
const NEARLY_EVERYTHING: f64 = 0.97;
/// A smaller share of the cores is no reason to plan anything.
const MIN_SHARE: f64 = 0.01;

/// What the capacity analysis of a recording adds to its artifacts; nothing where no gauges were read.
pub fn with_capacity<'a>(
    profile: &'a Profile,
    analysis: &Analysis,
    planning: &Planning,
) -> Extra<'a> {
    let Some(facts) = &profile.recording.capacity else {
        return Extra::default();
    };
    let planning = Planning {
        hot_paths: hot_paths(&analysis.hot),
        ..planning.clone()
    };
    let capacity = Capacity::planned(&profile.recording.service, facts, &planning);
    Extra {
        capacity_markdown: Some(capacity::summary_markdown(&capacity)),
        capacity_section: Some(capacity::markdown_section(&capacity)),
        capacity_chart: capacity::chart(&capacity, &facts.points),
        documents: vec![Document {
            file: "capacity-analysis.json",
            schema: capacity::SCHEMA,
            version: capacity::SCHEMA_VERSION.into(),
            entry: capacity::json_entry_at(
                &capacity,
                units::timestamp(profile.recording.started_unix_ns).as_deref(),
            ),
        }],
        shown: None,
    }
}

/// The hottest functions by total time that are more than scaffolding; with nothing else, that.
fn hot_paths(hot: &HotPaths) -> Vec<HotPath> {
    let functions = || {
        let named = hot.by_total.iter().filter(|path| !path.is_group);
        named.filter(|path| path.share.value >= MIN_SHARE && !is_entry(path.kernel, &path.name))
    };
    let telling: Vec<_> = functions()
        .filter(|path| {
            !is_scaffolding(
                path.share.value,
                path.self_weight.ticks,
                path.total_weight.ticks,
            )
        })
        .collect();
    let chosen = match telling.is_empty() {
        true => functions().collect(),
        false => telling,
    };
    chosen
        .into_iter()
        .take(MAX_PATHS)
        .map(|path| HotPath {
            name: path.name.clone(),
            share: path.share.value,
            low: path.share.interval.map(|interval| interval.low),
            high: path.share.interval.map(|interval| interval.high),
        })
        .collect()
}

/// Where threads and the kernel begin, which tells nothing of the service.
fn is_entry(kernel: bool, name: &str) -> bool {
    match kernel {
        true => {
            let begins = ["asm_", "entry_", "ret_from_fork", "do_syscall_64"];
            begins.iter().any(|begin| name.starts_with(begin))
        }
        false => {
            let exact = [
                "_start",
                "clone3",
                "clone",
                "__clone",
                "__clone3",
                "start_thread",
            ];
            exact.contains(&name) || name.starts_with("__libc_start_")
        }
    }
}

/// `main`, the start of a thread, an event loop: nearly everything runs below it, and little in it.
fn is_scaffolding(share: f64, own: u64, total: u64) -> bool {
    share >= NEARLY_EVERYTHING && own.saturating_mul(10) < total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_of_nine_tenths_is_told_and_where_threads_begin_is_not() {
        assert!(!is_scaffolding(0.906, 50, 906));
        assert!(is_scaffolding(0.97, 50, 970) && !is_scaffolding(0.97, 500, 970));
        for name in ["_start", "clone3", "start_thread", "__libc_start_main_impl"] {
            assert!(is_entry(false, name), "{name}");
        }
        for name in [
            "entry_SYSCALL_64_after_hwframe",
            "do_syscall_64",
            "asm_exc_page_fault",
            "ret_from_fork_asm",
        ] {
            assert!(is_entry(true, name), "{name}");
        }
        // A service's own function may have such a name.
        assert!(!is_entry(false, "entry_point") && !is_entry(true, "tcp_sendmsg"));
        assert!(!is_entry(false, "main"));
    }
}
