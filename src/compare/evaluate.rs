//! Before against after: the difference of every path, its standard error, p-value and interval.
//!
//! In: the evidence of both sides. Out: [`Evaluation`]. No verdicts here, and nothing of names.
//!
//! A path's cost is the side's amount (CPU per unit of work, per second, or 1) times its share. Differences are taken of
//! square roots, where the variance of a count does not depend on its size (Anscombe, Biometrika 35, 1948): a path that
//! vanished or is new needs no special case. Tests and intervals are Student's t, with degrees of freedom for the two
//! sources of variance by Satterthwaite's formula.

use fastrand::Rng;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::Measure;
use super::between::{self, Between};
use super::blocks::Evidence;
use super::within::{self, Within, smoothed};

/// How much the CPU time of the same work, and the CPU time per second, differ between two runs (standard deviation of the
/// logarithm), where each side has one run only and nothing says how much it is. Measured on a busy virtual machine with 2
/// CPUs, 60 runs of a Python program of 1.8 s: 0.107 and 0.177.
const SINGLE_RUN_COST: f64 = 0.11;
const SINGLE_RUN_CORES: f64 = 0.18;
const SINGLE_RUN_DOF: f64 = 8.0;
/// Seed of the resampling: the same figures each time.
const SEED: u64 = 0x7065_7266_7072_6f66;

/// A 95 % interval of a relative change: -0.2 is a fifth less. `high` is `None` where nothing bounds it (nothing before).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelativeInterval {
    pub low: f64,
    pub high: Option<f64>,
}

/// One path, or the whole, on both sides.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) before: f64,
    pub(super) after: f64,
    /// √after − √before, its standard error and degrees of freedom.
    pub(super) difference: f64,
    pub(super) error: f64,
    pub(super) dof: f64,
    /// Two-sided, of no difference.
    pub(super) p: f64,
    pub(super) interval: RelativeInterval,
    /// Share of the variance that more blocks (a longer recording) would lessen; the rest takes more runs.
    pub(super) by_length: f64,
}

impl Estimate {
    /// Relative; `None` where there was nothing before.
    pub(super) fn change(&self) -> Option<f64> {
        (self.before > 0.0).then(|| self.after / self.before - 1.0)
    }
}

/// All differences.
#[derive(Clone, Debug)]
pub(super) struct Evaluation {
    /// The amounts themselves; `None` where only shares are compared.
    pub(super) total: Option<Estimate>,
    /// By the measure.
    pub(super) paths: Vec<Estimate>,
    /// The same paths' shares.
    pub(super) shares: Vec<Estimate>,
    /// Variance of shares over that of independent ticks, the median over paths.
    pub(super) design_effect: f64,
    /// Whether time slices were there on both sides.
    pub(super) by_time: bool,
    /// Whether a side has one run only, so that how runs differ is not measured.
    pub(super) single: bool,
}

/// What is being evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Design {
    pub(super) paths: usize,
    pub(super) measure: Measure,
    /// Runs stand in the order of time and belong together one by one.
    pub(super) paired: bool,
    /// How often blocks are drawn.
    pub(super) resamples: usize,
}

pub(super) fn evaluate(before: &[Evidence], after: &[Evidence], design: Design) -> Evaluation {
    let mut rng = Rng::with_seed(SEED);
    let inner = [before, after].map(|side| within::of(side, design, &mut rng));
    let sources = Sources::of([before, after], &inner, design);
    let amount = |side: &[Evidence]| {
        let sum = |read: fn(&Evidence) -> f64| side.iter().map(read).sum::<f64>();
        sum(|run| run.amount) / sum(|run| run.per)
    };
    let amounts = [amount(before), amount(after)];
    // The whole of shares is 1, without error.
    let without_amounts = Sources {
        amount_variance: 0.0,
        ..sources.clone()
    };
    let all = |sources: &Sources, amounts: [f64; 2]| -> Vec<Estimate> {
        let paths = 0..design.paths;
        paths
            .map(|path| sources.estimate(path, &inner, amounts))
            .collect()
    };
    let shares = all(&without_amounts, [1.0, 1.0]);
    let measured = design.measure != Measure::Share;
    Evaluation {
        total: measured.then(|| sources.total(amounts)),
        paths: match measured {
            true => all(&sources, amounts),
            false => shares.clone(),
        },
        shares,
        design_effect: design_effect(&inner),
        by_time: inner.iter().all(|side| side.by_time),
        single: before.len() < 2 || after.len() < 2,
    }
}

/// What is assumed where there is one run a side.
pub(super) fn single_run_deviation(measure: Measure) -> f64 {
    match measure {
        Measure::Cost => SINGLE_RUN_COST,
        Measure::Cores => SINGLE_RUN_CORES,
        Measure::Share => 0.0,
    }
}

/// Where uncertainty comes from.
#[derive(Clone)]
struct Sources {
    factor: Vec<f64>,
    dof: f64,
    amount_variance: f64,
    amount_dof: f64,
    /// Of the amount's variance, what more time would lessen.
    amount_by_length: f64,
}

impl Sources {
    fn of(sides: [&[Evidence]; 2], inner: &[Within; 2], design: Design) -> Sources {
        if sides.iter().all(|side| side.len() >= 2) {
            let paired = design.paired && sides[0].len() >= between::MIN_PAIRS;
            let Between {
                factor,
                dof,
                amount_variance,
                amount_dof,
            } = between::of(sides, [&inner[0], &inner[1]], paired);
            return Sources {
                factor,
                dof,
                amount_variance,
                amount_dof,
                amount_by_length: 0.0,
            };
        }
        let by_time = inner[0].amount_variance + inner[1].amount_variance;
        let between = 2.0 * single_run_deviation(design.measure).powi(2);
        Sources {
            factor: vec![1.0; design.paths],
            dof: inner[0].dof + inner[1].dof,
            amount_variance: by_time + between,
            amount_dof: SINGLE_RUN_DOF,
            amount_by_length: by_time / (by_time + between),
        }
    }

