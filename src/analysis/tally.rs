//! Weights of all functions and call chains of a profile, added up in one walk over its stacks.
//!
//! In: a profile. Out: [`Tally`], from which [`super::self_total`] picks its rankings. A call chain is a stack by names
//! instead of addresses: a hot loop has a stack per instruction, and one chain.

use std::collections::{BTreeMap, HashMap};

use super::names::{Name, NameIx, Names};
use super::weight::{Measure, StackKey, Weight, by_stack, ratio};
use crate::profile::{Profile, StackIx};

/// One call chain, and how much of everything ran in exactly it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// Root to leaf; kernel functions with the suffix `_[k]`, as in folded stacks.
    pub names: Vec<String>,
    /// Share of the whole profile.
    pub share: f64,
}

/// What is known of one function.
#[derive(Clone, Copy, Debug, Default)]
struct FunctionTally {
    self_weight: Weight,
    total_weight: Weight,
    /// The heaviest chain that ends in it, and the heaviest through it; node 0 where there is none.
    chain_to: u32,
    chain_through: u32,
    /// One more than the number of the last stack that counted it: "once per stack" without a set per stack.
    counted: usize,
}

/// A node of the tree of chains, which grows from the root. Node 0 is the empty chain.
#[derive(Clone, Copy, Debug, Default)]
struct ChainNode {
    parent: u32,
    name: Option<NameIx>,
    weight: Weight,
}

#[derive(Debug)]
pub(super) struct Tally {
    pub(super) measure: Measure,
    pub(super) whole: Weight,
    names: Names,
    no_frames: BTreeMap<StackKey, NameIx>,
    stacks: BTreeMap<StackKey, Weight>,
    functions: Vec<FunctionTally>,
    self_lines: BTreeMap<(NameIx, u32), u64>,
    total_lines: BTreeMap<(NameIx, u32), u64>,
    chains: Vec<ChainNode>,
}

impl Tally {
    pub(super) fn of(profile: &Profile) -> Tally {
        let stacks = by_stack(profile);
        let mut names = Names::of(profile);
        let no_frames = stacks.keys().filter_map(|key| match key {
            StackKey::NoFrames(end) => Some((*key, names.no_frames(*end))),
            StackKey::Frames(_) => None,
        });
        let no_frames = no_frames.collect();
        let mut tally = Tally {
            measure: Measure::of(profile),
            whole: Weight::default(),
            functions: vec![FunctionTally::default(); names.len()],
            names,
            no_frames,
            stacks: BTreeMap::new(),
            self_lines: BTreeMap::new(),
            total_lines: BTreeMap::new(),
            chains: vec![ChainNode::default()],
        };
        let mut chains = ChainBuilder::default();
        for (number, (key, weight)) in stacks.iter().enumerate() {
            tally.add(profile, number + 1, *key, *weight);
            let node = chains.node(profile, &mut tally, *key);
            tally.chains[node as usize].weight += *weight;
        }
        tally.stacks = stacks;
        tally.choose_chains();
        tally
    }

    /// Counts one stack for all functions in it.
    fn add(&mut self, profile: &Profile, number: usize, key: StackKey, weight: Weight) {
        self.whole += weight;
        let read = self.measure.read(weight);
        let mut functions = Vec::new();
        self.each_function(profile, key, |name, line| functions.push((name, line)));
        if let Some((leaf, line)) = functions.first() {
            self.functions[leaf.0 as usize].self_weight += weight;
            *self.self_lines.entry((*leaf, *line)).or_default() += read;
        }
        for (name, line) in functions {
            let function = &mut self.functions[name.0 as usize];
            if std::mem::replace(&mut function.counted, number) != number {
                function.total_weight += weight;
                *self.total_lines.entry((name, line)).or_default() += read;
            }
        }
    }

    /// Finds every function's heaviest chains; of equals the one first recorded.
    fn choose_chains(&mut self) {
        let rank = |chains: &[ChainNode], node: u32| {
            let weight = chains[node as usize].weight;
            (self.measure.read(weight), weight.ticks)
        };
        for node in 1..self.chains.len() as u32 {
            let here = rank(&self.chains, node);
            if here == (0, 0) {
                continue;
            }
            let mut at = self.chains[node as usize];
            let mut leaf = true;
            while let Some(name) = at.name {
                let function = &mut self.functions[name.0 as usize];
                if leaf && here > rank(&self.chains, function.chain_to) {
                    function.chain_to = node;
                }
                if here > rank(&self.chains, function.chain_through) {
                    function.chain_through = node;
                }
                leaf = false;
                at = self.chains[at.parent as usize];
            }
        }
    }

    /// Calls `visit` with every function activation of a stack and the line executed there, leaf first.
    pub(super) fn each_function(
        &self,
        profile: &Profile,
        key: StackKey,
        mut visit: impl FnMut(NameIx, u32),
    ) {
        match key {
            StackKey::NoFrames(_) => visit(self.no_frames[&key], 0),
            StackKey::Frames(stack) => {
                for frame in profile.stacks.leaf_to_root(stack) {
                    self.names
                        .at(frame)
                        .iter()
                        .for_each(|(name, line)| visit(*name, *line));
                }
            }
        }
    }

