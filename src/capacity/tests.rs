//! The capacity analysis against loads whose answer is known.

use serde_json::Value;

use super::*;
use crate::profile::{CapacityPoint, CpuBusy, LimitFacts};

const TENTH_NS: u64 = 100_000_000;

/// `n` tenths of a second at the given cores, on a node of 4 CPUs of which 1 is busy beside the service.
fn steady(n: u64, cores: f64) -> CapacityFacts {
    let points = (0..=n).map(|i| {
        let used = (i as f64 * cores * 1e8) as u64;
        CapacityPoint {
            at_ns: i * TENTH_NS,
            service_cpu_ns: 7_000_000_000 + used,
            node_busy_ns: 90_000_000_000 + used + i * TENTH_NS,
            node_steal_ns: i * TENTH_NS / 50,
            memory_bytes: (i % 10 == 0).then_some((100 + i) << 20),
            psi_cpu_some_us: Some(i * 20_000),
            run_delay_ns: (i % 10 == 0).then_some(i * 1_000_000),
            ..CapacityPoint::default()
        }
    });
    CapacityFacts {
        scope: "processes".into(),
        psi_scope: "node".into(),
        limits: LimitFacts {
            node_cpus: 4,
            node_memory_bytes: 1 << 30,
            allowed_cpus: Some(4),
            ..LimitFacts::default()
        },
        points: points.collect(),
        ..CapacityFacts::default()
    }
}

fn with_quota(mut facts: CapacityFacts, cores: f64, throttled_per_ten: u64) -> CapacityFacts {
    facts.limits.cpu_limit_cores = Some(cores);
    for (i, point) in facts.points.iter_mut().enumerate() {
        let i = i as u64;
        point.nr_periods = Some(1000 + i);
        point.nr_throttled = Some(500 + i * throttled_per_ten / 10);
        point.throttled_ns = Some(i * throttled_per_ten * 8_000_000);
    }
    facts
}

/// Every figure that can be known.
fn with_everything() -> CapacityFacts {
    let mut facts = with_quota(steady(600, 0.82), 1.0, 0);
    facts.limits.cpu_period_ns = Some(TENTH_NS);
    facts.limits.cpu_weight = Some(20);
    facts.limits.cpu_shares = Some(512);
    facts.limits.cpu_guaranteed_share = Some(0.25);
    facts.memory_events_before.limit_hits = Some(3);
    facts.memory_events.limit_hits = Some(7);
    facts.cpu_busy = [(0, 60_000_000_000), (1, 20_000_000_000)]
        .map(|(cpu, node_ns)| CpuBusy {
            cpu,
            node_ns,
            service_ns: Some(node_ns / 2),
        })
        .to_vec();
    facts
}

