//! Whose each process is: a profile is made for each service.
//!
//! In: processes as they are first seen, and who forked them. Out: for each, its [`Service`]; it stays known after the process
//! has ended, until the window is over. What each service used and ran under is read here, too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::profile::{CapacityFacts, CgroupCpu};
use crate::target::gauges::Gauges;

/// More services than this have no gauges of their own: reading them costs a few files each, every second.
const MAX_GAUGED: usize = 32;

/// Figures that cost a read for every thread: six in a window of a minute.
const COSTLY_EVERY_NS: u64 = 10_000_000_000;

/// A service, by the name its section and files have.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    pub name: String,
    /// `namespace`, `pod`, `container`, `node`, …
    pub labels: BTreeMap<String, String>,
}

/// Labels by which Kubernetes' own metrics tell services apart, too.
pub const SHOWN_LABELS: [&str; 3] = ["namespace", "pod", "container"];

impl Service {
    /// With the labels that metrics have: others change while the service stays the same.
    pub fn as_shown(&self) -> Service {
        let shown = |(name, _): &(&String, &String)| SHOWN_LABELS.contains(&name.as_str());
        let labels = self.labels.iter().filter(shown);
        Service {
            name: self.name.clone(),
            labels: labels
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}

/// Tells whose a process is.
pub trait Owners {
    /// `None` for a process that has gone before it was looked at.
    fn of(&mut self, pid: u32) -> Option<Arc<Service>>;
    /// Whose the child of a service's process is.
    fn of_child(&mut self, pid: u32, parent: &Arc<Service>) -> Arc<Service>;
    /// Whose a process is that had gone before anybody could look.
    fn of_unseen(&mut self) -> Arc<Service>;
    /// Services that nobody holds need not be remembered.
    fn forget(&mut self);
}

/// What a service used in a window.
#[derive(Debug)]
pub(super) struct Used {
    pub capacity: CapacityFacts,
    pub cgroup: Option<CgroupCpu>,
}

/// All services of the present window.
pub(super) struct Services {
    owners: Box<dyn Owners>,
    by_pid: HashMap<u32, Arc<Service>>,
    /// Of the window before: a process may have ended as it did, and left a tick in this one.
    former: HashMap<u32, Arc<Service>>,
    gauges: BTreeMap<Arc<Service>, Gauges>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services")
            .field("by_pid", &self.by_pid)
            .finish_non_exhaustive()
    }
}

impl Services {
    pub fn new(owners: Box<dyn Owners>) -> Services {
        Services {
            owners,
            by_pid: HashMap::new(),
            former: HashMap::new(),
            gauges: BTreeMap::new(),
        }
    }

    /// These processes are part of the target.
    pub fn seen(&mut self, pids: &[u32]) {
        let mut new: BTreeMap<Arc<Service>, Vec<u32>> = BTreeMap::new();
        for pid in pids {
            if self.by_pid.contains_key(pid) {
                continue;
            }
            if let Some(service) = self.owners.of(*pid) {
                self.by_pid.insert(*pid, service.clone());
                new.entry(service).or_default().push(*pid);
            }
        }
        for (service, pids) in new {
            self.gauge(service, &pids);
        }
    }

    fn gauge(&mut self, service: Arc<Service>, pids: &[u32]) {
        if let Some(gauges) = self.gauges.get_mut(&service) {
            gauges.add_pids(pids);
        } else if self.gauges.len() < MAX_GAUGED {
            let mut gauges = Gauges::open(pids).costly_every(COSTLY_EVERY_NS);
            gauges.read();
            self.gauges.insert(service, gauges);
        }
    }

    /// A process was forked by another.
    pub fn forked(&mut self, forks: &[(u32, u32)]) {
        for (child, parent) in forks {
            if let Some(service) = self.by_pid.get(parent).cloned() {
                let own = self.owners.of_child(*child, &service);
                self.by_pid.insert(*child, own.clone());
                self.gauge(own, &[*child]);
            }
        }
    }

    pub fn read_gauges(&mut self) {
        self.gauges.values_mut().for_each(|gauges| {
            gauges.read();
        });
    }

    /// The window is over: whose every process was, and what was used. `alive` are the target's processes now.
    pub fn cut(
        &mut self,
        alive: &[u32],
    ) -> (HashMap<u32, Arc<Service>>, BTreeMap<Arc<Service>, Used>) {
        self.read_gauges();
        let own = std::mem::take(&mut self.by_pid);
        let mut by_pid = std::mem::replace(&mut self.former, own.clone());
        by_pid.extend(own);
        let used = std::mem::take(&mut self.gauges)
            .into_iter()
            .map(|(service, gauges)| {
                let cgroup = gauges.cgroup_cpu();
                let capacity = gauges.finish();
                (service, Used { capacity, cgroup })
            })
            .collect();
        self.owners.forget();
        self.seen(alive);
        (by_pid, used)
    }

    /// Whose a process is that nobody has told of.
    pub fn nobody(&mut self) -> Arc<Service> {
        self.owners.of_unseen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each process is a service of its own, called as its PID.
    #[derive(Debug)]
    struct ByPid;

    fn service(name: &str) -> Arc<Service> {
        Arc::new(Service {
            name: name.to_owned(),
            labels: BTreeMap::new(),
        })
    }

    impl Owners for ByPid {
        fn of(&mut self, pid: u32) -> Option<Arc<Service>> {
            Some(service(&pid.to_string()))
        }

        fn of_child(&mut self, _: u32, parent: &Arc<Service>) -> Arc<Service> {
            parent.clone()
        }

        fn of_unseen(&mut self) -> Arc<Service> {
            service("unknown")
        }

        fn forget(&mut self) {}
    }

    #[test]
    fn a_process_that_ended_at_the_cut_is_still_known_in_the_next_window() {
        let mut services = Services::new(Box::new(ByPid));
        services.seen(&[1]);
        services.forked(&[(u32::MAX, 1)]);
        let known =
            |by_pid: &HashMap<u32, Arc<Service>>| by_pid.get(&u32::MAX).map(|s| s.name.clone());
        assert_eq!(known(&services.cut(&[1]).0), Some("1".into()));
        assert_eq!(known(&services.cut(&[1]).0), Some("1".into()));
        let (by_pid, _) = services.cut(&[1]);
        assert_eq!(known(&by_pid), None);
        assert!(by_pid.contains_key(&1));
    }
}
