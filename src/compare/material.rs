//! The runs of both sides in common terms: one numbering of functions, one tree of stacks, and what became of functions
//! that are not on both sides. The evidence for any measure is cut from it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::blocks::{Blocks, Evidence};
use super::call_tree::{CallTree, Graph, Node, Side};
use super::comparison::{Shift, Stacks, Untested};
use super::decide::Judged;
use super::identity::{FnIx, Functions, Kind, ProfileFunctions};
use super::moves::{self, Moves};
use super::renames::{self, Renames};
use super::scale::{self, Common};
use super::{Measure, Run};
use crate::analysis::Measure as Weighing;

/// A path needs this many ticks on both sides together: of fewer, how they come in bursts cannot be told.
const MIN_TICKS: f64 = 30.0;
/// More paths are not tested; the heaviest are.
const MAX_PATHS: usize = 1000;
/// A callee explains its caller's change when its own is at least this part of it.
const EXPLAINS: f64 = 0.7;

#[derive(Debug)]
pub(super) struct Material {
    pub(super) functions: Arc<Functions>,
    tree: Arc<CallTree>,
    pub(super) graph: Graph,
    renames: Renames,
    moves: Moves,
    pub(super) common: Common,
    ticks: [u64; 2],
    pub(super) weighing: Weighing,
    /// Per side and run, whatever it is measured by.
    evidence: [Vec<Evidence>; 2],
    /// The paths, heaviest first.
    pub(super) tested: Vec<FnIx>,
}

impl Material {
    /// Functions with at least `min_share` on a side are tested.
    pub(super) fn of(runs: [&[Run]; 2], min_share: f64) -> Material {
        let all_know_time = runs
            .iter()
            .all(|side| side.iter().all(|run| run.cpu_seconds().is_some()));
        let weighing = if all_know_time {
            Weighing::CpuTime
        } else {
            Weighing::Ticks
        };
        let (mut functions, mut tree) = (Functions::default(), CallTree::default());
        let nodes = [Side::Before, Side::After].map(|side| {
            enter(
                runs[side as usize],
                side,
                weighing,
                &mut functions,
                &mut tree,
            )
        });
        let ticks = runs.map(|side| side.iter().map(|run| run.profile.total_count()).sum());
        let (renames, graph) = renames::find(&tree, &functions);
        let common = scale::common_growth(&graph, ticks);
        let tested = heaviest(&graph, &functions, ticks, min_share);
        let members = members(&tree, &renames.alias, &tested);
        let evidence = [0, 1].map(|side| {
            let of_run = |(run, nodes): (&Run, &Vec<Node>)| {
                evidence_of(run, nodes, weighing, &members, tested.len())
            };
            runs[side].iter().zip(&nodes[side]).map(of_run).collect()
        });
        Material {
            moves: moves::find(&graph, common.growth, ticks),
            functions: Arc::new(functions),
            tree: Arc::new(tree),
            graph,
            renames,
            common,
            ticks,
            weighing,
            evidence,
            tested,
        }
    }

    /// What a measure is computed from, per side and run.
    pub(super) fn evidence(&self, runs: [&[Run]; 2], measure: Measure) -> [Vec<Evidence>; 2] {
        [0, 1].map(|side| {
            let of_run = |(run, evidence): (&Run, &Evidence)| {
                let cpu = run
                    .cpu_seconds()
                    .filter(|_| self.weighing == Weighing::CpuTime);
                let amount = cpu.unwrap_or(evidence.amount);
                let per = match measure {
                    Measure::Cost => run.work,
                    Measure::Cores => run.seconds(),
                    Measure::Share => None,
                };
                Evidence {
                    amount,
                    per: per.unwrap_or(amount),
                    ..evidence.clone()
                }
            };
            runs[side]
                .iter()
                .zip(&self.evidence[side])
                .map(of_run)
                .collect()
        })
    }

    /// For each path, a callee whose change is most of the path's. `amounts` are the wholes of both sides.
    pub(super) fn explained(&self, judged: &[Judged], amounts: [f64; 2]) -> Vec<Option<FnIx>> {
        let place: HashMap<FnIx, usize> = self
            .tested
            .iter()
            .enumerate()
            .map(|(i, f)| (*f, i))
            .collect();
        let mut best: Vec<Option<(f64, FnIx)>> = vec![None; self.tested.len()];
        let changed = |shares: [f64; 2]| shares[1] * amounts[1] - shares[0] * amounts[0];
        let calls: BTreeMap<_, _> = self.graph.calls.iter().collect();
        for ((caller, callee), weights) in calls {
            let Some((caller, callee_ix)) =
                caller.and_then(|c| place.get(&c)).zip(place.get(callee))
            else {
                continue;
            };
            let same = judged[*caller].verdict.is_change()
                && judged[*caller].verdict == judged[*callee_ix].verdict;
            let whole = changed(self.graph.total_weight[self.tested[*caller].0 as usize]);
            let part = changed(*weights) / whole;
            if caller != callee_ix
                && same
                && part >= EXPLAINS
                && best[*caller].is_none_or(|(most, _)| part > most)
            {
                best[*caller] = Some((part, *callee));
            }
        }
        without_circles(
            best.into_iter()
                .map(|best| best.map(|(_, callee)| callee))
                .collect(),
            &place,
        )
    }

