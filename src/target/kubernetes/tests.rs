//! The index with all its sources.

use super::fake_server::FakeApi;
use super::*;

const PODS: &str = include_str!("../../../fixtures/kubernetes/pods.json");
const FORBIDDEN: &str = include_str!("../../../fixtures/kubernetes/forbidden.json");
/// Containers of the recorded answer: `api` and `proxy` of one pod, `etcd` of the static one.
const API: &str = "40c03570b6f4c30bc8d69923d37ee698f5cfcced92c7b7df1c47f6f7887378a9";
const ETCD: &str = "0853fad78812e955b92d871d8d597d9bc598e34320c9edbfab0a73eacf150145";
const OTHER: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const POD: &str = "73dc8baf-43a0-413e-aac2-5eb0868f6c1a";

/// The recorded pods on the last page.
fn pods() -> String {
    PODS.replace("eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ", "")
}

fn quick() -> Pace {
    Pace {
        every: Duration::from_secs(3600),
        at_most_every: Duration::from_millis(20),
        refused: Duration::from_millis(20),
    }
}

fn index(own: Downward) -> Index {
    let mut index = Index::new(own, None);
    // Wherever the test runs.
    index.sees_own_pod_only = false;
    index
}

fn following(server: &FakeApi, pace: Pace) -> Index {
    let index = index(Downward::default());
    let api = Api::at(&server.url(), Some("node-1")).expect("an address");
    index.follow_at(api, pace).expect("a thread");
    index
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn identity(path: &str) -> ContainerIdentity {
    ContainerIdentity::of_path(path).expect("a container")
}

fn shown(labels: &Labels) -> String {
    let pairs = labels
        .iter()
        .filter(|(name, _)| *name != "hostname" && *name != "container_id");
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

#[test]
fn a_container_of_the_list_has_its_pods_labels() {
    let server = FakeApi::start(vec![(200, pods())]);
    let index = following(&server, PACE);
    eventually("a list", || index.lists_and_failures().0 == 1);
    let labels = index.lookup(Some(&identity(&format!("/../cri-containerd-{API}.scope"))));
    assert_eq!(
        shown(&labels),
        format!(
            "app_kubernetes_io_name=the-api container=api namespace=shop node=node-1 pod=api-7f9c6d5b8-x2x4q pod_uid={POD} workload=api workload_kind=Deployment"
        )
    );
    assert_eq!(labels.get("container_id"), Some(API));
    // Docker in that container; a container that the pod has started since; the static pod, by its hash.
    let inner = identity(&format!("/../cri-containerd-{API}.scope/docker/{OTHER}"));
    assert_eq!(index.lookup(Some(&inner)).get("container"), Some("api"));
    let new = identity(&format!("/kubepods/burstable/pod{POD}/{OTHER}"));
    let labels = index.lookup(Some(&new));
    assert_eq!(
        (labels.get("pod"), labels.get("container")),
        (Some("api-7f9c6d5b8-x2x4q"), None)
    );
    let etcd = identity(&format!(
        "/kubepods/pod7260904bbd08e72e4dff95d9fccd2ee8/{ETCD}"
    ));
    let labels = index.lookup(Some(&etcd));
    assert_eq!(
        (labels.get("container"), labels.get("workload")),
        (Some("etcd"), None)
    );
    assert_eq!(index.take_news(), None);
}

#[test]
fn names_lead_to_ids() {
    let server = FakeApi::start(vec![(200, pods())]);
    let index = following(&server, PACE);
    eventually("a list", || index.lists_and_failures().0 == 1);
    for name in [
        "api",
        "api-7f9c6d5b8-x2x4q/api",
        "shop/api-7f9c6d5b8-x2x4q/api",
    ] {
        let named = index.containers_named(name);
        assert_eq!(named.len(), 1, "{name}");
        assert_eq!(
            (named[0].id.as_str(), named[0].called.as_str()),
            (API, "shop/api-7f9c6d5b8-x2x4q/api")
        );
    }
    assert_eq!(index.pods_named("shop/api-7f9c6d5b8-x2x4q")[0].id, POD);
    assert!(
        index
            .pods_named("kube-system/api-7f9c6d5b8-x2x4q")
            .is_empty()
    );
    assert!(index.containers_named("sh").is_empty());
    let beside = identity(&format!("/../cri-containerd-{API}.scope"));
    assert_eq!(index.pod_of(&beside).as_deref(), Some(POD));
}

#[test]
fn an_unknown_container_makes_the_api_be_asked_a_few_times_only() {
    let server = FakeApi::start(vec![(200, pods().replace(API, OTHER))]);
    let index = following(&server, quick());
    eventually("a list", || index.lists_and_failures().0 == 1);
    let api = identity(&format!("/../cri-containerd-{API}.scope"));
    assert_eq!(index.lookup(Some(&api)).get("pod"), None);
    server.answers(vec![(200, pods())]);
    eventually("it becomes known", || {
        index.lookup(Some(&api)).get("pod").is_some()
    });
    // One that is not of Kubernetes: asked for as often as one likes, lists come to an end.
    let before = index.lists_and_failures().0;
    let docker = identity(&format!("/docker/{}", "2".repeat(64)));
    let stranger = identity(&format!("/docker/{}", "3".repeat(64)));
    eventually("it is given up", || {
        index.lookup(Some(&docker));
        index.lookup(Some(&stranger));
        let state = index.shared.lock();
        state.unknown.values().all(|tries| *tries >= TRIES) && !state.is_wanted
    });
    let after = index.lists_and_failures().0;
    assert!(
        (before + 3..=before + 4).contains(&after),
        "{before} {after}"
    );
    for _ in 0..100 {
        index.lookup(Some(&docker));
    }
    assert!(!index.shared.lock().is_wanted);
}

#[test]
fn a_refusal_is_told_once_and_so_is_its_end() {
    let server = FakeApi::start(vec![(403, FORBIDDEN.to_owned())]);
    let index = following(&server, quick());
    eventually("several refusals", || index.lists_and_failures().1 >= 3);
    let Some(News::Problem(error)) = index.take_news() else {
        panic!("nothing is told");
    };
    assert!(error.is_refusal());
    let failures = index.lists_and_failures().1;
    eventually("more refusals", || {
        index.lists_and_failures().1 > failures + 1
    });
    assert_eq!(index.take_news(), None);
    let api = identity(&format!("/kubepods/burstable/pod{POD}/{API}"));
    assert_eq!(shown(&index.lookup(Some(&api))), format!("pod_uid={POD}"));
    server.answers(vec![(200, pods())]);
    eventually("it is allowed", || index.lists_and_failures().0 == 1);
    assert_eq!(index.take_news(), Some(News::Recovered));
    assert_eq!(index.lookup(Some(&api)).get("container"), Some("api"));
}

#[test]
fn what_has_ended_is_known_for_a_while() {
    let (pods, _) = pods::parse(pods().as_bytes()).expect("a list");
    let (mut state, begin) = (State::default(), Instant::now());
    state.take(Ok(pods), begin);
    state.take(Ok(Vec::new()), begin + REMEMBERED / 2);
    assert_eq!((state.pods.len(), state.containers.len()), (4, 5));
    state.take(Ok(Vec::new()), begin + REMEMBERED);
    assert_eq!((state.pods.len(), state.containers.len()), (0, 0));
}

#[test]
fn the_own_pods_labels_are_for_the_own_pod_only() {
    let mut own = Downward::of_environment(|name| {
        Some(match name {
            "POD_NAME" => "api-1".to_owned(),
            "POD_NAMESPACE" => "shop".to_owned(),
            "POD_UID" => POD.to_owned(),
            "NODE_NAME" => "node-1".to_owned(),
            _ => return None,
        })
    });
    own.labels.set("app", "api");
    own.labels.set("pod", "forged");
    let mut index = index(own);
    let own = identity(&format!("/kubepods/burstable/pod{POD}/{API}"));
    let expected = format!("app=api namespace=shop node=node-1 pod=api-1 pod_uid={POD}");
    assert_eq!(shown(&index.lookup(Some(&own))), expected);
    let other = identity(&format!(
        "/kubepods/burstable/pod{}/{API}",
        POD.replace('7', "8")
    ));
    assert_eq!(
        shown(&index.lookup(Some(&other))),
        format!("node=node-1 pod_uid={}", POD.replace('7', "8"))
    );
    assert_eq!(shown(&index.lookup(None)), "node=node-1");
    // A sidecar sees nobody else.
    index.sees_own_pod_only = true;
    assert_eq!(shown(&index.lookup(None)), expected);
    let beside = identity(&format!("/../cri-containerd-{OTHER}.scope"));
    assert_eq!(shown(&index.lookup(Some(&beside))), expected);
    assert!(index.lookup(None).get("hostname").is_some());
}

#[test]
fn engines_files_name_containers_without_the_api() {
    let root = tempfile::tempdir().expect("temporary folder");
    let folder = root
        .path()
        .join("var/lib/containers/storage/overlay-containers");
    std::fs::create_dir_all(&folder).expect("made");
    let stored = format!(
        r#"[{{"id":"{API}","names":["k8s_api_api-1_shop_{POD}_0"]}},{{"id":"{OTHER}","names":["db"]}}]"#
    );
    std::fs::write(folder.join("containers.json"), stored).expect("written");
    let files = StateFiles::below(root.path()).expect("opened");
    let mut index = Index::new(Downward::default(), Some(Arc::new(files)));
    index.sees_own_pod_only = false;
    let labels = index.lookup(Some(&identity(&format!("/../crio-{API}.scope"))));
    assert_eq!(
        shown(&labels),
        format!("container=api namespace=shop pod=api-1 pod_uid={POD}")
    );
    let podman = index.lookup(Some(&identity(&format!(
        "/machine.slice/libpod-{OTHER}.scope"
    ))));
    assert_eq!(shown(&podman), "container=db");
}
