//! How much whole runs differ beyond what their blocks explain.
//!
//! In: the evidence of both sides, at least two runs each. Out: per path the factor by which variances from blocks are
//! multiplied, and the variance of CPU use between runs.
//!
//! Few runs say little about any one path's variance. All paths together say more: their factors are taken as draws from
//! one distribution, and each path's own is drawn towards the common one (Smyth, Statistical Applications in Genetics and
//! Molecular Biology 3, 2004). CPU use of the whole run is apart from that: what moves all paths at once (a slower machine)
//! is one observation, however many paths show it.
//!
//! With interleaved runs (A B B A …) neighbours are paired, so that what drifts slowly cancels.

use statrs::function::gamma::digamma;

use super::blocks::Evidence;
use super::within::Within;

/// Paired runs have half the degrees of freedom; with fewer pairs that costs more than drift does.
pub(super) const MIN_PAIRS: usize = 5;
/// What all paths say together counts for at most this many degrees of freedom: nested functions are not independent.
const MAX_PRIOR_DOF: f64 = 10.0;
/// With fewer paths there is nothing to draw towards.
const MIN_PATHS: usize = 6;

/// Blocks of a run, as degrees of freedom, where one run a side is all there is.
const SINGLE_RUN_DOF: f64 = 58.0;

/// Degrees of freedom to expect of `runs` a side, taking turns, when so many paths are tested together.
pub(super) fn degrees_of_freedom(runs: usize, paths: usize) -> f64 {
    let prior = if paths >= MIN_PATHS {
        MAX_PRIOR_DOF
    } else {
        0.0
    };
    match runs {
        0 | 1 => SINGLE_RUN_DOF,
        runs if runs >= MIN_PAIRS => prior + runs as f64 - 1.0,
        runs => prior + 2.0 * runs as f64 - 2.0,
    }
}

/// What runs say beyond blocks.
#[derive(Clone, Debug)]
pub(super) struct Between {
    /// Per path: multiplies the variance from blocks; at least 1.
    pub(super) factor: Vec<f64>,
    pub(super) dof: f64,
    /// Relative variance of after ÷ before of the amount (CPU per unit of work, or per second).
    pub(super) amount_variance: f64,
    pub(super) amount_dof: f64,
}

pub(super) fn of(
    [before, after]: [&[Evidence]; 2],
    [inner_before, inner_after]: [&Within; 2],
    paired: bool,
) -> Between {
    let dof = match paired {
        true => before.len() as f64 - 1.0,
        false => (before.len() + after.len()) as f64 - 2.0,
    };
    let paths = inner_before.share.len();
    let factors: Vec<f64> = (0..paths)
        .map(|path| {
            let share =
                |side: &[Evidence]| side.iter().map(|run| run.share(path)).collect::<Vec<_>>();
            let means = [inner_before.share[path], inner_after.share[path]];
            let seen = ratio_variance(
                [before, after],
                [&share(before), &share(after)],
                means,
                paired,
            );
            let by_blocks = relative(inner_before, path) + relative(inner_after, path);
            seen / by_blocks
        })
        .collect();
    let rate = |side: &[Evidence]| {
        side.iter()
            .map(|run| run.amount / run.per)
            .collect::<Vec<_>>()
    };
    let mean = |side: &[Evidence]| {
        side.iter().map(|run| run.amount).sum::<f64>() / side.iter().map(|run| run.per).sum::<f64>()
    };
    let (common, prior) = common(&factors, dof);
    let moderated = |factor: &f64| ((prior * common + dof * factor) / (prior + dof)).max(1.0);
    Between {
        factor: factors.iter().map(moderated).collect(),
        dof: prior + dof,
        amount_variance: ratio_variance(
            [before, after],
            [&rate(before), &rate(after)],
            [mean(before), mean(after)],
            paired,
        ),
        amount_dof: dof,
    }
}

/// Relative variance of a side's share, from its blocks.
fn relative(within: &Within, path: usize) -> f64 {
    within.variance[path] / super::within::smoothed(within.share[path], within.ticks).powi(2)
}