fn planning() -> Planning {
    Planning {
        replicas: Some(6),
        load: Some(Load {
            requests_per_second: 600.0,
            source: "wrk, `load.txt`".into(),
        }),
        hot_paths: vec![HotPath {
            name: "json::parse".into(),
            share: 0.35,
            low: Some(0.3),
            high: Some(0.4),
        }],
        ..Planning::default()
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn half_a_core_is_half_a_core_at_every_percentile() {
    let capacity = Capacity::of("svc", &steady(100, 0.5));
    let cores = capacity.cpu_cores.expect("percentiles");
    for value in [
        cores.mean,
        cores.p50,
        cores.p95,
        cores.p99.expect("100 intervals"),
        cores.max,
    ] {
        assert!(close(value, 0.5), "{value}");
    }
    assert!(close(capacity.node_cores.expect("node").p95, 1.5));
    assert_eq!(capacity.ceiling_kind, CeilingKind::NodeCpus);
    assert!(close(capacity.p95_share().expect("share"), 0.125));
    // Others use 1.0 of the node: 4 × 0.65 − 1.5 = 1.1; (0.5 + 1.1) ÷ 0.5 = 3.2
    let headroom = capacity.headroom.as_ref().expect("headroom");
    assert!(close(headroom.cores, 1.1) && close(headroom.load_factor.expect("factor"), 3.2));
    assert!(
        headroom.arithmetic.contains("= 1.100 cores"),
        "{}",
        headroom.arithmetic
    );
    assert!(close(capacity.steal_share.expect("steal"), 0.005));
    assert!(close(capacity.pressure.cpu.expect("psi"), 0.2));
    assert!(close(capacity.run_delay.expect("delay"), 0.01));
    assert_eq!(capacity.memory.max_bytes, Some(200 << 20));
    assert_eq!(
        capacity.memory.headroom_bytes,
        Some((1 << 30) - (200 << 20))
    );
    assert_eq!(capacity.inconclusive, [] as [&str; 0]);
    assert_eq!(
        capacity.runs_out[0].resource, "node_cpus",
        "1.5 of 4 CPUs is the fullest"
    );
    assert_eq!(capacity.throttling, None);
}

#[test]
fn a_node_that_others_fill_has_no_room_for_any_load() {
    let mut facts = steady(100, 0.5);
    for point in &mut facts.points {
        // 3.0 of 4 CPUs by others, 3.5 in all: 2.6 − 3.5 is less than the service's 0.5 below zero.
        point.node_busy_ns += 2 * point.at_ns;
    }
    let headroom = Capacity::of("svc", &facts).headroom.expect("headroom");
    assert_eq!(headroom.load_factor, Some(0.0));
    let arithmetic = &headroom.arithmetic;
    assert!(
        arithmetic.ends_with("= -0.900 cores; not even this load fits below the target, nor any part of it: the others exceed it alone"),
        "{arithmetic}"
    );
}

#[test]
fn percentiles_are_over_time_not_over_readings() {
    let mut facts = steady(0, 0.0);
    // 9 s at 1 core in one interval, then ten short ones at 0: p50 is 1.
    let at = |ms: u64, cpu_ms: u64| CapacityPoint {
        at_ns: ms * 1_000_000,
        service_cpu_ns: cpu_ms * 1_000_000,
        ..CapacityPoint::default()
    };
    facts.points = vec![at(0, 0), at(9000, 9000)];
    facts
        .points
        .extend((1..=10).map(|i| at(9000 + i * 100, 9000)));
    let cores = Capacity::of("svc", &facts).cpu_cores.expect("percentiles");
    assert!(close(cores.p50, 1.0) && close(cores.mean, 0.9) && cores.p99.is_none());
}

#[test]
fn a_quota_that_stops_the_service_is_exhausted_whatever_else_is_fuller() {
    let facts = with_quota(steady(100, 0.2), 0.2, 9);
    let capacity = Capacity::of("svc", &facts);
    assert_eq!(capacity.ceiling_kind, CeilingKind::Quota);
    assert_eq!(capacity.intervals, 20, "joined to five periods");
    let throttling = capacity.throttling.expect("throttling");
    assert_eq!(
        (throttling.periods, throttling.throttled_periods),
        (100, 90)
    );
    assert!(close(throttling.share, 0.9) && close(throttling.per_second, 0.72));
    assert!(close(capacity.p95_share().expect("share"), 1.0));
    assert!(capacity.headroom.as_ref().is_some_and(|h| h.cores < 0.0));
    assert_eq!(capacity.runs_out[0].resource, "cpu_quota");
    assert!(capacity.runs_out[0].exhausted && capacity.is_conclusive());

    let arithmetic = &capacity.headroom.as_ref().expect("headroom").arithmetic;
    assert_eq!(
        arithmetic,
        "0.20 cores (CPU quota) × 0.65 target − 0.200 cores at p95 = -0.070 cores; (0.200 − 0.070) ÷ 0.200 = 0.65 times \
         this load: not even this load fits below the target"
    );

    let idle = Capacity::of("svc", &with_quota(steady(100, 0.05), 0.2, 0));
    assert!(!idle.runs_out[0].exhausted, "{:?}", idle.runs_out);
}

#[test]
fn memory_limit_and_kills_are_seen() {
    let mut facts = steady(100, 0.1);
    facts.limits.memory_limit_bytes = Some(210 << 20);
    let capacity = Capacity::of("svc", &facts);
    assert_eq!(capacity.runs_out[0].resource, "memory_limit");
    assert_eq!(capacity.memory.headroom_bytes, Some(10 << 20));
    // Killed before the recording: mentioned, and no more.
    facts.oom_kills = Some(2);
    facts.memory_events_before.oom_kills = Some(2);
    facts.memory_events.oom_kills = Some(2);
    let before = Capacity::of("svc", &facts);
    assert!(!before.runs_out[0].exhausted, "{:?}", before.runs_out);
    let section = markdown_section(&before);
    assert!(
        section.contains(
            "2 processes killed for lack of memory over the cgroup's life, none of them meanwhile"
        ),
        "{section}"
    );
    facts.memory_events.oom_kills = Some(3);
    facts.oom_kills = Some(3);
    let within = Capacity::of("svc", &facts);
    assert!(within.runs_out[0].exhausted);
    let sentence = &within.runs_out[0].sentence;
    assert!(
        sentence.ends_with("1 process was killed for it meanwhile"),
        "{sentence}"
    );
}

#[test]
fn a_quota_that_may_be_above_what_can_be_seen_is_not_denied() {
    let mut facts = steady(100, 0.5);
    let words = |facts: &CapacityFacts| markdown_section(&Capacity::of("svc", facts));
    assert!(words(&facts).contains("none possible, no quota is set"));
    facts.gaps = vec![markdown::HIDDEN_PARENTS.to_owned()];
    let section = words(&facts);
    for said in [
        "no quota is visible from here",
        "4.000 cores (CPUs of the node; a tighter limit above its container cannot be seen from here), 12 % used",
        "no limit visible from here, the node has",
    ] {
        assert!(section.contains(said), "`{said}` is not in\n{section}");
    }
    assert!(!section.contains("none possible"), "{section}");
}

#[test]
fn the_tightest_ceiling_counts() {
    let mut facts = steady(100, 0.5);
    facts.limits.allowed_cpus = Some(2);
    let capacity = Capacity::of("svc", &facts);
    assert_eq!(
        (capacity.ceiling_kind, capacity.ceiling_cores),
        (CeilingKind::AllowedCpus, Some(2.0))
    );
    // A quota larger than the node limits nothing.
    let capacity = Capacity::of("svc", &with_quota(steady(100, 0.5), 8.0, 0));
    assert_eq!(
        (capacity.ceiling_kind, capacity.ceiling_cores),
        (CeilingKind::NodeCpus, Some(4.0))
    );
}

#[test]
fn too_little_or_unsteady_data_is_inconclusive() {
    let short = Capacity::of("svc", &steady(10, 0.5));
    assert_eq!(short.inconclusive.len(), 2, "{:?}", short.inconclusive);
    assert!(
        short.inconclusive[0].ends_with("record at least 5 s"),
        "{:?}",
        short.inconclusive
    );
    let none = Capacity::of("svc", &CapacityFacts::default());
    assert!(!none.is_conclusive() && none.cpu_cores.is_none() && none.headroom.is_none());

    let mut ramp = steady(100, 0.0);
    for (i, point) in ramp.points.iter_mut().enumerate() {
        point.service_cpu_ns = (i * i) as u64 * 1_000_000;
    }
    let ramp = Capacity::of("svc", &ramp);
    assert!(
        ramp.inconclusive.iter().any(|d| d.contains("not steady")),
        "{:?}",
        ramp.inconclusive
    );
    assert!(ramp.steadiness.is_some_and(|s| s.drift > 0.9));
}

#[test]
fn five_seconds_are_enough_though_readings_do_not_fill_them_and_a_quota_needs_eight() {
    let mut facts = steady(50, 0.5);
    for point in &mut facts.points {
        point.at_ns -= point.at_ns / 500;
    }
    let capacity = Capacity::of("svc", &facts);
    assert!(capacity.window_ns < MIN_WINDOW_NS);
    assert_eq!(capacity.inconclusive, [] as [&str; 0]);
    let short = Capacity::of("svc", &steady(48, 0.5));
    assert_eq!(
        short.inconclusive,
        ["4.8 s were measured, at least 5 s are needed: record at least 5 s"]
    );
    let quota = |tenths| Capacity::of("svc", &with_quota(steady(tenths, 0.2), 1.0, 0)).inconclusive;
    assert_eq!(
        quota(50),
        ["10 intervals of 500 ms were measured, at least 15 are needed: record at least 8 s"]
    );
    assert_eq!(quota(80), [] as [&str; 0]);
}

#[test]
fn readings_that_make_no_sense_are_bounded() {
    let mut facts = steady(20, 0.5);
    facts.points[3].service_cpu_ns = 0;
    facts.points[4].service_cpu_ns = u64::MAX;
    facts.points[5].at_ns = 0;
    facts.points[6].psi_cpu_some_us = Some(u64::MAX);
    facts.limits.cpu_limit_cores = Some(-1.0);
    let capacity = Capacity::of("svc", &facts);
    assert!(json_entry(&capacity).to_string().len() < 20_000);
    assert!(!markdown_section(&capacity).contains("NaN"));
}

#[test]
fn the_document_is_valid_against_its_schema() {
    let schema: Value =
        serde_json::from_str(include_str!("../../schemas/capacity-analysis.schema.json"))
            .expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let cases = [
        steady(100, 0.5),
        with_quota(steady(100, 0.2), 0.2, 9),
        CapacityFacts::default(),
        with_everything(),
    ];
    let entries: Vec<Value> = cases
        .iter()
        .map(|f| json_entry(&Capacity::planned("svc", f, &planning())))
        .collect();
    assert_eq!(entries[3]["advice"]["replicas"]["needed"], 8);
    assert_eq!(entries[3]["memory"]["limit_hits_within"], 4);
    assert_eq!(
        entries[0]["documented"]["throttling"], true,
        "known not to apply"
    );
    assert_eq!(entries[2]["documented"]["utilization"], false);
    let document = document(entries);
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let mut broken = document;
    broken["services"][0]["utilization"]["cores"]["p95"] = "0.5".into();
    assert!(!validator.is_valid(&broken));
}

#[test]
fn the_markdown_aligns_and_escapes() {
    let mut facts = with_quota(steady(100, 0.2), 0.2, 9);
    facts.scope = "cgroup".into();
    facts.limits.cgroup = "/a|b`<script>\n# x".into();
    let capacity = Capacity::of("evil | svc\n# heading", &facts);
    let section = markdown_section(&capacity);
    assert!(section.starts_with("## evil \\| svc\u{fffd}\\# heading\n\n**Exhausted: CPU quota:"));
    assert!(!section.contains("<script>"));
    let tables: Vec<&str> = section.lines().filter(|l| l.starts_with('|')).collect();
    let width = tables[0].chars().count();
    assert!(
        tables.iter().take(12).all(|l| l.chars().count() == width),
        "{section}"
    );
    let summary = summary_markdown(&capacity);
    assert!((3..=7).contains(&summary.lines().count()), "{summary}");
    assert!(
        summary.contains("stopped in 90 of 100 periods (90 %)"),
        "{summary}"
    );
}

#[test]
fn six_replicas_at_82_percent_need_eight_and_a_request_has_its_price() {
    let capacity = Capacity::planned("svc", &with_everything(), &planning());
    let replicas = capacity.replicas.as_ref().expect("replicas were given");
    assert_eq!((replicas.now, replicas.needed), (6, 8));
    let expected = "6 replicas × 82 % used at p95 ÷ 65 % target = 7.57, rounded up 8";
    assert_eq!(replicas.arithmetic, expected);
    // A flat load has a narrow interval.
    assert_eq!((replicas.low, replicas.high), (8, Some(8)));
    let cost = capacity.cost.as_ref().expect("throughput was given");
    assert!(close(cost.cpu_ms, 8.2) && close(cost.requests_per_second, 100.0));
    assert!((cost.requests_per_core_second - 100.0 / 0.82).abs() < 1e-3);
    let at_target = cost.requests_per_second_at_target.expect("a ceiling");
    assert!((at_target - 0.65 / 0.82 * 100.0).abs() < 1e-3);
    let path = &capacity.path_cores[0];
    assert!(close(path.cores, 0.287) && path.high.is_some_and(|high| close(high, 0.328)));
    let section = markdown_section(&capacity);
    for words in [
        "`json::parse` is 0.29 of 1.00 cores (0.25 to 0.33)",
        "Where the cores go, 0.82 of 1.00 (CPU quota) used on average:",
        "Replicas needed: 8, from 6 replicas",
        "= 8.200 ms of CPU time per request",
        "a request of 500 m; guarantees 1.000 cores on a full node, 82 % used at p95",
        "the limit was hit 4 times meanwhile",
        "busiest 1.50 times the mean; by the service alone 1.50 times the mean",
    ] {
        assert!(section.contains(words), "`{words}` is not in\n{section}");
    }
}

#[test]
fn throttling_is_told_from_utilization() {
    let advice = |facts: &CapacityFacts| Capacity::of("svc", facts).quota.expect("a quota");
    // One thread that always wants to run: 20 ms used and 80 ms stopped in each period.
    let mut busy = with_quota(steady(100, 0.2), 0.2, 10);
    busy.limits.cpu_period_ns = Some(TENTH_NS);
    let busy = advice(&busy);
    assert_eq!(busy.verdict, QuotaVerdict::TooSmall);
    assert_eq!(busy.proposed_limit_cores, Some(1.0), "{}", busy.sentence);
    assert!(busy.sentence.contains("add replicas"), "{}", busy.sentence);
    // Stopped in half of the periods, with a third of the quota used.
    let bursty = advice(&with_quota(steady(100, 0.1), 0.3, 5));
    assert_eq!(bursty.verdict, QuotaVerdict::Bursty);
    assert!(
        bursty
            .sentence
            .contains("more replicas leave that as it is")
    );
    assert!(
        bursty
            .sentence
            .contains("the 30 ms of CPU time of a 100-ms period")
    );
    let facts = with_quota(steady(100, 0.1), 0.3, 5);
    let section = markdown_section(&Capacity::planned("svc", &facts, &planning()));
    assert!(
        section.contains("Replicas needed by utilization alone: "),
        "{section}"
    );
    let idle = advice(&with_quota(steady(100, 0.1), 0.3, 0));
    assert_eq!(idle.verdict, QuotaVerdict::NotThrottled);
    assert_eq!(idle.proposed_limit_cores, None);
}

#[test]
fn memory_at_90_percent_of_its_limit_runs_out_first() {
    let mut facts = steady(100, 0.1);
    for point in &mut facts.points {
        point.memory_bytes = point.memory_bytes.map(|_| 576 << 20);
    }
    facts.limits.memory_limit_bytes = Some(640 << 20);
    let first = &Capacity::of("svc", &facts).runs_out[0];
    assert_eq!(first.resource, "memory_limit");
    assert_eq!(first.sentence, "memory limit: 90 % used at most");
}

#[test]
fn a_chart_is_drawn_and_a_hostile_name_stays_text() {
    let facts = with_quota(steady(100, 0.2), 0.2, 9);
    let capacity = Capacity::of("a</text><script>&", &facts);
    let svg = chart(&capacity, &facts.points).expect("ten seconds");
    assert_eq!(chart(&capacity, &facts.points).as_ref(), Some(&svg));
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("a&lt;/text&gt;&lt;script&gt;&amp;") && !svg.contains("<script"));
    for words in ["limit 0.20 cores", "target 65 %: 0.130", "p95 0.200 cores"] {
        assert!(svg.contains(words), "{svg}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    assert_eq!(chart(&capacity, &[]), None);
    // A limit far above the use would press the line flat.
    let idle = steady(100, 0.01);
    let svg = chart(&Capacity::of("svc", &idle), &idle.points).expect("ten seconds");
    assert!(
        !svg.contains(">limit") && svg.contains("CPUs of the node 4.00 cores"),
        "{svg}"
    );
}
