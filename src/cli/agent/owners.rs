//! Whose a process is, by its container, and what that is called and labelled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::agent::{Owners, Service};
use crate::target::container::ContainerIdentity;
use crate::target::kubernetes::Index;
use crate::target::labels::{Labels, service_name};

/// Processes of the node that are in no container.
const HOST: &str = "host";
/// Processes that had gone before it was looked where they are.
const UNKNOWN: &str = "unknown";

#[derive(Debug)]
pub(super) struct ByContainer {
    /// The name of the service, where the whole target is one.
    whole: Option<String>,
    /// Of every service; they win.
    labels: Labels,
    index: Arc<Index>,
    /// One of each, so that threads share it.
    known: BTreeSet<Arc<Service>>,
}

impl ByContainer {
    pub fn new(whole: Option<String>, labels: Labels, index: Arc<Index>) -> ByContainer {
        ByContainer {
            whole,
            labels,
            index,
            known: BTreeSet::new(),
        }
    }

    fn service(&self, identity: Option<&ContainerIdentity>) -> Service {
        let mut labels = self.labels.clone();
        labels.add_weaker(&self.index.lookup(identity));
        let name = self
            .whole
            .clone()
            .unwrap_or_else(|| name(&labels, identity));
        let labels: BTreeMap<String, String> = labels
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Service { name, labels }
    }

    fn shared(&mut self, service: Service) -> Arc<Service> {
        if let Some(known) = self.known.get(&service) {
            return known.clone();
        }
        let service = Arc::new(service);
        self.known.insert(service.clone());
        service
    }
}

/// Two containers of one pod are two services, also where only the pod is known by name.
fn name(labels: &Labels, identity: Option<&ContainerIdentity>) -> String {
    let name = service_name(labels, HOST);
    match identity {
        Some(identity) if labels.get("container").is_none() && name != identity.short_id() => {
            format!("{name}/{}", identity.short_id())
        }
        _ => name,
    }
}

impl Owners for ByContainer {
    fn of(&mut self, pid: u32) -> Option<Arc<Service>> {
        let identity = ContainerIdentity::of(pid).ok()?;
        // Of one service there is one profile, in however many containers its processes are.
        let identity = identity.as_ref().filter(|_| self.whole.is_none());
        let service = self.service(identity);
        Some(self.shared(service))
    }

    /// What a container's process starts is in that container; what is started outside of all may be a container's first.
    fn of_child(&mut self, pid: u32, parent: &Arc<Service>) -> Arc<Service> {
        match self.whole.is_some() || parent.labels.contains_key("container_id") {
            true => parent.clone(),
            false => self.of(pid).unwrap_or_else(|| parent.clone()),
        }
    }

    fn of_unseen(&mut self) -> Arc<Service> {
        let service = match self.whole {
            Some(_) => self.service(None),
            None => Service {
                name: UNKNOWN.to_owned(),
                labels: BTreeMap::new(),
            },
        };
        self.shared(service)
    }

    fn forget(&mut self) {
        self.known.retain(|service| Arc::strong_count(service) > 1);
    }
}
