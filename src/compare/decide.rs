//! From differences to verdicts: what is told as a change, what as none, and what stays open.
//!
//! A change is told when it is no accident and matters: its false discovery rate over all paths tested is at most 5 %
//! (Benjamini and Hochberg, JRSS B 57, 1995), and it is at least the tolerance. *Unchanged* needs proof, too: the whole 95 %
//! interval lies within the tolerance. Everything else is inconclusive.
//!
//! Two kinds of evidence can tell a change, each at half that rate:
//!
//! - the measure itself. CPU per second of a service that takes all it can get, and shares, grow when others shrink; there a
//!   change must also hold against the growth that most of the profile has in common (`scale.rs`).
//! - with one run a side, the path against the rest of the profile. Shares do not know whether the machine was slower this time, so they find what
//!   differs where the measure of whole runs scatters; the measure must not say otherwise.

use super::evaluate::{Estimate, Evaluation, RelativeInterval};
use super::scale::Common;
use super::{MIN_EFFECT, Measure, Options};

/// Standard errors of the whole's change by which the rest of the profile may have changed.
const REST_ERRORS: f64 = 2.0;

/// The answer, of a path or of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Improved,
    Regressed,
    /// Shown to be equal within the tolerance.
    Unchanged,
    /// Not enough evidence for any of the others.
    Inconclusive,
}

impl Verdict {
    /// Stable, as in the JSON.
    pub fn id(self) -> &'static str {
        match self {
            Verdict::Improved => "improved",
            Verdict::Regressed => "regressed",
            Verdict::Unchanged => "unchanged",
            Verdict::Inconclusive => "inconclusive",
        }
    }

    pub fn is_change(self) -> bool {
        matches!(self, Verdict::Improved | Verdict::Regressed)
    }
}

/// Which evidence told a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The measure that decides.
    Measure,
    /// Its share, against what most of the profile did.
    RestOfProfile,
}

/// A verdict and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) basis: Basis,
    /// The false discovery rate at which this would just be told.
    pub(super) q: f64,
    /// The relative change that matters for this path.
    pub(super) margin: f64,
    /// It changed, but no more than most of the profile did.
    pub(super) only_common: bool,
}

/// All that verdicts are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub(super) measure: Measure,
    /// By the measure that decides.
    pub(super) paths: &'a [Estimate],
    /// The whole, where it is measured.
    pub(super) total: Option<&'a Estimate>,
    /// Shares of the same paths.
    pub(super) shares: &'a [Estimate],
    pub(super) common: Common,
    /// Nothing measured how runs differ.
    pub(super) single: bool,
}

