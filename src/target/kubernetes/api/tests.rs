//! A small API server of the test's own, on loopback, that gives what it is told to give and keeps what it was asked.

use super::*;
use crate::target::kubernetes::fake_server::FakeApi;
use std::fs;

const PODS: &str = include_str!("../../../../fixtures/kubernetes/pods.json");
const FORBIDDEN: &str = include_str!("../../../../fixtures/kubernetes/forbidden.json");
const LAST: &str =
    r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;

fn api(server: &FakeApi) -> Api {
    Api::at(&server.url(), Some("node-1")).expect("an address")
}

#[test]
fn pages_are_followed_to_the_last() {
    let server = FakeApi::start(vec![(200, PODS.to_owned()), (200, LAST.to_owned())]);
    let pods = api(&server).pods().expect("a list");
    assert_eq!(pods.len(), 4);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    let common = "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1&limit=100";
    assert_eq!(asked[0].0, format!("{common}&resourceVersion=0"));
    assert_eq!(
        asked[1].0,
        format!("{common}&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ")
    );
    assert_eq!(asked[0].1, None);
}

#[test]
fn the_token_is_read_anew_for_each_list() {
    let server = FakeApi::start(vec![
        (200, LAST.to_owned()),
        (401, "{}".to_owned()),
        (200, LAST.to_owned()),
    ]);
    let folder = tempfile::tempdir().expect("temporary folder");
    let token = folder.path().join("token");
    let api = api(&server).with_credentials(Some(token.clone()), None);
    let error = api.pods().expect_err("no token yet");
    assert!(matches!(error, ApiError::Credential { .. }) && server.asked().is_empty());
    fs::write(&token, "first\n").expect("written");
    api.pods().expect("a list");
    assert_eq!(
        api.pods().expect_err("it has run out").hint(),
        ApiError::Refused {
            url: String::new(),
            status: 401,
            why: String::new(),
        }
        .hint()
    );
    fs::write(&token, "second").expect("written");
    api.pods().expect("a list");
    let tokens: Vec<Option<String>> = server.asked().into_iter().map(|(_, token)| token).collect();
    let expected = ["Bearer first", "Bearer first", "Bearer second"];
    assert_eq!(tokens, expected.map(|token| Some(token.to_owned())));
    for odd in ["", "two\nlines", "\u{1b}[31m"] {
        fs::write(&token, odd).expect("written");
        assert!(
            matches!(api.pods(), Err(ApiError::Credential { .. })),
            "{odd:?}"
        );
    }
}

#[test]
fn a_refusal_says_who_may_not_do_what() {
    let server = FakeApi::start(vec![(403, FORBIDDEN.to_owned())]);
    let error = api(&server).pods().expect_err("refused");
    assert_eq!(
        error.to_string(),
        format!(
            "the Kubernetes API at `{}` refuses to list pods (HTTP 403): pods is forbidden: User \
             \"system:serviceaccount:shop:default\" cannot list resource \"pods\" in API group \"\" at the cluster scope",
            server.url()
        )
    );
    assert!(
        error.is_refusal()
            && error
                .hint()
                .is_some_and(|hint| hint.contains("ClusterRole"))
    );
}

#[test]
fn garbage_huge_and_endless_answers_are_errors() {
    let huge = format!(
        r#"{{"kind":"PodList","pad":"{}"}}"#,
        "x".repeat(MAX_PAGE_BYTES as usize)
    );
    let endless = LAST.replace("\"resourceVersion\":\"1\"", "\"continue\":\"again\"");
    let answers = [
        (
            "<html>a proxy's page</html>".to_owned(),
            200,
            "expected value",
        ),
        (PODS[..PODS.len() / 2].to_owned(), 200, "EOF while parsing"),
        (huge, 200, "it is longer than 16 MiB"),
        (endless, 200, "more than 64 pages"),
        (
            "evil\n\u{1b}[31m".to_owned(),
            500,
            "HTTP status 500: evil  [31m",
        ),
        (String::new(), 302, "HTTP status 302"),
    ];
    for (body, status, why) in answers {
        let server = FakeApi::start(vec![(status, body)]);
        let error = api(&server).pods().expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.len() < 512, "{error}");
    }
    let server = FakeApi::start(vec![(200, LAST.to_owned())]);
    let gone = api(&server);
    drop(server);
    assert!(matches!(gone.pods(), Err(ApiError::Unreachable { .. })));
}

#[test]
fn a_list_of_another_node_is_not_taken() {
    let server = FakeApi::start(vec![
        (200, PODS.replace("node-1", "node-2")),
        (200, LAST.to_owned()),
    ]);
    assert_eq!(api(&server).pods(), Ok(Vec::new()));
}

#[test]
fn addresses_and_nodes_are_checked() {
    let in_cluster = |host: &'static str| {
        move |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        }
    };
    let url = |host| Api::in_cluster(in_cluster(host), Some("n")).map(|api| api.url);
    assert_eq!(url("10.96.0.1").as_deref(), Ok("https://10.96.0.1:443"));
    assert_eq!(url("fd00::1").as_deref(), Ok("https://[fd00::1]:443"));
    let outside = Api::in_cluster(|_| None, Some("n"));
    assert_eq!(
        outside.err(),
        Some(ApiError::NotInCluster("KUBERNETES_SERVICE_HOST"))
    );
    assert_eq!(
        Api::at("http://127.0.0.1:8001", None).err(),
        Some(ApiError::NoNode)
    );
    for bad in ["", "127.0.0.1:8001", "ftp://x", "http://", "https://a b"] {
        assert!(
            matches!(Api::at(bad, Some("n")), Err(ApiError::BadUrl(_))),
            "{bad}"
        );
    }
    for bad in ["", "a,spec.nodeName!=b", "a\nb", "a/b"] {
        assert!(
            matches!(Api::at("http://x", Some(bad)), Err(ApiError::BadNode(_))),
            "{bad}"
        );
    }
}

#[test]
fn the_token_stays_on_this_machine_without_tls() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let token = folder.path().join("token");
    fs::write(&token, "secret").expect("written");
    let sent = |url: &str| {
        let api = Api::at(url, Some("n")).expect("an address");
        api.with_credentials(Some(token.clone()), None)
            .token()
            .expect("readable")
            .is_some()
    };
    for url in [
        "https://10.96.0.1",
        "http://127.0.0.1:1",
        "http://localhost:1/x",
        "http://[::1]:1",
    ] {
        assert!(sent(url), "{url}");
    }
    for url in [
        "http://10.96.0.1",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example:1",
        "http://127.0.0.1@evil.example",
    ] {
        assert!(!sent(url), "{url}");
    }
}
