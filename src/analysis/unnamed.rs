//! What stayed unnamed: binaries with frames that are only addresses, by what they weigh, as a to-do.

use std::collections::{BTreeMap, BTreeSet};

use super::debug_packages;
use super::quality::remedy_of;
use super::weight::{Measure, StackKey, Weight, by_stack, ratio};
use crate::profile::{BuildId, FrameKind, MappingKind, PackageFact, Profile, Unresolved};

/// Where frames without a mapping are counted.
const NOWHERE: &str = "[unknown]";

/// A binary, and one reason why frames in it have no names.
#[derive(Clone, Debug, PartialEq)]
pub struct Unnamed {
    /// Path, or `[kernel]` and its like.
    pub module: String,
    pub build_id: Option<BuildId>,
    pub reason: Unresolved,
    /// Ran in such a frame itself, and in or below one; shares of the whole profile.
    pub self_weight: Weight,
    pub self_share: f64,
    pub total_weight: Weight,
    pub total_share: f64,
    pub origin: Option<PackageFact>,
    /// What would name them.
    pub remedy: String,
}

/// Everything unnamed, most total time first.
pub fn unnamed(profile: &Profile) -> Vec<Unnamed> {
    let mut sums: BTreeMap<(&str, Option<BuildId>, Unresolved), (Weight, Weight)> = BTreeMap::new();
    let mut whole = Weight::default();
    for (key, weight) in by_stack(profile) {
        whole += weight;
        let StackKey::Frames(stack) = key else {
            continue;
        };
        let mut seen = BTreeSet::new();
        for (depth, ix) in profile.stacks.leaf_to_root(stack).enumerate() {
            let frame = profile.frame(ix);
            let Some(reason) = frame.unresolved else {
                continue;
            };
            let mapping = frame.mapping.map(|ix| profile.mapping(ix));
            let (path, build_id) = mapping.map_or((NOWHERE, None), |m| (&*m.path, m.build_id));
            let key = (path, build_id, reason);
            let (of_self, total) = sums.entry(key).or_default();
            if depth == 0 {
                *of_self += weight;
            }
            if seen.insert(key) {
                *total += weight;
            }
        }
    }
    let measure = Measure::of(profile);
    let share = |weight| ratio(measure.read(weight), measure.read(whole));
    let rows = sums
        .into_iter()
        .map(|((path, build_id, reason), (of_self, total))| Unnamed {
            module: path.to_owned(),
            build_id,
            reason,
            self_weight: of_self,
            self_share: share(of_self),
            total_weight: total,
            total_share: share(total),
            origin: debug_packages::origin(profile, path, build_id).cloned(),
            remedy: remedy_of(profile, reason, path, build_id),
        });
    let mut rows: Vec<Unnamed> = rows.collect();
    // The map's order breaks ties.
    rows.sort_by_key(|row| {
        std::cmp::Reverse((
            measure.read(row.total_weight),
            measure.read(row.self_weight),
        ))
    });
    rows
}

/// Files whose frames lack names or lines, heaviest first: those it is worth knowing the packages of.
pub fn wanting(profile: &Profile) -> Vec<(String, Option<BuildId>)> {
    let mut weights: BTreeMap<(&str, Option<BuildId>), u64> = BTreeMap::new();
    for (key, weight) in by_stack(profile) {
        let StackKey::Frames(stack) = key else {
            continue;
        };
        for ix in profile.stacks.leaf_to_root(stack) {
            let frame = profile.frame(ix);
            let Some(mapping) = frame.mapping.map(|ix| profile.mapping(ix)) else {
                continue;
            };
            let is_file = mapping.kind == MappingKind::File && frame.kind == FrameKind::User;
            let has_lines = frame.lines.iter().any(|line| line.line > 0);
            if is_file && (frame.unresolved.is_some() || !has_lines) {
                *weights
                    .entry((&mapping.path, mapping.build_id))
                    .or_default() += weight.ticks;
            }
        }
    }
    let mut files: Vec<_> = weights.into_iter().collect();
    files.sort_by_key(|(_, ticks)| std::cmp::Reverse(*ticks));
    let owned = files
        .into_iter()
        .map(|((path, id), _)| (path.to_owned(), id));
    owned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned;

    #[test]
    fn what_has_no_name_is_weighed_once_per_stack() {
        let profile = canned::server();
        let rows = unnamed(&profile);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(
            (&*row.module, row.reason),
            ("/usr/lib/libz.so.1", Unresolved::NoSymbol)
        );
        assert_eq!(row.self_weight.ticks, canned::STRIPPED_TICKS);
        assert_eq!(row.total_weight, row.self_weight);
        let share = canned::STRIPPED_TICKS as f64 / profile.total_count() as f64;
        assert!((row.total_share - share).abs() < 1e-9);
        assert!(row.remedy.contains("zlib1g-dbgsym"), "{}", row.remedy);
    }

    #[test]
    fn self_is_never_more_than_total_nor_total_than_all() {
        for seed in 0..20 {
            for row in unnamed(&canned::random(seed)) {
                assert!(
                    row.self_share <= row.total_share && row.total_share <= 1.0,
                    "{row:?}"
                );
            }
        }
    }

    #[test]
    fn files_without_names_or_lines_are_worth_a_look() {
        let wanting = wanting(&canned::server());
        let paths: Vec<&str> = wanting.iter().map(|(path, _)| &**path).collect();
        assert_eq!(paths, ["/usr/lib/libz.so.1", "/usr/lib/libfoo.so"]);
    }
}
