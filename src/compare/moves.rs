//! Code that only moved: into its caller (inlined), out of it (outlined), or to another function of the same caller.
//!
//! When a function is inlined, its caller's own time grows by what it used to take; when an algorithm is replaced, some calls
//! vanish and others appear; without a tail call, a function has callees that its caller seemed to have. In all of these the
//! caller's sum stays and parts of it change against each other. So a change of a call is held against the changes of the
//! caller's other parts (its own time, its other calls) that go the other way. Where these make up for it, cost was moved and
//! neither saved nor added; the caller's total decides (*parent sums decide*).
//!
//! One of both must be a call that vanished or appeared (nearly) wholly: two functions that are called as before and change
//! against each other are two changes.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use super::call_tree::Graph;
use super::identity::FnIx;

/// What is left of a call that vanished, at most, as a share of what it was.
const VANISHED: f64 = 0.1;
/// Calls below this share of everything are noise.
const MIN_CALL: f64 = 0.002;
/// So much of a change must be made up for, but for `NOISE` standard errors.
const MADE_UP: f64 = 0.75;
/// A call that stays must change by this much to be looked at.
const MIN_CHANGE: f64 = 0.05;
const NOISE: f64 = 2.0;
/// A function of whose change at least this much is moved cost is decided by its caller.
const MOSTLY: f64 = 0.5;

/// By function.
pub(super) type Moves = HashMap<FnIx, Move, RandomState>;

/// Where a function's cost went, or came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Move {
    /// The caller whose sum decides; of code below moved code, that of the moved code.
    pub(super) caller: FnIx,
    /// Into the caller, or out of it.
    pub(super) inlined: bool,
}

/// Rounds in which what is called by moved code is found to be moved with it; deeper calls stay as they are.
const MAX_ROUNDS: usize = 32;

/// What moved, by function. `scale` is what an unchanged function's share is multiplied by from before to after; `ticks`
/// are those of each side.
pub(super) fn find(graph: &Graph, scale: f64, ticks: [u64; 2]) -> Moves {
    let parts = parts(graph, scale);
    let mut calls: Vec<(FnIx, FnIx, f64)> = Vec::new();
    let mut local: Vec<bool> = Vec::new();
    let mut sorted: Vec<_> = graph.calls.iter().collect();
    sorted.sort_unstable_by_key(|(call, _)| **call);
    for ((caller, callee), weights) in sorted {
        let Some(caller) = caller.filter(|caller| caller != callee) else {
            continue;
        };
        let change = weights[1] - weights[0] * scale;
        let whole = came_or_went(*weights, scale);
        if !whole && change.abs() < MIN_CALL.max(MIN_CHANGE * weights[0].max(weights[1])) {
            continue;
        }
        let others = parts[&caller]
            .iter()
            .filter(|part| part.callee != Some(*callee));
        // Of a call that stays, only what vanished or appeared can be the other half.
        let against = others.filter(|part| part.change * change < 0.0 && (whole || part.whole));
        let (made_up, weight) = against.fold((0.0, [0.0; 2]), |(sum, weight), part| {
            let weight = [weight[0] + part.weights[0], weight[1] + part.weights[1]];
            (sum + part.change.abs(), weight)
        });
        calls.push((caller, *callee, change));
        local.push(
            made_up > 0.0 && made_up >= MADE_UP * change.abs() - NOISE * error(weight, ticks),
        );
    }
    let mut moved = Moves::default();
    for _ in 0..MAX_ROUNDS {
        // Below code that moved, all that came or went, came or went with it.
        let counted = calls.iter().zip(&local).filter_map(|(call, local)| {
            let weights = graph.calls[&(Some(call.0), call.1)];
            let below = moved.get(&call.0).filter(|_| came_or_went(weights, scale));
            let with = below.map(|of| of.caller);
            (*local || with.is_some()).then_some((call, with.unwrap_or(call.0)))
        });
        let found = mostly_moved(graph, scale, counted);
        if found.len() == moved.len() {
            break;
        }
        moved = found;
    }
    moved
}

/// Functions of which most came or went by these calls, each with the caller that decides.
fn mostly_moved<'a>(
    graph: &Graph,
    scale: f64,
    calls: impl Iterator<Item = (&'a (FnIx, FnIx, f64), FnIx)>,
) -> Moves {
    let mut sums: HashMap<FnIx, (f64, f64, Move), RandomState> = HashMap::default();
    for ((_, callee, change), decides) in calls {
        let of = Move {
            caller: decides,
            inlined: *change < 0.0,
        };
        let (sum, largest, decided) = sums.entry(*callee).or_insert((0.0, 0.0, of));
        *sum += change.abs();
        if change.abs() > *largest && decides != *callee {
            *largest = change.abs();
            *decided = of;
        }
    }
    let mostly = |(function, (sum, _, of)): (FnIx, (f64, f64, Move))| {
        let weights = graph.total_weight[function.0 as usize];
        let change = (weights[1] - weights[0] * scale).abs();
        (sum >= MOSTLY * change && of.caller != function).then_some((function, of))
    };
    sums.into_iter().filter_map(mostly).collect()
}

/// A part of what a caller costs: a call, or its own code.
struct Part {
    callee: Option<FnIx>,
    weights: [f64; 2],
    change: f64,
    /// It vanished or appeared.
    whole: bool,
}

/// The parts of each function that calls others.
fn parts(graph: &Graph, scale: f64) -> HashMap<FnIx, Vec<Part>, RandomState> {
    let mut parts: HashMap<FnIx, Vec<Part>, RandomState> = HashMap::default();
    let part = |callee: Option<FnIx>, weights: [f64; 2]| Part {
        callee,
        weights,
        change: weights[1] - weights[0] * scale,
        whole: callee.is_some() && came_or_went(weights, scale),
    };
    for ((caller, callee), weights) in &graph.calls {
        let Some(caller) = caller.filter(|caller| caller != callee) else {
            continue;
        };
        let own = || vec![part(None, graph.self_weight[caller.0 as usize])];
        let of_caller = parts.entry(caller).or_insert_with(own);
        of_caller.push(part(Some(*callee), *weights));
    }
    parts
}

/// Whether a call is (nearly) on one side only, and large enough to be told so.
fn came_or_went(weights: [f64; 2], scale: f64) -> bool {
    let (before, after) = (weights[0] * scale, weights[1]);
    let (less, more) = (before.min(after), before.max(after));
    more >= MIN_CALL && less <= VANISHED * more
}

/// Standard error of the difference of two shares, ticks taken as independent.
fn error(shares: [f64; 2], ticks: [u64; 2]) -> f64 {
    let variance = |share: f64, n: u64| {
        share.clamp(0.0, 1.0) * (1.0 - share.clamp(0.0, 1.0)) / n.max(1) as f64
    };
    (variance(shares[0], ticks[0]) + variance(shares[1], ticks[1])).sqrt()
}
