//! Functions that have another name in the other build: same callers, same callees.
//!
//! In: the call graph of both sides. Out: for each function the one it is counted as. A function that is on one side only
//! is paired with one that is on the other side only when they are called by the same functions and call the same ones
//! (by weight), and no other candidate fits about as well. Renaming a whole module renames callers and callees too, so
//! pairs that are found serve to find more.
//!
//! What is not paired stays as it is; where its cost went is `moves.rs`'s question.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use super::call_tree::{CallTree, Graph};
use super::identity::{FnIx, Functions, Kind};

/// Below this share of the other side's weight a function counts as gone; a stray tick may remain.
const GONE: f64 = 0.01;
/// Smaller functions have too few ticks for a likeness.
const MIN_SHARE: f64 = 0.002;
/// Likeness (0 to 1) that suffices for any names, and for names that share their last part.
const ALIKE: f64 = 0.8;
const ALIKE_WITH_NAME: f64 = 0.4;
/// The second best must be worse by this much.
const CLEARLY: f64 = 0.1;
/// How many functions of a side are looked at, the heaviest first; pairs are their square.
const MAX_CANDIDATES: usize = 200;
const MAX_ROUNDS: usize = 8;

/// Stands for every function that is on one side only and not paired yet.
const UNPAIRED: FnIx = FnIx(u32::MAX);

/// What is one function under two names.
#[derive(Debug)]
pub(super) struct Renames {
    /// Each function's representative; that of a pair is the name of the after side.
    pub(super) alias: Vec<FnIx>,
    /// (before, after), in the order found.
    pub(super) pairs: Vec<(FnIx, FnIx)>,
}

pub(super) fn find(tree: &CallTree, functions: &Functions) -> (Renames, Graph) {
    let mut renames = Renames {
        alias: (0..functions.len() as u32).map(FnIx).collect(),
        pairs: Vec::new(),
    };
    for _ in 0..MAX_ROUNDS {
        let graph = Graph::of(tree, functions, &renames.alias);
        let found = pairs(&graph, functions);
        if found.is_empty() {
            return (renames, graph);
        }
        for (before, after) in &found {
            renames.alias[before.0 as usize] = *after;
        }
        renames.pairs.extend(found);
    }
    let graph = Graph::of(tree, functions, &renames.alias);
    (renames, graph)
}

/// Functions on side `side` only, the heaviest first.
fn only_on(side: usize, graph: &Graph, functions: &Functions) -> Vec<FnIx> {
    let mut found: Vec<FnIx> = (0..functions.len() as u32)
        .map(FnIx)
        .filter(|ix| {
            let weight = graph.total_weight[ix.0 as usize];
            functions.get(*ix).kind == Kind::Function
                && weight[side] >= MIN_SHARE
                && weight[1 - side] <= GONE * weight[side]
        })
        .collect();
    let weight = |ix: &FnIx| graph.total_weight[ix.0 as usize][side];
    found.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then_with(|| a.cmp(b)));
    found.truncate(MAX_CANDIDATES);
    found
}

fn pairs(graph: &Graph, functions: &Functions) -> Vec<(FnIx, FnIx)> {
    let (gone, new) = (only_on(0, graph, functions), only_on(1, graph, functions));
    if gone.is_empty() || new.is_empty() {
        return Vec::new();
    }
    let neighbours = Neighbours::of(graph, &gone, &new);
    let likeness = |before: FnIx, after: FnIx| {
        let (a, b) = (functions.get(before), functions.get(after));
        match a.kernel == b.kernel {
            true => neighbours.likeness(before, after),
            false => 0.0,
        }
    };
    let mut found = Vec::new();
    for before in &gone {
        let scored = new.iter().map(|after| (*after, likeness(*before, *after)));
        let Some((after, score)) = clear_best(scored, *before, functions) else {
            continue;
        };
        let scored = gone.iter().map(|other| (*other, likeness(*other, after)));
        let mutual = clear_best(scored, after, functions);
        if mutual == Some((*before, score)) {
            found.push((*before, after));
        }
    }
    found
}

/// The best candidate for `of`, if it is like enough and clearly ahead; a name that shares the last part is ahead of others.
fn clear_best(
    scored: impl Iterator<Item = (FnIx, f64)>,
    of: FnIx,
    functions: &Functions,
) -> Option<(FnIx, f64)> {
    let name = last_part(&functions.get(of).name);
    let mut scored: Vec<(FnIx, f64, bool)> = scored
        .map(|(ix, score)| (ix, score, last_part(&functions.get(ix).name) == name))
        .filter(|(_, score, named)| *score >= if *named { ALIKE_WITH_NAME } else { ALIKE })
        .collect();
    scored.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| b.1.total_cmp(&a.1)));
    let best = *scored.first()?;
    let rival = scored.get(1).filter(|second| second.2 == best.2);
    let clear = rival.is_none_or(|second| best.1 - second.1 > CLEARLY);
    clear.then_some((best.0, best.1))
}

