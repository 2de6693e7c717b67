//! Where the CPU time went: functions ranked by self and by total weight.
//!
//! In: a profile. Out: [`HotPaths`], two lists of [`HotPath`]. Self weight is that of ticks with the function as leaf;
//! total weight that of ticks with the function anywhere, once per stack, so that recursion counts once. A function
//! inlined into another is a function of its own. Self weights of all functions add up to the weight of the profile.
//! Text, rounding and escaping are the business of `render`.

use std::collections::{BTreeMap, HashMap};

use super::names::{NameIx, Names};
use super::stats::{Share, share_over_slices};
use super::weight::{Measure, StackKey, Weight, by_stack, ratio};
use crate::profile::{Profile, StackIx};

/// One call chain, and how much of everything ran in exactly it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Root to leaf; kernel functions with the suffix `_[k]`, as in folded stacks.
    pub names: Vec<String>,
    /// Share of the whole profile.
    pub share: f64,
}

/// One function of a ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct HotPath {
    pub name: String,
    pub kernel: bool,
    /// Path of the binary; empty where unknown.
    pub module: String,
    /// Source file; empty where unknown.
    pub file: String,
    /// The heaviest line: by self the one executed most, by total the one most ticks stood in or below. 0 if unknown.
    pub line: u32,
    pub self_weight: Weight,
    pub total_weight: Weight,
    /// Share of the weight this list is ranked by.
    pub share: Share,
    /// By self: the heaviest chain that ends in the function. By total: the heaviest complete chain through it.
    pub chain: Chain,
}

/// The two rankings, heaviest first.
#[derive(Clone, Debug)]
pub struct HotPaths {
    pub by_self: Vec<HotPath>,
    pub by_total: Vec<HotPath>,
    /// Functions in the whole profile, shown or not.
    pub functions: usize,
    /// All ticks, and the CPU time they stand for.
    pub whole: Weight,
}

