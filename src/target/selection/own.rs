//! perfprof's own place: its PID namespace and its pod.
//!
//! In: `/proc/self`. Out: which pod "this pod" is, and whether others can be seen.

use std::path::Path;

use crate::target::cgroup::parse_memberships;
use crate::target::container::{self, ContainerIdentity};
use crate::target::mountinfo;
use crate::target::small_file::read_text;

/// The inode number of the first PID namespace's file, in all kernels since 3.8: `PROC_PID_INIT_INO` in
/// `include/linux/proc_ns.h`.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What perfprof has been told of the pod that it runs in; see `target::kubernetes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnPod {
    pub uid: Option<String>,
    pub name: Option<String>,
    pub namespace: Option<String>,
}

impl OwnPod {
    /// The same, with a UID that was found out where none was told.
    pub(in crate::target) fn completed(mut self) -> OwnPod {
        let told = self.uid.as_deref().and_then(container::pod_uid);
        self.uid = told.or_else(own_pod_uid);
        self
    }

    /// Whether a pod's name, or namespace and name, is this pod's.
    pub(super) fn is_named(&self, asked: &str) -> bool {
        let Some(name) = &self.name else {
            return false;
        };
        match (asked.split_once('/'), &self.namespace) {
            (None, _) => asked == name,
            (Some((namespace, asked)), Some(own)) => asked == name && namespace == own,
            (Some(_), None) => false,
        }
    }
}

/// Whether this process sees those of other pods, and of its machine, rather than those of one container or pod. In a
/// PID namespace that is not the machine's first one, process 1 tells: on a node that is a container itself (kind), a
/// pod with `hostPID` sees the init of that node.
pub fn sees_other_pods(own: &OwnPod) -> bool {
    let is_initial = std::fs::read_link("/proc/self/ns/pid")
        .is_ok_and(|name| name.as_os_str() == INITIAL_PID_NAMESPACE);
    let cgroup = |of: &str| read_text(Path::new(&format!("/proc/{of}/cgroup"))).unwrap_or_default();
    let uid = own.uid.as_deref();
    is_initial || uid.is_some_and(|uid| is_outside_of_pod(&cgroup("1"), &cgroup("self"), uid))
}

/// Whether the process of this `/proc/PID/cgroup` is in another pod, or in none. `own` is the reader's: where its own path
/// tells no pod either (podman's do not), another's without one proves nothing.
fn is_outside_of_pod(cgroup: &str, own: &str, uid: &str) -> bool {
    let tells_pods = || ContainerIdentity::parse(own).is_none_or(|own| own.pod_uid.is_some());
    match ContainerIdentity::parse(cgroup) {
        Some(identity) => match &identity.pod_uid {
            Some(of) => of != uid,
            None => !identity.is_beside_reader && tells_pods(),
        },
        // In the own cgroup namespace the own container's is the root.
        None => parse_memberships(cgroup)
            .iter()
            .any(|m| m.path.starts_with("/..")),
    }
}

/// From the own cgroup's name, or else from the kubelet's mount of `/etc/hosts`, which comes from a folder named after
/// the pod.
fn own_pod_uid() -> Option<String> {
    let own = ContainerIdentity::of(std::process::id()).ok().flatten();
    let by_mount = || {
        let text = read_text(Path::new("/proc/self/mountinfo")).ok()?;
        pod_uid_of_mounts(&text)
    };
    own.and_then(|own| own.pod_uid).or_else(by_mount)
}

fn pod_uid_of_mounts(mountinfo: &str) -> Option<String> {
    mountinfo::parse(mountinfo)
        .into_iter()
        .filter(|mount| mount.point == "/etc/hosts")
        .find_map(|mount| {
            let (folder, _) = mount.root.strip_suffix("/etc-hosts").and_then(|folder| {
                let (parent, uid) = folder.rsplit_once("/pods/")?;
                Some((uid, parent))
            })?;
            container::pod_uid(folder)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_known_by_the_mount_that_the_kubelet_makes() {
        // As in a pod of containerd; the UID is between `pods/` and the file's name.
        let uid = "73dc8baf-43a0-413e-aac2-5eb0868f6c1a";
        let line = |root: &str, point: &str| {
            format!("3998 3984 253:1 {root} {point} rw,relatime - ext4 /dev/sda1 rw")
        };
        let hosts = line(
            &format!("/var/lib/kubelet/pods/{uid}/etc-hosts"),
            "/etc/hosts",
        );
        let others = line(
            "/var/lib/docker/containers/6548c6863fb748e7/hosts",
            "/etc/hosts",
        );
        let volume = line(
            "/var/lib/kubelet/pods/11111111-43a0-413e-aac2-5eb0868f6c1a/etc-hosts",
            "/data",
        );
        let text = format!("{others}\n{volume}\n{hosts}");
        assert_eq!(pod_uid_of_mounts(&text).as_deref(), Some(uid));
        assert_eq!(pod_uid_of_mounts(&others), None);
    }

    #[test]
    fn process_1_tells_whether_other_pods_can_be_seen() {
        let uid = "73dc8baf-43a0-413e-aac2-5eb0868f6c1a";
        let id = "40c03570b6f4c30bc8d69923d37ee698f5cfcced92c7b7df1c47f6f7887378a9";
        let own = [
            "0::/".to_owned(), // the own container's, without shareProcessNamespace
            format!("0::/../cri-containerd-{id}.scope"), // pause
            format!("0::/kubepods/burstable/pod{uid}/{id}"),
        ];
        let others = [
            "0::/../../../../init.scope".to_owned(), // a node of kind, cgroup namespace of our own
            format!("0::/docker/{id}/init.scope"),
            format!("0::/kubepods/burstable/pod{}/{id}", uid.replace('7', "8")),
        ];
        for cgroup in own {
            assert!(!is_outside_of_pod(&cgroup, "0::/\n", uid), "{cgroup}");
        }
        for cgroup in others {
            assert!(is_outside_of_pod(&cgroup, "0::/\n", uid), "{cgroup}");
        }
        // podman's Pods have no UID in their paths: another container of one is not told from a stranger's, nor the own.
        let id = "4f2a".repeat(16);
        let (first, own) = (
            format!("0::/libpod_parent/x/libpod-{id}\n"),
            format!("0::/libpod_parent/x/libpod-{}\n", "ab12".repeat(16)),
        );
        assert!(!is_outside_of_pod(&first, &own, uid));
    }

    #[test]
    fn a_pod_is_named_with_and_without_its_namespace() {
        let own = OwnPod {
            uid: None,
            name: Some("api-1".into()),
            namespace: Some("shop".into()),
        };
        assert!(own.is_named("api-1") && own.is_named("shop/api-1"));
        assert!(!own.is_named("other/api-1") && !own.is_named("api"));
        assert!(!OwnPod::default().is_named("api-1"));
    }
}
