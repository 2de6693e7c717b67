//! The stacks of both sides as one tree of functions: who calls whom, and how much falls on each stack of each side.
//!
//! In: profiles, one after the other. Out: per profile the tree's node for each of its samples, and per side the weight
//! at each node. Stacks that differ only in addresses are one node.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use super::identity::{FnIx, Functions, Kind, ProfileFunctions};
use crate::profile::{Profile, Sample, StackIx};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

impl Side {
    pub(super) fn ix(self) -> usize {
        self as usize
    }
}

/// Index of a stack in the tree; 0 is the empty one.
pub(super) type Node = u32;

#[derive(Debug, Default)]
pub(super) struct CallTree {
    /// Caller's node and function, for nodes from 1 on.
    nodes: Vec<(Node, FnIx)>,
    children: HashMap<(Node, FnIx), Node, RandomState>,
    /// Weight of samples whose stack is exactly this, per side, as a share of that side's weight; index 0 unused.
    weights: [Vec<f64>; 2],
}

impl CallTree {
    fn push(&mut self, caller: Node, function: FnIx) -> Node {
        *self.children.entry((caller, function)).or_insert_with(|| {
            self.nodes.push((caller, function));
            self.nodes.len() as Node
        })
    }

    /// Enters the stacks of `profile`; each sample's node, in the order of samples.
    pub(super) fn add(&mut self, profile: &Profile, functions: &ProfileFunctions) -> Vec<Node> {
        let mut known = Known::new(profile.stacks.node_count());
        let samples = profile.samples.iter();
        samples
            .map(|sample| self.node(profile, functions, &mut known, sample))
            .collect()
    }

    fn node(
        &mut self,
        profile: &Profile,
        functions: &ProfileFunctions,
        known: &mut Known,
        sample: &Sample,
    ) -> Node {
        let reason = functions.reason(sample.end);
        let mut unknown = Vec::new();
        let mut at = sample.stack;
        let mut node = loop {
            if at == StackIx::EMPTY {
                break reason.map_or(0, |reason| self.push(0, reason));
            }
            if let Some(node) = known.get(at, reason) {
                break node;
            }
            unknown.push(at);
            at = profile.stacks.caller(at);
        };
        for stack in unknown.into_iter().rev() {
            if let Some(frame) = profile.stacks.leaf(stack) {
                for function in functions.at(frame).iter().rev() {
                    node = self.push(node, *function);
                }
            }
            known.set(stack, reason, node);
        }
        node
    }

    /// Adds `weight` to what falls on `node`.
    pub(super) fn weigh(&mut self, side: Side, node: Node, weight: f64) {
        let weights = &mut self.weights[side.ix()];
        let needed = node as usize + 1;
        if weights.len() < needed {
            weights.resize(needed, 0.0);
        }
        weights[node as usize] += weight;
    }

    /// Nodes with any weight on either side, and both weights.
    pub(super) fn stacks(&self) -> impl Iterator<Item = (Node, [f64; 2])> + '_ {
        let at = |side: usize, node: usize| self.weights[side].get(node).copied().unwrap_or(0.0);
        (0..=self.nodes.len())
            .map(move |node| (node as Node, [at(0, node), at(1, node)]))
            .filter(|(_, weights)| weights[0] > 0.0 || weights[1] > 0.0)
    }

    /// Nodes, the empty stack not counted.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Functions of a stack, leaf first.
    pub(super) fn leaf_to_root(&self, node: Node) -> impl Iterator<Item = FnIx> + '_ {
        let mut at = node;
        std::iter::from_fn(move || {
            let (caller, function) = *self.nodes.get((at as usize).checked_sub(1)?)?;
            at = caller;
            Some(function)
        })
    }
}

/// Nodes of a profile's stacks, by what stands at their root.
struct Known {
    stacks: usize,
    /// One more than the node, by index of the stack; 0 where it is not known.
    by_reason: HashMap<Option<FnIx>, Vec<u32>, RandomState>,
}

impl Known {
    fn new(stacks: usize) -> Known {
        Known {
            stacks,
            by_reason: HashMap::default(),
        }
    }

    fn get(&self, stack: StackIx, reason: Option<FnIx>) -> Option<Node> {
        self.by_reason.get(&reason)?[stack.index()].checked_sub(1)
    }

    fn set(&mut self, stack: StackIx, reason: Option<FnIx>, node: Node) {
        let none = || vec![0; self.stacks + 1];
        self.by_reason.entry(reason).or_insert_with(none)[stack.index()] = node + 1;
    }
}

/// Weights of functions and of calls, per side, as shares of the side.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) self_weight: Vec<[f64; 2]>,
    pub(super) total_weight: Vec<[f64; 2]>,
    /// (caller, callee); a function that is nobody's callee hangs under `None`. Once per stack.
    pub(super) calls: HashMap<(Option<FnIx>, FnIx), [f64; 2], RandomState>,
}

impl Graph {
    /// `alias` maps each function to the one it is counted as.
    pub(super) fn of(tree: &CallTree, functions: &Functions, alias: &[FnIx]) -> Graph {
        let mut graph = Graph {
            self_weight: vec![[0.0; 2]; functions.len()],
            total_weight: vec![[0.0; 2]; functions.len()],
            calls: HashMap::default(),
        };
        let mut stack: Vec<FnIx> = Vec::new();
        let mut seen_total = vec![0usize; functions.len()];
        let mut calls: Vec<(Option<FnIx>, FnIx)> = Vec::new();
        for (number, (node, weights)) in tree.stacks().enumerate() {
            stack.clear();
            let real = |function: &FnIx| functions.get(*function).kind != Kind::Reason;
            stack.extend(
                tree.leaf_to_root(node)
                    .filter(real)
                    .map(|f| alias[f.0 as usize]),
            );
            let Some(leaf) = stack.first() else { continue };
            add(&mut graph.self_weight[leaf.0 as usize], weights);
            for (depth, function) in stack.iter().enumerate() {
                let mark = &mut seen_total[function.0 as usize];
                if std::mem::replace(mark, number + 1) != number + 1 {
                    add(&mut graph.total_weight[function.0 as usize], weights);
                }
                calls.push((stack.get(depth + 1).copied(), *function));
            }
            calls.sort_unstable();
            calls.dedup();
            for call in calls.drain(..) {
                add(graph.calls.entry(call).or_default(), weights);
            }
        }
        graph
    }
}

fn add(sum: &mut [f64; 2], weights: [f64; 2]) {
    sum[0] += weights[0];
    sum[1] += weights[1];
}