    /// Whether a function of that name was tested.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tested
            .iter()
            .any(|function| self.functions.get(*function).name == name)
    }

    pub(super) fn renamed_from(&self, function: FnIx) -> Option<String> {
        let pair = self
            .renames
            .pairs
            .iter()
            .find(|(_, after)| *after == function);
        pair.map(|(before, _)| self.functions.get(*before).name.clone())
    }

    pub(super) fn shift(&self, function: FnIx) -> Option<Shift> {
        let of = self.moves.get(&function)?;
        let caller = self.functions.get(of.caller).name.clone();
        Some(match of.inlined {
            true => Shift::InlinedInto(caller),
            false => Shift::OutlinedFrom(caller),
        })
    }

    pub(super) fn untested(&self) -> Untested {
        let tested: std::collections::HashSet<FnIx> = self.tested.iter().copied().collect();
        let mut untested = Untested::default();
        for (ix, weights) in self.graph.total_weight.iter().enumerate() {
            if tested.contains(&FnIx(ix as u32)) || (weights[0] <= 0.0 && weights[1] <= 0.0) {
                continue;
            }
            untested.functions += 1;
            let own = self.graph.self_weight[ix];
            untested.self_share[0] += own[0];
            untested.self_share[1] += own[1];
        }
        untested
    }

    pub(super) fn stacks(&self, amounts: [f64; 2]) -> Stacks {
        Stacks {
            tree: Arc::clone(&self.tree),
            functions: Arc::clone(&self.functions),
            alias: self.renames.alias.clone(),
            amounts,
            ticks: self.ticks,
        }
    }
}

/// Numbers the functions and stacks of one side's runs.
fn enter(
    runs: &[Run],
    side: Side,
    weighing: Weighing,
    functions: &mut Functions,
    tree: &mut CallTree,
) -> Vec<Vec<Node>> {
    let weight = |run: &Run| -> f64 {
        let samples = run.profile.samples.iter();
        samples
            .map(|sample| weighing.read(sample.into()) as f64)
            .sum()
    };
    let whole: f64 = runs.iter().map(weight).sum();
    let of_run = |run: &Run| {
        let names = ProfileFunctions::of(&run.profile, functions);
        let nodes = tree.add(&run.profile, &names);
        for (sample, node) in run.profile.samples.iter().zip(&nodes) {
            tree.weigh(side, *node, weighing.read(sample.into()) as f64 / whole);
        }
        nodes
    };
    runs.iter().map(of_run).collect()
}

fn heaviest(graph: &Graph, functions: &Functions, ticks: [u64; 2], min_share: f64) -> Vec<FnIx> {
    let enough = |ix: &FnIx| {
        let [before, after] = graph.total_weight[ix.0 as usize];
        before * ticks[0] as f64 + after * ticks[1] as f64 >= MIN_TICKS
    };
    let weight = |ix: &FnIx| {
        let [before, after] = graph.total_weight[ix.0 as usize];
        before.max(after)
    };
    let mut tested: Vec<FnIx> = (0..functions.len() as u32)
        .map(FnIx)
        .filter(|ix| {
            functions.get(*ix).kind != Kind::Reason && weight(ix) >= min_share && enough(ix)
        })
        .collect();
    tested.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then_with(|| a.cmp(b)));
    tested.truncate(MAX_PATHS);
    tested
}

/// For each node that samples stand at, which paths it counts for; others are empty.
fn members(tree: &CallTree, alias: &[FnIx], tested: &[FnIx]) -> Vec<Box<[u32]>> {
    let mut place: Vec<Option<u32>> = vec![None; alias.len()];
    for (ix, function) in tested.iter().enumerate() {
        place[function.0 as usize] = Some(ix as u32);
    }
    let mut members = vec![Box::default(); tree.len() + 1];
    for (node, _) in tree.stacks() {
        let functions = tree.leaf_to_root(node);
        let mut paths: Vec<u32> = functions
            .filter_map(|function| place[alias[function.0 as usize].0 as usize])
            .collect();
        paths.sort_unstable();
        paths.dedup();
        members[node as usize] = paths.into_boxed_slice();
    }
    members
}

/// The weights of one run, block by block.
fn evidence_of(
    run: &Run,
    nodes: &[Node],
    weighing: Weighing,
    members: &[Box<[u32]>],
    paths: usize,
) -> Evidence {
    let mut blocks = Blocks::new(run.profile.slice_count(), paths);
    for (sample, node) in run.profile.samples.iter().zip(nodes) {
        let weight = weighing.read(sample.into()) as f64;
        blocks.add(sample.slice, weight, sample.count, &members[*node as usize]);
    }
    blocks.finish()
}

/// Functions that explain each other (recursion) explain nothing.
fn without_circles(
    explained: Vec<Option<FnIx>>,
    place: &HashMap<FnIx, usize>,
) -> Vec<Option<FnIx>> {
    let ends = |from: usize| {
        let mut at = from;
        for _ in 0..=explained.len() {
            match explained[at] {
                None => return true,
                Some(callee) => at = place[&callee],
            }
        }
        false
    };
    let kept = (0..explained.len()).map(|ix| explained[ix].filter(|_| ends(ix)));
    kept.collect()
}
