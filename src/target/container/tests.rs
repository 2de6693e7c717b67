//! Lines as they were seen on real machines, and lines that nobody means.

use super::*;

const A: &str = "40c03570b6f4c30bc8d69923d37ee698f5cfcced92c7b7df1c47f6f7887378a9";
const B: &str = "8afe480d66074930353da456a1344caca810fe31c1e31f6e08c95a66887235d6";
const UID: &str = "dde1244b-5bb5-4297-b544-85f3bc0d80bf";
const HASH: &str = "7260904bbd08e72e4dff95d9fccd2ee8";

/// What a line must tell; `@A`, `@B`, `@UID` (`@U_D` with underscores) and `@HASH` stand for the constants above, which
/// replace the IDs of the original lines.
struct Case {
    line: &'static str,
    runtime: Runtime,
    pod: Option<&'static str>,
    qos: Option<Qos>,
    enclosing: &'static [&'static str],
}

const fn case(line: &'static str, runtime: Runtime) -> Case {
    let (pod, qos, enclosing) = (None, None, &[]);
    Case {
        line,
        runtime,
        pod,
        qos,
        enclosing,
    }
}

impl Case {
    const fn pod(mut self, uid: &'static str, qos: Option<Qos>) -> Case {
        (self.pod, self.qos) = (Some(uid), qos);
        self
    }

    const fn within(mut self, enclosing: &'static [&'static str]) -> Case {
        self.enclosing = enclosing;
        self
    }
}

const BURSTABLE: Option<Qos> = Some(Qos::Burstable);
const BEST_EFFORT: Option<Qos> = Some(Qos::BestEffort);
const GUARANTEED: Option<Qos> = Some(Qos::Guaranteed);

