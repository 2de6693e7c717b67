//! Whose a process is, by its container, and what that is called.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::agent::{Owners, Service};
use crate::target::container::ContainerIdentity;

#[derive(Debug)]
pub(super) struct ByContainer {
    /// Where the whole target is one service.
    whole: Option<Arc<Service>>,
    labels: BTreeMap<String, String>,
    known: BTreeSet<Arc<Service>>,
}

impl ByContainer {
    pub fn new(whole: Option<String>, labels: BTreeMap<String, String>) -> ByContainer {
        let service = |name| {
            Arc::new(Service {
                name,
                labels: labels.clone(),
            })
        };
        ByContainer {
            whole: whole.map(service),
            labels,
            known: BTreeSet::new(),
        }
    }
}

impl Owners for ByContainer {
    fn of(&mut self, pid: u32) -> Option<Arc<Service>> {
        if let Some(whole) = &self.whole {
            return Some(whole.clone());
        }
        let identity = ContainerIdentity::of(pid).ok()?;
        let name = match &identity {
            Some(identity) => identity.short_id().to_owned(),
            None => "host".to_owned(),
        };
        let service = Service {
            name,
            labels: self.labels.clone(),
        };
        if let Some(known) = self.known.get(&service) {
            return Some(known.clone());
        }
        let service = Arc::new(service);
        self.known.insert(service.clone());
        Some(service)
    }
}
