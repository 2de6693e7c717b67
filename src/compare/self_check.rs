//! Would the before side be told from itself? Its runs, or blocks of its run, are dealt to two sides again and again and
//! compared as before and after are. Whatever is told then is a false alarm, on this machine, with this service.

use fastrand::Rng;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::Options;
use super::blocks::Evidence;
use super::decide::{Case, judge};
use super::evaluate::{Design, evaluate};
use super::scale::Common;
use crate::analysis::stats::MIN_BLOCKS;

/// Deals. With 60 a rate of 5 % is three.
const DEALS: usize = 60;
/// From this many runs on whole runs are dealt.
const MIN_RUNS: usize = 4;
/// Neighbouring blocks are dealt together, so that each side has stretches of time and not every other block.
const STRETCH: usize = 3;
/// A higher rate of false alarms makes the comparison inconclusive. Few deals show a rate roughly: so many alarms count as
/// more when chance would give them less than once in twenty times.
pub const MAX_FALSE_ALARMS: f64 = 0.05;
const BY_CHANCE: f64 = 0.05;
/// Of blocks, in each deal: the standard error of a standard error is then 7 %.
const RESAMPLES: usize = 100;
const SEED: u64 = 0x0a11_0a11;

/// Nothing changed, by construction.
const SAME: Common = Common {
    growth: 1.0,
    majority: true,
};
/// With fewer deals than these, chance is taken into account.
const MANY_DEALS: usize = 20;

/// How often the before side was told from itself.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfCheck {
    pub comparisons: usize,
    pub false_alarms: usize,
    /// `runs` or `blocks`: what was dealt to two sides.
    pub dealt: &'static str,
}

impl SelfCheck {
    pub fn rate(&self) -> f64 {
        self.false_alarms as f64 / self.comparisons.max(1) as f64
    }

    pub fn passed(&self) -> bool {
        if self.comparisons >= MANY_DEALS {
            return self.rate() <= MAX_FALSE_ALARMS;
        }
        let (n, k) = (self.comparisons as u64, self.false_alarms as u64);
        let at_most = Binomial::new(MAX_FALSE_ALARMS, n);
        // The chance of this many or more.
        k == 0 || at_most.is_ok_and(|binomial| binomial.sf(k - 1) >= BY_CHANCE)
    }
}

/// `None` where the before side cannot be parted: a few runs without time slices.
pub(super) fn check(before: &[Evidence], design: Design, options: &Options) -> Option<SelfCheck> {
    let mut rng = Rng::with_seed(SEED);
    let (deals, dealt) = match before.len() >= MIN_RUNS {
        true => (deals_of_runs(before, &mut rng), "runs"),
        false => (deals_of_blocks(before, &mut rng), "blocks"),
    };
    if deals.is_empty() {
        return None;
    }
    let design = Design {
        paired: false,
        resamples: RESAMPLES,
        ..design
    };
    let alarmed = |[a, b]: &[Vec<Evidence>; 2]| {
        let evaluation = evaluate(a, b, design);
        let case = Case::of(&evaluation, design.measure, SAME);
        let (paths, total) = judge(&case, options);
        paths
            .iter()
            .chain(&total)
            .any(|judged| judged.verdict.is_change())
    };
    Some(SelfCheck {
        comparisons: deals.len(),
        false_alarms: deals.iter().filter(|deal| alarmed(deal)).count(),
        dealt,
    })
}

/// Distinct halves of the runs.
fn deals_of_runs(runs: &[Evidence], rng: &mut Rng) -> Vec<[Vec<Evidence>; 2]> {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 * DEALS {
        let mut order: Vec<usize> = (0..runs.len()).collect();
        rng.shuffle(&mut order);
        let mut half = order[..runs.len() / 2].to_vec();
        half.sort_unstable();
        seen.insert(half);
        if seen.len() == DEALS {
            break;
        }
    }
    let part = |half: Vec<usize>| {
        let (a, b): (Vec<usize>, Vec<usize>) = (0..runs.len()).partition(|ix| half.contains(ix));
        [a, b].map(|side| side.into_iter().map(|ix| runs[ix].clone()).collect())
    };
    seen.into_iter().map(part).collect()
}

/// Halves of each run's stretches of blocks.
fn deals_of_blocks(runs: &[Evidence], rng: &mut Rng) -> Vec<[Vec<Evidence>; 2]> {
    if runs.is_empty() || runs.iter().any(|run| run.blocks() < 2 * MIN_BLOCKS) {
        return Vec::new();
    }
    (0..DEALS)
        .map(|_| {
            let mut sides = [Vec::new(), Vec::new()];
            for run in runs {
                let stretches = run.blocks().div_ceil(STRETCH);
                let mut order: Vec<usize> = (0..stretches).collect();
                rng.shuffle(&mut order);
                let first = &order[..stretches / 2];
                let (a, b): (Vec<usize>, Vec<usize>) =
                    (0..run.blocks()).partition(|block| first.contains(&(block / STRETCH)));
                sides[0].push(run.subset(&a));
                sides[1].push(run.subset(&b));
            }
            sides
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(false_alarms: usize, comparisons: usize) -> bool {
        SelfCheck {
            comparisons,
            false_alarms,
            dealt: "blocks",
        }
        .passed()
    }

    #[test]
    fn a_rate_above_5_percent_is_told_from_chance() {
        assert!(passed(0, 60) && passed(3, 60) && !passed(4, 60));
        // At 5 % of 10, P(X >= 3) is 0.01 and P(X >= 2) 0.09.
        assert!(passed(2, 10) && !passed(3, 10));
    }

    #[test]
    fn stretches_of_one_run_are_dealt_in_halves_and_nothing_is_lost() {
        let run = Evidence {
            whole: (0..30).map(f64::from).collect(),
            parts: (0..30).map(|block| f64::from(block) / 2.0).collect(),
            ticks: 435,
            amount: 435.0,
            per: 1.0,
        };
        let deals = deals_of_blocks(std::slice::from_ref(&run), &mut Rng::with_seed(1));
        assert_eq!(deals.len(), DEALS);
        for [a, b] in deals {
            assert_eq!(a[0].blocks() + b[0].blocks(), 30);
            assert!((a[0].weight() + b[0].weight() - run.weight()).abs() < 1e-9);
            assert!((a[0].share(0) - 0.5).abs() < 1e-9);
        }
        assert_eq!(
            deals_of_runs(&vec![run; 5], &mut Rng::with_seed(1)).len(),
            10
        );
    }
}
