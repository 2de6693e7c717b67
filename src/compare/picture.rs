//! The differential flame graphs' input: stacks of both sides, in the unit that verdicts are in.

use std::collections::HashSet;

use super::identity::{FnIx, Kind};
use super::{Comparison, Measure};
use crate::profile::Role;
use crate::render::diff_flamegraph::{DiffName, DiffStack, Tick};

/// Everything `render::diff_flamegraph` draws from.
#[derive(Clone, Debug)]
pub struct Picture {
    pub title: String,
    pub subtitle: String,
    pub unit: &'static str,
    names: Vec<(String, Role)>,
    pub stacks: Vec<DiffStack>,
    /// For each name whether its change was told.
    pub significant: Vec<bool>,
    pub tick: Tick,
}

impl Picture {
    pub fn names(&self) -> Vec<DiffName<'_>> {
        let names = self.names.iter();
        names
            .map(|(text, role)| DiffName { text, role: *role })
            .collect()
    }
}

pub fn picture(comparison: &Comparison) -> Picture {
    let stacks = &comparison.stacks;
    let (unit, factor) = unit(comparison);
    let amounts = stacks.amounts.map(|amount| amount * factor);
    let alias = |function: FnIx| stacks.alias[function.0 as usize];
    let drawn = stacks.tree.stacks().map(|(node, [before, after])| {
        let mut frames: Vec<u32> = stacks.tree.leaf_to_root(node).map(|f| alias(f).0).collect();
        frames.reverse();
        DiffStack {
            frames,
            before: before * amounts[0],
            after: after * amounts[1],
        }
    });
    let told: HashSet<(&str, bool)> = comparison
        .paths
        .iter()
        .filter(|path| path.verdict.is_change())
        .map(|path| (path.name.as_str(), path.kernel))
        .collect();
    let functions = (0..stacks.functions.len() as u32).map(|ix| stacks.functions.get(FnIx(ix)));
    let (names, significant) = functions
        .map(|function| {
            let role = match (function.kind, function.kernel) {
                (Kind::Reason, _) => Role::Truncated,
                (Kind::Nameless, _) => Role::Unresolved,
                (Kind::Function, true) => Role::Kernel,
                (Kind::Function, false) => Role::User,
            };
            (
                (function.name.clone(), role),
                told.contains(&(function.name.as_str(), function.kernel)),
            )
        })
        .unzip();
    let sides = [0, 1].map(|side| comparison.runs[side].len());
    Picture {
        title: format!("{}: before and after", comparison.service),
        subtitle: format!(
            "{} run{} before, {} after",
            sides[0],
            if sides[0] == 1 { "" } else { "s" },
            sides[1]
        ),
        unit,
        names,
        stacks: drawn.collect(),
        significant,
        tick: Tick {
            before: amounts[0] / stacks.ticks[0].max(1) as f64,
            after: amounts[1] / stacks.ticks[1].max(1) as f64,
        },
    }
}

/// The unit of costs in pictures and tables, and what a cost is multiplied by for it.
pub(super) fn unit(comparison: &Comparison) -> (&'static str, f64) {
    match (comparison.measure, comparison.by_cpu_time) {
        (Measure::Share, _) => ("% of the samples", 100.0),
        (Measure::Cores, _) => ("ms of CPU per second", 1e3),
        (Measure::Cost, false) => ("samples per unit of work", 1.0),
        (Measure::Cost, true) => {
            let largest = comparison.stacks.amounts[0].max(comparison.stacks.amounts[1]);
            match largest {
                cost if cost >= 1.0 => ("s of CPU per unit of work", 1.0),
                cost if cost >= 1e-3 => ("ms of CPU per unit of work", 1e3),
                cost if cost >= 1e-6 => ("µs of CPU per unit of work", 1e6),
                _ => ("ns of CPU per unit of work", 1e9),
            }
        }
    }
}
