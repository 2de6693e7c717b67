//! Names of containers and pods, and who knows them.
//!
//! In: a name, or a container's identity. Out: by [`Names`] the IDs that a name stands for, and the pod around a
//! container. No runtime is asked: [`StateFiles`] reads what engines leave on the disk, and the Kubernetes API is
//! another source, see [`super::kubernetes`].

use std::fmt;

use super::container::{self, ContainerIdentity};

mod state_files;

pub use state_files::StateFiles;

/// Longer names than Kubernetes allows (253) are none.
const MAX_NAME_BYTES: usize = 253;

/// An ID that a name stands for: a container's, or a pod's UID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    pub id: String,
    /// For people, where several have the name; empty where nothing is known but the ID.
    pub called: String,
}

impl Named {
    pub fn unnamed(id: &str) -> Named {
        Named {
            id: id.to_owned(),
            called: String::new(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.called.as_str() {
            "" => write!(f, "`{}`", self.id),
            called => write!(f, "`{called}` ({})", container::short(&self.id)),
        }
    }
}

/// Who knows names of containers and pods.
pub trait Names: fmt::Debug + Send + Sync {
    /// Containers called `NAME`, `POD/NAME` or `NAMESPACE/POD/NAME`, running or not.
    fn containers_named(&self, name: &str) -> Vec<Named>;
    /// UIDs of pods called `NAME` or `NAMESPACE/NAME`.
    fn pods_named(&self, name: &str) -> Vec<Named>;
    /// The UID of the pod around a container.
    fn pod_of(&self, identity: &ContainerIdentity) -> Option<String>;
}

/// A container of a pod, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodContainer {
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
    pub container: String,
}

impl PodContainer {
    /// `NAMESPACE/POD/CONTAINER`.
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.pod, self.container)
    }

    /// Whether `NAME`, `POD/NAME` or `NAMESPACE/POD/NAME` is this container.
    pub fn is_container(&self, name: &str) -> bool {
        let parts: Vec<&str> = name.split('/').collect();
        match *parts.as_slice() {
            [container] => container == self.container,
            [pod, container] => pod == self.pod && container == self.container,
            [_, _, _] => name == self.path(),
            _ => false,
        }
    }

    /// Whether `NAME` or `NAMESPACE/NAME` is its pod.
    pub fn is_pod(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => name == self.pod,
            Some((namespace, pod)) => namespace == self.namespace && pod == self.pod,
        }
    }

    /// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`, as CRI-O and docker under Kubernetes call their containers.
    fn of_engine_name(name: &str) -> Option<PodContainer> {
        let parts: Vec<&str> = name.split('_').collect();
        let &["k8s", container, pod, namespace, uid, _] = parts.as_slice() else {
            return None;
        };
        PodContainer::checked(namespace, pod, uid, container)
    }

    fn checked(namespace: &str, pod: &str, uid: &str, container: &str) -> Option<PodContainer> {
        let all_fit = [namespace, pod, container].into_iter().all(is_name);
        all_fit.then_some(())?;
        Some(PodContainer {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            pod_uid: container::pod_uid(uid)?,
            container: container.to_owned(),
        })
    }
}

/// What engines and Kubernetes allow in names.
fn is_name(text: &str) -> bool {
    let fits = (1..=MAX_NAME_BYTES).contains(&text.len());
    fits && text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
