//! One part of a cgroup's path, and what it names: a pod, a container, a runtime's helper, or neither.
//!
//! In: the part, and the one before it. Out: a [`Part`]. Sources: the kubelet's `pkg/kubelet/cm` (pods), and for
//! containers moby `daemon/oci_linux.go`, containerd `internal/cri`, CRI-O `internal/config/cgmgr`, podman
//! `libpod/container_internal_linux.go`.

use super::{Qos, Runtime};

/// What a part of a path says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// `..`: out of the reader's cgroup namespace.
    Up,
    Pod {
        uid: String,
        qos: Option<Qos>,
    },
    Container {
        runtime: Runtime,
        id: &'a str,
    },
    /// A process that serves a container without being in it.
    Helper,
    Other,
}

/// Names of scopes: what stands before the ID, and whose it is (`None`: a helper's). Longer ones first.
const PREFIXES: [(&str, Option<Runtime>); 9] = [
    ("cri-containerd-", Some(Runtime::Containerd)),
    ("nerdctl-", Some(Runtime::Containerd)),
    ("crio-conmon-", None),
    ("crio-", Some(Runtime::CriO)),
    ("cri-o-", Some(Runtime::CriO)),
    ("docker-", Some(Runtime::Docker)),
    ("libpod-conmon-", None),
    ("libpod-payload-", Some(Runtime::Podman)),
    ("libpod-", Some(Runtime::Podman)),
];

const ID_DIGITS: usize = 64;

/// Reads a part of a path; `before` is the one before it, and `in_pod` says whether a pod's came earlier.
pub(super) fn part<'a>(text: &'a str, before: &str, in_pod: bool) -> Part<'a> {
    if text == ".." {
        return Part::Up;
    }
    if let Some((uid, qos)) = pod(text, before) {
        return Part::Pod { uid, qos };
    }
    let bare = text.strip_suffix(".scope").unwrap_or(text);
    for (prefix, runtime) in PREFIXES {
        let Some(id) = bare.strip_prefix(prefix).filter(|id| is_full_id(id)) else {
            continue;
        };
        return match runtime {
            Some(runtime) => Part::Container { runtime, id },
            None => Part::Helper,
        };
    }
    if text == "conmon" {
        return Part::Helper; // podman with the cgroupfs driver: `/libpod_parent/conmon`
    }
    let runtime = match before {
        _ if is_ecs_task(text) => Runtime::Ecs,
        "garden" if is_garden_id(text) => Runtime::Garden,
        _ if !is_full_id(text) => return Part::Other,
        "docker" => Runtime::Docker,
        "cri-containerd" => Runtime::Containerd,
        "crio" => Runtime::CriO,
        _ if in_pod => Runtime::Kubernetes,
        _ => Runtime::Unknown,
    };
    Part::Container { runtime, id: text }
}

/// `pod<UID>` of the cgroupfs driver, `kubepods-burstable-pod<UID with _>.slice` of the systemd driver.
fn pod(text: &str, before: &str) -> Option<(String, Option<Qos>)> {
    if let Some(uid) = text.strip_prefix("pod").and_then(pod_uid) {
        let qos = match before {
            "kubepods" => Some(Qos::Guaranteed),
            class => qos(class),
        };
        return Some((uid, qos));
    }
    let (slice, uid) = text.strip_suffix(".slice")?.rsplit_once("-pod")?;
    let qos = match slice.rsplit('-').next() {
        Some("kubepods") => Some(Qos::Guaranteed),
        class => class.and_then(qos),
    };
    Some((pod_uid(uid)?, qos))
}

fn qos(class: &str) -> Option<Qos> {
    match class {
        "guaranteed" => Some(Qos::Guaranteed),
        "burstable" => Some(Qos::Burstable),
        "besteffort" => Some(Qos::BestEffort),
        _ => None,
    }
}

/// A UUID, with `-` or, where systemd gives that a meaning of its own, `_`; or 32 digits without.
pub(super) fn pod_uid(text: &str) -> Option<String> {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let groups: Vec<&str> = text.split(['-', '_']).take(GROUPS.len() + 1).collect();
    let lengths = groups.iter().map(|group| group.len());
    let fits = lengths.clone().eq(GROUPS) || lengths.eq([32]);
    let is_digits = groups.iter().all(|group| group.bytes().all(is_hex));
    (fits && is_digits).then(|| groups.join("-"))
}

pub(super) fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_full_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(is_hex)
}

/// A container on Fargate: 32 digits of its task, and a decimal number.
fn is_ecs_task(text: &str) -> bool {
    text.split_once('-').is_some_and(|(task, number)| {
        let number_fits = (1..=20).contains(&number.len());
        task.len() == 32
            && task.bytes().all(is_hex)
            && number_fits
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Cloud Foundry: the first eight digits of a UUID, and groups of four.
fn is_garden_id(text: &str) -> bool {
    let mut groups = text.split('-').take(8);
    let first = groups.next().is_some_and(|group| group.len() == 8);
    let rest: Vec<&str> = groups.collect();
    let fits = rest.len() >= 4 && rest.iter().all(|group| matches!(group.len(), 4 | 12));
    first && fits && text.len() <= 36 && text.bytes().all(|b| b == b'-' || is_hex(b))
}
