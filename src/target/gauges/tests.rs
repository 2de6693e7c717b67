use super::*;

fn point(at_ms: u64) -> CapacityPoint {
    CapacityPoint {
        at_ns: at_ms * 1_000_000,
        service_cpu_ns: at_ms * 500_000,
        ..CapacityPoint::default()
    }
}

#[test]
fn thinning_keeps_the_ends_and_the_memory_peak() {
    let mut points: Vec<CapacityPoint> = (0..1025).map(|i| point(i * 100)).collect();
    points[7].memory_bytes = Some(99);
    points[7].run_delay_ns = Some(5);
    let spacing = thin(&mut points);
    assert_eq!(points.len(), 513);
    assert_eq!((points[0].at_ns, points[512].at_ns), (0, 102_400_000_000));
    assert_eq!(spacing, 200_000_000);
    assert_eq!(points[3].memory_bytes, Some(99));
    assert_eq!(points[3].run_delay_ns, Some(5));
}

#[test]
fn a_recording_that_runs_all_night_stays_bounded() {
    let mut gauges = Gauges::open(&[std::process::id()]);
    for i in 0..10 * MAX_POINTS as u64 {
        gauges.keep(point(i * 100));
    }
    assert!(gauges.points.len() <= MAX_POINTS && gauges.points.len() >= MAX_POINTS / 2);
    assert!(gauges.points.windows(2).all(|w| w[0].at_ns < w[1].at_ns));
    let points = gauges.finish().points;
    let end = point((10 * MAX_POINTS as u64 - 1) * 100);
    assert_eq!(points.last(), Some(&end), "the last reading is kept");
}

#[test]
fn what_a_latecomer_had_used_lies_between_its_start_and_now() {
    let mut gauges = Gauges::open(&[u32::MAX]);
    for i in 0..=10 {
        gauges.keep(CapacityPoint {
            service_cpu_ns: 0,
            ..point(i * 100)
        });
    }
    // It began at 0.4 s and was busy all the time; a moment has passed since the last reading at 1 s.
    let late = Latecomer {
        used_ns: 650_000_000,
        age_ns: 650_000_000,
    };
    gauges.spread(&late, 1_050_000_000);
    let used_ms: Vec<u64> = gauges
        .points
        .iter()
        .map(|p| p.service_cpu_ns / 1_000_000)
        .collect();
    assert_eq!(used_ms, [0, 0, 0, 0, 0, 100, 200, 300, 400, 500, 600]);
    assert_eq!(gauges.latest.service_cpu_ns, 600_000_000);
    // One that has just begun has used nothing that a reading could have missed.
    gauges.spread(
        &Latecomer {
            used_ns: 0,
            age_ns: 0,
        },
        1_050_000_000,
    );
    assert_eq!(gauges.latest.service_cpu_ns, 600_000_000);
}

#[test]
fn own_cpu_time_agrees_with_the_process_clock() {
    use nix::time::ClockId;
    let clock = || -> u64 {
        let now = ClockId::CLOCK_PROCESS_CPUTIME_ID.now().expect("clock");
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    };
    let mut gauges = Gauges::open(&[std::process::id()]);
    let before = clock();
    let first = gauges.read();
    let spin = std::time::Instant::now();
    while spin.elapsed().as_millis() < 150 {}
    gauges.next_slow_ns = 0;
    let last = gauges.read();
    let after = clock();
    let used = last.service_cpu_ns - first.service_cpu_ns;
    if gauges.cgroup_cpu().is_none() {
        assert!(
            used <= after - before,
            "{used} ns of at most {} ns",
            after - before
        );
        assert!(used > 0);
    }
    assert!(last.node_busy_ns >= first.node_busy_ns && first.node_busy_ns > 0);
    assert!(first.threads.is_some() && last.threads.is_some());
    let facts = gauges.finish();
    assert_eq!(facts.points.len(), 2);
    assert!(facts.limits.node_cpus >= 1 && facts.limits.node_memory_bytes > 0);
    assert!(facts.limits.allowed_cpus.is_some_and(|n| n >= 1));
}

#[test]
fn no_pid_means_the_whole_node() {
    let mut gauges = Gauges::open(&[]);
    let point = gauges.read();
    assert_eq!(point.service_cpu_ns, point.node_busy_ns);
    assert_eq!(gauges.finish().scope, "node");
}

#[test]
fn a_pid_that_does_not_exist_is_a_gap_not_a_panic() {
    let mut gauges = Gauges::open(&[u32::MAX, 0x7fff_fff0]);
    assert_eq!(gauges.read().service_cpu_ns, 0);
    let facts = gauges.finish();
    assert_eq!(facts.scope, "processes");
    assert!(
        facts.gaps.iter().any(|gap| gap.contains("cannot be read")),
        "{:?}",
        facts.gaps
    );
}
