//! What the threads of a waiting workload did in a window, by their own books (`fixtures/workloads/waits.h`).
//!
//! In: the workload's truth at the window's begin and at its end. Out: per thread, seconds.

use std::time::Duration;

use serde_json::Value;

use super::Workload;
use super::proc::wait_until;

/// Only bounds a failure; the machine may be shared.
const LIMIT: Duration = Duration::from_secs(60);

/// No window is shorter, in seconds: two that are to be the same begin and end milliseconds apart.
const LEAST_WALL: f64 = 1.5;

/// What one thread did in a window.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub(crate) tid: u64,
    pub(crate) role: String,
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    /// Runnable and without a CPU, by the kernel; the part of it that follows a wait is in `waited` too.
    pub(crate) run_delay: f64,
    before: Value,
    after: Value,
}

impl Spent {
    /// Of all threads, in the order they were made.
    pub(crate) fn between(before: &Value, after: &Value) -> Vec<Spent> {
        let threads = |truth: &Value| truth["threads"].as_array().cloned().expect("threads");
        let pairs = threads(before).into_iter().zip(threads(after));
        pairs
            .map(|(before, after)| Spent::of(before, after))
            .collect()
    }

    fn of(before: Value, after: Value) -> Spent {
        assert_eq!(before["tid"], after["tid"], "no thread comes or goes");
        let seconds = |name: &str| grown(&before[name], &after[name]) as f64 / 1e9;
        Spent {
            tid: after["tid"].as_u64().expect("a thread has an ID"),
            role: after["role"].as_str().expect("a thread has a role").into(),
            wall: seconds("wall_ns"),
            cpu: seconds("cpu_ns"),
            run_delay: seconds("run_delay_ns"),
            before,
            after,
        }
    }

    /// Until each thread of `role` has waited for `kind` so many times more, and a while has passed.
    pub(crate) fn until(
        workload: &mut Workload,
        before: &Value,
        (role, kind, waits): (&str, &str, u64),
    ) -> Vec<Spent> {
        let mut spent = Vec::new();
        wait_until(&format!("`{role}` waits for `{kind}`"), LIMIT, || {
            spent = Spent::between(before, &workload.truth_so_far());
            let mut concerned = spent.iter().filter(|thread| thread.role == role);
            concerned.all(|thread| thread.waits(kind) >= waits && thread.wall >= LEAST_WALL)
        });
        spent
    }

    /// Seconds in waits that ended in the window.
    pub(crate) fn waited(&self, kind: &str) -> f64 {
        grown(
            &self.before["waited_ns"][kind],
            &self.after["waited_ns"][kind],
        ) as f64
            / 1e9
    }

    pub(crate) fn waits(&self, kind: &str) -> u64 {
        grown(&self.before["waits"][kind], &self.after["waits"][kind])
    }

    /// Seconds in waits of every kind.
    pub(crate) fn waited_all(&self) -> f64 {
        self.kinds().map(|kind| self.waited(&kind)).sum()
    }

    /// How far the sum of waits may be from the window's own: one of each kind is cut by each end of the window, and may
    /// have been longer than the others by all the time its thread had to wait for a CPU.
    pub(crate) fn cut(&self) -> f64 {
        let mean = |kind: String| self.waited(&kind) / self.waits(&kind).max(1) as f64;
        2.0 * self.kinds().map(mean).sum::<f64>() + self.run_delay
    }

    fn kinds(&self) -> impl Iterator<Item = String> {
        let kinds = self.after["waits"].as_object().expect("waits by kind");
        kinds.keys().cloned().collect::<Vec<_>>().into_iter()
    }
}

fn grown(before: &Value, after: &Value) -> u64 {
    let figure = |value: &Value| value.as_u64().expect("a figure of the books");
    figure(after) - figure(before)
}
