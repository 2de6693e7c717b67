//! The strip below the boxes: what colours stand for, and what the picture has no room to show.

use super::colour::{self, Change, Rgb};
use super::draw::{CHAR_WIDTH, Drawing, other, xml};
use super::{Shape, figures};
use crate::render::escape::visible;

/// Two lines, in pixels.
pub(super) const HEIGHT: usize = 44;

/// The change, and what stands beside its colour.
const SCALE: [(f64, &str); 7] = [
    (0.5, "−50 % or less"),
    (0.8, "−20 %"),
    (0.95, "−5 %"),
    (1.0, "no change seen"),
    (1.05, "+5 %"),
    (1.25, "+25 %"),
    (2.0, "doubled or more"),
];

/// The colour scale, from shrunk to grown, and what exists on one side only.
pub(super) fn swatches(shape: Shape, top: usize) -> String {
    let mut svg = patterns();
    let mut x = 10.0;
    let mut add = |fill: &str, label: &str| {
        svg += &format!(
            "<rect x=\"{x}\" y=\"{top}\" width=\"12\" height=\"12\" fill=\"{fill}\"/>\
             <text x=\"{}\" y=\"{}\">{label}</text>",
            x + 17.0,
            top + 10
        );
        x += (17.0 + label.chars().count() as f64 * CHAR_WIDTH + 16.0).round();
    };
    for (factor, label) in SCALE {
        let change = match factor {
            1.0 => Change::None,
            factor => Change::By(f64::log2(factor)),
        };
        add(&rgb(change.colour()), label);
    }
    let (here, there) = match shape {
        Shape::Before => (
            (Change::Gone, "vanished"),
            (Change::New, "new, not in this shape"),
        ),
        Shape::After => (
            (Change::New, "new"),
            (Change::Gone, "vanished, not in this shape"),
        ),
    };
    add(&rgb(here.0.colour()), here.1);
    add(hatch(there.0), there.1);
    svg
}

/// What has no width in this shape, in words.
pub(super) fn remark(drawing: &Drawing<'_>, top: usize) -> String {
    let layout = drawing.layout;
    let unit = visible(drawing.picture.unit);
    let share = |cost: f64| {
        let whole = drawing.tree.total(other(drawing.shape));
        format!(
            "{} {unit}, {:.1} % of {}",
            figures::cost(cost),
            100.0 * cost / whole,
            other(drawing.shape).id()
        )
    };
    let what = match drawing.shape {
        Shape::Before => "New",
        Shape::After => "Vanished",
    };
    let shown = match layout.elsewhere > 0.0 {
        true => format!(
            "{what} paths ({}) stand hatched on the right, in the same scale.",
            share(layout.elsewhere)
        ),
        false => format!("{what} paths: none that can be told from chance."),
    };
    let hidden = match layout.not_drawn > layout.elsewhere * 1e-6 {
        true => format!(
            " Not drawn, as each may be chance: {}.",
            share(layout.not_drawn)
        ),
        false => String::new(),
    };
    let y = top + 32;
    format!(
        "<text x=\"10\" y=\"{y}\">{}</text>",
        xml(&(shown + &hidden))
    )
}

/// Fill of a box that only the other side has.
pub(super) fn hatch(change: Change) -> &'static str {
    match change {
        Change::New => "url(#hatched-new)",
        Change::Gone => "url(#hatched-gone)",
        _ => "url(#hatched-same)",
    }
}

fn patterns() -> String {
    let pattern = |name: &str, [dark, light]: [Rgb; 2]| {
        format!(
            "<pattern id=\"hatched-{name}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"{}\"/>\
             <rect width=\"2\" height=\"6\" fill=\"{}\"/></pattern>",
            rgb(light),
            rgb(dark)
        )
    };
    let patterns = [
        pattern("new", colour::NEW),
        pattern("gone", colour::GONE),
        pattern("same", [colour::SAME, colour::CONTEXT]),
    ];
    format!("<defs>{}</defs>", patterns.concat())
}

fn rgb([r, g, b]: Rgb) -> String {
    format!("rgb({r},{g},{b})")
}
