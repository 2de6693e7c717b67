//! Which container, and which pod, a process belongs to: read off the names that runtimes give to their cgroups.
//!
//! In: the text of `/proc/PID/cgroup`, of cgroup v1, v2 or both, also relative (`/../…`) as a private cgroup namespace
//! shows it. Out: a [`ContainerIdentity`], or nothing for a process that is in no container. It asks no runtime, knows
//! no names of containers (see [`super::container_names`] and [`super::kubernetes`]), and reads nothing else.
//!
//! Known are docker, containerd, CRI-O, podman, ECS and Garden, with the cgroupfs and the systemd driver. Of containers
//! in containers (kind, docker in docker) the innermost one is the process's; those around it are kept beside it.
//! A process that may make cgroups can choose the names of those below its own, and so pretend to be in another
//! container; the ones around it do not change by that.
//!
//! Helpers of a runtime that stay outside of the container, such as conmon, are in none. What BuildKit runs has no
//! hexadecimal ID and belongs to whatever is around it.

use std::io;
use std::path::Path;

use super::cgroup::parse_memberships;
use super::small_file::read_text;

mod name;

use name::{Part, part};

/// Containers around the innermost one that are kept: more than two are seen in no real cluster.
const MAX_ENCLOSING: usize = 3;
/// Deeper paths end here, which leaves out their innermost parts; the kernel's own limit is the length of a path.
const MAX_PARTS: usize = 512;
/// What `docker ps` shows, and the shortest prefix of an ID that is taken for one.
pub const SHORT_ID: usize = 12;

/// Who runs the container, as far as the cgroup's name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    Docker,
    Containerd,
    CriO,
    Podman,
    Ecs,
    Garden,
    /// A container of a pod, by the cgroupfs driver, which names no runtime.
    Kubernetes,
    /// Named by its ID alone.
    Unknown,
}

impl Runtime {
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Docker => "docker",
            Runtime::Containerd => "containerd",
            Runtime::CriO => "cri-o",
            Runtime::Podman => "podman",
            Runtime::Ecs => "ecs",
            Runtime::Garden => "garden",
            Runtime::Kubernetes => "kubernetes",
            Runtime::Unknown => "unknown",
        }
    }
}

/// The class of service that the kubelet gave the pod, which is part of its cgroup's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// As in a pod's `status.qosClass`.
    pub fn name(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// A process's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerIdentity {
    pub runtime: Runtime,
    /// Lower-case hexadecimal digits, 64 of them but for ECS and Garden, whose IDs also have `-`.
    pub container_id: String,
    /// The pod around it; with dashes where it is a UUID, and 32 digits without where it is the hash of a static pod.
    pub pod_uid: Option<String>,
    pub qos: Option<Qos>,
    /// IDs of the containers around it, innermost first; at most three.
    pub enclosing: Vec<String>,
    /// The path leads one step out of the reader's cgroup namespace and into this container: both are in one pod, if
    /// the reader is in a pod at all.
    pub is_beside_reader: bool,
}

impl ContainerIdentity {
    /// The container of a process.
    ///
    /// # Errors
    /// When `/proc/PID/cgroup` cannot be read: the process is gone or hidden.
    pub fn of(pid: u32) -> io::Result<Option<ContainerIdentity>> {
        let text = read_text(Path::new(&format!("/proc/{pid}/cgroup")))?;
        Ok(ContainerIdentity::parse(&text))
    }

    /// The container that the text of `/proc/PID/cgroup` tells. Hierarchies may disagree (a systemd inside of a
    /// container moves its processes in some of them only): the one that tells a pod, then the one that tells most
    /// containers, is believed.
    pub fn parse(text: &str) -> Option<ContainerIdentity> {
        let identities = parse_memberships(text)
            .into_iter()
            .filter_map(|membership| ContainerIdentity::of_path(&membership.path));
        // The first of equals wins, so that the answer does not depend on how many hierarchies there are.
        identities.reduce(|best, next| {
            let rank = |identity: &ContainerIdentity| {
                (identity.pod_uid.is_some(), identity.enclosing.len())
            };
            if rank(&next) > rank(&best) {
                next
            } else {
                best
            }
        })
    }

    /// The container that a cgroup's path tells.
    pub fn of_path(path: &str) -> Option<ContainerIdentity> {
        let mut found: Vec<(Runtime, &str)> = Vec::new();
        let mut pod: Option<(String, Option<Qos>)> = None;
        let mut climbs = 0;
        let mut before = "";
        let mut is_helper = false;
        // A colon separates like a slash: containerd names a cgroup `SLICE:cri-containerd:ID` when it is told a path for
        // systemd and uses none.
        let parts = path.split(['/', ':']).filter(|part| !part.is_empty());
        for text in parts.take(MAX_PARTS) {
            match part(text, before, pod.is_some()) {
                Part::Up => climbs += 1,
                Part::Pod { uid, qos } => pod = Some((uid, qos)),
                Part::Container { runtime, id } => {
                    found.push((runtime, id));
                    is_helper = false;
                }
                Part::Helper => is_helper = true,
                Part::Other => {}
            }
            before = text;
        }
        if is_helper {
            return None;
        }
        let (runtime, id) = found.pop()?;
        let (pod_uid, qos) = pod.unzip();
        let enclosing = found.iter().rev().take(MAX_ENCLOSING);
        Some(ContainerIdentity {
            runtime,
            container_id: id.to_owned(),
            pod_uid,
            qos: qos.flatten(),
            enclosing: enclosing.map(|(_, id)| (*id).to_owned()).collect(),
            is_beside_reader: climbs == 1,
        })
    }

    /// Its own ID, then those of the containers around it, innermost first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let around = self.enclosing.iter().map(String::as_str);
        std::iter::once(self.container_id.as_str()).chain(around)
    }

    /// The first twelve digits, for people.
    pub fn short_id(&self) -> &str {
        short(&self.container_id)
    }
}

/// The first twelve digits of an ID, for people.
pub fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// Whether a text may be an ID or the beginning of one, rather than a name.
pub fn is_id_prefix(text: &str) -> bool {
    text.len() >= SHORT_ID && text.bytes().all(|b| b == b'-' || name::is_hex(b))
}

/// A pod's UID in the form that [`ContainerIdentity`] has it in; `None` for what is none.
pub fn pod_uid(text: &str) -> Option<String> {
    name::pod_uid(text)
}

#[cfg(test)]
mod tests;
