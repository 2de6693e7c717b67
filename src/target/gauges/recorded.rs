//! What is read of trees that were recorded from real machines (`fixtures/cgroups`).

use std::collections::BTreeSet;
use std::path::Path;

use super::scope::{CgroupFiles, Scope, own_scope, refresh_limits};
use crate::profile::LimitFacts;
use crate::target::cgroup::Cgroup;

fn recorded(name: &str) -> Cgroup {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/cgroups")
        .join(name);
    Cgroup::recorded(&root, 42).expect("the tree was recorded")
}

fn limits(cgroup: &Cgroup) -> LimitFacts {
    let mut limits = LimitFacts::default();
    refresh_limits(&mut limits, cgroup);
    limits
}

fn files(cgroup: &Cgroup) -> (Box<CgroupFiles>, BTreeSet<String>) {
    let mut gaps = BTreeSet::new();
    match own_scope(cgroup.clone(), &mut gaps) {
        Scope::Cgroup(files) => (files, gaps),
        other => panic!("its CPU time was recorded: {other:?}"),
    }
}

/// Bytes that the recorded process had touched at least; it was on its way to 40 million.
const TOUCHED_BYTES: u64 = 10_000_000;

#[test]
fn limits_and_use_are_the_same_on_every_kind_of_machine() {
    for (name, version) in [("v1", 1), ("v2", 2), ("hybrid", 1)] {
        let cgroup = recorded(name);
        assert!(cgroup.is_own() && cgroup.path() == "/shop/cart", "{name}");
        let limits = limits(&cgroup);
        assert_eq!(limits.cgroup_version, version, "{name}");
        assert_eq!(limits.cpu_limit_cores, Some(0.3), "{name}");
        assert_eq!(limits.cpu_period_ns, Some(100_000_000), "{name}");
        assert_eq!(limits.memory_limit_bytes, Some(64 << 20), "{name}");
        let (files, gaps) = files(&cgroup);
        assert!(gaps.is_empty(), "{name}: {gaps:?}");
        let mut buffer = vec![0; 16 << 10];
        assert!(files.read_usage(&mut buffer) > Some(100_000_000), "{name}");
        let used = files
            .read_working_set(&mut buffer)
            .expect("memory was recorded");
        assert!((TOUCHED_BYTES..64 << 20).contains(&used), "{name}: {used}");
        let throttling = files.read_throttling(&mut buffer);
        assert!(throttling.nr_throttled > Some(10), "{name}: {throttling:?}");
        assert!(throttling.throttled_ns > Some(1_000_000_000), "{name}");
        let memory = Scope::Cgroup(files).memory().expect("a memory cgroup");
        assert_eq!(memory.events.oom_kills, Some(0), "{name}");
        assert_eq!(memory.events.limit_hits, Some(0), "{name}");
        assert!(memory.peak_bytes >= Some(used), "{name}");
    }
    let by_cpu = recorded("v1")
        .cpuacct
        .and_then(|place| place.cpu_usage_by_cpu_ns());
    assert_eq!(by_cpu.map(|cpus| cpus.len()), Some(2));
}

#[test]
fn the_tightest_limit_of_a_nested_tree_counts_and_where_it_is_is_said() {
    for name in ["nested_v1", "nested_v2"] {
        let cgroup = recorded(name);
        let limits = limits(&cgroup);
        // 10 of 50 ms in the parent, 20 or 50 of 100 ms in the cgroup itself.
        assert_eq!(limits.cpu_limit_cores, Some(0.2), "{name}");
        assert_eq!(limits.memory_limit_bytes, Some(48 << 20), "{name}");
        let (_, gaps) = files(&cgroup);
        let parents = gaps.iter().filter(|gap| gap.contains("1 above"));
        let expected = 2 - usize::from(name == "nested_v1");
        assert!(parents.count() >= expected, "{name}: {gaps:?}");
    }
    assert_eq!(
        limits(&recorded("nested_v2")).cpu_period_ns,
        Some(50_000_000)
    );
}

#[test]
fn no_limit_is_no_limit() {
    let cgroup = recorded("no_limit");
    let limits = limits(&cgroup);
    assert_eq!(
        (limits.cpu_limit_cores, limits.memory_limit_bytes),
        (None, None)
    );
    assert!(cgroup.is_own() && files(&cgroup).1.is_empty());
}

#[test]
fn weights_up_the_tree_are_a_share_of_the_node() {
    // 20 of 20 + 60, below the only cgroup of the root.
    assert_eq!(limits(&recorded("v2")).cpu_guaranteed_share, Some(0.25));
    assert_eq!(limits(&recorded("v2")).cpu_shares, Some(500));
    assert_eq!(limits(&recorded("v1")).cpu_shares, Some(512));
    assert_eq!(limits(&recorded("v1")).cpu_guaranteed_share, Some(1.0));
}

#[test]
fn a_container_sees_its_limits_as_its_root_and_its_neighbours_through_their_root() {
    for (name, path) in [("container_v2", "/"), ("neighbour_v2", "/../app")] {
        let cgroup = recorded(name);
        assert!(cgroup.is_own() && cgroup.path() == path, "{name}");
        let limits = limits(&cgroup);
        assert_eq!(limits.cpu_limit_cores, Some(0.4), "{name}");
        assert_eq!(limits.memory_limit_bytes, Some(80 << 20), "{name}");
        assert_eq!(limits.cpu_guaranteed_share, None, "its siblings are hidden");
        assert!(cgroup.cpu.expect("found").hides_parents(), "{name}");
    }
}
