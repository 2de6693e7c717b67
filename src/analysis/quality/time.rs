//! Coverage metrics 1, 2, 5 and 6: the samples against the kernel's own accounting.

use std::collections::BTreeSet;

use super::metric::{Metric, Reason};
use super::{is_foreign, period_ns};
use crate::profile::Profile;

/// Chance is given four standard deviations: a false alarm in some 16 000 recordings.
const SIGMAS: f64 = 4.0;
/// With fewer expected ticks than this the tolerance is the whole scale, and nothing can be judged.
const MIN_EXPECTED_TICKS: f64 = 16.0;
/// Unsampled threads listed one by one.
const MAX_LISTED_THREADS: usize = 10;
const FOREIGN: &str = "another tool recorded it, without the kernel's accounting";
const SECONDS: &str = "CPU seconds";

/// Metric 1. Below 1 something was not seen; above 1 the same time was counted twice.
///
/// Tolerance: a tick stands for a whole period, so a sum of ticks is off by chance. Ticks that were expected, `E` = the
/// kernel's CPU time over the time a tick stands for, arrive with a variance of at most `E` (that of a Poisson process;
/// a steady clock does better), so the ratio's standard deviation is at most `1/√E`, and that much is forgiven: the
/// threshold itself leaves room. `E` and not the number of ticks
/// received counts: else the fewer ticks arrive, the more would be forgiven.
pub(super) fn cpu_time(profile: &Profile, threshold: Option<f64>) -> Metric {
    const ID: &str = "cpu_time";
    let Some(accounted_ns) = accounted(profile) else {
        return Metric::missing(ID, SECONDS, threshold, no_accounting(profile));
    };
    let (ticks, sampled_ns) = (profile.total_count(), profile.total_cpu_ns());
    if ticks > 0 && sampled_ns == 0 {
        return Metric::missing(ID, SECONDS, threshold, "the samples carry no CPU time");
    }
    let tick_ns = match ticks {
        0 => period_ns(profile).unwrap_or(1e6),
        _ => sampled_ns as f64 / ticks as f64,
    };
    let expected = accounted_ns as f64 / tick_ns;
    if expected < MIN_EXPECTED_TICKS {
        let why = format!("the target used CPU for {expected:.0} ticks, too few to compare");
        return Metric::missing(ID, SECONDS, threshold, why)
            .or_remedy(|_| Some("record longer, or under load".to_owned()));
    }
    let tolerance = 1.0 / expected.sqrt();
    let counts = (sampled_ns as f64 / 1e9, accounted_ns as f64 / 1e9);
    let mut metric = Metric::ratio(ID, SECONDS, counts, threshold)
        .with_reasons(unseen_time(profile, tick_ns, accounted_ns as f64))
        .with_tolerance(tolerance);
    let excess = metric.value.unwrap_or_default() - 1.0;
    if let Some(threshold) = threshold
        && excess > 1.0 - threshold + tolerance
    {
        metric.ok = Some(false);
        metric.reasons.push(Reason {
            id: "over-counted".to_owned(),
            explanation: "samples stand for more time than the kernel accounted".to_owned(),
            count: (excess * expected) as u64,
            share: excess,
        });
    }
    metric.or_remedy(|metric| {
        Some(match metric.reasons.last().map(|reason| reason.id.as_str()) {
            Some("over-counted") => "distrust all CPU times: two recordings may have been mixed".to_owned(),
            Some("lost" | "throttled") => "lower the frequency with `-F`".to_owned(),
            Some("unsampled-threads") if metric.reasons.last().is_some_and(|reason| reason.share > 0.01) => {
                "record with `--tree`, and look for threads in the table below that were not sampled".to_owned()
            }
            _ => "try another `-F`: the timer misses short bursts between switches, and time the host takes away".to_owned(),
        })
    })
}

/// What is known of CPU time without samples; in ticks, and as shares of the accounted time.
fn unseen_time(profile: &Profile, tick_ns: f64, accounted_ns: f64) -> Vec<Reason> {
    let accounting = &profile.accounting;
    let sampled = sampled_threads(profile);
    let unsampled = accounting.threads.iter();
    let unsampled_ns: u64 = unsampled
        .filter(|t| !sampled.contains(&(t.pid, t.tid)))
        .map(|t| t.cpu_ns)
        .sum();
    let reason = |id: &str, explanation: &str, cpu_ns: f64| Reason {
        id: id.to_owned(),
        explanation: explanation.to_owned(),
        count: (cpu_ns / tick_ns).round() as u64,
        share: cpu_ns / accounted_ns,
    };
    let ticks = |count: u64| count as f64 * tick_ns;
    vec![
        reason(
            "lost",
            "ticks taken but not delivered",
            ticks(accounting.lost),
        ),
        reason(
            "throttled",
            "ticks not taken because the kernel throttled the event",
            ticks(accounting.throttled),
        ),
        reason(
            "unsampled-threads",
            "threads without any tick",
            unsampled_ns as f64,
        ),
    ]
}

