//! Whose container it is, in Kubernetes' words: labels for a profile, and names for a selection.
//!
//! In: what the downward API tells of the own pod ([`Downward`]), files of container engines, and where it is allowed
//! the Kubernetes API ([`Api`]). Out: an [`Index`] that answers from memory, at once. A thread of its own asks the API
//! each minute, and sooner when somebody looked for a container that it does not know yet. When the API refuses, the
//! index says so once and goes on with what the others know.
//!
//! Of several sources for one label the strongest wins: the API, files of engines, downward files, environment, host.

use std::collections::HashMap;
use std::mem::discriminant;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::container::ContainerIdentity;
use super::container_names::{Named, Names, PodContainer, StateFiles};
use super::labels::Labels;
use super::selection::{OwnPod, sees_other_pods};
use super::small_file::read_text;

mod api;
mod downward;
#[cfg(test)]
mod fake_server;
mod pods;

pub use api::{Api, ApiError};
pub use downward::Downward;

use pods::Pod;

/// Containers that have ended are known for so long after: their last profile still wants labels.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Of pods that ended, too.
const MAX_PODS: usize = 8192;
/// Containers that nobody knew, and that were asked for.
const MAX_UNKNOWN: usize = 1024;
/// The API is asked so often for the sake of one unknown container; then it is not one of Kubernetes.
const TRIES: u8 = 3;

/// When the API is asked.
#[derive(Clone, Copy, Debug)]
struct Pace {
    every: Duration,
    /// However many unknown containers there are.
    at_most_every: Duration,
    /// After a refusal.
    refused: Duration,
}

const PACE: Pace = Pace {
    every: Duration::from_secs(60),
    at_most_every: Duration::from_secs(10),
    refused: Duration::from_secs(300),
};

/// Labels and names of all containers that are known on this machine. The thread that asks the API ends with it.
#[derive(Debug)]
pub struct Index {
    own: Downward,
    hostname: Option<String>,
    /// Everybody that perfprof can see is of its own pod.
    sees_own_pod_only: bool,
    files: Option<Arc<StateFiles>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By UID, each with when it was last listed.
    pods: HashMap<String, (Instant, Arc<Pod>)>,
    /// By container ID, likewise: a container that restarts all the time has another ID each time.
    containers: HashMap<String, (Instant, Arc<Pod>, PodContainer)>,
    /// Asked for and not found, and how many lists did not have it since.
    unknown: HashMap<String, u8>,
    follows: bool,
    is_wanted: bool,
    is_over: bool,
    is_refused: bool,
    /// What is wrong now.
    problem: Option<ApiError>,
    /// To be told.
    news: Option<News>,
    lists: u64,
    failures: u64,
}

/// A change in what the API answers, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Problem(ApiError),
    /// It answers again.
    Recovered,
}

impl Index {
    /// Without the API: what the pod itself and the machine's container engines know.
    pub fn new(mut own: Downward, files: Option<Arc<StateFiles>>) -> Index {
        own.pod = own.pod.completed();
        Index {
            sees_own_pod_only: !sees_other_pods(&own.pod),
            own,
            hostname: read_text(Path::new("/proc/sys/kernel/hostname")).ok(),
            files,
            shared: Arc::default(),
        }
    }

    /// Asks the API from now on, in a thread of its own.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn follow(&self, api: Api) -> std::io::Result<()> {
        self.follow_at(api, PACE)
    }

    fn follow_at(&self, api: Api, pace: Pace) -> std::io::Result<()> {
        self.shared.lock().follows = true;
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("kubernetes-api".to_owned());
        thread.spawn(move || shared.run(&api, pace)).map(drop)
    }

    /// What is known of the pod around perfprof, for a [`super::selection::Selector`].
    pub fn own_pod(&self) -> OwnPod {
        self.own.pod.clone()
    }

    /// The labels of a container, or of a process that is in none: `namespace`, `pod`, `pod_uid`, `container`,
    /// `container_id`, `node`, `workload`, `workload_kind`, `app_kubernetes_io_name`, `hostname`, and for the own pod
    /// the labels it has. As many as are known now.
    pub fn lookup(&self, identity: Option<&ContainerIdentity>) -> Labels {
        let mut labels = Labels::default();
        if let Some(identity) = identity {
            labels = self.labels_by_api(identity);
            labels.add_weaker(&self.labels_by_files(identity));
            labels.set("container_id", &identity.container_id);
            if let (None, Some(uid)) = (labels.get("pod_uid"), &identity.pod_uid) {
                labels.set("pod_uid", uid);
            }
        }
        let known_pod = labels.get("pod_uid");
        let is_own = match (known_pod, &self.own.pod.uid) {
            (Some(uid), Some(own)) => uid == own,
            _ => self.sees_own_pod_only,
        };
        if is_own {
            labels.add_weaker(&self.own_labels());
        }
        let mut machine = Labels::default();
        machine.set("node", self.own.node.as_deref().unwrap_or_default());
        machine.set("hostname", self.hostname.as_deref().unwrap_or_default());
        labels.add_weaker(&machine);
        labels
    }

    fn own_labels(&self) -> Labels {
        let mut labels = Labels::default();
        let pod = &self.own.pod;
        for (name, value) in [
            ("namespace", &pod.namespace),
            ("pod", &pod.name),
            ("pod_uid", &pod.uid),
            ("container", &self.own.container),
        ] {
            labels.set(name, value.as_deref().unwrap_or_default());
        }
        labels.add_weaker(&self.own.labels);
        labels
    }

    fn labels_by_api(&self, identity: &ContainerIdentity) -> Labels {
        let mut state = self.shared.lock();
        // Of containers in a container, the outermost is the one that Kubernetes knows.
        let known = identity.ids().find_map(|id| state.containers.get(id));
        if let Some((_, pod, container)) = known {
            let mut labels = pod.labels();
            labels.set("container", &container.container);
            return labels;
        }
        if state.want(&identity.container_id) {
            self.shared.wake.notify_all();
        }
        let pod = identity
            .pod_uid
            .as_ref()
            .and_then(|uid| state.pods.get(uid));
        pod.map_or_else(Labels::default, |(_, pod)| pod.labels())
    }

    fn labels_by_files(&self, identity: &ContainerIdentity) -> Labels {
        let mut labels = Labels::default();
        let Some(files) = &self.files else {
            return labels;
        };
        if let Some(container) = identity.ids().find_map(|id| files.pod_container(id)) {
            labels.set("namespace", &container.namespace);
            labels.set("pod", &container.pod);
            labels.set("pod_uid", &container.pod_uid);
            labels.set("container", &container.container);
        } else if let Some(name) = identity.ids().find_map(|id| files.container_name(id)) {
            labels.set("container", &name);
        }
        labels
    }

    /// What has changed since this was last asked, to be told once.
    pub fn take_news(&self) -> Option<News> {
        self.shared.lock().news.take()
    }

    /// How often the API gave a list, and how often it did not.
    pub fn lists_and_failures(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.lists, state.failures)
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.wake.notify_all();
    }
}

