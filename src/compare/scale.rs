//! By how much functions grew that did not change: the growth that most of the profile has in common.
//!
//! Shares add up to one. When one path halves, all the others grow in share though nothing happened to them; CPU time per
//! second of a service that takes all the CPU it can get behaves alike. The median over the profile's own weight says what
//! growth is usual, as in the comparison of gene expression (Anders and Huber, Genome Biology 11, 2010), and all functions
//! that grew about as much say it together more exactly. A path is told as changed only when it also changed against that.

use super::call_tree::Graph;

/// Lighter functions have no reliable growth.
const MIN_SHARE: f64 = 0.002;
/// A function counts as usual within this many standard errors of the median, and this part of it.
const ERRORS: f64 = 3.0;
const NEARLY: f64 = 0.02;

/// What most of the profile did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Common {
    /// After ÷ before of the shares of what did not change; 1 where nothing is on both sides.
    pub(super) growth: f64,
    /// Share of the profile that grew so. Where that is not a clear majority, it may as well be what changed.
    pub(super) majority: bool,
}

/// A majority is clear from this share of the profile on.
const CLEAR: f64 = 0.62;

/// `ticks` are those of each side.
pub(super) fn common_growth(graph: &Graph, ticks: [u64; 2]) -> Common {
    let functions: Vec<[f64; 2]> = graph
        .self_weight
        .iter()
        .filter(|weights| weights[0].max(weights[1]) >= MIN_SHARE)
        .copied()
        .collect();
    let median = weighted_median(&functions);
    let usual = functions
        .iter()
        .filter(|weights| is_usual(**weights, median, ticks));
    let (before, after) = usual.fold((0.0, 0.0), |(b, a), [before, after]| {
        (b + before, a + after)
    });
    let growth = match before > 0.0 && after > 0.0 {
        true => after / before,
        false => median,
    };
    let whole = |side: usize| {
        graph
            .self_weight
            .iter()
            .map(|weights| weights[side])
            .sum::<f64>()
    };
    Common {
        growth,
        majority: before + after >= CLEAR * (whole(0) + whole(1)),
    }
}

/// Whether chance explains how a function's growth differs from the median; ticks are taken as independent.
fn is_usual([before, after]: [f64; 2], median: f64, ticks: [u64; 2]) -> bool {
    let expected = before * median;
    let variance = after / ticks[1].max(1) as f64 + median * expected / ticks[0].max(1) as f64;
    before > 0.0 && (after - expected).abs() <= ERRORS * variance.sqrt() + NEARLY * expected
}

fn weighted_median(functions: &[[f64; 2]]) -> f64 {
    let mut growths: Vec<(f64, f64)> = functions
        .iter()
        .map(|[before, after]| {
            let growth = match *before > 0.0 {
                true => after / before,
                false => f64::INFINITY,
            };
            (growth, (before + after) / 2.0)
        })
        .collect();
    growths.sort_by(|a, b| a.0.total_cmp(&b.0));
    let whole: f64 = growths.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    for (growth, weight) in growths {
        below += weight;
        if below >= whole / 2.0 && growth.is_finite() && growth > 0.0 {
            return growth;
        }
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn of(weights: &[[f64; 2]]) -> f64 {
        let graph = Graph {
            self_weight: weights.to_vec(),
            total_weight: weights.to_vec(),
            calls: HashMap::default(),
        };
        common_growth(&graph, [10_000, 10_000]).growth
    }

    #[test]
    fn what_most_of_the_weight_did_is_common() {
        let others = 0.76 / 0.70;
        let exact = of(&[[0.30, 0.24], [0.40, 0.40 * others], [0.30, 0.30 * others]]);
        assert!((exact - others).abs() < 1e-12, "{exact}");
        // Each is off by chance, in all they are not.
        let scattered = of(&[[0.30, 0.24], [0.35, 0.385], [0.35, 0.375]]);
        assert!((scattered - others).abs() < 1e-9, "{scattered}");
        assert_eq!(of(&[[1.0, 0.0], [0.0, 1.0]]), 1.0);
        assert_eq!(of(&[]), 1.0);
    }
}