/// Metric 2.
pub(super) fn delivery(profile: &Profile, threshold: Option<f64>) -> Metric {
    const ID: &str = "delivery";
    if is_foreign(profile) {
        return Metric::missing(
            ID,
            "ticks",
            threshold,
            "another tool recorded it, and its losses are unknown",
        );
    }
    let received = profile.total_count();
    let (lost, throttled) = (profile.accounting.lost, profile.accounting.throttled);
    let taken = (received as f64) + (lost as f64) + (throttled as f64);
    let reason = |id: &str, explanation: &str, count: u64| Reason {
        id: id.to_owned(),
        explanation: explanation.to_owned(),
        count,
        share: if taken > 0.0 {
            count as f64 / taken
        } else {
            0.0
        },
    };
    Metric::ratio(ID, "ticks", (received as f64, taken), threshold)
        .with_reasons(vec![
            reason(
                "lost",
                "the buffer between kernel and profiler was full",
                lost,
            ),
            reason(
                "throttled",
                "the kernel throttled the sampling event",
                throttled,
            ),
        ])
        .or_remedy(|metric| {
            let first = metric.reasons.first()?;
            Some(match first.id.as_str() {
                "throttled" => {
                    "lower the frequency with `-F`, or raise `kernel.perf_cpu_time_max_percent`"
                        .to_owned()
                }
                _ => "lower the frequency with `-F`".to_owned(),
            })
        })
}

/// Metric 5. A thread that used about one period of CPU may well get no tick: at random points of time it gets none
/// with probability `exp(-CPU/period)`. The expected number of such misses and four standard deviations are tolerated.
pub(super) fn threads(profile: &Profile, threshold: Option<f64>) -> Metric {
    const ID: &str = "threads";
    const UNIT: &str = "threads";
    if accounted(profile).is_none() {
        return Metric::missing(ID, UNIT, threshold, no_accounting(profile));
    }
    let Some(period_ns) = period_ns(profile) else {
        return Metric::missing(ID, UNIT, threshold, "the sampling rate is not known");
    };
    let sampled = sampled_threads(profile);
    let busy = profile.accounting.threads.iter();
    let busy: Vec<_> = busy.filter(|t| t.cpu_ns as f64 >= period_ns).collect();
    if busy.is_empty() {
        let mut metric = Metric::missing(
            ID,
            UNIT,
            threshold,
            "no thread used a whole sampling period of CPU",
        );
        // There was nothing to miss, so nothing is wrong either.
        metric.ok = threshold.map(|_| true);
        return metric;
    }
    let mut missed: Vec<_> = busy
        .iter()
        .filter(|t| !sampled.contains(&(t.pid, t.tid)))
        .collect();
    missed.sort_by_key(|t| (std::cmp::Reverse(t.cpu_ns), t.pid, t.tid));
    let chances = busy.iter().map(|t| (-(t.cpu_ns as f64) / period_ns).exp());
    let (mean, variance) = chances.fold((0.0, 0.0), |(mean, variance), q| {
        (mean + q, variance + q * (1.0 - q))
    });
    let count = busy.len() as f64;
    let reasons = missed.iter().take(MAX_LISTED_THREADS).map(|t| Reason {
        id: format!("tid-{}", t.tid),
        explanation: format!(
            "thread {} of PID {} used {:.3} s of CPU and got no tick",
            t.tid,
            t.pid,
            t.cpu_ns as f64 / 1e9
        ),
        count: 1,
        share: 1.0 / count,
    });
    Metric::ratio(ID, UNIT, (count - missed.len() as f64, count), threshold)
        .with_reasons(reasons.collect())
        .with_tolerance((mean + SIGMAS * variance.sqrt()) / count)
        .or_remedy(|_| {
            Some("record longer or at a higher frequency; a busy thread that is never sampled was not followed".to_owned())
        })
}

