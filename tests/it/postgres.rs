//! The main job on real input: a PostgreSQL server under load, recorded for ten seconds.

use crate::support::{Need, Postgres, Record, missing};

/// Names that any `SELECT` passes through; which of them the build keeps depends on inlining.
const EXECUTOR: [&str; 3] = ["ExecutorRun", "standard_ExecutorRun", "PortalRun"];

#[test]
fn postgres_under_pgbench_is_seen_whole() {
    if missing(&[Need::Perf, Need::Postgres]) {
        return;
    }
    let server = Postgres::start();
    let load = server.load();
    let finished = Record::pid(server.pid())
        .args(["--tree", "-d", "10", "-F", "999"])
        .run();
    drop(load);
    finished.assert_recorded();
    let folded = finished.folded();
    let all = folded.total();
    assert!(all > 2000, "only {all} samples");
    let (cpu_time, stacks) = (finished.coverage("cpu_time"), finished.coverage("stacks"));
    // On a shared host a virtual CPU may stand still: the scheduler counts that time, and the timer cannot tick in it.
    let least = 0.95 - 4.0 / (all as f64).sqrt();
    assert!(
        cpu_time >= least,
        "samples stand for {cpu_time:.3} of the CPU time, n = {all}"
    );
    assert!(stacks >= 0.99, "{stacks:.4} of the stacks are complete");

    let executor = EXECUTOR
        .iter()
        .map(|name| folded.with(name))
        .max()
        .unwrap_or(0);
    assert!(
        executor as f64 > 0.05 * all as f64,
        "{executor} of {all} samples in the executor"
    );
    let backend = folded.with("PostgresMain");
    assert!(
        backend as f64 > 0.5 * all as f64,
        "{backend} of {all} samples in a backend"
    );
    for name in ["profiling-report.md", "capacity-analysis.md"] {
        assert!(finished.artifact(name).is_file(), "no `{name}`");
    }
}
