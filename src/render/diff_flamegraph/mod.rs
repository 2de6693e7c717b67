//! Differential flame graphs: two sides of a comparison as one interactive SVG, in the shape of either.
//!
//! In: stacks with what each costs before and after, in one unit that the caller has chosen and normalized. Out: SVG in
//! the look of [`super::flamegraph`]. It decides nothing: which changes are real is the caller's word (`significant`), or
//! at least whether they exceed chance (`tick`).
//!
//! What a box shows:
//! * its width is the side's whose shape it is ([`Shape`]), so the picture of the after side has the after side's hot paths;
//! * its colour is the change of this very path, parents included, relative to what it was: red grew, blue shrank, grey
//!   did not change as far as the data can tell. One scale for all pictures, so that two can be laid side by side;
//! * its tooltip has both figures.
//!
//! What exists on one side only has no width in the other's shape. It is drawn there nevertheless, in the same scale:
//! hatched, to the right of everything else, below grey callers that say where it was (`layout.rs`). Paths too small to
//! be told from chance are summed up in words instead.

mod colour;
mod draw;
mod figures;
mod layout;
mod legend;
mod tree;

use super::flamegraph::FlameGraphError;
use crate::profile::Role;

/// A name of the picture; two are the same box when text and role are equal.
#[derive(Clone, Copy, Debug)]
pub struct DiffName<'a> {
    pub text: &'a str,
    pub role: Role,
}

/// A stack, and what it costs itself on either side. Costs that are not positive numbers count as 0.
#[derive(Clone, Debug)]
pub struct DiffStack {
    /// Root to leaf, indexes into [`DiffPicture::names`].
    pub frames: Vec<u32>,
    pub before: f64,
    pub after: f64,
}

/// What one sample adds to a cost, in the picture's unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    pub before: f64,
    pub after: f64,
}

/// All that is drawn.
#[derive(Clone, Copy, Debug)]
pub struct DiffPicture<'a> {
    pub title: &'a str,
    /// What was compared; totals and shape are added.
    pub subtitle: &'a str,
    /// Of all costs, as in `µs per request`, `ms of CPU per second`, `% of CPU`.
    pub unit: &'a str,
    pub names: &'a [DiffName<'a>],
    /// In any order; costs of equal stacks are added up.
    pub stacks: &'a [DiffStack],
    /// For each name, whether its change was found significant; all others' boxes are grey. `None` where nobody tested.
    pub significant: Option<&'a [bool]>,
    /// With it, a box whose change is within three standard deviations of counting is grey; without it, one whose
    /// change is below a thousandth of everything.
    pub tick: Option<Tick>,
}

/// Which side's costs are widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Before,
    After,
}

impl Shape {
    pub const BOTH: [Shape; 2] = [Shape::Before, Shape::After];

    /// For file names and text.
    pub fn id(self) -> &'static str {
        match self {
            Shape::Before => "before",
            Shape::After => "after",
        }
    }
}

/// `picture` in the shape of one side, as SVG. An index in a stack that names nothing is a mistake of the caller's.
pub fn render(picture: &DiffPicture<'_>, shape: Shape) -> Result<String, FlameGraphError> {
    let tree = tree::build(picture);
    if tree.total(Shape::Before) + tree.total(Shape::After) <= 0.0 {
        return Err(FlameGraphError::NoSamples);
    }
    let judge = colour::Judge::new(picture, &tree);
    let layout = layout::arrange(&tree, &judge, shape);
    let drawing = draw::Drawing {
        picture,
        tree: &tree,
        judge: &judge,
        layout: &layout,
        shape,
    };
    drawing.svg()
}

#[cfg(test)]
mod tests;
