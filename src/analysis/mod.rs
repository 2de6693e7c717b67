//! What a profile says, and how far it can be believed.
//!
//! In: a `&Profile` and the thresholds it is judged by. Out: values (rankings, splits, coverage metrics, a verdict), no
//! text formats. Everything here is a pure function of the profile: the same profile gives the same values.
#![forbid(unsafe_code)]

pub mod books;
pub mod bottlenecks;
#[cfg(test)]
pub(crate) mod canned;
pub mod debug_packages;
mod idle;
pub(crate) mod names;
pub mod quality;
pub mod self_total;
pub mod split;
pub mod stats;
mod tally;
pub mod unnamed;
pub mod waits;
pub(crate) mod weight;

pub use quality::{Coverage, Thresholds, Verdict};
pub use self_total::{HotPath, HotPaths};
pub use weight::{Measure, Weight};

use crate::profile::Profile;
use books::Books;
use split::{ModuleSplit, ThreadSplit};
use unnamed::Unnamed;
use waits::WaitAnalysis;

/// The hottest paths kept: the report shows ten of each, machines get more.
const HOT_PATHS: usize = 50;

/// Everything the reports show, computed once.
#[derive(Clone, Debug)]
pub struct Analysis {
    pub coverage: Coverage,
    pub hot: HotPaths,
    pub threads: Vec<ThreadSplit>,
    pub modules: Vec<ModuleSplit>,
    pub unnamed: Vec<Unnamed>,
    /// Where the time off the CPU was recorded, too.
    pub books: Option<Books>,
    pub waits: Option<WaitAnalysis>,
}

impl Analysis {
    pub fn of(profile: &Profile, thresholds: &Thresholds) -> Analysis {
        let hot = HotPaths::of(profile, HOT_PATHS);
        Analysis {
            coverage: Coverage::with_hottest(profile, thresholds, hot.by_self.first()),
            hot,
            threads: split::by_thread(profile),
            modules: split::by_module(profile),
            unnamed: unnamed::unnamed(profile),
            books: Books::of(profile),
            waits: WaitAnalysis::of(profile),
        }
    }
}
