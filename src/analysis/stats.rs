//! How sure a share is: 95 % intervals of a ratio that was watched over time.
//!
//! In: for every time slice, the weight that fell on one function and the weight of everything. Out: a [`Share`] with
//! its interval. Pure functions; no profile, no rounding, no text.
//!
//! **Why not the binomial interval.** Ticks are not independent draws: a service that is busy with one request, one
//! query, one garbage collection gives hundreds of ticks alike in a row. The binomial interval counts each of them as
//! fresh evidence and comes out too narrow, often by a factor of two to five.
//!
//! **What is done instead** (batch means of a ratio estimator). The slices are put together to at most
//! `MAX_BLOCKS` contiguous blocks. With `x` and `y` the part and the whole of each block, the share is
//! `p = Σx / Σy`, the residuals are `e = x - p·y`, and `Var(p) = B/(B-1) · Σe² / (Σy)²` (Cochran, *Sampling
//! Techniques*, 3rd ed., §6.3). Two amendments, both of which can only widen the interval:
//!
//! - Blocks of a recording that is short against the rhythm of the service are still alike. The variance is multiplied
//!   by `(1+r)/(1-r)` for the measured correlation `r` of neighbouring blocks, as if they were a first-order
//!   autoregressive process (the adjustment of the Skart procedure, Tafazzoli and Wilson, 2011).
//! - Blocks in which the target was idle carry no evidence. The degrees of freedom come from Kish's effective number of
//!   blocks `(Σy)² / Σy²`, and below `MIN_BLOCKS` of these there is no interval at all rather than an invented one.
//!
//! The result is united with Wilson's binomial interval for the number of ticks: slices cannot know a share better than
//! the ticks they consist of, and a function that fell into no block but one would otherwise look certain.

use serde::Serialize;

/// Enough for a t quantile within 5 % of the normal one; more blocks are shorter, hence more alike.
const MAX_BLOCKS: usize = 30;
/// Fewer blocks give a variance that is itself little more than a guess (its relative error exceeds 50 %).
pub(crate) const MIN_BLOCKS: usize = 8;
/// The correlation of neighbouring blocks is capped here: with 30 blocks a larger one cannot be told from a trend.
const MAX_CORRELATION: f64 = 0.8;
/// Quantile of the normal distribution for a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// A range of shares, within 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    pub fn contains(&self, share: f64) -> bool {
        (self.low..=self.high).contains(&share)
    }

    /// Half of the width; the interval need not be symmetric about the share.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// A share and what is known of its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// 0 to 1; 0 where the whole is nothing.
    pub value: f64,
    /// Ticks in the whole.
    pub n: u64,
    /// 95 % interval; `None` with fewer than eight blocks of evidence.
    pub interval: Option<Interval>,
    /// Blocks the interval rests on; 0 without an interval.
    pub blocks: u32,
    /// Variance over that of `n` independent ticks; `None` without an interval and for shares of exactly 0 or 1.
    pub design_effect: Option<f64>,
    /// Standard error from the blocks; 0 without an interval.
    std_error: f64,
}

impl Share {
    /// Half-width of the interval.
    pub fn half_width(&self) -> Option<f64> {
        self.interval.map(|interval| interval.half_width())
    }

