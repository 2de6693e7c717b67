//! Which binaries are to blame: gaps added up per binary and reason, worst first.

use std::collections::BTreeMap;

use super::metric::ModuleGap;
use crate::analysis::weight::ratio;
use crate::profile::{BuildId, Mapping};

/// More would not be read, and the worst few make up the bulk.
const MAX_GAPS: usize = 20;

/// Counts by binary and reason.
#[derive(Debug, Default)]
pub(super) struct Gaps(BTreeMap<(String, Option<BuildId>, &'static str), u64>);

impl Gaps {
    pub(super) fn add(&mut self, mapping: Option<&Mapping>, reason: &'static str, count: u64) {
        let (module, build_id) =
            mapping.map_or(("[unknown]", None), |m| (m.path.as_str(), m.build_id));
        *self
            .0
            .entry((module.to_owned(), build_id, reason))
            .or_default() += count;
    }

    /// The worst ones, as shares of `whole`, each with what `remedy(module, build ID, reason)` says.
    pub(super) fn worst(
        self,
        whole: u64,
        remedy: impl Fn(&str, Option<BuildId>, &str) -> String,
    ) -> Vec<ModuleGap> {
        let mut gaps: Vec<ModuleGap> = self
            .0
            .into_iter()
            .map(|((module, build_id, reason), count)| ModuleGap {
                remedy: remedy(&module, build_id, reason),
                reason: reason.to_owned(),
                share: ratio(count, whole),
                module,
                build_id,
                count,
            })
            .collect();
        // The map's order breaks ties.
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.count));
        gaps.truncate(MAX_GAPS);
        gaps
    }
}
