//! Median, least and most of some figures, and how two series of the same rounds compare.

use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) n: usize,
}

impl Spread {
    /// Of no figures: not a number. What is no number was not measured and does not count.
    pub(super) fn of(figures: &[f64]) -> Spread {
        let mut sorted = figures.to_vec();
        sorted.retain(|figure| figure.is_finite());
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let n = sorted.len();
        Spread {
            median: (at(n.saturating_sub(1) / 2) + at(n / 2)) / 2.0,
            least: at(0),
            most: at(n.saturating_sub(1)),
            n,
        }
    }

    /// Of the quotients round by round, so that what drifts for both falls out.
    pub(super) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Spread {
        let pairs = ours.iter().zip(theirs);
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        Spread::of(&ratios)
    }

    /// `median [least … most]`, to as many places as the figure deserves.
    pub(super) fn brief(&self) -> String {
        let [median, least, most] = [self.median, self.least, self.most].map(brief_number);
        match self.n {
            0 => "–".into(),
            1 => median,
            _ => format!("{median} [{least} … {most}]"),
        }
    }
}

/// Three digits or more.
pub(super) fn brief_number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread {
            median,
            least,
            most,
            n,
        } = self;
        write!(f, "{median:.4} [{least:.4} … {most:.4}], n = {n}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_median_least_and_most() {
        let odd = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.least, odd.most, odd.n), (2.0, 1.0, 3.0, 3));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert!(Spread::of(&[]).median.is_nan());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let drifting = Spread::of_ratios(&[1.0, 10.0, 100.0], &[2.0, 20.0, 200.0]);
        assert_eq!((drifting.least, drifting.most, drifting.n), (0.5, 0.5, 3));
        assert_eq!(drifting.brief(), "0.500 [0.500 … 0.500]");
        assert_eq!(Spread::of(&[1234.4]).brief(), "1234");
        assert_eq!(Spread::of(&[]).brief(), "–");
    }
}
