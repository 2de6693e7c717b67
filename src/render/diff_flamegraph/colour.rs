//! The change of a box, and the colour that shows it.
//!
//! Shades follow the square root of the change's logarithm to base 2, so that 5 % can be seen and doubling is as far
//! from nothing as halving. Only changes that count have a hue at all: a box that nobody sampled twice would glow
//! otherwise, and it is the first thing everyone looks at.

use super::tree::{Node, Tree};
use super::{DiffPicture, Shape};

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// Not changed, as far as can be told.
    None,
    /// By how much, as the logarithm to base 2 of after over before; not 0.
    By(f64),
    New,
    Gone,
}

/// Tells changes that count from those that do not.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    picture: &'a DiffPicture<'a>,
    /// Without a tick: smaller changes do not count.
    least: f64,
}

/// Standard deviations of counting that a change must exceed.
const DEVIATIONS: f64 = 3.0;
/// Share of the larger side that a change must exceed where counting errors are not known.
const LEAST_SHARE: f64 = 1e-3;

impl<'a> Judge<'a> {
    pub(super) fn new(picture: &'a DiffPicture<'a>, tree: &Tree) -> Judge<'a> {
        let larger = tree.total(Shape::Before).max(tree.total(Shape::After));
        Judge {
            picture,
            least: larger * LEAST_SHARE,
        }
    }

    /// The change of `node`, which is not the root.
    pub(super) fn change(&self, node: &Node) -> Change {
        let significant = self.picture.significant;
        let tested = significant.is_none_or(|names| names.get(node.name as usize) == Some(&true));
        match tested && self.exceeds_chance(node) {
            false => Change::None,
            true if node.before <= 0.0 => Change::New,
            true if node.after <= 0.0 => Change::Gone,
            true => Change::By((node.after / node.before).log2()),
        }
    }

    /// Whether the samples of `node` alone speak for a change.
    pub(super) fn exceeds_chance(&self, node: &Node) -> bool {
        let change = (node.after - node.before).abs();
        match self.picture.tick {
            // A count's variance is the count, so that of a cost of n samples is n · tick².
            Some(tick) => {
                let variance = node.before * tick.before + node.after * tick.after;
                change > DEVIATIONS * variance.sqrt()
            }
            None => change > self.least,
        }
    }
}

pub(super) type Rgb = [u8; 3];

/// The box that holds all others, callers of hatched boxes, and boxes that did not change.
pub(super) const ALL: Rgb = [206, 206, 206];
pub(super) const CONTEXT: Rgb = [240, 240, 240];
pub(super) const SAME: Rgb = [222, 222, 222];
/// Dark and light stripes of what one side only has.
pub(super) const NEW: [Rgb; 2] = [[226, 120, 214], [243, 184, 236]];
pub(super) const GONE: [Rgb; 2] = [[84, 190, 178], [160, 222, 214]];

/// From the smallest change to a doubling, and to a halving.
const GREW: [Rgb; 2] = [[255, 228, 220], [240, 84, 60]];
const SHRANK: [Rgb; 2] = [[222, 234, 255], [76, 136, 240]];

impl Change {
    pub(super) fn colour(self) -> Rgb {
        match self {
            Change::None => SAME,
            Change::New => NEW[0],
            Change::Gone => GONE[0],
            Change::By(log2) if log2 > 0.0 => mix(GREW, log2.min(1.0).sqrt()),
            Change::By(log2) => mix(SHRANK, (-log2).min(1.0).sqrt()),
        }
    }
}

fn mix([light, dark]: [Rgb; 2], part: f64) -> Rgb {
    let channel = |i: usize| {
        let (light, dark) = (f64::from(light[i]), f64::from(dark[i]));
        (light + (dark - light) * part).round() as u8
    };
    [channel(0), channel(1), channel(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_deepen_with_the_change_up_to_a_factor_of_two() {
        let redness = |log2: f64| {
            let [r, g, _] = Change::By(log2).colour();
            i32::from(r) - i32::from(g)
        };
        let logs = [-2.0, -1.0, -0.5, -0.07, 0.07, 0.5, 1.0];
        assert!(logs.map(redness).is_sorted(), "{:?}", logs.map(redness));
        assert_eq!(Change::By(1.0).colour(), Change::By(7.0).colour());
        assert_eq!(Change::By(-1.0).colour(), Change::By(-7.0).colour());
        assert_ne!(Change::By(0.0001).colour(), Change::By(-0.0001).colour());
        assert_ne!(Change::New.colour(), Change::By(9.0).colour());
    }
}
