//! What a cgroup's CPU weight is worth: nothing while CPUs are idle, a share of the node when everybody wants them.
//!
//! In: the directory and its parents. Out: the weight, the share it guarantees, and v1's `cpu.shares`, from which
//! Kubernetes' CPU request can be told. Source: cgroup-v2.rst, "Weights"; KEP-2254 for the conversion.

use std::fs::read_dir;
use std::path::Path;

use super::{Place, Version};
use crate::target::small_file::read_number;

/// Only siblings of this many directories are added up: more cannot be read in passing.
const MAX_SIBLINGS: usize = 4096;

impl Place {
    /// `cpu.weight` (v2, default 100) or `cpu.shares` (v1, default 1024).
    pub fn cpu_weight(&self) -> Option<u64> {
        self.weight_of(&self.dir)
    }

    /// v1's `cpu.shares`; on v2 what the weight was made of by `weight = 1 + (shares − 2) · 9999 ÷ 262142`, which
    /// container runtimes use. It is rounded there, so that a request comes back within 13 millicores.
    pub fn cpu_shares(&self) -> Option<u64> {
        let weight = self.cpu_weight()?;
        Some(match self.version {
            Version::V1 => weight,
            Version::V2 => shares_of_weight(weight),
        })
    }

    /// The share of the node's CPU time that is the service's when all cgroups beside it and beside its parents want
    /// as much as they can get. Processes in the parents themselves, which compete too, are not counted.
    ///
    /// `None` for the root, and where a level's weight or siblings cannot be read.
    pub fn cpu_guaranteed_share(&self) -> Option<f64> {
        if self.is_root() || self.hides_parents() {
            return None;
        }
        let mut share = 1.0;
        for dir in self.upwards().take_while(|dir| *dir != self.top) {
            let own = self.weight_of(dir)? as f64;
            share *= own / self.weight_of_all_in(dir.parent()?)?;
        }
        Some(share)
    }

    fn weight_of(&self, dir: &Path) -> Option<u64> {
        read_number(&dir.join(match self.version {
            Version::V1 => "cpu.shares",
            Version::V2 => "cpu.weight",
        }))
    }

    fn weight_of_all_in(&self, parent: &Path) -> Option<f64> {
        let entries = read_dir(parent).ok()?.flatten().take(MAX_SIBLINGS);
        let weights = entries.filter_map(|entry| self.weight_of(&entry.path()));
        let sum: u64 = weights.sum();
        (sum > 0).then_some(sum as f64)
    }
}

fn shares_of_weight(weight: u64) -> u64 {
    let above = weight.clamp(1, 10_000) - 1;
    2 + (above * 262_142 + 9_999 / 2) / 9_999
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubernetes_request_comes_back_from_its_weight() {
        // 100 m, 200 m, 500 m, 1 and 4 CPUs are 102, 204, 512, 1024 and 4096 shares.
        for shares in [102, 204, 512, 1024, 4096_u64] {
            let weight = 1 + (shares - 2) * 9999 / 262_142;
            let back = shares_of_weight(weight);
            assert!(back.abs_diff(shares) <= 27, "{shares} became {back}");
        }
        assert_eq!(
            (shares_of_weight(1), shares_of_weight(10_000)),
            (2, 262_144)
        );
    }
}