/// Every one has the container `@A`.
const CASES: &[Case] = &[
    // grafana/beyla `pkg/internal/helpers/container`, and its successor open-telemetry/opentelemetry-ebpf-instrumentation:
    // kind with the systemd driver; a private cgroup namespace; kind of cgroupfs in docker of systemd; GKE; EKS;
    // containerd with a static pod; docker 27.
    case(
        "0::/docker/@B/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod@U_D.slice/cri-containerd-@A.scope",
        Runtime::Containerd,
    )
    .pod(UID, BEST_EFFORT)
    .within(&[B]),
    case("0::/../cri-containerd-@A.scope", Runtime::Containerd),
    case(
        "0::/system.slice/docker-@B.scope/kubepods/burstable/pod@UID/@A",
        Runtime::Kubernetes,
    )
    .pod(UID, BURSTABLE)
    .within(&[B]),
    case("0::/kubepods/burstable/pod@UID/@A", Runtime::Kubernetes).pod(UID, BURSTABLE),
    case("0::/kubepods/burstable/pod@HASH/@A", Runtime::Kubernetes).pod(HASH, BURSTABLE),
    case(
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod@U_D.slice/cri-containerd-@A.scope",
        Runtime::Containerd,
    )
    .pod(UID, BURSTABLE),
    case(
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod@HASH.slice/cri-containerd-@A.scope",
        Runtime::Containerd,
    )
    .pod(HASH, BURSTABLE),
    case("0::/../../pod@HASH/@A", Runtime::Kubernetes).pod(HASH, None),
    // The same project's `statagg`, from MicroShift (CRI-O with crun makes a folder inside) and k3s.
    case(
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod@U_D.slice/crio-@A.scope/container",
        Runtime::CriO,
    )
    .pod(UID, BURSTABLE),
    case(
        "0::/kubepods.slice/kubepods-pod@U_D.slice/crio-@A.scope",
        Runtime::CriO,
    )
    .pod(UID, GUARANTEED),
    case(
        "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod@U_D.slice/crio-@A",
        Runtime::CriO,
    )
    .pod(UID, BEST_EFFORT),
    // coroot/coroot-node-agent `cgroup/cgroup_test.go`.
    case("2:cpu,cpuacct:/docker/@A", Runtime::Docker),
    case("0::/system.slice/docker-@A.scope", Runtime::Docker),
    case(
        "11:cpuset:/kubepods/besteffort/pod@UID/@A/kube-proxy",
        Runtime::Kubernetes,
    )
    .pod(UID, BEST_EFFORT),
    case("4:memory:/kubepods/pod@UID/@A", Runtime::Kubernetes).pod(UID, GUARANTEED),
    case("4:memory:/kubepods/pod@UID/crio-@A", Runtime::CriO).pod(UID, GUARANTEED),
    case(
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod@HASH.slice/cri-containerd-@A",
        Runtime::Containerd,
    )
    .pod(HASH, BURSTABLE),
    case(
        "9:cpuset:/system.slice/containerd.service/kubepods-burstable-pod@U_D.slice:cri-containerd:@A",
        Runtime::Containerd,
    )
    .pod(UID, BURSTABLE),
    // spiffe/spire, `k8s_posix_test.go`: docker for desktop, kind, other namespaces, minikube.
    case(
        "4:memory:/kubepods/kubepods/besteffort/pod@UID/@A",
        Runtime::Kubernetes,
    )
    .pod(UID, BEST_EFFORT),
    case(
        "4:memory:/docker/@B/kubepods/besteffort/pod@UID/@A",
        Runtime::Kubernetes,
    )
    .pod(UID, BEST_EFFORT)
    .within(&[B]),
    case(
        "4:memory:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod@UID.slice/docker-@A.scope",
        Runtime::Docker,
    )
    .pod(UID, BURSTABLE),
    case("0::/../../../burstable/pod@UID/@A", Runtime::Kubernetes).pod(UID, BURSTABLE),
    case("0::/../crio-@A.scope", Runtime::CriO),
    case(
        "9:devices:/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod@U_D.slice/crio-@A.scope",
        Runtime::CriO,
    )
    .pod(UID, BEST_EFFORT),
    // elastic/apm, `cgroup_parsing.json`: OpenShift 3.
    case(
        "9:freezer:/kubepods.slice/kubepods-pod@U_D.slice/docker-@A.scope",
        Runtime::Docker,
    )
    .pod(UID, GUARANTEED),
    // DataDog/datadog-agent, `pkg/util/cgroups`: minikube in docker, seen from inside; another namespace.
    case(
        "1:name=systemd:/docker/@B/kubelet/kubepods/burstable/pod@UID/@A",
        Runtime::Kubernetes,
    )
    .pod(UID, BURSTABLE)
    .within(&[B]),
    case(
        "0::../../../kubepods-burstable.slice/kubepods-burstable-pod@U_D.slice/docker-@A.scope",
        Runtime::Docker,
    )
    .pod(UID, BURSTABLE),
    // DataDog/dd-trace-py, `test_container.py`: ECS on EC2, and Fargate before 1.4.
    case("9:perf_event:/ecs/test-ecs-classic/5a0d5ceddf6c44c1928d367a815d890f/@A", Runtime::Unknown),
    case("11:hugetlb:/ecs/55091c13-b8cf-4801-b527-f4601742204d/@A", Runtime::Unknown),
    // neuvector/neuvector `share/system/cgroup_test.go`: docker on Debian.
    case("10:net_prio:/@A", Runtime::Unknown),
    // podman: systemd and cgroupfs drivers, quadlet (`--cgroups=split`), rootless, a pod of podman's own, 4.3 on v1.
    case("0::/machine.slice/libpod-@A.scope", Runtime::Podman),
    case("0::/machine.slice/libpod-@A.scope/container", Runtime::Podman),
    case("0::/libpod_parent/libpod-@A", Runtime::Podman),
    case("0::/system.slice/nginx.service/libpod-payload-@A", Runtime::Podman),
    case(
        "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-@A.scope/container",
        Runtime::Podman,
    ),
    case(
        "0::/machine.slice/machine-libpod_pod_@B.slice/libpod-@A.scope",
        Runtime::Podman,
    ),
    case("4:memory:/libpod_parent/@B/libpod-@A", Runtime::Podman).within(&[B]),
    // Docker in a pod.
    case(
        "0::/kubepods.slice/kubepods-pod@U_D.slice/cri-containerd-@B.scope/docker/@A",
        Runtime::Docker,
    )
    .pod(UID, GUARANTEED)
    .within(&[B]),
    // BuildKit in docker: no ID of its own that could be told from a word.
    case("0::/docker/@A/docker/buildkit/5cf82fwiumld3vcs5d5l5pzyv", Runtime::Docker),
];

