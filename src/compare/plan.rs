//! How long to record so that a change of a given size of a path of a given size is found.
//!
//! In: the question, and perhaps the design effect that a profile of the service has. Out: samples and seconds per side.
//! It is the arithmetic of `evaluate.rs` turned round: of n samples per side, a path with share p has on the scale of
//! square roots a variance of (1−p)·deff/(4n) on each side; the difference to be seen is √(p(1+d)) − √p.

use super::between;
use super::evaluate::t_quantile;

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
    /// Runs a side, which take turns; few of them are themselves a small sample.
    pub runs: usize,
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
    // Two kinds of evidence, each at half the rate (`decide.rs`), two-sided.
    let level = 1.0 - question.false_discovery_rate / question.paths.max(1) as f64 / 4.0;
    let dof = between::degrees_of_freedom(question.runs, question.paths);
    let needed = t_quantile(level, dof) + t_quantile(question.power, dof);
    let samples = needed.powi(2) * spread * question.design_effect / difference.powi(2);
    Plan {
        samples,
        seconds: samples / (question.cores * question.frequency_hz),
    }
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
            runs: 1,
        };
        let plan = plan(&question);
        assert!((plan.seconds * 4.0 * 199.0 / plan.samples - 1.0).abs() < 1e-12);
        plan.samples
    }

    #[test]
    fn samples_agree_with_the_textbook_for_two_proportions() {
        // Fleiss, Statistical Methods for Rates and Proportions: n = (z₀.₉₈₇₅ + z₀.₈)² (p₁q₁ + p₂q₂) / (p₁ − p₂)², with
        // 0.9875 for the 0.975 of a single test.
        let textbook = |p1: f64, p2: f64| {
            (2.241_403 + 0.841_621_f64).powi(2) * (p1 * (1.0 - p1) + p2 * (1.0 - p2))
                / (p1 - p2).powi(2)
        };
        for (share, change) in [(0.10, -0.10), (0.30, -0.20), (0.03, 0.05)] {
            let expected = textbook(share, share * (1.0 + change));
            let ratio = samples(share, change, 1) / expected;
            assert!((0.95..1.10).contains(&ratio), "{share} {change}: {ratio}");
        }
        assert!(samples(0.1, -0.1, 50) > 1.9 * samples(0.1, -0.1, 1));
    }
}
