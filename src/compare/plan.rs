//! How long to record so that a change of a given size of a path of a given size is found.
//!
//! In: the question, and perhaps the design effect that a profile of the service has. Out: samples and seconds per side.
//! It is the arithmetic of `evaluate.rs` turned round: of n samples per side, a path with share p has on the scale of
//! square roots a variance of (1−p)·deff/(4n) on each side; the difference to be seen is √(p(1+d)) − √p.

use statrs::distribution::{ContinuousCDF, Normal};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanQuestion {
    /// Share of the path, 0 to 1.
    pub share: f64,
    /// Relative change of it that is to be found.
    pub change: f64,
    /// Cores the service uses while it is recorded.
    pub cores: f64,
    pub frequency_hz: f64,
    /// Share of such changes that are to be found.
    pub power: f64,
    /// Paths that are tested together.
    pub paths: usize,
    pub false_discovery_rate: f64,
    /// Variance of shares over that of independent samples.
    pub design_effect: f64,
}

/// What it takes, on each side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    pub samples: f64,
    pub seconds: f64,
}

pub fn plan(question: &PlanQuestion) -> Plan {
    let PlanQuestion { share, change, .. } = *question;
    let after = (share * (1.0 + change)).min(1.0);
    let difference = after.sqrt() - share.sqrt();
    let spread = (1.0 - share) / 4.0 + (1.0 - after) / 4.0;
    let level = 1.0 - question.false_discovery_rate / question.paths.max(1) as f64 / 2.0;
    let needed = normal_quantile(level) + normal_quantile(question.power);
    let samples = needed.powi(2) * spread * question.design_effect / difference.powi(2);
    Plan {
        samples,
        seconds: samples / (question.cores * question.frequency_hz),
    }
}

fn normal_quantile(level: f64) -> f64 {
    Normal::standard().inverse_cdf(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(share: f64, change: f64, paths: usize) -> f64 {
        let question = PlanQuestion {
            share,
            change,
            cores: 4.0,
            frequency_hz: 199.0,
            power: 0.8,
            paths,
            false_discovery_rate: 0.05,
            design_effect: 1.0,
        };
        let plan = plan(&question);
        assert!((plan.seconds * 4.0 * 199.0 / plan.samples - 1.0).abs() < 1e-12);
        plan.samples
    }

    #[test]
    fn samples_agree_with_the_textbook_for_two_proportions() {
        // Fleiss, Statistical Methods for Rates and Proportions: n = (z₀.₉₇₅ + z₀.₈)² (p₁q₁ + p₂q₂) / (p₁ − p₂)².
        let textbook = |p1: f64, p2: f64| {
            (1.959_964 + 0.841_621_f64).powi(2) * (p1 * (1.0 - p1) + p2 * (1.0 - p2))
                / (p1 - p2).powi(2)
        };
        for (share, change) in [(0.10, -0.10), (0.30, -0.20), (0.03, 0.05)] {
            let expected = textbook(share, share * (1.0 + change));
            let ratio = samples(share, change, 1) / expected;
            assert!((0.97..1.03).contains(&ratio), "{share} {change}: {ratio}");
        }
        assert!(samples(0.1, -0.1, 50) > 1.9 * samples(0.1, -0.1, 1));
    }
}
