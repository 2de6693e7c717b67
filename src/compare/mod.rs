//! Did the hot paths get better or worse? A verdict with error bars for every path, and one for the whole.
//!
//! In: the runs of two sides ([`Run`]: a profile, and how much work was done), and what counts as a change
//! ([`Options`]). Out: a [`Comparison`], computed once, and its JSON, Markdown and differential stacks. It reads no file.
//!
//! A *path* is a function with everything below it (its total weight): what a call of it costs. What a path costs is
//! measured three ways: CPU time per unit of work, CPU time per second (cores), and share of the profile. Verdicts come
//! from the first that is known on both sides.
//!
//! | step | file |
//! |---|---|
//! | may these be compared at all? | `comparable.rs` |
//! | which function is which in another build: canonical names, then renames, then code that only moved | `identity.rs`, `renames.rs`, `moves.rs` |
//! | weights by time block of each run | `blocks.rs` |
//! | how sure: blocks, then whole runs | `within.rs`, `between.rs`, `evaluate.rs` |
//! | what is a verdict: false discovery rate, smallest effect, equivalence | `decide.rs` |
//! | would the before side be told from itself? | `self_check.rs` |
//! | what would settle it | `settle.rs`, `plan.rs` |
#![forbid(unsafe_code)]

mod between;
mod blocks;
mod call_tree;
mod comparable;
mod comparison;
mod conclusion;
mod decide;
mod evaluate;
mod identity;
mod json;
mod kpi;
mod markdown;
mod material;
mod measure;
mod moves;
mod picture;
mod plan;
mod renames;
mod run;
mod scale;
mod self_check;
mod settle;
#[cfg(test)]
mod tests;
mod within;

pub use comparable::{Incomparable, check};
pub use comparison::{Change, Comparison, Figure, Figures, Path, Shift, Untested};
pub use decide::{Basis, Verdict};
pub use evaluate::{RelativeInterval, t_quantile};
pub use json::{SCHEMA, SCHEMA_VERSION, VALIDATION_SCHEMA, VALIDATION_SCHEMA_VERSION};
pub use json::{document, validation};
pub use kpi::{Kpi, LoadSide};
pub use markdown::{Pictures, comment, summary};
pub use measure::Measure;
pub use picture::{Picture, picture};
pub use plan::{Plan, PlanQuestion, plan};
pub use run::Run;
pub use self_check::SelfCheck;

/// What counts as a change, and how sure it has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Relative change of a path that matters. Less is no verdict, and an interval within it is *unchanged*.
    pub tolerance: f64,
    /// Paths below this share on both sides are not tested.
    pub min_share: f64,
    /// From this share on, a path must be shown unchanged for the whole to be unchanged.
    pub hot_share: f64,
    /// Share of false ones among all improvements and regressions that are told.
    pub false_discovery_rate: f64,
    /// How much the targeted figures must improve.
    pub improvement_threshold: f64,
    /// Functions that were to be improved; empty: the whole.
    pub targets: Vec<String>,
}

/// No change below this share of the whole is told, however large it is for a small path.
pub const MIN_EFFECT: f64 = 0.001;

impl Default for Options {
    fn default() -> Options {
        Options {
            tolerance: 0.05,
            min_share: 0.005,
            hot_share: 0.05,
            false_discovery_rate: 0.05,
            improvement_threshold: 0.15,
            targets: Vec::new(),
        }
    }
}
