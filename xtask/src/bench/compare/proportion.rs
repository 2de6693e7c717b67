//! A proportion with its 95 % interval, by Wilson's score: honest where nothing or everything was found.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proportion {
    pub(super) hits: usize,
    pub(super) of: usize,
}

impl Proportion {
    pub(super) fn share(self) -> f64 {
        self.hits as f64 / self.of as f64
    }

    /// Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    pub(super) fn interval(self) -> [f64; 2] {
        const Z: f64 = 1.959_964;
        let (n, p) = (self.of as f64, self.share());
        let middle = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        [middle - half, middle + half].map(|end| (end / (1.0 + Z * Z / n)).clamp(0.0, 1.0))
    }
}

impl fmt::Display for Proportion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.interval().map(|end| end * 100.0);
        let Proportion { hits, of } = self;
        let share = self.share() * 100.0;
        write!(f, "{share:.1} % ({hits} of {of}; {low:.1} to {high:.1} %)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_agree_with_the_textbook() {
        // Brown, Cai, DasGupta, Statistical Science 16 (2001) 101: Wilson's interval of none of n ends at z²/(n + z²).
        let none = Proportion { hits: 0, of: 200 };
        let [low, high] = none.interval();
        assert!(
            low.abs() < 1e-12 && (high - 3.8415 / 203.8415).abs() < 1e-5,
            "{high}"
        );
        let half = Proportion { hits: 50, of: 100 };
        let [low, high] = half.interval();
        assert!((low + high - 1.0).abs() < 1e-12 && (high - 0.5962).abs() < 1e-3);
        assert_eq!(none.to_string(), "0.0 % (0 of 200; 0.0 to 1.9 %)");
    }
}
