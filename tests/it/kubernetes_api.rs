//! The Kubernetes API is asked over TLS, under the cluster's own certificate authority and nobody else's.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use perfprof::target::container::ContainerIdentity;
use perfprof::target::kubernetes::{Api, ApiError, Downward, Index, News};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::support::proc::wait_until;
use crate::support::{Need, missing};

/// Only bounds a failure.
const LIMIT: Duration = Duration::from_secs(60);
/// Of `fixtures/kubernetes/pods.json`.
const ID: &str = "40c03570b6f4c30bc8d69923d37ee698f5cfcced92c7b7df1c47f6f7887378a9";

#[test]
fn labels_come_over_tls_from_the_clusters_own_authority_only() {
    if missing(&[Need::Program("openssl")]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for authority in ["ours", "theirs"] {
        make_authority(folder.path(), authority);
    }
    make_certificate(folder.path(), "ours", "127.0.0.1");
    let address = serve(folder.path());
    let token = folder.path().join("token");
    fs::write(&token, "the-token\n").expect("writable");
    let follow = |authority: &str| {
        let index = Index::new(Downward::default(), None);
        let url = format!("https://{address}");
        let api = Api::at(&url, Some("node-1")).expect("an address");
        let ca = folder.path().join(format!("{authority}.pem"));
        let api = api.with_credentials(Some(token.clone()), Some(ca));
        index.follow(api).expect("a thread can be started");
        index
    };
    let index = follow("ours");
    wait_until("a list comes", LIMIT, || {
        let (lists, failures) = index.lists_and_failures();
        assert_eq!(failures, 0, "{:?}", index.take_news());
        lists > 0
    });
    let path = format!("/kubepods/pod73dc8baf-43a0-413e-aac2-5eb0868f6c1a/{ID}");
    let identity = ContainerIdentity::of_path(&path).expect("a container");
    let labels = index.lookup(Some(&identity));
    assert_eq!(labels.get("workload"), Some("api"));
    let index = follow("theirs");
    wait_until("it is refused", LIMIT, || index.lists_and_failures().1 > 0);
    match index.take_news() {
        Some(News::Problem(ApiError::Unreachable { why, .. })) => {
            assert!(why.contains("certificate"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let command = command
        .args(arguments.split_whitespace())
        .current_dir(folder);
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("`openssl` can be run");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {text}");
}

fn make_authority(folder: &Path, name: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"
        ),
    );
}

fn make_certificate(folder: &Path, authority: &str, address: &str) {
    fs::write(folder.join("san"), format!("subjectAltName=IP:{address}\n")).expect("writable");
    openssl(
        folder,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=kube-apiserver",
    );
    openssl(
        folder,
        &format!(
            "x509 -req -in server.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -extfile san -days 2 -out server.pem"
        ),
    );
}

/// Gives the recorded pods to whoever shows the token, as long as the test runs.
fn serve(folder: &Path) -> SocketAddr {
    let certificate = CertificateDer::from_pem_file(folder.join("server.pem")).expect("made");
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).expect("made");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).expect("configured");
            // A client that does not trust this server hangs up.
            let _ = answer(socket, connection);
        }
    });
    address
}

fn answer(
    mut socket: std::net::TcpStream,
    mut connection: ServerConnection,
) -> std::io::Result<()> {
    let mut stream = Stream::new(&mut connection, &mut socket);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let is_allowed = request.contains("\r\nauthorization: bearer the-token\r\n");
    let pods = include_str!("../../fixtures/kubernetes/pods.json");
    let body = pods.replace("eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ", "");
    let status = if is_allowed {
        "200 OK"
    } else {
        "401 Unauthorized"
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    connection.send_close_notify();
    connection.complete_io(&mut socket).map(drop)
}
