//! Where boxes stand.
//!
//! The tree in the chosen shape comes first, left to right in the order of names. Behind a gap follows what the shape
//! has no width for, in the same scale: those paths that only the other side has, below callers that exist on both
//! sides and are as wide there as what they lost (or gained).

use super::Shape;
use super::colour::Judge;
use super::tree::{Node, Tree};

/// What a box is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The tree in the picture's shape.
    Shape,
    /// A path that only the other side has.
    Elsewhere,
    /// Its caller, on both sides.
    Context,
}

/// A box: node, place and width. Widths are in [`Layout::width`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// Index into the tree's nodes.
    pub(super) node: usize,
    pub(super) part: Part,
    pub(super) x: u64,
    pub(super) width: u64,
    /// The cost that the width stands for.
    pub(super) cost: f64,
}

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) boxes: Vec<Placed>,
    /// Of the whole picture.
    pub(super) width: u64,
    /// Cost of the paths that only the other side has: drawn, and too small for it.
    pub(super) elsewhere: f64,
    pub(super) not_drawn: f64,
}

/// What the picture's width is divided into: fine enough for any zoom, and small enough for JavaScript's integers.
const UNITS: f64 = 1e10;
/// Boxes narrower than this share of the picture, half a pixel, are left out: in a difference they are noise, and towers
/// of them make the picture higher than a screen.
const MIN_SHARE: f64 = 4e-4;
/// More boxes make browsers slow; the narrowest are left out.
const MAX_BOXES: usize = 20_000;
/// A path of the other side only is shown from this share of the larger side on.
const MIN_ELSEWHERE_SHARE: f64 = 1e-3;
/// Between the tree and what is elsewhere, as a share of the picture.
const GAP_SHARE: f64 = 0.01;

pub(super) fn arrange(tree: &Tree, judge: &Judge<'_>, shape: Shape) -> Layout {
    let aside = Aside::of(tree, judge, shape);
    let elsewhere = aside.costs[0];
    let total = tree.total(shape);
    let gap = match elsewhere > 0.0 && total > 0.0 {
        true => (total + elsewhere) * GAP_SHARE,
        false => 0.0,
    };
    let scale = UNITS / (total + gap + elsewhere);
    let all = |min_width| {
        let in_shape = |ix: usize| (tree.nodes[ix].cost(shape), Part::Shape);
        let in_aside = |ix: usize| (aside.costs[ix], aside.parts[ix]);
        let mut boxes = Vec::new();
        place(&tree.nodes, in_shape, 0.0, scale, min_width, &mut boxes);
        let start = (total + gap) * scale;
        place(&tree.nodes, in_aside, start, scale, min_width, &mut boxes);
        boxes
    };
    let boxes = all((UNITS * MIN_SHARE) as u64);
    let boxes = match boxes.len() > MAX_BOXES {
        true => all(nth_width(&boxes, MAX_BOXES) + 1),
        false => boxes,
    };
    Layout {
        boxes,
        width: UNITS as u64,
        elsewhere,
        not_drawn: (tree.root().elsewhere(shape) - elsewhere).max(0.0),
    }
}

/// The width of the `n`th widest box.
fn nth_width(boxes: &[Placed], n: usize) -> u64 {
    let mut widths: Vec<u64> = boxes.iter().map(|placed| placed.width).collect();
    let (_, nth, _) = widths.select_nth_unstable_by(n, |a, b| b.cmp(a));
    *nth
}

/// For each node, its width and part in what is drawn aside; 0 where it is not drawn there.
struct Aside {
    costs: Vec<f64>,
    parts: Vec<Part>,
}

impl Aside {
    fn of(tree: &Tree, judge: &Judge<'_>, shape: Shape) -> Aside {
        let nodes = &tree.nodes;
        let larger = tree.total(Shape::Before).max(tree.total(Shape::After));
        let least = larger * MIN_ELSEWHERE_SHARE;
        let shown = |node: &Node| {
            let cost = node.elsewhere(shape);
            node.is_elsewhere(shape) && cost >= least && judge.exceeds_chance(node)
        };
        let mut aside = Aside {
            costs: vec![0.0; nodes.len()],
            parts: vec![Part::Context; nodes.len()],
        };
        let mut parents = vec![0; nodes.len()];
        let mut path: Vec<usize> = Vec::new();
        for (ix, node) in nodes.iter().enumerate() {
            path.truncate(node.depth as usize);
            let parent = path.last().copied();
            parents[ix] = parent.unwrap_or(0);
            path.push(ix);
            let within = parent.is_some_and(|parent| aside.parts[parent] == Part::Elsewhere);
            if within || shown(node) {
                aside.parts[ix] = Part::Elsewhere;
                aside.costs[ix] = node.elsewhere(shape);
            }
        }
        for ix in (1..nodes.len()).rev() {
            let parent = parents[ix];
            if aside.parts[parent] == Part::Context {
                aside.costs[parent] += aside.costs[ix];
            }
        }
        aside
    }
}

/// Adds a box for each node that is wide enough, children side by side from their parent's left edge on; what is left
/// of the parent's width is its own cost and that of children too narrow.
fn place(
    nodes: &[Node],
    costs: impl Fn(usize) -> (f64, Part),
    start: f64,
    scale: f64,
    min_width: u64,
    boxes: &mut Vec<Placed>,
) {
    // For each level of the path to the current node, where its next child begins, and where it ends itself.
    let mut free: Vec<(u64, u64)> = vec![(start as u64, u64::MAX)];
    let mut hidden_below = None;
    for (node, Node { depth, .. }) in nodes.iter().enumerate() {
        if hidden_below.is_some_and(|hidden| *depth > hidden) {
            continue;
        }
        hidden_below = None;
        free.truncate(*depth as usize + 1);
        let (x, end) = free[*depth as usize];
        let (cost, part) = costs(node);
        let width = ((cost * scale) as u64).min(end - x);
        if width < min_width {
            hidden_below = Some(*depth);
            continue;
        }
        boxes.push(Placed {
            node,
            part,
            x,
            width,
            cost,
        });
        free[*depth as usize].0 += width;
        free.push((x, x + width));
    }
}
