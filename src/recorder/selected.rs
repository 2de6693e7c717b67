//! A target that is a list of processes which somebody keeps: a cgroup's, a container's, a pod's.
//!
//! In: the list, read twice a second, and who is followed already. Out: who is to be taken in, and who to be let go of.
//! A child of a followed process is followed by the kernel before any list shows it, so that one look without it proves
//! nothing: it is let go of when two looks in a row lack it.

use std::collections::BTreeSet;

use crate::sampling::PidList;

/// How often the list is read.
const LOOK_NS: u64 = 500_000_000;

/// What has changed since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub joined: Vec<u32>,
    pub left: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Selected {
    list: PidList,
    next_look_ns: u64,
    /// Listed at the last look.
    listed: BTreeSet<u32>,
    /// Followed, and not listed at the last look.
    missing: BTreeSet<u32>,
    not_followed: u64,
}

impl Selected {
    /// `alive` is what the list held when the recording was made ready.
    pub fn new(list: PidList, alive: &[u32]) -> Selected {
        Selected {
            list,
            next_look_ns: 0,
            listed: alive.iter().copied().collect(),
            missing: BTreeSet::new(),
            not_followed: 0,
        }
    }

    /// Reads the list when it is time to.
    pub fn look(&mut self, now_ns: u64, followed: impl Fn(u32) -> bool) -> Change {
        if now_ns < self.next_look_ns {
            return Change::default();
        }
        self.next_look_ns = now_ns + LOOK_NS;
        let listed: BTreeSet<u32> = self.list.pids().into_iter().collect();
        self.compare(listed, followed)
    }

    fn compare(&mut self, listed: BTreeSet<u32>, followed: impl Fn(u32) -> bool) -> Change {
        let joined = listed.iter().copied().filter(|pid| !followed(*pid));
        let joined = joined.collect();
        let candidates = self.listed.union(&self.missing);
        let missing: BTreeSet<u32> = candidates
            .copied()
            .filter(|pid| !listed.contains(pid) && followed(*pid))
            .collect();
        let left = missing.intersection(&self.missing).copied().collect();
        self.missing = missing;
        self.listed = listed;
        Change { joined, left }
    }

    /// A process could not be taken in.
    pub fn could_not_follow(&mut self) {
        self.not_followed += 1;
    }

    pub fn not_followed(&self) -> u64 {
        self.not_followed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_listed_joins_and_who_is_missing_twice_leaves() {
        let set = |pids: &[u32]| pids.iter().copied().collect::<BTreeSet<_>>();
        let mut selected = Selected::new(PidList::new("nobody", Vec::new), &[1, 2]);
        let both = |pid| pid < 3;
        let change = selected.compare(set(&[1, 7]), both);
        assert_eq!((change.joined, change.left), (vec![7], vec![]));
        let change = selected.compare(set(&[1, 7]), |pid| pid != 7 || both(pid));
        assert_eq!(change.left, [2], "missing for the second time");
        let change = selected.compare(set(&[1, 2, 7]), |pid| pid != 2);
        assert_eq!((change.joined, change.left), (vec![2], vec![]));
    }

    #[test]
    fn who_has_ended_meanwhile_is_nobody_to_let_go_of() {
        let mut selected = Selected::new(PidList::new("nobody", Vec::new), &[1]);
        let nobody = |_| false;
        for _ in 0..3 {
            assert_eq!(selected.compare(BTreeSet::new(), nobody), Change::default());
        }
    }
}
