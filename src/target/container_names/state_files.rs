//! Names of containers as files of the machine tell them.
//!
//! In: the files in which docker, podman, CRI-O and containerd keep what they run. Out: [`Names`], and the names of a
//! container's pod and of itself. An engine of which no file can be read has no names; that is no error.
//!
//! The files belong to root, but names in them are chosen by others: everything is bounded, and what is no name is left
//! out.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Named, Names, PodContainer, is_name};
use crate::target::container::{self, ContainerIdentity};
use crate::target::root::Root;

/// A container of docker, or a bundle of containerd.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// All containers of podman or CRI-O stand in one file.
const MAX_LIST_BYTES: u64 = 8 << 20;
/// Containers of one engine that are looked at.
const MAX_CONTAINERS: usize = 4096;
/// The files are looked through at most this often.
const ALL_EVERY: Duration = Duration::from_secs(4);
/// Where docker keeps a folder for each container.
const DOCKER: &[&str] = &["var/lib/docker/containers"];
/// Where podman and CRI-O list theirs, one file for each storage driver, and one for what ends with the machine.
const STORAGE: &[&str] = &[
    "var/lib/containers/storage/overlay-containers",
    "var/lib/containers/storage/vfs-containers",
    "var/lib/containers/storage/btrfs-containers",
];
/// Where containerd keeps a folder for each running container, in one for each of its namespaces.
const BUNDLES: &[&str] = &[
    "run/containerd/io.containerd.runtime.v2.task",
    "run/k3s/containerd/io.containerd.runtime.v2.task",
];

/// What engines say of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    names: Vec<String>,
    in_pod: Option<PodContainer>,
}

impl Entry {
    fn of_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Entry {
        let names = names.into_iter().map(|name| name.trim_start_matches('/'));
        let names: Vec<String> = names
            .filter(|name| is_name(name))
            .map(str::to_owned)
            .collect();
        let in_pod = names
            .iter()
            .find_map(|name| PodContainer::of_engine_name(name));
        Entry { names, in_pod }
    }

    fn is_called(&self, name: &str) -> bool {
        let in_pod = self.in_pod.as_ref();
        self.names.iter().any(|own| own == name) || in_pod.is_some_and(|own| own.is_container(name))
    }

    fn called(&self) -> String {
        let in_pod = self.in_pod.as_ref().map(PodContainer::path);
        in_pod
            .or_else(|| self.names.first().cloned())
            .unwrap_or_default()
    }
}

/// The files of a machine's container engines.
#[derive(Debug)]
pub struct StateFiles {
    folder: PathBuf,
    root: Root,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Files that were read, by inode and time of change: an engine writes a new one when something changes.
    read: ReadFiles,
    all: Option<(Instant, Arc<Found>)>,
}

type Stamp = (u64, i64, i64);
type ReadFiles = HashMap<PathBuf, (Stamp, Arc<Entry>)>;
type Found = HashMap<String, Arc<Entry>>;

impl StateFiles {
    /// Those below a folder: `/`, or where the machine's root is mounted.
    ///
    /// # Errors
    /// When the folder cannot be opened.
    pub fn below(folder: &Path) -> io::Result<StateFiles> {
        Ok(StateFiles {
            folder: folder.to_owned(),
            root: Root::at(folder)?,
            state: Mutex::default(),
        })
    }

    /// The names of a container's pod and of itself, where its engine knows Kubernetes.
    pub fn pod_container(&self, id: &str) -> Option<PodContainer> {
        self.all().get(id)?.in_pod.clone()
    }

    /// The name that its engine has for a container.
    pub fn container_name(&self, id: &str) -> Option<String> {
        self.all().get(id)?.names.first().cloned()
    }