impl Names for Index {
    fn containers_named(&self, name: &str) -> Vec<Named> {
        let state = self.shared.lock();
        let called = state
            .containers
            .iter()
            .filter(|(_, (_, _, own))| own.is_container(name));
        let mut named: Vec<Named> = called
            .map(|(id, (_, _, container))| Named {
                id: id.clone(),
                called: container.path(),
            })
            .collect();
        named.sort();
        named
    }

    fn pods_named(&self, name: &str) -> Vec<Named> {
        let state = self.shared.lock();
        let pods = state.pods.values().map(|(seen, pod)| (*seen, pod));
        // A pod that was made anew under its old name (of a StatefulSet) is another one: the newest list counts.
        let newest = pods.clone().map(|(seen, _)| seen).max();
        let mut named: Vec<Named> = pods
            .filter(|(seen, pod)| Some(*seen) == newest && is_called(pod, name))
            .map(|(_, pod)| Named {
                id: pod.uid.clone(),
                called: format!("{}/{}", pod.namespace, pod.name),
            })
            .collect();
        named.sort();
        named
    }

    fn pod_of(&self, identity: &ContainerIdentity) -> Option<String> {
        let state = self.shared.lock();
        let found = identity.ids().find_map(|id| state.containers.get(id));
        found.map(|(_, pod, _)| pod.uid.clone())
    }
}

fn is_called(pod: &Pod, name: &str) -> bool {
    match name.split_once('/') {
        None => pod.name == name,
        Some((namespace, name)) => pod.namespace == namespace && pod.name == name,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, api: &Api, pace: Pace) {
        loop {
            if self.lock().is_over {
                return;
            }
            let begun = Instant::now();
            let answer = api.pods();
            let mut state = self.lock();
            state.take(answer, Instant::now());
            loop {
                if state.is_over {
                    return;
                }
                let wait = match (state.is_refused, state.is_wanted) {
                    (true, _) => pace.refused,
                    (false, true) => pace.at_most_every,
                    (false, false) => pace.every,
                };
                let left = wait.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    break;
                }
                let woken = self.wake.wait_timeout(state, left);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl State {
    /// Notes that a container is not known; answers whether the API should be asked for its sake.
    fn want(&mut self, id: &str) -> bool {
        if !self.follows {
            return false;
        }
        let is_full = self.unknown.len() >= MAX_UNKNOWN && !self.unknown.contains_key(id);
        if is_full {
            return false;
        }
        let tries = self.unknown.entry(id.to_owned()).or_default();
        let is_news = *tries < TRIES && !self.is_wanted;
        self.is_wanted |= is_news;
        is_news
    }

    fn take(&mut self, answer: Result<Vec<Pod>, ApiError>, now: Instant) {
        self.is_wanted = false;
        let pods = match answer {
            Ok(pods) => pods,
            Err(error) => {
                self.failures += 1;
                self.is_refused = error.is_refusal();
                // The same in other words is no news.
                let kind = Some(discriminant(&error));
                if self.problem.as_ref().map(discriminant) != kind {
                    self.news = Some(News::Problem(error.clone()));
                }
                self.problem = Some(error);
                return;
            }
        };
        self.lists += 1;
        self.is_refused = false;
        if self.problem.take().is_some() {
            self.news = Some(News::Recovered);
        }
        let is_remembered = |seen: Instant| now.saturating_duration_since(seen) < REMEMBERED;
        self.pods.retain(|_, (seen, _)| is_remembered(*seen));
        for pod in pods {
            let pod = Arc::new(pod);
            for (id, container) in pod.containers() {
                self.containers
                    .insert(id.to_owned(), (now, pod.clone(), container));
            }
            self.pods.insert(pod.uid.clone(), (now, pod));
        }
        if self.pods.len() > MAX_PODS {
            self.pods.retain(|_, (seen, _)| *seen == now);
        }
        let pods = &self.pods;
        self.containers
            .retain(|_, (seen, pod, _)| is_remembered(*seen) && pods.contains_key(&pod.uid));
        let containers = &self.containers;
        self.unknown.retain(|id, _| !containers.contains_key(id));
        for tries in self.unknown.values_mut() {
            *tries = tries.saturating_add(1);
        }
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.clear();
        }
    }
}

#[cfg(test)]
mod tests;
