//! By how much functions grew that did not change: the weighted median of all functions' growth.
//!
//! Shares add up to one. When one path halves, all the others grow in share though nothing happened to them; CPU time per
//! second of a service that takes all the CPU it can get behaves alike. The median over the profile's own weight says what
//! growth is common to most of it, as in the comparison of gene expression (Anders and Huber, Genome Biology 11, 2010);
//! a path is told as changed only when it also changed against that.

use super::call_tree::Graph;

/// Lighter functions have no reliable growth.
const MIN_SHARE: f64 = 0.002;

/// Weighted median of after ÷ before of shares, over functions' own weight; 1 where nothing is on both sides.
pub(super) fn common_growth(graph: &Graph) -> f64 {
    let mut growths: Vec<(f64, f64)> = graph
        .self_weight
        .iter()
        .filter(|weights| weights[0].max(weights[1]) >= MIN_SHARE)
        .map(|[before, after]| {
            let growth = if *before > 0.0 { after / before } else { f64::INFINITY };
            (growth, (before + after) / 2.0)
        })
        .collect();
    growths.sort_by(|a, b| a.0.total_cmp(&b.0));
    let whole: f64 = growths.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    for (growth, weight) in growths {
        below += weight;
        if below >= whole / 2.0 {
            return match growth.is_finite() && growth > 0.0 {
                true => growth,
                false => 1.0,
            };
        }
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn of(weights: &[[f64; 2]]) -> f64 {
        common_growth(&Graph {
            self_weight: weights.to_vec(),
            total_weight: weights.to_vec(),
            calls: HashMap::default(),
        })
    }

    #[test]
    fn what_most_of_the_weight_did_is_common() {
        let others = 0.76 / 0.70;
        assert!((of(&[[0.30, 0.24], [0.40, 0.40 * others], [0.30, 0.30 * others]]) - others).abs() < 1e-12);
        assert_eq!(of(&[[1.0, 0.0], [0.0, 1.0]]), 1.0);
        assert_eq!(of(&[]), 1.0);
    }
}
