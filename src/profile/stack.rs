//! Stacks as a tree of frames: a million samples of one service share a few thousand nodes.

use std::collections::HashMap;

use foldhash::quality::RandomState;

/// Index into [`super::Profile::frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameIx(pub u32);

/// A stack: its leaf's node in the [`StackTree`], or the empty stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackIx(u32);

impl StackIx {
    /// The stack without frames.
    pub const EMPTY: StackIx = StackIx(0);

    /// 0 for the empty stack, at most [`StackTree::node_count`].
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: StackIx,
    frame: FrameIx,
    depth: u32,
}

/// All stacks of a profile, grown from the root: equal prefixes are stored once.
#[derive(Clone, Debug, Default)]
pub struct StackTree {
    nodes: Vec<Node>,
    children: HashMap<(StackIx, FrameIx), StackIx, RandomState>,
}

impl StackTree {
    /// The stack that is `parent` with `frame` called from it.
    pub fn push(&mut self, parent: StackIx, frame: FrameIx) -> StackIx {
        let depth = self.depth(parent) + 1;
        *self.children.entry((parent, frame)).or_insert_with(|| {
            self.nodes.push(Node {
                parent,
                frame,
                depth,
            });
            StackIx(self.nodes.len() as u32)
        })
    }

    /// Interns a whole stack given root first.
    pub fn intern(&mut self, root_to_leaf: impl IntoIterator<Item = FrameIx>) -> StackIx {
        root_to_leaf
            .into_iter()
            .fold(StackIx::EMPTY, |stack, frame| self.push(stack, frame))
    }

    /// Number of frames.
    pub fn depth(&self, stack: StackIx) -> u32 {
        self.node(stack).map_or(0, |node| node.depth)
    }

    pub fn leaf(&self, stack: StackIx) -> Option<FrameIx> {
        self.node(stack).map(|node| node.frame)
    }

    /// The stack without its leaf; the empty stack's caller is empty.
    pub fn caller(&self, stack: StackIx) -> StackIx {
        self.node(stack).map_or(StackIx::EMPTY, |node| node.parent)
    }

    pub fn leaf_to_root(&self, stack: StackIx) -> impl Iterator<Item = FrameIx> + '_ {
        std::iter::successors(self.node(stack), |node| self.node(node.parent)).map(|n| n.frame)
    }

    pub fn root_to_leaf(&self, stack: StackIx) -> impl Iterator<Item = FrameIx> + '_ {
        let mut frames: Vec<FrameIx> = self.leaf_to_root(stack).collect();
        frames.reverse();
        frames.into_iter()
    }

    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    fn node(&self, stack: StackIx) -> Option<Node> {
        let index = (stack.0 as usize).checked_sub(1)?;
        self.nodes.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_prefixes_share_nodes_and_both_orders_agree() {
        let mut tree = StackTree::default();
        let [a, b, c] = [FrameIx(7), FrameIx(8), FrameIx(9)];
        let abc = tree.intern([a, b, c]);
        let ab = tree.intern([a, b]);
        assert_eq!(tree.caller(abc), ab);
        assert_eq!(tree.nodes.len(), 3);
        assert_eq!(tree.root_to_leaf(abc).collect::<Vec<_>>(), [a, b, c]);
        assert_eq!(tree.leaf_to_root(abc).collect::<Vec<_>>(), [c, b, a]);
        assert_eq!((tree.depth(abc), tree.leaf(abc)), (3, Some(c)));
        assert_eq!(tree.leaf_to_root(StackIx::EMPTY).count(), 0);
    }
}
