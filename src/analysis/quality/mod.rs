//! How far a profile can be trusted: the coverage metrics and the verdict.
//!
//! In: a profile and [`Thresholds`]. Out: [`Coverage`], seven questions answered by a [`Metric`] each (symbols by two),
//! with numerator, denominator, what is missing and why, and what to do about it.
//!
//! | metric | question |
//! |---|---|
//! | `cpu_time` | Do the samples stand for all the CPU time the kernel accounted to the target? |
//! | `delivery` | Did the samples the kernel took reach us? |
//! | `stacks` | Do the stacks reach their thread's root? |
//! | `symbols`, `source_lines` | Do the frames have names, and the native ones a file and line? |
//! | `threads` | Was every thread sampled that used CPU to speak of? |
//! | `service` | Are the profiled processes the whole service? |
//! | `confidence` | How sure is the hottest path's share? |
//!
//! What could not be measured is neither good nor bad: it has no value, says why, and where it is needed for trust the
//! verdict is inconclusive.

mod confidence;
mod metric;
mod modules;
mod stacks;
mod symbols;
mod time;

pub use metric::{Metric, ModuleGap, Reason};
pub(super) use symbols::remedy as remedy_of;

use super::self_total::{HotPath, HotPaths};
use super::stats::Share;
use crate::profile::{Origin, Profile};

/// From where on a metric is good. `None`: shown, but not part of the verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Also the mirror of it above 1: samples must not stand for more time than there was.
    pub cpu_time: Option<f64>,
    pub delivery: Option<f64>,
    pub stacks: Option<f64>,
    pub symbols: Option<f64>,
    pub source_lines: Option<f64>,
    pub threads: Option<f64>,
    pub service: Option<f64>,
    /// The largest half-width of the hottest path's interval.
    pub confidence: Option<f64>,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            // A path of a twentieth of the CPU time may be missing before the order of the ten hottest is in doubt.
            cpu_time: Some(0.95),
            // Losses come in bursts, when the service is busiest: few of them already bend the picture.
            delivery: Some(0.99),
            // A truncated stack keeps its self time and loses its callers, so totals err by as much.
            stacks: Some(0.95),
            // A ranking survives nameless frames: they stay whole, under their binary.
            symbols: Some(0.70),
            // Production binaries have no line tables; names suffice to find the code.
            source_lines: None,
            // Helper threads with a few periods of CPU may be missed without changing any conclusion.
            threads: Some(0.90),
            // Profiling one process of many is a choice, not a fault.
            service: None,
            // Asked for with a precision; until then each share shows its own interval.
            confidence: None,
        }
    }
}

/// The judgement over a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Trusted,
    /// At least one metric that counts is below its threshold or not measured. One sentence each.
    Inconclusive {
        reasons: Vec<String>,
    },
}

impl Verdict {
    /// Stable identifier for files.
    pub fn id(&self) -> &'static str {
        match self {
            Verdict::Trusted => "trusted",
            Verdict::Inconclusive { .. } => "inconclusive",
        }
    }
}

/// The hottest path by self time, which stands for how sure the numbers are in general.
#[derive(Clone, Debug, PartialEq)]
pub struct Hottest {
    pub name: String,
    pub share: Share,
    /// The half-width that was asked for.
    pub precision: f64,
    /// Length of the shortest recording that would reach it at the same rate and load, in seconds.
    pub needed_s: Option<f64>,
}

/// All coverage metrics of one profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    pub cpu_time: Metric,
    pub delivery: Metric,
    pub stacks: Metric,
    pub symbols: Metric,
    pub source_lines: Metric,
    pub threads: Metric,
    pub service: Metric,
    pub confidence: Metric,
    /// What `confidence` is about; `None` without samples.
    pub hottest: Option<Hottest>,
    pub verdict: Verdict,
}

impl Coverage {
    pub fn of(profile: &Profile, thresholds: &Thresholds) -> Coverage {
        let hot = HotPaths::of(profile, 1);
        Coverage::with_hottest(profile, thresholds, hot.by_self.first())
    }

    /// The same where the hottest path by self time is already known.
    pub fn with_hottest(
        profile: &Profile,
        thresholds: &Thresholds,
        hottest: Option<&HotPath>,
    ) -> Coverage {
        let (confidence, hottest) =
            confidence::measure(&profile.recording, hottest, thresholds.confidence);
        let (symbols, source_lines) =
            symbols::measure(profile, thresholds.symbols, thresholds.source_lines);
        let mut coverage = Coverage {
            cpu_time: time::cpu_time(profile, thresholds.cpu_time),
            delivery: time::delivery(profile, thresholds.delivery),
            stacks: stacks::measure(profile, thresholds.stacks),
            symbols,
            source_lines,
            threads: time::threads(profile, thresholds.threads),
            service: time::service(profile, thresholds.service),
            confidence,
            hottest,
            verdict: Verdict::Trusted,
        };
        coverage.verdict = coverage.judge();
        coverage
    }

    /// All metrics in the order of the contract.
    pub fn metrics(&self) -> [&Metric; 8] {
        [
            &self.cpu_time,
            &self.delivery,
            &self.stacks,
            &self.symbols,
            &self.source_lines,
            &self.threads,
            &self.service,
            &self.confidence,
        ]
    }

    fn judge(&self) -> Verdict {
        let reasons: Vec<String> = self
            .metrics()
            .into_iter()
            .filter_map(Metric::fault)
            .collect();
        match reasons.is_empty() {
            true => Verdict::Trusted,
            false => Verdict::Inconclusive { reasons },
        }
    }
}

fn is_foreign(profile: &Profile) -> bool {
    profile.recording.origin != Origin::Perfprof
}

