//! The gauges read the truth from real cgroups, and the analysis says it.

use std::process::Command;
use std::time::{Duration, Instant};

use perfprof::capacity::{Capacity, CeilingKind, QuotaVerdict, markdown_section};
use perfprof::profile::CapacityFacts;
use perfprof::target::cgroup::Cgroup;
use perfprof::target::gauges::{Gauges, HIDDEN_PARENTS};
use perfprof::target::host::Host;

use crate::sandbox::{Burner, TOUCHED_BYTES};
use crate::support::build;
use crate::support::need::skip;
use crate::support::proc::cpu_ns;

/// Reads the gauges each tenth of a second for this long.
fn record(pid: u32, length: Duration) -> CapacityFacts {
    let mut gauges = Gauges::open(&[pid]);
    let began = Instant::now();
    loop {
        gauges.read();
        if began.elapsed() >= length {
            return gauges.finish();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The most cores that one thread can show under a quota in an interval of five periods or longer.
///
/// Five periods that begin in the middle of a burst touch six; readings a tenth of a second apart make intervals of up to
/// six, and one that is longer than five by two bursts touches seven. A period timer can fire late, as when the host
/// takes the CPU away, so that one refill more falls into the interval. The scheduler looks at the quota and books CPU
/// time once per tick (10 ms where the kernel counts a hundred a second): what was used beyond the quota, and what was
/// used before and booked late, add one tick each.
fn most_cores(quota_cores: f64) -> f64 {
    const PERIOD_MS: f64 = 100.0;
    const TICK_MS: f64 = 10.0;
    let burst_ms = quota_cores * PERIOD_MS;
    let use_of =
        |touched: f64, length_ms: f64| ((touched + 1.0) * burst_ms + 2.0 * TICK_MS) / length_ms;
    let seven = use_of(7.0, 5.0 * PERIOD_MS + 2.0 * burst_ms);
    use_of(6.0, 5.0 * PERIOD_MS).max(seven)
}

#[test]
fn a_quota_of_twenty_percent_is_found_used_up_and_named() {
    let burner = match Burner::with_limits(20, 64 << 20) {
        Ok(burner) => burner,
        Err(reason) => return skip("cgroup", &reason),
    };
    let (began, used_before) = (Instant::now(), cpu_ns(burner.pid()));
    let facts = record(burner.pid(), Duration::from_secs(9));
    let used_ns = cpu_ns(burner.pid()) - used_before;
    let used_cores = used_ns as f64 / began.elapsed().as_nanos() as f64;
    assert_eq!(facts.scope, "cgroup", "{:?}", facts.gaps);
    assert_eq!(facts.limits.cgroup, burner.path());
    assert_eq!(facts.limits.memory_limit_bytes, Some(64 << 20));
    assert_eq!(facts.oom_kills, Some(0));
    let peak = facts.memory_peak_bytes;
    let in_bounds = |peak: u64| (TOUCHED_BYTES..64 << 20).contains(&peak);
    assert_eq!(
        peak.map(in_bounds),
        burner.keeps_peak().then_some(true),
        "{peak:?}"
    );
    let now = facts.points.iter().filter_map(|p| p.memory_bytes).max();
    assert!(now.is_some_and(|bytes| bytes >= TOUCHED_BYTES), "{now:?}");
    assert_eq!(facts.limits.cpu_limit_cores, Some(0.2));

    let capacity = Capacity::of("burner", &facts);
    assert_eq!(capacity.ceiling_kind, CeilingKind::Quota);
    let cores = capacity.cpu_cores.expect("use was measured");
    // One burst of 20 ms more or less in 9 s, and what the looks themselves take.
    assert!(
        (cores.mean - used_cores).abs() < 0.01,
        "{cores:?}, not {used_cores}"
    );
    assert!(cores.mean <= 0.22, "{cores:?}");
    let most = most_cores(0.2);
    assert!(cores.p95 <= most, "{cores:?}, not at most {most}");
    let throttling = capacity.throttling.expect("a quota was set");
    // The quota allows 0.2; the first period may be cut, and 9 s hold 90 of them.
    if used_cores < 0.18 {
        return skip(
            "cgroup",
            "the machine was too busy for the burner to use its quota up",
        );
    }
    assert!((80..=95).contains(&throttling.periods), "{throttling:?}");
    assert!(throttling.share > 0.9, "{throttling:?}");
    assert_eq!(capacity.runs_out[0].resource, "cpu_quota");
    assert!(capacity.runs_out[0].exhausted);
    assert!(capacity.headroom.as_ref().is_some_and(|h| h.cores < 0.0));
    assert!(markdown_section(&capacity).contains("**Exhausted: CPU quota:"));
}

#[test]
fn thirty_of_a_hundred_milliseconds_leave_one_thread_stopped_for_the_other_seventy() {
    const PERIOD_NS: u64 = 100_000_000;
    const TICK_NS: u64 = 10_000_000;
    let burner = match Burner::favoured(30, 64 << 20) {
        Ok(burner) => burner,
        Err(reason) => return skip("cgroup", &reason),
    };
    let facts = record(burner.pid(), Duration::from_secs(9));
    let (first, last) = (&facts.points[0], facts.points.last().expect("points"));
    let used_ns = last.service_cpu_ns - first.service_cpu_ns;
    let capacity = Capacity::of("burner", &facts);
    let throttling = capacity.throttling.expect("a quota was set");
    let stopped_periods = throttling.throttled_periods;
    if stopped_periods < 80 {
        return skip(
            "cgroup",
            "the machine was too busy for the quota to be used up",
        );
    }
    // A period in which it was stopped holds its use, and up to a tick until it got a CPU; the rest it was stopped.
    let rest_ns = stopped_periods * PERIOD_NS - used_ns.min(stopped_periods * PERIOD_NS);
    let stopped_ns = throttling.throttled_ns;
    assert!(
        stopped_ns <= rest_ns + 2 * PERIOD_NS,
        "{stopped_ns} of {rest_ns} ns: {throttling:?}"
    );
    assert!(
        stopped_ns + stopped_periods * TICK_NS + 2 * PERIOD_NS >= rest_ns,
        "{stopped_ns} of {rest_ns} ns: {throttling:?}"
    );
    let advice = capacity.quota.expect("a quota was set");
    assert_eq!(
        advice.verdict,
        QuotaVerdict::TooSmall,
        "{}",
        advice.sentence
    );
    // It wants one core at any time; a tick more or less of each period may be booked to the next.
    let proposed = advice.proposed_limit_cores.expect("more than the limit");
    assert!((0.8..=1.3).contains(&proposed), "{}", advice.sentence);
}

#[test]
fn the_quota_of_a_parent_counts_when_it_is_tighter() {
    let burner = match Burner::nested(20, 50) {
        Ok(burner) => burner,
        Err(reason) => return skip("cgroup", &reason),
    };
    let facts = record(burner.pid(), Duration::from_secs(6));
    assert_eq!(facts.limits.cgroup, burner.path());
    assert_eq!(facts.limits.cpu_limit_cores, Some(0.2));
    assert!(
        facts
            .gaps
            .iter()
            .any(|gap| gap.contains("CPU quota is that of a cgroup 1 above")),
        "{:?}",
        facts.gaps
    );
    let capacity = Capacity::of("burner", &facts);
    let cores = capacity.cpu_cores.expect("use was measured");
    assert!(cores.mean <= 0.22, "{cores:?}");
    let throttling = capacity.throttling.expect("read where the quota is");
    assert!(throttling.throttled_periods > 0, "{throttling:?}");
}

#[test]
fn memory_at_ninety_percent_of_its_limit_is_what_runs_out_first() {
    const LIMIT: u64 = 64 << 20;
    let touched = LIMIT * 9 / 10;
    let mut program = Command::new(build("memory_filled.c"));
    let filled = match Burner::of_program(program.arg(touched.to_string()), LIMIT) {
        Ok(filled) => filled,
        Err(reason) => return skip("cgroup", &reason),
    };
    let facts = record(filled.pid(), Duration::from_secs(6));
    let capacity = Capacity::of("filled", &facts);
    let max = capacity.memory.max_bytes.expect("memory was read");
    // What a C program and the kernel need for it: stack, page tables, the loader's pages.
    assert!(
        (touched..touched + (2 << 20)).contains(&max),
        "{max}, not {touched}"
    );
    assert_eq!(capacity.memory.events.oom_kills, Some(0));
    let order: Vec<&str> = capacity.runs_out.iter().map(|r| r.resource).collect();
    // Whatever else runs on this machine can have its CPUs full.
    let own: Vec<&str> = order
        .iter()
        .copied()
        .filter(|r| *r != "node_cpus")
        .collect();
    assert_eq!(own.first(), Some(&"memory_limit"), "{order:?}");
    let memory = capacity
        .runs_out
        .iter()
        .find(|r| r.resource == "memory_limit");
    let sentence = &memory.expect("found above").sentence;
    assert!(
        ["90", "91", "92", "93"]
            .iter()
            .any(|pct| sentence.contains(&format!("{pct} % used"))),
        "{sentence}"
    );
}

#[test]
fn a_cgroup_that_goes_away_keeps_what_was_read() {
    let burner = match Burner::with_limits(50, 64 << 20) {
        Ok(burner) => burner,
        Err(reason) => return skip("cgroup", &reason),
    };
    let mut gauges = Gauges::open(&[burner.pid()]);
    gauges.read();
    let mut used = 0;
    let began = Instant::now();
    while used < 20_000_000 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the burner does not run"
        );
        std::thread::sleep(Duration::from_millis(20));
        let cpu = gauges.read();
        used = gauges.cgroup_cpu().expect("its own cgroup").cpu_ns;
        assert!(cpu.service_cpu_ns >= used);
    }
    drop(burner);
    gauges.read();
    assert!(gauges.cgroup_cpu().expect("its own cgroup").cpu_ns >= used);
    let facts = gauges.finish();
    assert_eq!(facts.limits.cpu_limit_cores, Some(0.5));
    assert!(
        facts.gaps.iter().any(|gap| gap.contains("was removed")),
        "{:?}",
        facts.gaps
    );
}

#[test]
fn a_hybrid_machine_gives_use_and_pressure_from_the_v2_directory() {
    let burner = match Burner::in_hybrid_v2() {
        Ok(burner) => burner,
        Err(reason) => return skip("cgroup-hybrid", &reason),
    };
    let cgroup = Cgroup::of(burner.pid()).expect("the burner lives");
    assert!(cgroup.is_own());
    assert_eq!(cgroup.path(), burner.path());
    let facts = record(burner.pid(), Duration::from_millis(1500));
    assert_eq!(
        (facts.scope.as_str(), facts.limits.cgroup_version),
        ("cgroup", 2)
    );
    if facts.points[0].psi_cpu_some_us.is_some() {
        assert_eq!(facts.psi_scope, "cgroup");
    }
    let (first, last) = (&facts.points[0], facts.points.last().expect("points"));
    let used = last.service_cpu_ns - first.service_cpu_ns;
    assert!(
        used > 100_000_000,
        "a burner without quota used {used} ns in 1.5 s"
    );
    assert!(
        used <= last.at_ns - first.at_ns + 20_000_000,
        "one thread, one CPU"
    );
    assert_eq!(facts.limits.cpu_limit_cores, None);
}

#[test]
fn parents_out_of_sight_are_said_beside_the_ceiling() {
    let mut gauges = Gauges::open(&[std::process::id()]);
    gauges.read();
    let mut facts = gauges.finish();
    facts.limits.cpu_limit_cores = None;
    facts.gaps = vec![HIDDEN_PARENTS.to_owned()];
    let section = markdown_section(&Capacity::of("service", &facts));
    assert!(
        section.contains("no quota is visible from here"),
        "{section}"
    );
}

#[test]
fn the_root_cgroup_is_no_service_boundary() {
    let cgroup = match Cgroup::of(1) {
        Ok(cgroup) => cgroup,
        Err(error) => return skip("init", &error.to_string()),
    };
    let in_root = cgroup
        .cpuacct
        .as_ref()
        .is_some_and(|place| place.path == "/");
    if !in_root {
        return skip("init-in-root", "PID 1 is in a cgroup of its own here");
    }
    let in_container = Host::inspect().initial_pid_namespace == Some(false);
    if !in_container {
        assert!(!cgroup.is_own());
    }
}
