//! From differences to verdicts: what is told as a change, what as none, and what stays open.
//!
//! A change is told when it is no accident and matters: its false discovery rate over all paths tested is at most 5 %
//! (Benjamini and Hochberg, JRSS B 57, 1995), and it is at least the tolerance. *Unchanged* needs proof, too: the whole 95 %
//! interval lies within the tolerance. Everything else is inconclusive.
//!
//! Shares, and CPU per second of a service that takes all it can get, grow when others shrink. There a change must also
//! hold against the growth that most of the profile has in common (`scale.rs`).

use super::evaluate::{Estimate, RelativeInterval};
use super::{MIN_EFFECT, Options};

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

/// A verdict and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// The false discovery rate at which this would just be told.
    pub(super) q: f64,
    /// The relative change that matters for this path.
    pub(super) margin: f64,
    /// It changed, but no more than most of the profile did.
    pub(super) only_common: bool,
}

/// Judges paths, and the whole where it is measured (the last one then). `growth` is what most of the profile has in
/// common, where that has to be taken out.
pub(super) fn judge(
    paths: &[Estimate],
    total: Option<&Estimate>,
    growth: Option<f64>,
    options: &Options,
) -> (Vec<Judged>, Option<Judged>) {
    let tested: Vec<f64> = paths.iter().chain(total).map(|estimate| estimate.p).collect();
    let q = false_discovery_rates(&tested);
    let whole = total.map_or(1.0, |total| total.before);
    let judged = paths.iter().zip(&q).map(|(estimate, q)| {
        let margin = options.tolerance.max(MIN_EFFECT * whole / estimate.before);
        let growth = growth.map(|growth| growth * total.map_or(1.0, |t| t.after / t.before));
        one(estimate, *q, margin, growth, options.false_discovery_rate)
    });
    let of_total = total.zip(q.last()).map(|(estimate, q)| {
        one(estimate, *q, options.tolerance, None, options.false_discovery_rate)
    });
    (judged.collect(), of_total)
}

fn one(estimate: &Estimate, q: f64, margin: f64, growth: Option<f64>, rate: f64) -> Judged {
    let judged = |verdict, only_common| Judged { verdict, q, margin, only_common };
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
fn against(estimate: &Estimate, growth: f64) -> (Option<f64>, RelativeInterval) {
    let less = |change: f64| (1.0 + change) / growth - 1.0;
    let interval = RelativeInterval {
        low: less(estimate.interval.low),
        high: estimate.interval.high.map(less),
    };
    (estimate.change().map(less), interval)
}

/// Whether a change goes the same way, far enough, with the common growth taken out.
fn holds(direction: Verdict, (change, interval): (Option<f64>, RelativeInterval), margin: f64) -> bool {
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
            interval: RelativeInterval { low, high: Some(high) },
            by_length: 1.0,
        }
    }

    fn verdict(estimate: Estimate, growth: Option<f64>) -> Verdict {
        judge(&[estimate], None, growth, &Options::default()).0[0].verdict
    }

    #[test]
    fn equality_has_to_be_shown_and_small_changes_are_none() {
        assert_eq!(verdict(estimate(0.3, 0.3, -0.04, 0.04), None), Verdict::Unchanged);
        assert_eq!(verdict(estimate(0.3, 0.3, -0.06, 0.04), None), Verdict::Inconclusive);
        assert_eq!(verdict(estimate(0.3, 0.24, -0.25, -0.15), None), Verdict::Improved);
        assert_eq!(verdict(estimate(0.3, 0.36, 0.15, 0.25), None), Verdict::Regressed);
        // Certain, and too little to matter.
        assert_eq!(verdict(estimate(0.3, 0.309, 0.02, 0.04), None), Verdict::Unchanged);
        // A twentieth of a permille of the whole may do what it likes.
        assert_eq!(verdict(estimate(0.001, 0.0015, 0.4, 0.6), None), Verdict::Unchanged);
    }

    #[test]
    fn what_only_grew_because_others_shrank_did_not_change() {
        let others = 0.76 / 0.70;
        let grown = estimate(0.70, 0.76, others - 1.02, others - 0.98);
        assert_eq!(verdict(grown.clone(), None), Verdict::Regressed);
        let judged = judge(&[grown], None, Some(others), &Options::default()).0[0];
        assert_eq!((judged.verdict, judged.only_common), (Verdict::Unchanged, true));
        let halved = estimate(0.30, 0.24, -0.25, -0.15);
        assert_eq!(verdict(halved, Some(others)), Verdict::Improved);
    }
}
