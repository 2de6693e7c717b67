//! All stacks as one tree with both sides' costs, without what is too small to be seen.
//!
//! Stacks are sorted by name, so that a node's children follow it and a node is finished when the next stack leaves it.
//! A finished node that is too small on both sides is dropped at once; its cost is in its parents by then. So memory is
//! bounded by what can be seen, not by the number of stacks.

use std::ops::Range;

use super::{DiffPicture, DiffStack, Shape};

/// A path from the root. Costs include those of all below.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Node {
    /// Index into the picture's names; meaningless for the root.
    pub(super) name: u32,
    /// 0 for the root.
    pub(super) depth: u32,
    pub(super) before: f64,
    pub(super) after: f64,
    /// Cost before of paths at or below this that are gone after; and after of those that were not there before.
    pub(super) gone: f64,
    pub(super) new: f64,
}

impl Node {
    /// The cost in `shape`.
    pub(super) fn cost(&self, shape: Shape) -> f64 {
        match shape {
            Shape::Before => self.before,
            Shape::After => self.after,
        }
    }

    /// The cost of what has no width in `shape`.
    pub(super) fn elsewhere(&self, shape: Shape) -> f64 {
        match shape {
            Shape::Before => self.new,
            Shape::After => self.gone,
        }
    }

    /// Whether `shape` has nothing of this, and the other side has.
    pub(super) fn is_elsewhere(&self, shape: Shape) -> bool {
        self.cost(shape) <= 0.0
    }
}

/// Nodes in pre-order; the first is the root, which stands for everything.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

impl Tree {
    pub(super) fn root(&self) -> &Node {
        &self.nodes[0]
    }

    pub(super) fn total(&self, shape: Shape) -> f64 {
        self.root().cost(shape)
    }
}

/// What costs less than this share of the larger side on both sides is not kept: it could not be seen (`layout.rs`), not
/// even if the smaller side had the picture for itself.
const MIN_SHARE: f64 = 1e-4;
/// Nothing is drawn above this many levels, as nobody can look at it; costs stay in what is below.
const MAX_DEPTH: usize = 500;

pub(super) fn build(picture: &DiffPicture<'_>) -> Tree {
    let ranks = Ranks::of(picture);
    let stacks = Stacks::sorted(picture.stacks, &ranks);
    let total = |cost: fn(Sorted<'_>) -> f64| stacks.iter().map(cost).sum::<f64>();
    let larger = total(|stack| stack.before).max(total(|stack| stack.after));
    let mut growing = Growing::new(larger * MIN_SHARE);
    for stack in stacks.iter() {
        growing.add(&stack);
    }
    growing.finish(&ranks)
}

/// Names in order: equal ones have one rank.
struct Ranks {
    /// By index of the name.
    rank: Vec<u32>,
    /// By rank, the first name that has it.
    name: Vec<u32>,
}

impl Ranks {
    fn of(picture: &DiffPicture<'_>) -> Ranks {
        let key = |ix: u32| {
            let name = &picture.names[ix as usize];
            (name.text, name.role)
        };
        let mut order: Vec<u32> = (0..picture.names.len() as u32).collect();
        order.sort_by_key(|ix| key(*ix));
        let mut ranks = Ranks {
            rank: vec![0; order.len()],
            name: Vec::new(),
        };
        for ix in order {
            if ranks.name.last().is_none_or(|last| key(*last) != key(ix)) {
                ranks.name.push(ix);
            }
            ranks.rank[ix as usize] = ranks.name.len() as u32 - 1;
        }
        ranks
    }
}

/// A stack with ranks in place of names.
struct Sorted<'a> {
    ranks: &'a [u32],
    before: f64,
    after: f64,
}

struct Growing {
    nodes: Vec<Node>,
    /// Indexes of the nodes on the way to the stack added last, the root first.
    open: Vec<usize>,
    last: Vec<u32>,
    min_cost: f64,
}

impl Growing {
    fn new(min_cost: f64) -> Growing {
        Growing {
            nodes: vec![Node::default()],
            open: vec![0],
            last: Vec::new(),
            min_cost,
        }
    }

    fn add(&mut self, stack: &Sorted<'_>) {
        let pairs = self.last.iter().zip(stack.ranks);
        let shared = pairs.take_while(|(last, this)| last == this).count();
        self.close(shared + 1);
        for rank in &stack.ranks[shared..] {
            self.open.push(self.nodes.len());
            self.nodes.push(Node {
                name: *rank,
                depth: self.open.len() as u32 - 1,
                ..Node::default()
            });
        }
        self.last.truncate(shared);
        self.last.extend_from_slice(&stack.ranks[shared..]);
        let leaf = self.open[self.open.len() - 1];
        self.nodes[leaf].before += stack.before;
        self.nodes[leaf].after += stack.after;
    }

    /// Finishes open nodes until `keep` are left.
    fn close(&mut self, keep: usize) {
        while self.open.len() > keep {
            let ix = self.open.pop().expect("more than `keep`");
            let node = &mut self.nodes[ix];
            if node.after <= 0.0 {
                node.gone = node.before;
            }
            if node.before <= 0.0 {
                node.new = node.after;
            }
            let node = *node;
            let parent = &mut self.nodes[self.open[self.open.len() - 1]];
            parent.before += node.before;
            parent.after += node.after;
            parent.gone += node.gone;
            parent.new += node.new;
            if node.before.max(node.after) < self.min_cost {
                // What is below costs no more, so it has been dropped already: the node is the last one.
                self.nodes.truncate(ix);
            }
        }
    }

    fn finish(mut self, ranks: &Ranks) -> Tree {
        self.close(1);
        for node in self.nodes.iter_mut().skip(1) {
            node.name = ranks.name[node.name as usize];
        }
        Tree { nodes: self.nodes }
    }
}

/// All stacks in the order of their names.
struct Stacks {
    ranks: Vec<u32>,
    /// Where each stack's ranks stand, and its costs.
    entries: Vec<(Range<usize>, f64, f64)>,
}

impl Stacks {
    /// Sorted by costs too, so that sums are the same to the last bit whatever order the stacks came in.
    fn sorted(stacks: &[DiffStack], ranks: &Ranks) -> Stacks {
        let mut all = Stacks {
            ranks: Vec::new(),
            entries: Vec::with_capacity(stacks.len()),
        };
        for stack in stacks {
            let (before, after) = (counted(stack.before), counted(stack.after));
            if before + after > 0.0 {
                let start = all.ranks.len();
                let frames = stack.frames.iter().take(MAX_DEPTH);
                all.ranks
                    .extend(frames.map(|name| ranks.rank[*name as usize]));
                all.entries.push((start..all.ranks.len(), before, after));
            }
        }
        let Stacks { ranks, entries } = &mut all;
        entries.sort_unstable_by(|a, b| {
            let names = ranks[a.0.clone()].cmp(&ranks[b.0.clone()]);
            let costs = || a.1.total_cmp(&b.1).then(a.2.total_cmp(&b.2));
            names.then_with(costs)
        });
        all
    }

    fn iter(&self) -> impl Iterator<Item = Sorted<'_>> {
        let entries = self.entries.iter();
        entries.map(|(range, before, after)| Sorted {
            ranks: &self.ranks[range.clone()],
            before: *before,
            after: *after,
        })
    }
}

fn counted(cost: f64) -> f64 {
    match cost.is_finite() && cost > 0.0 {
        true => cost,
        false => 0.0,
    }
}