    /// All containers, as they were at most a few seconds ago.
    fn all(&self) -> Arc<Found> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, all)) = &state.all
            && at.elapsed() < ALL_EVERY
        {
            return all.clone();
        }
        let all = Arc::new(self.look(&mut state.read));
        state.all = Some((Instant::now(), all.clone()));
        all
    }

    fn look(&self, read: &mut ReadFiles) -> Found {
        let mut seen = HashMap::new();
        let mut found = Found::new();
        for folder in DOCKER {
            for id in self.ids_in(Path::new(folder)) {
                let path = Path::new(folder).join(&id).join("config.v2.json");
                if let Some(entry) = self.entry(&path, read, &mut seen, docker_entry) {
                    found.insert(id, entry);
                }
            }
        }
        for folder in BUNDLES {
            for namespace in self.entries_in(Path::new(folder)) {
                let folder = Path::new(folder).join(namespace);
                for id in self.ids_in(&folder) {
                    let path = folder.join(&id).join("config.json");
                    if let Some(entry) = self.entry(&path, read, &mut seen, bundle_entry) {
                        found.insert(id, entry);
                    }
                }
            }
        }
        *read = seen;
        for folder in STORAGE {
            for file in ["containers.json", "volatile-containers.json"] {
                let path = Path::new(folder).join(file);
                found.extend(self.stored(&path).unwrap_or_default());
            }
        }
        found
    }

    /// One container's file, read anew when it has changed.
    fn entry(
        &self,
        path: &Path,
        read: &ReadFiles,
        seen: &mut ReadFiles,
        parse: fn(&[u8]) -> Option<Entry>,
    ) -> Option<Arc<Entry>> {
        let file = self.root.open(path).ok()?;
        let metadata = file.metadata().ok()?;
        let stamp = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
        let entry = match read.get(path) {
            Some((known, entry)) if *known == stamp => entry.clone(),
            // What is not understood is not read again either.
            _ => Arc::new(
                bounded(file, MAX_FILE_BYTES)
                    .and_then(|b| parse(&b))
                    .unwrap_or_default(),
            ),
        };
        seen.insert(path.to_owned(), (stamp, entry.clone()));
        Some(entry)
    }

    fn stored(&self, path: &Path) -> Option<Found> {
        let bytes = bounded(self.root.open(path).ok()?, MAX_LIST_BYTES)?;
        let containers: Vec<StoredContainer> = json(&bytes)?;
        let entry = |c: StoredContainer| {
            let names = c.names.unwrap_or_default();
            (
                c.id,
                Arc::new(Entry::of_names(names.iter().map(String::as_str))),
            )
        };
        let known = containers
            .into_iter()
            .filter(|c| container::is_id_prefix(&c.id));
        Some(known.take(MAX_CONTAINERS).map(entry).collect())
    }

    fn ids_in(&self, folder: &Path) -> Vec<String> {
        let mut ids = self.entries_in(folder);
        ids.retain(|id| container::is_id_prefix(id));
        ids
    }

    fn entries_in(&self, folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.join(folder))
            .into_iter()
            .flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.take(MAX_CONTAINERS).collect()
    }
}

impl Names for StateFiles {
    fn containers_named(&self, name: &str) -> Vec<Named> {
        let all = self.all();
        let called = all.iter().filter(|(_, entry)| entry.is_called(name));
        called
            .map(|(id, entry)| Named {
                id: id.clone(),
                called: entry.called(),
            })
            .collect()
    }

    fn pods_named(&self, name: &str) -> Vec<Named> {
        let all = self.all();
        let containers = all.values().filter_map(|entry| entry.in_pod.as_ref());
        let mut pods: Vec<Named> = containers
            .filter(|container| container.is_pod(name))
            .map(|container| Named {
                id: container.pod_uid.clone(),
                called: format!("{}/{}", container.namespace, container.pod),
            })
            .collect();
        pods.sort();
        pods.dedup();
        pods
    }

    fn pod_of(&self, identity: &ContainerIdentity) -> Option<String> {
        let found = self.pod_container(&identity.container_id);
        found.map(|container| container.pod_uid)
    }
}

/// Moby's `container.Container`.
#[derive(Deserialize)]
struct DockerContainer {
    #[serde(rename = "Name")]
    name: String,
}

fn docker_entry(bytes: &[u8]) -> Option<Entry> {
    let container: DockerContainer = json(bytes)?;
    Some(Entry::of_names([container.name.as_str()]))
}

/// The OCI runtime specification's `config.json`, with containerd's annotations (`internal/cri/annotations`).
#[derive(Deserialize)]
struct Bundle {
    annotations: Option<BundleAnnotations>,
}

#[derive(Deserialize)]
struct BundleAnnotations {
    #[serde(rename = "io.kubernetes.cri.container-name")]
    container: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-uid")]
    uid: Option<String>,
    #[serde(rename = "nerdctl/name")]
    nerdctl: Option<String>,
}

fn bundle_entry(bytes: &[u8]) -> Option<Entry> {
    let bundle: Bundle = json(bytes)?;
    let told = bundle.annotations?;
    let mut entry = Entry::of_names(told.nerdctl.as_deref());
    if let (Some(container), Some(pod), Some(namespace), Some(uid)) =
        (&told.container, &told.pod, &told.namespace, &told.uid)
    {
        entry.in_pod = PodContainer::checked(namespace, pod, uid, container);
    }
    Some(entry)
}

/// containers/storage, `Container` in `containers.go`.
#[derive(Deserialize)]
struct StoredContainer {
    id: String,
    names: Option<Vec<String>>,
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// All of a file; `None` when it is longer than allowed.
fn bounded(file: std::fs::File, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

#[cfg(test)]
mod tests;