fn real(line: &str) -> String {
    let underscored = UID.replace('-', "_");
    let placed = [
        ("@A", A),
        ("@B", B),
        ("@UID", UID),
        ("@U_D", underscored.as_str()),
        ("@HASH", HASH),
    ];
    let mut line = line.to_owned();
    for (mark, value) in placed {
        line = line.replace(mark, value);
    }
    line
}

#[test]
fn every_known_layout_is_read() {
    for case in CASES {
        let line = real(case.line);
        let found = ContainerIdentity::parse(&line).unwrap_or_else(|| panic!("nothing in {line}"));
        assert_eq!(found.container_id, A, "{line}");
        assert_eq!(found.runtime, case.runtime, "{line}");
        assert_eq!(found.pod_uid.as_deref(), case.pod, "{line}");
        assert_eq!(found.qos, case.qos, "{line}");
        assert_eq!(found.enclosing, case.enclosing, "{line}");
        assert_eq!(found.is_beside_reader, line.contains(":/../c"), "{line}");
    }
}

#[test]
fn tasks_of_fargate_and_garden_have_ids_of_their_own() {
    let ids = [
        (
            "/ecs/34dc0b5e626f2c5c4c5170e34b10e765-1234567890",
            Runtime::Ecs,
        ),
        (
            "/ecs/0520ecd8e4194fd48309d1ae6eec92ec/0520ecd8e4194fd48309d1ae6eec92ec-946514567",
            Runtime::Ecs,
        ),
        ("/garden/6f265890-5165-7fab-6b52-18d1", Runtime::Garden),
        (
            "/system.slice/garden.service/garden/6f265890-5165-7fab-6b52-18d1",
            Runtime::Garden,
        ),
    ];
    for (path, runtime) in ids {
        let found = ContainerIdentity::of_path(path).expect(path);
        assert_eq!(found.runtime, runtime, "{path}");
        assert!(path.ends_with(&found.container_id) && !found.container_id.contains('/'));
    }
}

#[test]
fn what_is_in_no_container_has_no_identity() {
    let lines = [
        "",
        "0::/",
        "0::/init.scope",
        "0::/system.slice/docker.service",
        "0::/system.slice/containerd.service",
        "0::/podruntime/runtime",
        "0::/kubepods.slice/kubepods-burstable.slice",
        // A pod's own cgroup, where CRI-O may put conmon.
        "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod@U_D.slice",
        "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod@U_D.slice/crio-conmon-@A.scope",
        "0::/machine.slice/libpod-conmon-@A.scope",
        "4:memory:/libpod_parent/conmon",
        "1:name=systemd:/user.slice/user-0.slice/session-14.scope",
        "1:name=systemd:/user.slice/user-1000.slice/user@1000.service/apps.slice/apps-org.gnome.Terminal.slice/vte-spawn-75bc72bd-6642-4cf5-b62c-0674e11bfc84.scope",
        // One digit too few, a digit that is none, upper case: dd-trace-py, `test_container.py`.
        "13:name=systemd:/docker/3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f86986",
        "13:name=systemd:/docker/3726184226f5d3147c25fzyxw5b60097e378e8a720503a5e19ecfdf29f869860",
        "13:name=systemd:/docker/3726184226F5D3147C25FDEAB5B60097E378E8A720503A5E19ECFDF29F869860",
        "0::/system.slice/var-lib-docker-containers-@A-mounts-shm.mount",
        "13:/docker/@A",
    ];
    for line in lines {
        assert_eq!(ContainerIdentity::parse(&real(line)), None, "{line}");
    }
}

