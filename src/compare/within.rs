//! How sure one side's shares are from the blocks of its runs: a block bootstrap, run by run.
//!
//! In: the evidence of a side. Out: [`Within`]: each path's share, its variance, and that of CPU use over time. Blocks of
//! each run are drawn with replacement (Künsch, Annals of Statistics 17, 1989), all paths together, so that what depends on
//! several of them stays consistent. Two amendments can only widen: blocks that are alike their neighbours
//! (`analysis/stats.rs`), and never less than that many independent ticks would have.
//!
//! Runs without time slices have no blocks. Several of them are judged by how they differ (`between.rs`); of one or two,
//! ticks are taken to come in bursts of [`ASSUMED_DESIGN_EFFECT`].

use fastrand::Rng;

use super::blocks::Evidence;
use super::evaluate::Design;
use crate::analysis::stats::{MIN_BLOCKS, correlation_factor};

/// Variance of a share over that of independent ticks, where a profile without time slices cannot say.
pub(super) const ASSUMED_DESIGN_EFFECT: f64 = 2.0;

/// Fewer runs without slices cannot say by themselves how they vary.
const RUNS_WITHOUT_SLICES: usize = 3;

/// A side as its blocks know it.
#[derive(Clone, Debug)]
pub(super) struct Within {
    /// Per path.
    pub(super) share: Vec<f64>,
    /// Per path, of the share.
    pub(super) variance: Vec<f64>,
    /// Relative variance of the side's CPU use, block by block.
    pub(super) amount_variance: f64,
    pub(super) ticks: u64,
    /// Degrees of freedom.
    pub(super) dof: f64,
    /// Whether blocks of time were there.
    pub(super) by_time: bool,
}

pub(super) fn of(side: &[Evidence], design: Design, rng: &mut Rng) -> Within {
    let amount: f64 = side.iter().map(|run| run.amount).sum();
    let weight = |run: &Evidence| {
        if amount > 0.0 {
            run.amount / amount
        } else {
            0.0
        }
    };
    let share: Vec<f64> = (0..design.paths)
        .map(|path| side.iter().map(|run| weight(run) * run.share(path)).sum())
        .collect();
    let ticks = side.iter().map(|run| run.ticks).sum::<u64>();
    let effective: Vec<f64> = side.iter().map(effective_blocks).collect();
    let by_time = effective
        .iter()
        .all(|blocks| *blocks >= MIN_BLOCKS as f64 - 1e-9);
    let (variance, amount_variance) = match by_time {
        true => by_blocks(side, &share, &effective, design.resamples, rng),
        false => (by_ticks(&share, ticks, side.len()), 0.0),
    };
    let floored = variance.iter().zip(&share);
    Within {
        variance: floored.map(|(v, s)| v.max(binomial(*s, ticks))).collect(),
        share,
        amount_variance,
        ticks,
        dof: match by_time {
            true => effective.iter().map(|blocks| blocks - 1.0).sum(),
            false => f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)).max(1.0),
        },
        by_time,
    }
}

/// Kish's number of blocks that carry evidence: blocks without CPU time carry none.
fn effective_blocks(run: &Evidence) -> f64 {
    let squares: f64 = run.whole.iter().map(|y| y * y).sum();
    match squares > 0.0 {
        true => run.weight().powi(2) / squares,
        false => 0.0,
    }
}

/// The share with one tick more, so that nothing is certain that was merely not seen.
pub(super) fn smoothed(share: f64, ticks: u64) -> f64 {
    let n = ticks as f64;
    (share * n + 1.0) / (n + 2.0)
}

/// Variance of a share of independent ticks.
fn binomial(share: f64, ticks: u64) -> f64 {
    let share = smoothed(share, ticks);
    share * (1.0 - share) / ticks.max(1) as f64
}

fn by_ticks(share: &[f64], ticks: u64, runs: usize) -> Vec<f64> {
    let effect = match runs < RUNS_WITHOUT_SLICES {
        true => ASSUMED_DESIGN_EFFECT,
        false => 1.0,
    };
    share.iter().map(|s| effect * binomial(*s, ticks)).collect()
}

/// Variances of the shares, and of CPU use.
fn by_blocks(
    side: &[Evidence],
    share: &[f64],
    effective: &[f64],
    resamples: usize,
    rng: &mut Rng,
) -> (Vec<f64>, f64) {
    // Blocks weigh as much as their run's amount says, also where samples stand for a little less or more.
    let scale: Vec<f64> = side
        .iter()
        .map(|run| run.amount / run.weight().max(f64::MIN_POSITIVE))
        .collect();
    let whole: f64 = side.iter().map(|run| run.amount).sum();
    let mut squares = vec![0.0; share.len()];
    let mut whole_squares = 0.0;
    for _ in 0..resamples {
        let drawn: Vec<Vec<f64>> = side.iter().map(|run| draw(run.blocks(), rng)).collect();
        let runs = || side.iter().zip(&drawn).zip(&scale);
        let resampled: f64 = runs()
            .map(|((run, counts), scale)| scale * dot(counts, &run.whole))
            .sum();
        whole_squares += (resampled / whole - 1.0).powi(2);
        for (path, square) in squares.iter_mut().enumerate() {
            let part: f64 = runs()
                .map(|((run, counts), scale)| scale * dot(counts, run.part(path)))
                .sum();
            *square += (part / resampled.max(f64::MIN_POSITIVE) - share[path]).powi(2);
        }
    }
    // A bootstrap variance is that of the sample, not of what it was drawn from.
    let blocks: f64 = effective.iter().sum();
    let small = blocks / (blocks - side.len() as f64);
    let variance = |sum: f64| small * sum / resamples as f64;
    let of_path = |(path, sum): (usize, &f64)| variance(*sum) * alike(side, path);
    let variances = squares.iter().enumerate().map(of_path).collect();
    let wholes: Vec<Vec<f64>> = side.iter().map(|run| deviations(&run.whole)).collect();
    let refs: Vec<&[f64]> = wholes.iter().map(Vec::as_slice).collect();
    (
        variances,
        variance(whole_squares) * correlation_factor(&refs),
    )
}

/// How often each block was drawn.
fn draw(blocks: usize, rng: &mut Rng) -> Vec<f64> {
    let mut counts = vec![0.0; blocks];
    for _ in 0..blocks {
        counts[rng.usize(0..blocks)] += 1.0;
    }
    counts
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn deviations(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(|value| value - mean).collect()
}

/// How much neighbouring blocks that are alike widen the variance of a path's share.
fn alike(side: &[Evidence], path: usize) -> f64 {
    let residuals: Vec<Vec<f64>> = side
        .iter()
        .map(|run| {
            let share = run.share(path);
            let blocks = run.part(path).iter().zip(&run.whole);
            blocks.map(|(x, y)| x - share * y).collect()
        })
        .collect();
    let refs: Vec<&[f64]> = residuals.iter().map(Vec::as_slice).collect();
    correlation_factor(&refs)
}