impl HotPaths {
    /// The `limit` heaviest functions of each kind. Functions without weight are left out.
    pub fn of(profile: &Profile, limit: usize) -> HotPaths {
        let tally = Tally::of(profile);
        let by_self = tally.heaviest(&tally.self_weights, limit);
        let by_total = tally.heaviest(&tally.total_weights, limit);
        let series = Series::of(profile, &tally, &by_self, &by_total);
        let rank = |chosen: &[NameIx], parts: &[Vec<f64>], kind| {
            let paths = chosen.iter().zip(parts);
            paths
                .map(|(name, part)| tally.path(*name, series.share(part), kind))
                .collect()
        };
        HotPaths {
            by_self: rank(&by_self, &series.by_self, Kind::BySelf),
            by_total: rank(&by_total, &series.by_total, Kind::ByTotal),
            functions: tally.total_weights.iter().filter(|w| w.ticks > 0).count(),
            whole: tally.whole,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    BySelf,
    ByTotal,
}

/// A call chain by names instead of addresses: a node of a tree that grows from the root. Node 0 is the empty chain.
#[derive(Clone, Copy, Default)]
struct ChainNode {
    parent: u32,
    name: Option<NameIx>,
    weight: Weight,
}

/// What a function's stacks add up to, and its leaf-most occurrence in each of them.
struct StackFunctions {
    leaf: Option<NameIx>,
    /// Every function in the stack once, with the line of its leaf-most activation.
    all: Vec<(NameIx, u32)>,
}

/// Weights of everything, by function.
struct Tally {
    measure: Measure,
    names: Names,
    whole: Weight,
    self_weights: Vec<Weight>,
    total_weights: Vec<Weight>,
    self_lines: BTreeMap<(NameIx, u32), u64>,
    total_lines: BTreeMap<(NameIx, u32), u64>,
    functions_of: HashMap<StackKey, StackFunctions>,
    chains: Vec<ChainNode>,
}

impl Tally {
    fn of(profile: &Profile) -> Tally {
        let stacks = by_stack(profile);
        let mut names = Names::of(profile);
        for key in stacks.keys() {
            if let StackKey::NoFrames(end) = key {
                names.no_frames(*end);
            }
        }
        let mut tally = Tally {
            measure: Measure::of(profile),
            whole: Weight::default(),
            self_weights: vec![Weight::default(); names.len()],
            total_weights: vec![Weight::default(); names.len()],
            self_lines: BTreeMap::new(),
            total_lines: BTreeMap::new(),
            functions_of: HashMap::with_capacity(stacks.len()),
            chains: vec![ChainNode::default()],
            names,
        };
        let mut chains = ChainBuilder::default();
        // Per function the last stack that counted it, which makes "once per stack" cheap for deep recursion.
        let mut counted = vec![usize::MAX; tally.names.len()];
        for (number, (key, weight)) in stacks.into_iter().enumerate() {
            let functions = tally.functions_in(profile, key, |name| {
                std::mem::replace(&mut counted[name.0 as usize], number) != number
            });
            tally.add(&functions, weight);
            let node = chains.node(profile, &mut tally, key);
            tally.chains[node as usize].weight += weight;
            tally.functions_of.insert(key, functions);
        }
        tally
    }

    fn functions_in(
        &mut self,
        profile: &Profile,
        key: StackKey,
        mut first: impl FnMut(NameIx) -> bool,
    ) -> StackFunctions {
        let mut all = Vec::new();
        match key {
            StackKey::NoFrames(end) => all.push((self.names.no_frames(end), 0)),
            StackKey::Frames(stack) => {
                for frame in profile.stacks.leaf_to_root(stack) {
                    let here = self.names.at(frame).iter().copied();
                    all.extend(here.filter(|(name, _)| first(*name)));
                }
            }
        }
        StackFunctions {
            leaf: all.first().map(|(name, _)| *name),
            all,
        }
    }

    fn add(&mut self, functions: &StackFunctions, weight: Weight) {
        self.whole += weight;
        let read = self.measure.read(weight);
        if let Some((leaf, line)) = functions.all.first() {
            self.self_weights[leaf.0 as usize] += weight;
            *self.self_lines.entry((*leaf, *line)).or_default() += read;
        }
        for (name, line) in &functions.all {
            self.total_weights[name.0 as usize] += weight;
            *self.total_lines.entry((*name, *line)).or_default() += read;
        }
    }

    /// Heaviest first; equal weights by name, so that the order never depends on the order of recording.
    fn heaviest(&self, weights: &[Weight], limit: usize) -> Vec<NameIx> {
        let mut order: Vec<NameIx> = (0..weights.len() as u32)
            .map(NameIx)
            .filter(|ix| weights[ix.0 as usize].ticks > 0)
            .collect();
        order.sort_by(|a, b| {
            let weight = |ix: &NameIx| self.measure.read(weights[ix.0 as usize]);
            let label = |ix: &NameIx| {
                let name = self.names.get(*ix);
                (&name.name, &name.file, name.kernel)
            };
            weight(b).cmp(&weight(a)).then(label(a).cmp(&label(b)))
        });
        order.truncate(limit);
        order
    }

    fn path(&self, ix: NameIx, share: Share, kind: Kind) -> HotPath {
        let name = self.names.get(ix);
        let (lines, chain) = match kind {
            Kind::BySelf => (&self.self_lines, self.heaviest_chain(|leaf, _| leaf == ix)),
            Kind::ByTotal => (
                &self.total_lines,
                self.heaviest_chain(|_, node| self.chain(node).any(|name| name == ix)),
            ),
        };
        HotPath {
            name: name.name.clone(),
            kernel: name.kernel,
            module: name.module.clone(),
            file: name.file.clone(),
            line: heaviest_line(lines, ix),
            self_weight: self.self_weights[ix.0 as usize],
            total_weight: self.total_weights[ix.0 as usize],
            share,
            chain,
        }
    }

    /// The heaviest chain for which `wanted(leaf, node)` holds; of equals the one first recorded.
    fn heaviest_chain(&self, wanted: impl Fn(NameIx, &ChainNode) -> bool) -> Chain {
        let mut best: Option<&ChainNode> = None;
        for node in &self.chains {
            let weight = self.measure.read(node.weight);
            let heavier = best.is_none_or(|b| weight > self.measure.read(b.weight));
            // The walk to the root is the costly part, so it comes last.
            if let Some(leaf) = node.name
                && weight > 0
                && heavier
                && wanted(leaf, node)
            {
                best = Some(node);
            }
        }
        let Some(best) = best else {
            return Chain {
                names: Vec::new(),
                share: 0.0,
            };
        };
        let mut names: Vec<String> = self.chain(best).map(|ix| self.label(ix)).collect();
        names.reverse();
        let whole = self.measure.read(self.whole);
        Chain {
            names,
            share: ratio(self.measure.read(best.weight), whole),
        }
    }

    /// Names from a chain's leaf to its root.
    fn chain<'a>(&'a self, leaf: &'a ChainNode) -> impl Iterator<Item = NameIx> + 'a {
        std::iter::successors(Some(leaf), |node| Some(&self.chains[node.parent as usize]))
            .map_while(|node| node.name)
    }

    fn label(&self, ix: NameIx) -> String {
        let name = self.names.get(ix);
        match name.kernel {
            true => format!("{}_[k]", name.name),
            false => name.name.clone(),
        }
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
    fn node(&mut self, profile: &Profile, tally: &mut Tally, key: StackKey) -> u32 {
        let stack = match key {
            StackKey::Frames(stack) => stack,
            StackKey::NoFrames(end) => {
                let name = tally.names.no_frames(end);
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

/// Weights slice by slice, for the chosen functions only.
struct Series {
    whole: Vec<f64>,
    ticks: u64,
    by_self: Vec<Vec<f64>>,
    by_total: Vec<Vec<f64>>,
}

impl Series {
    fn of(profile: &Profile, tally: &Tally, by_self: &[NameIx], by_total: &[NameIx]) -> Series {
        // A profile without slices is one slice, for which no interval can be had.
        let slices = profile.slice_count().max(1) as usize;
        let mut series = Series {
            whole: vec![0.0; slices],
            ticks: tally.whole.ticks,
            by_self: vec![vec![0.0; slices]; by_self.len()],
            by_total: vec![vec![0.0; slices]; by_total.len()],
        };
        let place = |chosen: &[NameIx]| -> HashMap<NameIx, usize> {
            chosen
                .iter()
                .enumerate()
                .map(|(i, name)| (*name, i))
                .collect()
        };
        let (self_place, total_place) = (place(by_self), place(by_total));
        for sample in &profile.samples {
            let slice = (sample.slice as usize).min(slices - 1);
            let weight = tally.measure.read(sample.into()) as f64;
            series.whole[slice] += weight;
            let functions = &tally.functions_of[&StackKey::from(sample)];
            if let Some(i) = functions.leaf.and_then(|leaf| self_place.get(&leaf)) {
                series.by_self[*i][slice] += weight;
            }
            for i in functions
                .all
                .iter()
                .filter_map(|(name, _)| total_place.get(name))
            {
                series.by_total[*i][slice] += weight;
            }
        }
        series
    }

    fn share(&self, part: &[f64]) -> Share {
        share_over_slices(part, &self.whole, self.ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned;
    use crate::profile::{Accounting, Recording};

    fn find<'a>(paths: &'a [HotPath], name: &str) -> &'a HotPath {
        paths
            .iter()
            .find(|path| path.name == name)
            .unwrap_or_else(|| panic!("`{name}` is ranked"))
    }

    #[test]
    fn self_weights_add_up_to_the_profile_and_total_is_never_less_than_self() {
        for seed in 0..20 {
            let profile = canned::random(seed);
            let hot = HotPaths::of(&profile, usize::MAX);
            let mut sum = Weight::default();
            for path in &hot.by_self {
                sum += path.self_weight;
                assert!(path.total_weight.ticks >= path.self_weight.ticks);
            }
            assert_eq!(
                (sum.ticks, sum.cpu_ns),
                (profile.total_count(), profile.total_cpu_ns())
            );
            assert_eq!(sum, hot.whole);
            for path in &hot.by_total {
                assert!(path.total_weight.ticks <= hot.whole.ticks, "{}", path.name);
            }
            let shares: f64 = hot.by_self.iter().map(|path| path.share.value).sum();
            assert!((shares - 1.0).abs() < 1e-9, "{shares}");
        }
    }

    #[test]
    fn recursion_counts_once_and_inlined_functions_count_on_their_own() {
        let profile = canned::server();
        let hot = HotPaths::of(&profile, usize::MAX);
        let recursive = find(&hot.by_total, "walk_tree");
        assert_eq!(recursive.total_weight.ticks, canned::WALK_TREE_TICKS);
        let inlined = find(&hot.by_self, "hash_step");
        assert_eq!(inlined.self_weight.ticks, canned::HASH_STEP_TICKS);
        assert_eq!((inlined.file.as_str(), inlined.line), ("src/hash.c", 42));
        let caller = find(&hot.by_total, "hash_row");
        assert_eq!(caller.total_weight.ticks, canned::HASH_STEP_TICKS);
        assert_eq!(caller.self_weight.ticks, 0);
    }

    #[test]
    fn the_heaviest_chain_joins_stacks_that_differ_only_in_addresses() {
        let profile = canned::server();
        let hot = HotPaths::of(&profile, 10);
        let leaf = find(&hot.by_self, "hash_step");
        assert_eq!(leaf.chain.names, ["main", "serve", "hash_row", "hash_step"]);
        let expected = canned::HASH_STEP_TICKS as f64 / profile.total_count() as f64;
        assert!((leaf.chain.share - expected).abs() < 1e-12);
        let kernel = find(&hot.by_self, "copy_to_user");
        assert!(kernel.kernel);
        assert_eq!(
            kernel.chain.names.last().expect("a leaf"),
            "copy_to_user_[k]"
        );
        assert_eq!(find(&hot.by_total, "main").chain.names[0], "main");
    }

    #[test]
    fn nameless_code_of_one_file_is_one_entry() {
        let hot = HotPaths::of(&canned::server(), usize::MAX);
        let nameless = find(&hot.by_self, "[libz.so.1: no-symbol]");
        assert_eq!(nameless.self_weight.ticks, canned::STRIPPED_TICKS);
        assert_eq!(nameless.module, "/usr/lib/libz.so.1");
    }

    #[test]
    fn an_empty_profile_and_one_without_slices_are_ranked_without_intervals() {
        let empty = crate::profile::ProfileBuilder::default()
            .build(Recording::default(), Accounting::default());
        assert!(HotPaths::of(&empty, 10).by_self.is_empty());
        let mut foreign = canned::server();
        foreign.recording.slice_ns = 0;
        for sample in &mut foreign.samples {
            sample.slice = 0;
        }
        let hot = HotPaths::of(&foreign, 1);
        assert_eq!(hot.by_self[0].share.interval, None);
        assert!(hot.by_self[0].share.value > 0.0);
    }
}