/// Metric 6.
pub(super) fn service(profile: &Profile, threshold: Option<f64>) -> Metric {
    const ID: &str = "service";
    let Some(profiled_ns) = accounted(profile) else {
        return Metric::missing(ID, SECONDS, threshold, no_accounting(profile));
    };
    let Some(cgroup) = &profile.accounting.cgroup else {
        let why = "the target is in no cgroup of its own, or its CPU time cannot be read";
        return Metric::missing(ID, SECONDS, threshold, why);
    };
    let counts = (profiled_ns as f64 / 1e9, cgroup.cpu_ns as f64 / 1e9);
    Metric::ratio(ID, SECONDS, counts, threshold).or_remedy(|_| {
        Some(format!(
            "profile all processes of `{}`: add `--tree` or more `--pid`",
            cgroup.path
        ))
    })
}

fn accounted(profile: &Profile) -> Option<u64> {
    profile.accounting.cpu_ns()
}

fn no_accounting(profile: &Profile) -> String {
    match (is_foreign(profile), profile.accounting.gaps.is_empty()) {
        (true, _) => FOREIGN.to_owned(),
        (false, true) => "the kernel's accounting could not be read".to_owned(),
        (false, false) => profile.accounting.gaps.join("; "),
    }
}

fn sampled_threads(profile: &Profile) -> BTreeSet<(u32, u32)> {
    let ticked = profile.samples.iter().filter(|sample| sample.count > 0);
    let threads = ticked.map(|sample| profile.thread(sample.thread));
    threads.map(|thread| (thread.pid, thread.tid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned::{self, Sketch, TICK_NS};
    use crate::profile::{Accounting, Recording, StackEnd, StackIx, Thread, ThreadCpu};

    /// One thread with `ticks` ticks whose kernel account is `cpu_ns`.
    fn recorded(ticks: u64, cpu_ns: u64) -> Profile {
        let mut sketch = Sketch::default();
        let thread = sketch.builder.thread(Thread {
            pid: 1,
            tid: 1,
            name: "t".into(),
            process: "p".into(),
        });
        if ticks > 0 {
            sketch.ticks(0, thread, StackIx::EMPTY, StackEnd::Root, ticks);
        }
        let recording = Recording {
            frequency_hz: 999.0,
            ..Recording::default()
        };
        let accounting = Accounting {
            source: "schedstat".into(),
            threads: vec![ThreadCpu {
                pid: 1,
                tid: 1,
                cpu_ns,
            }],
            ..Accounting::default()
        };
        sketch.builder.build(recording, accounting)
    }

    #[test]
    fn few_ticks_do_not_fail_by_chance_and_many_do_not_pass_by_it() {
        let ok =
            |ticks, expected: u64| cpu_time(&recorded(ticks, expected * TICK_NS), Some(0.95)).ok;
        assert_eq!(ok(86, 100), Some(true));
        assert_eq!(ok(80, 100), Some(false));
        assert_eq!(ok(114, 100), Some(true));
        assert_eq!(ok(9_450, 10_000), Some(true));
        assert_eq!(ok(9_300, 10_000), Some(false));
        assert_eq!(ok(11_000, 10_000), Some(false));
        // Ten of ten thousand arrived: that few came must not excuse it.
        assert_eq!(ok(10, 10_000), Some(false));
        assert_eq!(ok(0, 10_000), Some(false));
        assert_eq!(ok(9, 10), None);
    }

    #[test]
    fn a_thread_of_one_period_may_be_missed_and_one_of_a_hundred_may_not() {
        let with = |periods: u64| threads(&recorded(0, periods * 1_001_002), Some(0.9));
        assert_eq!((with(1).value, with(1).ok), (Some(0.0), Some(true)));
        assert_eq!((with(100).value, with(100).ok), (Some(0.0), Some(false)));
        assert!(
            with(100).reasons[0]
                .explanation
                .contains("thread 1 of PID 1")
        );
        let idle = threads(&recorded(0, 10), Some(0.9));
        assert_eq!((idle.value, idle.ok), (None, Some(true)));
    }

    #[test]
    fn lost_and_throttled_ticks_count_against_delivery() {
        let mut profile = canned::server();
        (profile.accounting.lost, profile.accounting.throttled) = (100, 50);
        let metric = delivery(&profile, Some(0.99));
        let received = profile.total_count() as f64;
        assert_eq!(metric.value, Some(received / (received + 150.0)));
        assert_eq!(metric.ok, Some(false));
        assert_eq!(metric.reasons[0].count, 100);
        assert!(metric.remedy.expect("failed").contains("-F"));
    }
}
