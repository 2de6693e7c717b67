//! What would settle an open question: how much more recording, or how many more runs; and how small a change this much
//! data could have shown.

use super::decide::Judged;
use super::evaluate::{Estimate, relative, t_quantile};

/// Share of real changes of the smallest size shown that are to be found.
pub(super) const POWER: f64 = 0.8;
/// More than this is no advice any more.
const MAX_SCALE: f64 = 10_000.0;

/// How much of what a verdict would take, if the figures stay as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settle {
    /// As a multiple of what each side recorded.
    pub scale: f64,
    /// Longer runs would do; else it takes as many times more runs.
    pub by_length: bool,
}

/// `None` for more than ten thousand times as much.
pub(super) fn settle(
    estimate: &Estimate,
    judged: &Judged,
    false_discovery_rate: f64,
    tested: usize,
) -> Option<Settle> {
    let scale = match estimate.change() {
        Some(change) if change.abs() < judged.margin => {
            // To be shown unchanged, the interval has to fit between the change and the nearer margin.
            let room = judged.margin - change.abs();
            let edge = (1.0 + change.abs() + room).sqrt() - (1.0 + change.abs()).sqrt();
            let half = t_quantile(0.975, estimate.dof) * estimate.error / estimate.before.sqrt();
            (half / edge).powi(2)
        }
        _ => {
            let needed = critical(false_discovery_rate, tested, estimate.dof)
                + t_quantile(POWER, estimate.dof);
            (needed * estimate.error / estimate.difference.abs()).powi(2)
        }
    };
    // What is beyond its criterion already and still open was held back by something else; a little more data decides.
    let scale = scale.max(1.25);
    (scale <= MAX_SCALE).then_some(Settle {
        scale,
        by_length: estimate.by_length > 0.5,
    })
}

/// The smallest relative growth that would have been told in four of five cases; `None` where there was nothing before.
pub(super) fn smallest_change(
    estimate: &Estimate,
    margin: f64,
    false_discovery_rate: f64,
    tested: usize,
) -> Option<f64> {
    let needed =
        critical(false_discovery_rate, tested, estimate.dof) + t_quantile(POWER, estimate.dof);
    Some(relative(estimate.before, needed * estimate.error)?.max(margin))
}

/// What |t| must exceed when this is the only change among all that are tested.
fn critical(false_discovery_rate: f64, tested: usize, dof: f64) -> f64 {
    t_quantile(1.0 - false_discovery_rate / tested.max(1) as f64 / 2.0, dof)
}