/// `parse` of `json::de::parse`, `Serve` of `main.(*T).Serve`; arguments of types and of calls are no part of it.
fn last_part(name: &str) -> &str {
    let (mut depth, mut end) = (0i32, None);
    for (at, c) in name.char_indices().rev() {
        match c {
            ')' | '>' | ']' | '}' => {
                depth += 1;
                end = None;
            }
            '(' | '<' | '[' | '{' => depth -= 1,
            ':' | '.' | '/' if depth == 0 && end.is_some() => {
                return &name[at + 1..end.unwrap_or(at)];
            }
            _ if depth == 0 && end.is_none() => end = Some(at + c.len_utf8()),
            _ => {}
        }
    }
    &name[..end.unwrap_or(name.len())]
}

/// Who calls a function and whom it calls, each as shares of the function's own weight.
struct Neighbours {
    callers: HashMap<FnIx, HashMap<Option<FnIx>, f64, RandomState>, RandomState>,
    callees: HashMap<FnIx, HashMap<Option<FnIx>, f64, RandomState>, RandomState>,
}

impl Neighbours {
    fn of(graph: &Graph, gone: &[FnIx], new: &[FnIx]) -> Neighbours {
        let mut wanted: HashMap<FnIx, usize, RandomState> = HashMap::default();
        wanted.extend(gone.iter().map(|ix| (*ix, 0)));
        wanted.extend(new.iter().map(|ix| (*ix, 1)));
        let mut neighbours = Neighbours {
            callers: HashMap::default(),
            callees: HashMap::default(),
        };
        // What is itself without a partner yet may be the same function as any other such.
        let known = |ix: FnIx| {
            if wanted.contains_key(&ix) {
                UNPAIRED
            } else {
                ix
            }
        };
        for ((caller, callee), weights) in &graph.calls {
            if *caller == Some(*callee) {
                continue;
            }
            if let Some(side) = wanted.get(callee) {
                let callers = neighbours.callers.entry(*callee).or_default();
                *callers.entry(caller.map(known)).or_default() += weights[*side];
            }
            if let Some((caller, side)) = caller.and_then(|c| Some((c, wanted.get(&c)?))) {
                let callees = neighbours.callees.entry(caller).or_default();
                *callees.entry(Some(known(*callee))).or_default() += weights[*side];
            }
        }
        for (ix, side) in &wanted {
            // What it does itself is one of the things it does.
            let itself = graph.self_weight[ix.0 as usize][*side];
            let callees = neighbours.callees.entry(*ix).or_default();
            *callees.entry(None).or_default() += itself;
        }
        neighbours
    }

    /// 1: the same callers and callees in the same proportions.
    fn likeness(&self, before: FnIx, after: FnIx) -> f64 {
        let callers = overlap(self.callers.get(&before), self.callers.get(&after));
        let callees = overlap(self.callees.get(&before), self.callees.get(&after));
        (callers + callees) / 2.0 * f64::from(callers > 0.0)
    }
}

type Shares = HashMap<Option<FnIx>, f64, RandomState>;

/// Weight that two distributions have in common.
fn overlap(a: Option<&Shares>, b: Option<&Shares>) -> f64 {
    let (Some(a), Some(b)) = (a, b) else {
        return 0.0;
    };
    let (sum_a, sum_b): (f64, f64) = (a.values().sum(), b.values().sum());
    if sum_a <= 0.0 || sum_b <= 0.0 {
        return 0.0;
    }
    let shared = |(key, weight): (&Option<FnIx>, &f64)| {
        let other = b.get(key).copied().unwrap_or(0.0);
        (weight / sum_a).min(other / sum_b)
    };
    a.iter().map(shared).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_a_name_is_found_in_all_spellings() {
        for (name, part) in [
            ("json::de::parse", "parse"),
            ("ns::f(int, std::vector<int>)", "f"),
            ("main.(*T).Serve", "Serve"),
            ("std::vector<int>::push_back", "push_back"),
            ("std::vector<a::b>", "vector"),
            ("f", "f"),
            ("", ""),
            ("(((", "((("),
            ("<a>", "<a>"),
        ] {
            assert_eq!(last_part(name), part, "{name}");
        }
    }
}