/// Nanoseconds of CPU time between two ticks; `None` where the rate is not known.
fn period_ns(profile: &Profile) -> Option<f64> {
    let hz = profile.recording.frequency_hz;
    (hz.is_finite() && hz > 0.0).then(|| 1e9 / hz)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned;
    use crate::profile::{Accounting, ProfileBuilder, Recording, StackEnd, ThreadCpu, Why};

    fn of(profile: &Profile) -> Coverage {
        Coverage::of(profile, &Thresholds::default())
    }

    fn close(actual: Option<f64>, expected: f64) {
        let actual = actual.expect("measured");
        assert!(
            (actual - expected).abs() < 1e-9,
            "{actual} is not {expected}"
        );
    }

    #[test]
    fn the_canned_server_has_the_coverage_it_was_built_with() {
        let profile = canned::server();
        let coverage = of(&profile);
        let ticks = profile.total_count() as f64;
        close(
            coverage.cpu_time.value,
            ticks * canned::TICK_NS as f64 / 8.334e9,
        );
        close(coverage.delivery.value, ticks / (ticks + 2.0));
        let broken = (canned::TRUNCATED_TICKS + canned::EMPTY_TICKS) as f64;
        close(coverage.stacks.value, 1.0 - broken / ticks);
        close(coverage.threads.value, 2.0 / 3.0);
        close(coverage.service.value, 8.334 / 9.0);
        // Frames per stack: hash 3, walk 5, read 5 (2 of them kernel), stripped 3 (1 nameless), truncated 1.
        let (hash, walk) = (3 * canned::HASH_STEP_TICKS, 5 * canned::WALK_TREE_TICKS);
        let (kernel, stripped) = (canned::KERNEL_TICKS, canned::STRIPPED_TICKS);
        let all = hash + walk + 5 * kernel + 3 * stripped + canned::TRUNCATED_TICKS;
        close(coverage.symbols.value, (all - stripped) as f64 / all as f64);
        let lines = hash + walk + 3 * kernel + 2 * stripped;
        close(
            coverage.source_lines.value,
            lines as f64 / (all - 2 * kernel) as f64,
        );
        assert_eq!(
            coverage.hottest.as_ref().expect("samples").name,
            "hash_step"
        );
        // One of three threads was missed with twenty periods of CPU: that is more than chance explains.
        let Verdict::Inconclusive { reasons } = &coverage.verdict else {
            panic!("a third of the threads is missing")
        };
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert!(reasons[0].contains("threads"), "{reasons:?}");
    }

    #[test]
    fn each_metric_below_its_threshold_alone_makes_the_verdict_inconclusive() {
        type Damage = fn(&mut Profile);
        let sound = || {
            let mut profile = canned::server();
            profile
                .accounting
                .threads
                .retain(|t| t.tid != canned::UNSAMPLED_TID);
            profile
        };
        assert_eq!(of(&sound()).verdict, Verdict::Trusted);
        let damages: [(&str, Damage); 6] = [
            ("cpu_time", |p| {
                p.accounting.unattributed_cpu_ns = 2_000_000_000
            }),
            ("cpu_time", |p| p.accounting.threads[0].cpu_ns /= 2),
            ("delivery", |p| p.accounting.lost = 300),
            ("stacks", |p| {
                let some = p.samples.iter_mut().step_by(5);
                some.for_each(|s| s.end = StackEnd::Truncated(Why::BadFrame));
            }),
            ("symbols", |p| {
                let no_symbol = Some(crate::profile::Unresolved::NoSymbol);
                p.frames.iter_mut().for_each(|f| f.unresolved = no_symbol);
            }),
            ("threads", |p| {
                let thread = |tid| ThreadCpu {
                    pid: 4242,
                    tid,
                    cpu_ns: 50_000_000,
                };
                p.accounting.threads.extend((5000..5002).map(thread));
            }),
        ];
        for (metric, damage) in damages {
            let mut profile = sound();
            damage(&mut profile);
            let Verdict::Inconclusive { reasons } = of(&profile).verdict else {
                panic!("`{metric}` is bad")
            };
            let [reason] = reasons.as_slice() else {
                panic!("one reason, not {reasons:?}")
            };
            assert!(reason.starts_with(&format!("`{metric}` ")), "{reason}");
        }
    }

    #[test]
    fn a_foreign_profile_says_what_was_not_measured_and_is_inconclusive() {
        let mut profile = canned::server();
        profile.recording.origin = Origin::Foreign {
            format: "folded".into(),
            file: "a.folded".into(),
        };
        profile.recording.frequency_hz = 0.0;
        profile.accounting = Accounting::default();
        let not_stated = StackEnd::Truncated(Why::NotStated);
        profile.samples.iter_mut().for_each(|s| s.end = not_stated);
        let coverage = of(&profile);
        let unmeasured = [
            &coverage.cpu_time,
            &coverage.delivery,
            &coverage.stacks,
            &coverage.threads,
        ];
        for metric in unmeasured {
            assert_eq!((metric.value, metric.ok), (None, None), "{}", metric.id);
            assert!(metric.not_measured.is_some(), "{}", metric.id);
        }
        assert!(coverage.symbols.value.is_some());
        let Verdict::Inconclusive { reasons } = coverage.verdict else {
            panic!("nobody knows what that profile missed")
        };
        assert_eq!(reasons.len(), 4, "{reasons:?}");
    }

    #[test]
    fn a_profile_without_samples_is_inconclusive_and_divides_by_nothing() {
        let empty = ProfileBuilder::default().build(Recording::default(), Accounting::default());
        let coverage = of(&empty);
        assert_ne!(coverage.verdict, Verdict::Trusted);
        for metric in coverage.metrics() {
            assert!(metric.value.is_none_or(f64::is_finite), "{}", metric.id);
        }
    }
}
