//! Where the CPU time went: functions ranked by self and by total weight.
//!
//! In: a profile. Out: [`HotPaths`], two lists of [`HotPath`]. Self weight is that of ticks with the function as leaf;
//! total weight that of ticks with the function anywhere, once per stack, so that recursion counts once. A function
//! inlined into another is a function of its own. Self weights of all functions add up to the weight of the profile.
//! Text, rounding and escaping are the business of `render`.

use std::collections::HashMap;

use super::names::NameIx;
use super::stats::{Share, share_over_slices};
pub use super::tally::Chain;
use super::tally::Tally;
use super::weight::{StackKey, Weight};
use crate::profile::{Profile, canonical_name};

/// More slices are merged: intervals need a few dozen.
const MAX_SLICES: u32 = 1024;

/// One function of a ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct HotPath {
    pub name: String,
    /// The name by which another build's profile can be compared; see `profile/canonical.rs`.
    pub canonical: String,
    pub kernel: bool,
    /// Not one function but all nameless code of a binary.
    pub is_group: bool,
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
        let by_self = tally.heaviest(limit, |ix| tally.self_weight(ix));
        let by_total = tally.heaviest(limit, |ix| tally.total_weight(ix));
        let series = Series::of(profile, &tally, &by_self, &by_total);
        HotPaths {
            by_self: by_self
                .iter()
                .zip(&series.by_self)
                .map(|(ix, part)| HotPath {
                    line: tally.self_line(*ix),
                    chain: tally.chain_to(*ix),
                    ..path(&tally, *ix, series.share(part))
                })
                .collect(),
            by_total: by_total
                .iter()
                .zip(&series.by_total)
                .map(|(ix, part)| HotPath {
                    line: tally.total_line(*ix),
                    chain: tally.chain_through(*ix),
                    ..path(&tally, *ix, series.share(part))
                })
                .collect(),
            functions: tally.functions(),
            whole: tally.whole,
        }
    }
}

/// What both rankings say of a function alike.
fn path(tally: &Tally, ix: NameIx, share: Share) -> HotPath {
    let name = tally.name(ix);
    HotPath {
        name: name.name.clone(),
        canonical: canonical_name(&name.name, &name.file).into_owned(),
        kernel: name.kernel,
        is_group: name.is_group,
        module: name.module.clone(),
        file: name.file.clone(),
        line: 0,
        self_weight: tally.self_weight(ix),
        total_weight: tally.total_weight(ix),
        share,
        chain: Chain::default(),
    }
}

/// Weights slice by slice, for the chosen functions only.
struct Series {
    whole: Vec<f64>,
    ticks: u64,
    by_self: Vec<Vec<f64>>,
    by_total: Vec<Vec<f64>>,
}

/// Which of the chosen functions a stack counts for, as places in the two rankings.
struct Members {
    by_self: Option<usize>,
    by_total: Vec<usize>,
}

impl Series {
    fn of(profile: &Profile, tally: &Tally, by_self: &[NameIx], by_total: &[NameIx]) -> Series {
        // A profile without slices is one slice, for which no interval can be had.
        let slices = profile.slice_count().max(1);
        // A file may claim any length; ours never has this many.
        let merged = slices.div_ceil(MAX_SLICES);
        let slices = slices.div_ceil(merged) as usize;
        let mut series = Series {
            whole: vec![0.0; slices],
            ticks: tally.whole.ticks,
            by_self: vec![vec![0.0; slices]; by_self.len()],
            by_total: vec![vec![0.0; slices]; by_total.len()],
        };
        let members = members(profile, tally, by_self, by_total);
        for sample in &profile.samples {
            let slice = ((sample.slice / merged) as usize).min(slices - 1);
            let weight = tally.measure.read(sample.into()) as f64;
            series.whole[slice] += weight;
            let members = &members[&StackKey::from(sample)];
            if let Some(i) = members.by_self {
                series.by_self[i][slice] += weight;
            }
            for i in &members.by_total {
                series.by_total[*i][slice] += weight;
            }
        }
        series
    }

    fn share(&self, part: &[f64]) -> Share {
        share_over_slices(part, &self.whole, self.ticks)
    }
}

fn members(
    profile: &Profile,
    tally: &Tally,
    by_self: &[NameIx],
    by_total: &[NameIx],
) -> HashMap<StackKey, Members> {
    let place = |chosen: &[NameIx]| -> HashMap<NameIx, usize> {
        chosen
            .iter()
            .enumerate()
            .map(|(i, name)| (*name, i))
            .collect()
    };
    let (self_place, total_place) = (place(by_self), place(by_total));
    let of = |key: StackKey| {
        let mut by_total = Vec::new();
        tally.each_function(profile, key, |name, _| {
            by_total.extend(total_place.get(&name))
        });
        by_total.sort_unstable();
        by_total.dedup();
        let leaf = tally.leaf(profile, key);
        Members {
            by_self: leaf.and_then(|leaf| self_place.get(&leaf).copied()),
            by_total,
        }
    };
    tally.stacks().map(|key| (key, of(key))).collect()
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
        // A file that claims to be a century of microseconds costs no more memory than another.
        foreign.recording.slice_ns = 1;
        foreign.recording.duration_ns = u64::MAX;
        assert_eq!(HotPaths::of(&foreign, 1).by_self[0].share.interval, None);
    }
}
