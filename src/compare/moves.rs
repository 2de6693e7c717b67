//! Code that only moved: into its caller (inlined), out of it (outlined), or to another function of the same caller.
//!
//! When a function is inlined, its callers' own time grows by what it used to take, and its callees appear directly below
//! its callers. When an algorithm is replaced, some callees vanish and others appear. So of each call that vanished or
//! appeared, a sum is looked at that such changes leave alone: the caller's own time, all its calls that vanished or appeared,
//! and its calls of what the function calls. A call that appeared while that sum did not grow added nothing, and one that
//! vanished while it did not fall saved nothing; the caller's total decides (*parent sums decide*).
//!
//! Only calls that vanish or appear (nearly) wholly are looked at: two functions of one caller whose weights change against each
//! other are two changes.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use super::call_tree::Graph;
use super::identity::FnIx;

/// What is left of a call that vanished, at most, as a share of what it was.
const VANISHED: f64 = 0.1;
/// Calls below this share of everything are noise.
const MIN_CALL: f64 = 0.002;
/// The sum may change by this share of what moved, and by `NOISE` standard errors.
const SUM_MAY_CHANGE: f64 = 0.25;
const NOISE: f64 = 2.0;
/// A function of which at least this much moved is decided by its caller.
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
    let callees = callees(graph);
    let mut calls: Vec<(FnIx, FnIx, f64)> = graph
        .calls
        .iter()
        .filter_map(|((caller, callee), weights)| {
            let caller = (*caller)?;
            let told = caller != *callee && came_or_went(*weights, scale);
            told.then_some((caller, *callee, weights[1] - weights[0] * scale))
        })
        .collect();
    calls.sort_unstable_by_key(|(caller, callee, _)| (*caller, *callee));
    let stays = |(caller, callee, change): &(FnIx, FnIx, f64)| {
        let sum = sum_around(graph, &callees, (*caller, *callee), scale);
        // Towards the call's own change: an appearance that made the sum grow, a vanishing that made it fall.
        let along = (sum[1] - sum[0] * scale) * change.signum();
        along <= SUM_MAY_CHANGE * change.abs() + NOISE * error(sum, ticks)
    };
    let local: Vec<bool> = calls.iter().map(stays).collect();
    let mut moved = Moves::default();
    for _ in 0..MAX_ROUNDS {
        // Below code that moved, all that came or went, came or went with it.
        let counted = calls.iter().zip(&local).filter_map(|(call, local)| {
            let with = moved.get(&call.0).map(|of| of.caller);
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
        let larger = (weights[0] * scale).max(weights[1]);
        (sum >= MOSTLY * larger && of.caller != function).then_some((function, of))
    };
    sums.into_iter().filter_map(mostly).collect()
}

fn callees(graph: &Graph) -> HashMap<FnIx, Vec<FnIx>, RandomState> {
    let mut callees: HashMap<FnIx, Vec<FnIx>, RandomState> = HashMap::default();
    for (caller, callee) in graph.calls.keys() {
        if let Some(caller) = caller {
            callees.entry(*caller).or_default().push(*callee);
        }
    }
    callees
}

/// Whether a call is (nearly) on one side only, and large enough to be told so.
fn came_or_went(weights: [f64; 2], scale: f64) -> bool {
    let (before, after) = (weights[0] * scale, weights[1]);
    let (less, more) = (before.min(after), before.max(after));
    more >= MIN_CALL && less <= VANISHED * more
}

/// What moving `callee` into or out of `caller` leaves as it is.
fn sum_around(
    graph: &Graph,
    callees: &HashMap<FnIx, Vec<FnIx>, RandomState>,
    (caller, callee): (FnIx, FnIx),
    scale: f64,
) -> [f64; 2] {
    let mut sum = graph.self_weight[caller.0 as usize];
    let below: &[FnIx] = callees.get(&callee).map_or(&[], Vec::as_slice);
    for called in callees.get(&caller).into_iter().flatten() {
        let weights = graph.calls[&(Some(caller), *called)];
        let counts = *called == callee || below.contains(called) || came_or_went(weights, scale);
        if counts && *called != caller {
            sum[0] += weights[0];
            sum[1] += weights[1];
        }
    }
    sum
}

/// Standard error of the difference of two shares, ticks taken as independent.
fn error(shares: [f64; 2], ticks: [u64; 2]) -> f64 {
    let variance = |share: f64, n: u64| {
        share.clamp(0.0, 1.0) * (1.0 - share.clamp(0.0, 1.0)) / n.max(1) as f64
    };
    (variance(shares[0], ticks[0]) + variance(shares[1], ticks[1])).sqrt()
}
