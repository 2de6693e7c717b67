//! Whose a process is, by its container, and what that is called and labelled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::agent::{Owners, Service};
use crate::target::container::ContainerIdentity;
use crate::target::kubernetes::Index;
use crate::target::labels::{Labels, service_name};
use crate::target::process;

/// Processes of the node that are in no container.
const HOST: &str = "host";
/// Processes that had gone before it was looked where they are.
const UNKNOWN: &str = "unknown";

/// What the whole target is called, where it is one service.
#[derive(Clone, Debug)]
pub(super) enum Whole {
    Called(String),
    /// By the command name of this process, which an `exec` changes; and what that was last.
    After(u32, String),
}

impl Whole {
    pub fn name(&self) -> &str {
        match self {
            Whole::Called(name) | Whole::After(_, name) => name,
        }
    }

    fn look(&mut self) {
        if let Whole::After(pid, name) = self
            && let Some(now) = process::thread_name(*pid, *pid)
        {
            *name = now;
        }
    }
}

#[derive(Debug)]
pub(super) struct ByContainer {
    whole: Option<Whole>,
    /// Of every service; they win.
    labels: Labels,
    index: Arc<Index>,
    /// One of each, so that threads share it.
    known: BTreeSet<Arc<Service>>,
}

impl ByContainer {
    pub fn new(whole: Option<Whole>, labels: Labels, index: Arc<Index>) -> ByContainer {
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
        let name = match &self.whole {
            Some(whole) => whole.name().to_owned(),
            None => name(&labels, identity),
        };
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
        if let Some(whole) = &mut self.whole {
            whole.look();
        }
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