/// Relative variance of the ratio of two means over runs.
fn ratio_variance(
    sides: [&[Evidence]; 2],
    values: [&[f64]; 2],
    means: [f64; 2],
    paired: bool,
) -> f64 {
    let deviations = |side: usize| -> Vec<f64> {
        let whole: f64 = sides[side].iter().map(|run| run.amount).sum();
        let runs = sides[side].len() as f64;
        let of_run = |(run, value): (&Evidence, &f64)| match means[side] > 0.0 && whole > 0.0 {
            // A longer run counts for more of the mean.
            true => (value / means[side] - 1.0) * run.amount / whole * runs,
            false => 0.0,
        };
        sides[side].iter().zip(values[side]).map(of_run).collect()
    };
    let (before, after) = (deviations(0), deviations(1));
    let of_mean = |deviations: &[f64]| {
        let n = deviations.len() as f64;
        deviations.iter().map(|d| d * d).sum::<f64>() / (n * (n - 1.0))
    };
    match paired {
        true => of_mean(
            &before
                .iter()
                .zip(&after)
                .map(|(b, a)| a - b)
                .collect::<Vec<_>>(),
        ),
        false => of_mean(&before) + of_mean(&after),
    }
}

/// The factor that is common to all paths, and how many degrees of freedom it is worth; 0 where it says nothing.
fn common(factors: &[f64], dof: f64) -> (f64, f64) {
    let logs: Vec<f64> = factors
        .iter()
        .filter(|f| **f > 0.0)
        .map(|f| f.ln())
        .collect();
    if logs.len() < MIN_PATHS {
        return (1.0, 0.0);
    }
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let excess = variance - trigamma(dof / 2.0);
    let prior = match excess > 0.0 {
        true => (2.0 * inverse_trigamma(excess)).min(MAX_PRIOR_DOF),
        false => MAX_PRIOR_DOF,
    };
    let shift = |half: f64| digamma(half) - half.ln();
    let log = mean - shift(dof / 2.0) + shift(prior / 2.0);
    (log.exp(), prior)
}

/// Source: the asymptotic series, Abramowitz and Stegun 6.4.12, after the recurrence 6.4.6 up to where it is exact to 1e-9.
fn trigamma(mut x: f64) -> f64 {
    let mut sum = 0.0;
    while x < 10.0 {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    let (i, i2) = (1.0 / x, 1.0 / (x * x));
    sum + i * (1.0 + i / 2.0 + i2 * (1.0 / 6.0 - i2 * (1.0 / 30.0 - i2 / 42.0)))
}

/// By bisection: trigamma falls from infinity to 0.
fn inverse_trigamma(value: f64) -> f64 {
    let (mut low, mut high) = (1e-6_f64, 1e6_f64);
    for _ in 0..100 {
        let middle = (low * high).sqrt();
        match trigamma(middle) > value {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigamma_agrees_with_the_table() {
        // Abramowitz and Stegun, table 6.1: π²/6 and π²/2.
        assert!((trigamma(1.0) - 1.644_934_066_8).abs() < 1e-9);
        assert!((trigamma(0.5) - 4.934_802_200_5).abs() < 1e-9);
        assert!((inverse_trigamma(1.644_934_066_8) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn factors_of_one_distribution_are_drawn_together() {
        // Variances of five runs that are all 2: chi-squared with 4 degrees of freedom, by its quantiles.
        let factors: Vec<f64> = [
            0.71, 1.06, 1.36, 1.65, 1.92, 2.34, 2.75, 3.36, 4.22, 5.99, 7.78, 9.49,
        ]
        .iter()
        .map(|chi| 2.0 * chi / 4.0)
        .collect();
        let (common, prior) = common(&factors, 4.0);
        assert!((1.4..2.6).contains(&common), "{common}");
        assert!(prior >= 5.0, "{prior}");
        assert_eq!(super::common(&factors[..3], 4.0).1, 0.0);
    }
}
