//! How far a percentile of this recording can be from that of the same load recorded for ever.
//!
//! In: the use of each interval, in the order of time. Out: a 95 % interval by order statistics: the values at the
//! ranks between which the true percentile lies. Ranks count independent intervals. Neighbouring ones are alike (a
//! burst of load outlasts 100 ms), so their number is divided by how long they remember each other, taken from the
//! autocorrelation. Source: David & Nagaraja, Order Statistics, §7.1; Geyer, Stat. Sci. 7 (1992), for the cut.

/// 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_964;

/// An interval for a percentile, in cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub low: f64,
    pub high: f64,
    /// Too few independent intervals lie above: `high` is only the highest that was seen.
    pub open_above: bool,
    /// How many independent intervals the recording is worth.
    pub independent: f64,
}

/// The 95 % interval of the percentile `share` (0.95); `None` of fewer than eight values.
pub(super) fn of_percentile(values: &[f64], share: f64) -> Option<Range> {
    if values.len() < 8 {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let independent = (n / memory(values)).max(1.0);
    let error = Z * (share * (1.0 - share) / independent).sqrt();
    let at = |share: f64| {
        let rank = (share * n).ceil().max(1.0) as usize;
        sorted[rank.min(sorted.len()) - 1]
    };
    Some(Range {
        low: at((share - error).max(0.0)),
        high: at((share + error).min(1.0)),
        open_above: share + error > 1.0 - 0.5 / independent,
        independent,
    })
}

/// How many intervals it takes to forget: 1 and twice the sum of the correlations, as long as neighbouring pairs of
/// these are positive.
fn memory(values: &[f64]) -> f64 {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let covariance = |lag: usize| -> f64 {
        let pairs = values.iter().zip(values.iter().skip(lag));
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n as f64
    };
    let variance = covariance(0);
    if variance <= f64::EPSILON * mean * mean {
        return 1.0;
    }
    let mut sum = 0.0;
    for lag in (1..n / 3).step_by(2) {
        let pair = (covariance(lag) + covariance(lag + 1)) / variance;
        if pair <= 0.0 {
            break;
        }
        sum += pair;
    }
    1.0 + 2.0 * sum
}

#[cfg(test)]
mod tests {
    use super::*;

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

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }
    }

    /// How often the interval holds the truth, for 600 intervals that remember this much of the one before.
    fn coverage(correlation: f64) -> f64 {
        let mut random = Random(7);
        let truth = 1.644_854;
        let hits = (0..300).filter(|_| {
            let mut state = random.normal();
            let values: Vec<f64> = (0..600)
                .map(|_| {
                    let fresh = (1.0 - correlation * correlation).sqrt() * random.normal();
                    state = correlation * state + fresh;
                    state
                })
                .collect();
            let range = of_percentile(&values, 0.95).expect("600 values");
            range.low <= truth && (truth <= range.high || range.open_above)
        });
        hits.count() as f64 / 300.0
    }

    #[test]
    fn the_interval_holds_the_truth_as_often_as_promised() {
        for correlation in [0.0, 0.5, 0.8] {
            let coverage = coverage(correlation);
            assert!(coverage >= 0.91, "{correlation}: {coverage}");
        }
    }

    #[test]
    fn a_short_recording_has_no_upper_end() {
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        let range = of_percentile(&values, 0.95).expect("20 values");
        assert!(range.open_above && range.high == 19.0, "{range:?}");
        assert_eq!(of_percentile(&values[..7], 0.95), None);
        let flat = of_percentile(&[0.5; 600], 0.95).expect("600 values");
        assert_eq!((flat.low, flat.high, flat.independent), (0.5, 0.5, 600.0));
    }
}