    /// How long a recording must be to reach `half_width`, as a multiple of this one, at the same rate and load.
    ///
    /// `None` without an interval, and for a `half_width` that is not positive.
    pub fn scale_for(&self, half_width: f64) -> Option<f64> {
        self.interval?;
        if half_width.is_nan() || half_width <= 0.0 {
            return None;
        }
        let reached = |scale: f64| self.half_width_at(scale) <= half_width;
        let (mut low, mut high) = (1e-9, 1e12);
        if !reached(high) {
            return None;
        }
        // Bisection on a logarithmic scale: 80 halvings of 21 decades are far below a part in a billion.
        for _ in 0..80 {
            let middle = (low * high).sqrt();
            if reached(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(high)
    }

    /// The half-width expected of a recording `scale` times as long, long enough to have all blocks.
    fn half_width_at(&self, scale: f64) -> f64 {
        let error = t_quantile(MAX_BLOCKS as f64 - 1.0) * self.std_error / scale.sqrt();
        let by_blocks = around(self.value, error).half_width();
        by_blocks.max(wilson(self.value, self.n as f64 * scale).half_width())
    }
}

/// The share of `parts` in `wholes`, slice by slice, with its interval. `n` is the number of ticks in all of `wholes`.
///
/// Both slices have the same length; negative or non-finite weights do not occur.
pub fn share_over_slices(parts: &[f64], wholes: &[f64], n: u64) -> Share {
    debug_assert_eq!(parts.len(), wholes.len());
    let (part, whole): (f64, f64) = (parts.iter().sum(), wholes.iter().sum());
    let value = if whole > 0.0 {
        (part / whole).clamp(0.0, 1.0)
    } else {
        0.0
    };
    match std_error(parts, wholes, value) {
        Some((error, effective_blocks)) if n > 0 => {
            let by_blocks = around(value, t_quantile(effective_blocks - 1.0) * error);
            let by_ticks = wilson(value, n as f64);
            let binomial_variance = value * (1.0 - value) / n as f64;
            Share {
                value,
                n,
                interval: Some(Interval {
                    low: by_blocks.low.min(by_ticks.low),
                    high: by_blocks.high.max(by_ticks.high),
                }),
                blocks: parts.len().min(MAX_BLOCKS) as u32,
                design_effect: (binomial_variance > 0.0).then(|| error * error / binomial_variance),
                std_error: error,
            }
        }
        _ => Share {
            value,
            n,
            interval: None,
            blocks: 0,
            design_effect: None,
            std_error: 0.0,
        },
    }
}

/// Standard error of the ratio, and the effective number of blocks; `None` with too few of these.
fn std_error(parts: &[f64], wholes: &[f64], share: f64) -> Option<(f64, f64)> {
    let count = parts.len().min(MAX_BLOCKS);
    if count < MIN_BLOCKS {
        return None;
    }
    let parts = blocks(parts, count);
    let wholes = blocks(wholes, count);
    let whole: f64 = wholes.iter().sum();
    let squares: f64 = wholes.iter().map(|y| y * y).sum();
    let effective = whole * whole / squares;
    // The tolerance is for rounding alone: eight equal blocks must count as eight.
    if effective.is_nan() || effective < MIN_BLOCKS as f64 - 1e-9 {
        return None;
    }
    let residuals: Vec<f64> = parts
        .iter()
        .zip(&wholes)
        .map(|(x, y)| x - share * y)
        .collect();
    let sum: f64 = residuals.iter().map(|e| e * e).sum();
    let variance = effective / (effective - 1.0) * sum / (whole * whole);
    Some((
        (variance * correlation_factor(&[&residuals])).sqrt(),
        effective,
    ))
}

/// `values` in `count` contiguous blocks of as nearly equal length as possible, each added up.
fn blocks(values: &[f64], count: usize) -> Vec<f64> {
    let edge = |i: usize| i * values.len() / count;
    (0..count)
        .map(|i| values[edge(i)..edge(i + 1)].iter().sum())
        .collect()
}

/// How much neighbouring blocks that are alike raise the variance of their mean, from the residuals of one series of
/// blocks or several; never below 1.
pub(crate) fn correlation_factor(series: &[&[f64]]) -> f64 {
    let all = || series.iter().flat_map(|residuals| residuals.iter());
    let sum: f64 = all().map(|e| e * e).sum();
    if sum <= 0.0 {
        return 1.0;
    }
    let pairs = series.iter().flat_map(|residuals| residuals.windows(2));
    let lagged: f64 = pairs.map(|pair| pair[0] * pair[1]).sum();
    // Residuals add up to zero, which biases their correlation by about -1/B.
    let bias = series.len() as f64 / all().count() as f64;
    let r = (lagged / sum + bias).clamp(0.0, MAX_CORRELATION);
    (1.0 + r) / (1.0 - r)
}

fn around(share: f64, half_width: f64) -> Interval {
    Interval {
        low: (share - half_width).max(0.0),
        high: (share + half_width).min(1.0),
    }
}

/// Wilson's 95 % interval for a share of `n` independent draws.
///
/// Source: Wilson, JASA 22 (1927). Unlike the plain normal one it is not empty for a share of 0 or 1.
fn wilson(share: f64, n: f64) -> Interval {
    let z2 = Z * Z;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    // Rounding must not exclude the share itself at the ends.
    Interval {
        low: (centre - half).max(0.0).min(share),
        high: (centre + half).min(1.0).max(share),
    }
}

/// 97.5 % quantile of Student's t distribution with `dof` degrees of freedom, within 0.001 from 7 upwards.
///
/// Source: the Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5.
fn t_quantile(dof: f64) -> f64 {
    let z = |power: i32| Z.powi(power);
    Z + (z(3) + Z) / (4.0 * dof)
        + (5.0 * z(5) + 16.0 * z(3) + 3.0 * Z) / (96.0 * dof.powi(2))
        + (3.0 * z(7) + 19.0 * z(5) + 17.0 * z(3) - 15.0 * Z) / (384.0 * dof.powi(3))
        + (79.0 * z(9) + 776.0 * z(7) + 1482.0 * z(5) - 1920.0 * z(3) - 945.0 * Z)
            / (92_160.0 * dof.powi(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: u32 = 1000;
    const SLICES: usize = 300;
    const TICKS_PER_SLICE: u32 = 20;

    /// SplitMix64: known numbers on every machine.
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }

        /// Near enough to normal: the sum of twelve uniforms.
        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }

        fn binomial(&mut self, n: u32, p: f64) -> f64 {
            (0..n).filter(|_| self.uniform() < p).count() as f64
        }
    }

    /// Shares of runs in which the slice interval, and the binomial one, contained the truth.
    fn coverage(
        truth: f64,
        mut run: impl FnMut(&mut Random) -> (Vec<f64>, Vec<f64>),
    ) -> (f64, f64) {
        let mut random = Random(20_240_229);
        let (mut by_slices, mut by_ticks) = (0, 0);
        for _ in 0..RUNS {
            let (parts, wholes) = run(&mut random);
            let n = wholes.iter().sum::<f64>();
            let share = share_over_slices(&parts, &wholes, n as u64);
            by_slices += u32::from(share.interval.expect("enough blocks").contains(truth));
            by_ticks += u32::from(wilson(share.value, n).contains(truth));
        }
        let rate = |hits: u32| f64::from(hits) / f64::from(RUNS);
        (rate(by_slices), rate(by_ticks))
    }

    #[test]
    fn independent_ticks_are_covered_as_often_as_promised() {
        for truth in [0.02, 0.3, 0.5] {
            let (by_slices, by_ticks) = coverage(truth, |random| {
                let parts = (0..SLICES).map(|_| random.binomial(TICKS_PER_SLICE, truth));
                (parts.collect(), vec![f64::from(TICKS_PER_SLICE); SLICES])
            });
            assert!((0.94..=0.985).contains(&by_slices), "{truth}: {by_slices}");
            assert!((0.93..=0.97).contains(&by_ticks), "{truth}: {by_ticks}");
        }
    }

    #[test]
    fn a_wandering_share_is_covered_where_the_binomial_interval_fails() {
        // The share follows a first-order autoregressive process that forgets within about 1, 5 and 10 slices.
        for memory in [0.4, 0.8, 0.9_f64] {
            let (by_slices, by_ticks) = coverage(0.4, |random| {
                let mut state = random.normal();
                let parts = (0..SLICES).map(|_| {
                    state = memory * state + (1.0 - memory * memory).sqrt() * random.normal();
                    // Symmetric clipping keeps the mean.
                    let p = 0.4 + (0.15 * state).clamp(-0.4, 0.4);
                    random.binomial(TICKS_PER_SLICE, p)
                });
                (parts.collect(), vec![f64::from(TICKS_PER_SLICE); SLICES])
            });
            assert!(by_slices >= 0.93, "memory {memory}: {by_slices}");
            assert!(by_ticks < 0.85, "memory {memory}: {by_ticks}");
        }
    }

    #[test]
    fn bursts_of_uneven_load_are_covered_where_the_binomial_interval_fails() {
        // Two kinds of requests, one at a time, 5 slices long on average and as likely as the other. The first spends
        // 0.8 of 30 ticks in the function, the second 0.1 of 10 ticks: truth = (24 + 1) / (30 + 10).
        let (by_slices, by_ticks) = coverage(25.0 / 40.0, |random| {
            let mut heavy = random.uniform() < 0.5;
            let slices = (0..SLICES).map(|_| {
                if random.uniform() < 0.2 {
                    heavy = !heavy;
                }
                let (ticks, p) = if heavy { (30, 0.8) } else { (10, 0.1) };
                (random.binomial(ticks, p), f64::from(ticks))
            });
            slices.unzip()
        });
        assert!(by_slices >= 0.93, "{by_slices}");
        assert!(by_ticks < 0.7, "{by_ticks}");
    }

    #[test]
    fn too_few_blocks_or_too_little_evidence_give_no_interval() {
        let short = share_over_slices(&[1.0; 7], &[2.0; 7], 14);
        assert_eq!((short.value, short.interval), (0.5, None));
        let mut busy_once = vec![0.0; 100];
        busy_once[3] = 50.0;
        assert_eq!(share_over_slices(&busy_once, &busy_once, 50).interval, None);
        assert_eq!(share_over_slices(&[], &[], 0).interval, None);
        assert_eq!(share_over_slices(&[0.0; 9], &[0.0; 9], 0).interval, None);
        assert!(
            share_over_slices(&[1.0; 8], &[2.0; 8], 16)
                .interval
                .is_some()
        );
    }

    #[test]
    fn the_interval_is_never_narrower_than_the_binomial_one_and_stays_within_0_and_1() {
        for (part, whole) in [(0.0, 10.0), (10.0, 10.0), (5.0, 10.0)] {
            let share = share_over_slices(&[part; 60], &[whole; 60], 600);
            let interval = share.interval.expect("60 slices");
            let binomial = wilson(share.value, 600.0);
            assert!(interval.low <= binomial.low && interval.high >= binomial.high);
            assert!(0.0 <= interval.low && interval.high <= 1.0 && interval.contains(share.value));
        }
    }

    #[test]
    fn a_recording_of_the_said_length_reaches_the_asked_half_width() {
        let record = |random: &mut Random, slices: usize| {
            let parts: Vec<f64> = (0..slices).map(|_| random.binomial(20, 0.3)).collect();
            share_over_slices(&parts, &vec![20.0; slices], 20 * slices as u64)
        };
        let mut random = Random(7);
        let scales = (0..50).map(|_| record(&mut random, 300).scale_for(0.005).expect("interval"));
        let scale = scales.sum::<f64>() / 50.0;
        let long = (300.0 * scale) as usize;
        let reached = (0..20).map(|_| record(&mut random, long).half_width().expect("interval"));
        let mean = reached.sum::<f64>() / 20.0;
        assert!((0.0045..=0.0055).contains(&mean), "{mean} at scale {scale}");
        // A share of 1 has no spread; its interval shrinks with n, not with its root.
        let always = share_over_slices(&[20.0; 300], &[20.0; 300], 6000);
        let scale = always.scale_for(0.001).expect("interval");
        assert!((0.3..0.4).contains(&scale), "{scale}");
        assert_eq!(always.scale_for(0.0), None);
    }

    #[test]
    fn the_design_effect_of_independent_ticks_is_about_1_and_of_runs_their_length() {
        let mut random = Random(99);
        let mean = |random: &mut Random, run: usize| {
            let effects = (0..100).map(|_| {
                let parts: Vec<f64> = (0..SLICES)
                    .map(|_| random.binomial(20 / run as u32, 0.4) * run as f64)
                    .collect();
                let share = share_over_slices(&parts, &[20.0; SLICES], 20 * SLICES as u64);
                share.design_effect.expect("interval")
            });
            effects.sum::<f64>() / 100.0
        };
        let single = mean(&mut random, 1);
        assert!((0.9..1.5).contains(&single), "{single}");
        let tens = mean(&mut random, 10);
        assert!((9.0..15.0).contains(&tens), "{tens}");
    }

    #[test]
    fn quantiles_agree_with_the_table() {
        for (dof, expected) in [(7.0, 2.364_624), (10.0, 2.228_139), (29.0, 2.045_230)] {
            assert!((t_quantile(dof) - expected).abs() < 1e-3, "{dof}");
        }
    }
}