    pub(super) fn leaf(&self, profile: &Profile, key: StackKey) -> Option<NameIx> {
        match key {
            StackKey::NoFrames(_) => self.no_frames.get(&key).copied(),
            StackKey::Frames(stack) => {
                let frame = profile.stacks.leaf(stack)?;
                self.names.at(frame).first().map(|(name, _)| *name)
            }
        }
    }

    pub(super) fn stacks(&self) -> impl Iterator<Item = StackKey> + '_ {
        self.stacks.keys().copied()
    }

    /// Functions with any weight.
    pub(super) fn functions(&self) -> usize {
        self.functions
            .iter()
            .filter(|f| f.total_weight != Weight::default())
            .count()
    }

    pub(super) fn name(&self, ix: NameIx) -> &Name {
        self.names.get(ix)
    }

    pub(super) fn self_weight(&self, ix: NameIx) -> Weight {
        self.functions[ix.0 as usize].self_weight
    }

    pub(super) fn total_weight(&self, ix: NameIx) -> Weight {
        self.functions[ix.0 as usize].total_weight
    }

    /// The line executed most in the function itself; 0 if unknown.
    pub(super) fn self_line(&self, ix: NameIx) -> u32 {
        heaviest_line(&self.self_lines, ix)
    }

    /// The line most ticks stood in or below; 0 if unknown.
    pub(super) fn total_line(&self, ix: NameIx) -> u32 {
        heaviest_line(&self.total_lines, ix)
    }

    pub(super) fn chain_to(&self, ix: NameIx) -> Chain {
        self.chain(self.functions[ix.0 as usize].chain_to)
    }

    pub(super) fn chain_through(&self, ix: NameIx) -> Chain {
        self.chain(self.functions[ix.0 as usize].chain_through)
    }

    /// The functions heaviest by `weight`, none without any. Equal ones stand by name, so that the order never depends
    /// on the order of recording.
    pub(super) fn heaviest(&self, limit: usize, weight: impl Fn(NameIx) -> Weight) -> Vec<NameIx> {
        let mut order: Vec<NameIx> = (0..self.functions.len() as u32).map(NameIx).collect();
        order.retain(|ix| weight(*ix) != Weight::default());
        order.sort_by(|a, b| {
            let read = |ix: &NameIx| self.measure.read(weight(*ix));
            let label = |ix: &NameIx| {
                let name = self.names.get(*ix);
                (&name.name, &name.file, name.kernel)
            };
            read(b).cmp(&read(a)).then_with(|| label(a).cmp(&label(b)))
        });
        order.truncate(limit);
        order
    }

    fn chain(&self, node: u32) -> Chain {
        let mut at = self.chains[node as usize];
        let share = ratio(self.measure.read(at.weight), self.measure.read(self.whole));
        let mut names = Vec::new();
        while let Some(ix) = at.name {
            let Name { name, kernel, .. } = self.names.get(ix);
            names.push(match kernel {
                true => format!("{name}_[k]"),
                false => name.clone(),
            });
            at = self.chains[at.parent as usize];
        }
        names.reverse();
        Chain { names, share }
    }
}

fn heaviest_line(lines: &BTreeMap<(NameIx, u32), u64>, name: NameIx) -> u32 {
    lines
        .range((name, 1)..=(name, u32::MAX))
        .max_by_key(|((_, line), weight)| (**weight, std::cmp::Reverse(*line)))
        .map_or(0, |((_, line), _)| *line)
}

/// Grows the tree of chains; stacks that share callers share the work.
#[derive(Default)]
struct ChainBuilder {
    children: HashMap<(u32, NameIx), u32>,
    of_stack: HashMap<StackIx, u32>,
}

impl ChainBuilder {
    /// The node of a stack's chain.
    fn node(&mut self, profile: &Profile, tally: &mut Tally, key: StackKey) -> u32 {
        let stack = match key {
            StackKey::Frames(stack) => stack,
            StackKey::NoFrames(_) => {
                let name = tally.no_frames[&key];
                return self.push(&mut tally.chains, 0, name);
            }
        };
        // Up to the nearest caller that is known, then down again.
        let mut unknown = Vec::new();
        let mut at = stack;
        let mut node = loop {
            if at == StackIx::EMPTY {
                break 0;
            }
            if let Some(node) = self.of_stack.get(&at) {
                break *node;
            }
            unknown.push(at);
            at = profile.stacks.caller(at);
        };
        for stack in unknown.into_iter().rev() {
            if let Some(frame) = profile.stacks.leaf(stack) {
                for (name, _) in tally.names.at(frame).iter().rev() {
                    node = self.push(&mut tally.chains, node, *name);
                }
            }
            self.of_stack.insert(stack, node);
        }
        node
    }

    fn push(&mut self, chains: &mut Vec<ChainNode>, parent: u32, name: NameIx) -> u32 {
        *self.children.entry((parent, name)).or_insert_with(|| {
            chains.push(ChainNode {
                parent,
                name: Some(name),
                weight: Weight::default(),
            });
            chains.len() as u32 - 1
        })
    }
}
