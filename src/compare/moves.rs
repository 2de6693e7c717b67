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

/// Where a function's cost went, or came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Move {
    /// The caller that has most of it.
    pub(super) caller: FnIx,
    /// Into the caller, or out of it.
    pub(super) inlined: bool,
}

/// What moved, by function. `scale` is what an unchanged function's share is multiplied by from before to after; `ticks`
/// are those of each side.
pub(super) fn find(graph: &Graph, scale: f64, ticks: [u64; 2]) -> HashMap<FnIx, Move, RandomState> {
    let callees = callees(graph);
    let mut moved: HashMap<FnIx, (f64, f64, Option<Move>), RandomState> = HashMap::default();
    let mut calls: Vec<_> = graph.calls.iter().collect();
    calls.sort_unstable_by_key(|(call, _)| **call);
    for (call, weights) in calls {
        let (Some(caller), callee) = *call else {
            continue;
        };
        if caller == callee || !came_or_went(*weights, scale) {
            continue;
        }
        let change = weights[1] - weights[0] * scale;
        let sum = sum_around(graph, &callees, (caller, callee), scale);
        // Towards the call's own change: an appearance that made the sum grow, a vanishing that made it fall.
        let along = (sum[1] - sum[0] * scale) * change.signum();
        if along > SUM_MAY_CHANGE * change.abs() + NOISE * error(sum, ticks) {
            continue;
        }
        let entry = moved.entry(callee).or_default();
        entry.0 += change.abs();
        if change.abs() > entry.1 {
            entry.1 = change.abs();
            entry.2 = Some(Move {
                caller,
                inlined: change < 0.0,
            });
        }
    }
    let mostly = |(function, (sum, _, of)): (FnIx, (f64, f64, Option<Move>))| {
        let weights = graph.total_weight[function.0 as usize];
        let larger = (weights[0] * scale).max(weights[1]);
        (sum >= MOSTLY * larger).then_some((function, of?))
    };
    moved.into_iter().filter_map(mostly).collect()
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