#[test]
fn hierarchies_that_disagree_give_the_pod_and_the_innermost_container() {
    // Containerd and runc without the systemd driver: v2 still shows the service (DataDog/datadog-agent).
    let hybrid =
        "11:memory:/kubepods/burstable/pod@UID/@A\n10:rdma:/\n0::/system.slice/containerd.service";
    let found = ContainerIdentity::parse(&real(hybrid)).expect("a container");
    assert_eq!(
        (found.container_id.as_str(), found.pod_uid.as_deref()),
        (A, Some(UID))
    );
    let kind =
        "9:memory:/docker/@B\n0::/docker/@B/kubelet/kubepods/pod@UID/@A\n1:name=systemd:/docker/@B";
    let found = ContainerIdentity::parse(&real(kind)).expect("a container");
    assert_eq!(
        (found.container_id.as_str(), found.enclosing.as_slice()),
        (A, &[B.to_owned()][..])
    );
}

#[test]
fn a_prefix_of_an_id_is_told_from_a_name() {
    assert!(is_id_prefix(A) && is_id_prefix(short(A)));
    assert!(!is_id_prefix(&A[..11]) && !is_id_prefix("my-container") && !is_id_prefix(""));
    assert_eq!(pod_uid(&UID.replace('-', "_")).as_deref(), Some(UID));
    assert_eq!(pod_uid("dde1244b-5bb5-4297-b544"), None);
    assert_eq!(pod_uid("my-pod"), None);
}

/// Whatever stands in a path, an identity has IDs of bounded length made of digits and dashes.
#[test]
fn no_path_leads_to_a_panic_or_an_id_that_is_none() {
    let words = [
        "docker",
        "kubepods",
        "burstable",
        "pod",
        "kubepods-pod",
        "crio-",
        "cri-containerd-",
        "libpod-",
        "garden",
        "ecs",
        ".scope",
        ".slice",
        "..",
        ".",
        ":",
        "/",
        "\n",
        "0::",
        "é",
        "\u{0}",
        A,
        UID,
        HASH,
        "-",
        "_",
        "f",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let mut containers = 0;
    for _ in 0..20_000 {
        let mut text = String::from("0::/");
        for _ in 0..random.usize(0..14) {
            text.push_str(words[random.usize(0..words.len())]);
            if random.bool() {
                text.push('/');
            }
            if random.usize(0..20) == 0 {
                let at = random.usize(0..=text.len());
                if text.is_char_boundary(at) {
                    text.truncate(at);
                }
            }
        }
        let Some(found) = ContainerIdentity::parse(&text) else {
            continue;
        };
        containers += 1;
        assert!(found.enclosing.len() <= MAX_ENCLOSING);
        for id in found.ids().chain(found.pod_uid.as_deref()) {
            assert!((SHORT_ID..=64).contains(&id.len()), "{id} in {text:?}");
            assert!(
                id.bytes().all(|b| b == b'-' || name::is_hex(b)),
                "{id} in {text:?}"
            );
        }
    }
    assert!(
        containers > 500,
        "only {containers} of the texts hold a container"
    );
    let deep = format!("0::{}", format!("/docker/{A}").repeat(100_000));
    let found = ContainerIdentity::parse(&deep).expect("a container");
    assert_eq!(found.enclosing.len(), MAX_ENCLOSING);
}

#[test]
fn this_process_and_a_process_that_is_gone() {
    assert!(ContainerIdentity::of(std::process::id()).is_ok());
    assert!(ContainerIdentity::of(u32::MAX).is_err());
}