impl<'a> Case<'a> {
    pub(super) fn of(evaluation: &'a Evaluation, measure: Measure, common: Common) -> Case<'a> {
        Case {
            measure,
            paths: &evaluation.paths,
            total: evaluation.total.as_ref(),
            shares: &evaluation.shares,
            common,
            single: evaluation.single,
        }
    }
}

/// Judges the paths, and the whole where it is measured.
pub(super) fn judge(case: &Case<'_>, options: &Options) -> (Vec<Judged>, Option<Judged>) {
    let against_rest = by_shares(case, options);
    let Some(total) = case.total else {
        return (against_rest, None);
    };
    let tested = case.paths.iter().chain([total]).map(|estimate| estimate.p);
    // Two kinds of evidence, each at half the rate.
    let q: Vec<f64> = false_discovery_rates(&tested.collect::<Vec<f64>>())
        .iter()
        .map(|q| (2.0 * q).min(1.0))
        .collect();
    let rate = options.false_discovery_rate;
    // Cost per unit of work does not grow because others shrink.
    let growth =
        (case.measure != Measure::Cost).then(|| case.common.growth * total.after / total.before);
    let judged = case
        .paths
        .iter()
        .zip(&q)
        .zip(against_rest)
        .map(|((estimate, q), rest)| {
            let margin = options
                .tolerance
                .max(MIN_EFFECT * total.before / estimate.before);
            let measured = one(estimate, *q, margin, growth, rate);
            let rest = Judged {
                q: (2.0 * rest.q).min(1.0),
                ..rest
            };
            // Where whole runs were compared, the measure alone decides.
            let settled = !case.single || measured.verdict.is_change();
            match settled || !confirmed(&rest, estimate, rate) {
                true => measured,
                false => rest,
            }
        });
    let judged = judged.collect();
    let of_total = one(
        total,
        q.last().copied().unwrap_or(1.0),
        options.tolerance,
        None,
        rate,
    );
    (judged, Some(of_total))
}

/// Paths against the rest of the profile.
fn by_shares(case: &Case<'_>, options: &Options) -> Vec<Judged> {
    // Of two halves that changed against each other, shares do not know which one did.
    let knowable = case.common.majority && case.total.is_none_or(|total| rest_stayed(case, total));
    let q = false_discovery_rates(
        &case
            .shares
            .iter()
            .map(|estimate| estimate.p)
            .collect::<Vec<f64>>(),
    );
    let judged = case.shares.iter().zip(q).map(|(estimate, q)| {
        let margin = options.tolerance.max(MIN_EFFECT / estimate.before);
        let judged = one(
            estimate,
            q,
            margin,
            Some(case.common.growth),
            options.false_discovery_rate,
        );
        let verdict = match judged.verdict.is_change() && !knowable {
            true => Verdict::Inconclusive,
            false => judged.verdict,
        };
        Judged {
            verdict,
            basis: Basis::RestOfProfile,
            ..judged
        }
    });
    judged.collect()
}

/// Whether most of the profile costs what it did, as far as the measure can tell: only then is it what others are held
/// against.
fn rest_stayed(case: &Case<'_>, total: &Estimate) -> bool {
    let growth = case.common.growth * total.after / total.before;
    // On the scale of square roots an error is half of what it is relatively.
    let error = 2.0 * total.error / total.after.min(total.before).sqrt();
    (growth.ln() / error).abs() <= REST_ERRORS
}

/// Whether what shares tell is told at `rate`, and the measure goes the same way as far as it matters.
fn confirmed(rest: &Judged, measured: &Estimate, rate: f64) -> bool {
    let same_way = match rest.verdict {
        Verdict::Regressed => measured.change().is_none_or(|change| change >= rest.margin),
        Verdict::Improved => measured
            .change()
            .is_some_and(|change| change <= -rest.margin),
        _ => false,
    };
    same_way && rest.q <= rate
}

fn one(estimate: &Estimate, q: f64, margin: f64, growth: Option<f64>, rate: f64) -> Judged {
    let judged = |verdict, only_common| Judged {
        verdict,
        basis: Basis::Measure,
        q,
        margin,
        only_common,
    };
    let direction = match estimate.difference > 0.0 {
        true => Verdict::Regressed,
        false => Verdict::Improved,
    };
    let relevant = |change: Option<f64>| change.is_none_or(|change| change.abs() >= margin);
    if q <= rate && relevant(estimate.change()) {
        let Some(growth) = growth else {
            return judged(direction, false);
        };
        let against = against(estimate, growth);
        if holds(direction, against, margin) {
            return judged(direction, false);
        }
        return match within(against.1, margin) {
            true => judged(Verdict::Unchanged, true),
            false => judged(Verdict::Inconclusive, true),
        };
    }
    match within(estimate.interval, margin) {
        true => judged(Verdict::Unchanged, false),
        false => judged(Verdict::Inconclusive, false),
    }
}

/// The change and its interval with the common growth taken out.
pub(super) fn against(estimate: &Estimate, growth: f64) -> (Option<f64>, RelativeInterval) {
    let less = |change: f64| (1.0 + change) / growth - 1.0;
    let interval = RelativeInterval {
        low: less(estimate.interval.low),
        high: estimate.interval.high.map(less),
    };
    (estimate.change().map(less), interval)
}

/// Whether a change goes the same way, far enough, with the common growth taken out.
fn holds(
    direction: Verdict,
    (change, interval): (Option<f64>, RelativeInterval),
    margin: f64,
) -> bool {
    match (direction, change) {
        (_, None) => true,
        (Verdict::Regressed, Some(change)) => change >= margin && interval.low > 0.0,
        (_, Some(change)) => change <= -margin && interval.high.is_some_and(|high| high < 0.0),
    }
}

pub(super) fn within(interval: RelativeInterval, margin: f64) -> bool {
    interval.low >= -margin && interval.high.is_some_and(|high| high <= margin)
}

/// For each p-value the smallest rate of false discoveries at which it would be one.
pub(super) fn false_discovery_rates(p: &[f64]) -> Vec<f64> {
    let n = p.len() as f64;
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    let mut rates = vec![1.0; p.len()];
    let mut least: f64 = 1.0;
    for (from_last, ix) in order.iter().enumerate() {
        let rank = n - from_last as f64;
        least = least.min(p[*ix] * n / rank);
        rates[*ix] = least;
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn false_discovery_rates_are_those_of_the_procedure() {
        // The example of the paper's authors: 15 p-values, four of them discoveries at 5 %.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        let rates = false_discovery_rates(&p);
        assert_eq!(rates.iter().filter(|rate| **rate <= 0.05).count(), 4);
        assert!((rates[0] - 0.0015).abs() < 1e-12 && (rates[14] - 1.0).abs() < 1e-12);
        assert!(rates.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(false_discovery_rates(&[]).is_empty());
    }

    fn estimate(before: f64, after: f64, low: f64, high: f64) -> Estimate {
        Estimate {
            before,
            after,
            difference: after.sqrt() - before.sqrt(),
            error: 0.01,
            dof: 50.0,
            p: if low > 0.0 || high < 0.0 { 1e-6 } else { 0.5 },
            interval: RelativeInterval {
                low,
                high: Some(high),
            },
            by_length: 1.0,
        }
    }

    const UNCHANGED: Common = Common {
        growth: 1.0,
        majority: true,
    };

    /// By cost alone: shares that say nothing.
    fn by_cost(estimate: Estimate) -> Verdict {
        let total = super::super::evaluate::tests::certain(1.0, 1.0);
        let silent = super::super::evaluate::tests::certain(0.3, 0.3);
        let case = Case {
            measure: Measure::Cost,
            paths: &[estimate],
            total: Some(&total),
            shares: &[silent],
            common: UNCHANGED,
            single: true,
        };
        judge(&case, &Options::default()).0[0].verdict
    }

    #[test]
    fn equality_has_to_be_shown_and_small_changes_are_none() {
        assert_eq!(by_cost(estimate(0.3, 0.3, -0.04, 0.04)), Verdict::Unchanged);
        assert_eq!(
            by_cost(estimate(0.3, 0.3, -0.06, 0.04)),
            Verdict::Inconclusive
        );
        assert_eq!(
            by_cost(estimate(0.3, 0.24, -0.25, -0.15)),
            Verdict::Improved
        );
        assert_eq!(by_cost(estimate(0.3, 0.36, 0.15, 0.25)), Verdict::Regressed);
        // Certain, and too little to matter.
        assert_eq!(
            by_cost(estimate(0.3, 0.309, 0.02, 0.04)),
            Verdict::Unchanged
        );
        // A twentieth of a percent of the whole may do what it likes.
        assert_eq!(
            by_cost(estimate(0.001, 0.0015, 0.4, 0.6)),
            Verdict::Unchanged
        );
    }

    #[test]
    fn what_only_grew_because_others_shrank_did_not_change() {
        let others = 0.76 / 0.70;
        let shares = [
            estimate(0.70, 0.76, others - 1.02, others - 0.98),
            estimate(0.30, 0.24, -0.25, -0.15),
        ];
        let judged = |growth: f64| {
            let case = Case {
                measure: Measure::Share,
                paths: &shares,
                total: None,
                shares: &shares,
                common: Common {
                    growth,
                    majority: true,
                },
                single: true,
            };
            judge(&case, &Options::default()).0
        };
        assert_eq!(judged(1.0)[0].verdict, Verdict::Regressed);
        let told = judged(others);
        assert_eq!(
            (told[0].verdict, told[0].only_common),
            (Verdict::Unchanged, true)
        );
        assert_eq!(told[1].verdict, Verdict::Improved);
    }

    #[test]
    fn a_path_against_the_rest_is_told_where_whole_runs_scatter_unless_the_measure_says_otherwise()
    {
        let total = Estimate {
            error: 0.06,
            interval: RelativeInterval {
                low: -0.2,
                high: Some(0.3),
            },
            ..estimate(1.0, 1.05, -0.2, 0.3)
        };
        let verdict = |measured: Estimate| {
            let case = Case {
                measure: Measure::Cost,
                paths: &[measured],
                total: Some(&total),
                shares: &[estimate(0.30, 0.24, -0.25, -0.15)],
                common: UNCHANGED,
                single: true,
            };
            let judged = judge(&case, &Options::default()).0[0];
            (judged.verdict, judged.basis)
        };
        let scattered = estimate(0.30, 0.25, -0.40, 0.10);
        assert_eq!(
            verdict(scattered),
            (Verdict::Improved, Basis::RestOfProfile)
        );
        let opposite = estimate(0.30, 0.31, -0.20, 0.30);
        assert_eq!(verdict(opposite).0, Verdict::Inconclusive);
    }
}