    fn estimate(&self, path: usize, inner: &[Within; 2], amounts: [f64; 2]) -> Estimate {
        let value = |side: usize| amounts[side] * inner[side].share[path];
        // Of a square root: a quarter of the variance over the value.
        let of_share = |side: usize| {
            let Within {
                variance,
                share,
                ticks,
                ..
            } = &inner[side];
            amounts[side] * variance[path] / (4.0 * smoothed(share[path], *ticks))
        };
        let shares = self.factor[path] * (of_share(0) + of_share(1));
        let whole = (value(0) + value(1)) / 8.0 * self.amount_variance;
        let dof = satterthwaite([(shares, self.dof), (whole, self.amount_dof)]);
        let lessened = shares / self.factor[path] + whole * self.amount_by_length;
        estimate(
            value(0),
            value(1),
            shares + whole,
            dof,
            lessened / (shares + whole),
        )
    }

    fn total(&self, amounts: [f64; 2]) -> Estimate {
        let variance = (amounts[0] + amounts[1]) / 8.0 * self.amount_variance;
        estimate(
            amounts[0],
            amounts[1],
            variance,
            self.amount_dof,
            self.amount_by_length,
        )
    }
}

/// Degrees of freedom of a sum of variances.
fn satterthwaite(parts: [(f64, f64); 2]) -> f64 {
    let sum: f64 = parts.iter().map(|(variance, _)| variance).sum();
    let weighted: f64 = parts
        .iter()
        .map(|(variance, dof)| variance * variance / dof.max(1.0))
        .sum();
    match weighted > 0.0 {
        true => sum * sum / weighted,
        false => 1.0,
    }
}

fn estimate(before: f64, after: f64, variance: f64, dof: f64, by_length: f64) -> Estimate {
    let difference = after.sqrt() - before.sqrt();
    let error = variance.sqrt();
    let half = t_quantile(0.975, dof) * error;
    Estimate {
        before,
        after,
        difference,
        error,
        dof,
        p: two_sided(difference, error, dof),
        interval: RelativeInterval {
            low: relative(before, difference - half).unwrap_or(-1.0),
            high: relative(before, difference + half),
        },
        by_length,
    }
}

/// The relative change that a difference of square roots stands for.
pub(super) fn relative(before: f64, difference: f64) -> Option<f64> {
    (before > 0.0).then(|| (1.0 + difference / before.sqrt()).max(0.0).powi(2) - 1.0)
}

fn two_sided(difference: f64, error: f64, dof: f64) -> f64 {
    if difference == 0.0 {
        return 1.0;
    }
    if error <= 0.0 {
        return 0.0;
    }
    match StudentsT::new(0.0, 1.0, dof.max(1.0)) {
        Ok(student) => 2.0 * student.cdf(-(difference / error).abs()),
        Err(_) => 1.0,
    }
}

/// Quantile of Student's t distribution.
pub fn t_quantile(level: f64, dof: f64) -> f64 {
    StudentsT::new(0.0, 1.0, dof.max(1.0))
        .map_or(f64::INFINITY, |student| student.inverse_cdf(level))
}

fn design_effect(inner: &[Within; 2]) -> f64 {
    let mut effects: Vec<f64> = inner
        .iter()
        .flat_map(|side| {
            side.share
                .iter()
                .zip(&side.variance)
                .map(|(share, variance)| {
                    let share = smoothed(*share, side.ticks);
                    variance * side.ticks as f64 / (share * (1.0 - share))
                })
        })
        .filter(|effect| effect.is_finite())
        .collect();
    effects.sort_by(f64::total_cmp);
    effects.get(effects.len() / 2).copied().unwrap_or(1.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Known without error.
    pub(in super::super) fn certain(before: f64, after: f64) -> Estimate {
        estimate(before, after, 1e-18, 50.0, 1.0)
    }

    #[test]
    fn intervals_and_tests_say_the_same() {
        for (before, after) in [
            (0.30, 0.24),
            (0.30, 0.31),
            (0.0, 0.01),
            (0.01, 0.0),
            (0.2, 0.2),
        ] {
            for error in [1e-3, 1e-2, 5e-2] {
                let estimate = estimate(before, after, error * error, 20.0, 1.0);
                let RelativeInterval { low, high } = estimate.interval;
                let excludes_none = low > 0.0 || high.is_some_and(|high| high < 0.0);
                if before > 0.0 {
                    assert_eq!(estimate.p < 0.05, excludes_none, "{before} {after} {error}");
                }
                assert!((0.0..=1.0).contains(&estimate.p) && low >= -1.0);
            }
        }
        let tripled = certain(1.0, 3.0);
        assert!((tripled.interval.low - 2.0).abs() < 1e-6 && tripled.p < 1e-9);
    }

    #[test]
    fn degrees_of_freedom_are_those_of_the_larger_variance() {
        assert!((satterthwaite([(1.0, 4.0), (0.0, 100.0)]) - 4.0).abs() < 1e-9);
        assert!((satterthwaite([(1.0, 10.0), (1.0, 10.0)]) - 20.0).abs() < 1e-9);
    }
}
