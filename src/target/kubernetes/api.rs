//! Asking the Kubernetes API which pods run on this node.
//!
//! In: where the API is, the node's name, and the files of a service account. Out: [`Pod`]s, or why not. It lists
//! pods and does nothing else, follows no redirect, uses no proxy, and sends the token over TLS or to this machine only.
//! Token and certificate are read anew for each list, because the kubelet replaces them.
//!
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/>. The first page is asked for as of
//! `resourceVersion=0`: the API server answers from its memory, where pods are indexed by node, instead of reading all
//! pods of the cluster from etcd. It may then ignore `limit`.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::pods::{Pod, parse};

/// Where Kubernetes puts a pod's service account.
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const CA_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// For one page. The API server is near, and nobody waits for this.
const TIMEOUT: Duration = Duration::from_secs(15);
const PAGE_PODS: usize = 100;
const MAX_PAGES: usize = 64;
/// A node with 250 pods that describe themselves at length has 5 MB.
const MAX_PAGE_BYTES: u64 = 16 << 20;
/// Kubernetes' own limit is 110 on a node by default.
const MAX_PODS: usize = 4096;
const MAX_CREDENTIAL_BYTES: u64 = 1 << 20;
/// A server's words are cut here.
const MAX_WHY_CHARS: usize = 240;

/// Why there is no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    #[error("not in a Kubernetes cluster: `{0}` is not set")]
    NotInCluster(&'static str),
    #[error("the name of this node is not known, so its pods cannot be asked for")]
    NoNode,
    #[error("`{0}` is no name of a Kubernetes node")]
    BadNode(String),
    #[error("`{0}` is no address of a Kubernetes API: it begins with `http://` or `https://`")]
    BadUrl(String),
    #[error("cannot read `{path}` of the service account: {why}")]
    Credential { path: PathBuf, why: String },
    #[error("the Kubernetes API at `{url}` cannot be reached: {why}")]
    Unreachable { url: String, why: String },
    #[error("the Kubernetes API at `{url}` refuses to list pods (HTTP {status}): {why}")]
    Refused {
        url: String,
        status: u16,
        why: String,
    },
    #[error("the Kubernetes API at `{url}` gave an answer that is not understood: {why}")]
    BadAnswer { url: String, why: String },
}

impl ApiError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            ApiError::NoNode => {
                "set `NODE_NAME` from `fieldRef: spec.nodeName` in the pod's manifest, or give `--node-name`"
            }
            ApiError::Refused { status: 401, .. } => {
                "the pod's service account token is not accepted; is `automountServiceAccountToken` off, or the token of another cluster?"
            }
            ApiError::Refused { .. } => {
                "bind a ClusterRole with the verb `list` on `pods` to the pod's service account, or give `--kubernetes-api off`"
            }
            ApiError::NotInCluster(_) => "give the API's URL, or `--kubernetes-api off`",
            _ => return None,
        })
    }

    /// Whether asking again soon would be refused again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ApiError::Refused { .. })
    }
}

/// A Kubernetes API, and who asks it for which node.
#[derive(Clone, Debug)]
pub struct Api {
    /// Without a slash at its end.
    url: String,
    node: String,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    /// Whether the machine's own certificates count beside the file.
    trusts_machine: bool,
}

impl Api {
    /// The API of the cluster that perfprof runs in, by the environment and files that every container of a pod has.
    /// `var` looks up a variable.
    ///
    /// # Errors
    /// When the environment is not that of a pod, or the node's name is missing or none.
    pub fn in_cluster(
        var: impl Fn(&str) -> Option<String>,
        node: Option<&str>,
    ) -> Result<Api, ApiError> {
        let told = |name: &'static str| var(name).ok_or(ApiError::NotInCluster(name));
        let host = told("KUBERNETES_SERVICE_HOST")?;
        let port = told("KUBERNETES_SERVICE_PORT")?;
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host,
        };
        let mut api = Api::at(&format!("https://{host}:{port}"), node)?;
        api.trusts_machine = false;
        Ok(api)
    }

    /// The API at a URL. Over https, the pod's service account is used where there is one.
    ///
    /// # Errors
    /// When the URL or the node's name is none.
    pub fn at(url: &str, node: Option<&str>) -> Result<Api, ApiError> {
        let url = url.trim_end_matches('/');
        let host = host_of(url).filter(|host| !host.is_empty());
        if host.is_none() || !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ApiError::BadUrl(shown(url)));
        }
        let node = node.ok_or(ApiError::NoNode)?;
        let may_be_in_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if node.is_empty() || node.len() > 253 || !node.bytes().all(may_be_in_name) {
            return Err(ApiError::BadNode(shown(node)));
        }
        let account = |path: &str| Some(PathBuf::from(path)).filter(|path| path.exists());
        let is_https = url.starts_with("https://");
        Ok(Api {
            url: url.to_owned(),
            node: node.to_owned(),
            token_file: account(TOKEN_FILE).filter(|_| is_https),
            ca_file: account(CA_FILE).filter(|_| is_https),
            trusts_machine: true,
        })
    }

    /// With other files than the service account's.
    pub fn with_credentials(
        mut self,
        token_file: Option<PathBuf>,
        ca_file: Option<PathBuf>,
    ) -> Api {
        (self.token_file, self.ca_file) = (token_file, ca_file);
        self
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The pods that run on the node.
    pub(super) fn pods(&self) -> Result<Vec<Pod>, ApiError> {
        let agent = self.agent()?;
        let token = self.token()?;
        let mut pods = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let body = self.page(&agent, token.as_deref(), next.as_deref())?;
            let (page, more) = parse(&body).map_err(|why| self.bad(why))?;
            // A server that does not know the selector would tell of other nodes' pods.
            let here = |pod: &Pod| pod.node.as_ref().is_none_or(|node| *node == self.node);
            pods.extend(page.into_iter().filter(here));
            if pods.len() > MAX_PODS {
                return Err(self.bad(format!("more than {MAX_PODS} pods on one node")));
            }
            match more {
                Some(more) => next = Some(more),
                None => return Ok(pods),
            }
        }
        Err(self.bad(format!("more than {MAX_PAGES} pages")))
    }

    fn page(
        &self,
        agent: &Agent,
        token: Option<&str>,
        next: Option<&str>,
    ) -> Result<Vec<u8>, ApiError> {
        let mut request = agent
            .get(format!("{}/api/v1/pods", self.url))
            .query("fieldSelector", format!("spec.nodeName={}", self.node))
            .query("limit", PAGE_PODS.to_string())
            .header("accept", "application/json");
        request = match next {
            Some(next) => request.query("continue", next),
            None => request.query("resourceVersion", "0"),
        };
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let mut body = Vec::new();
        let reader = response.into_body().into_reader();
        let read = reader.take(MAX_PAGE_BYTES + 1).read_to_end(&mut body);
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(ApiError::Refused {
                    url: self.url.clone(),
                    status: status.as_u16(),
                    why: message(&body),
                });
            }
            other => {
                let why = format!("HTTP status {}: {}", other.as_u16(), message(&body));
                return Err(self.bad(why));
            }
        }
        read.map_err(|error| self.unreachable(error))?;
        if body.len() as u64 > MAX_PAGE_BYTES {
            return Err(self.bad(format!("it is longer than {} MiB", MAX_PAGE_BYTES >> 20)));
        }
        Ok(body)
    }

    fn agent(&self) -> Result<Agent, ApiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(self.certificates()?)))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .proxy(None)
            .https_only(self.is_https())
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("perfprof/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(config.new_agent())
    }

    fn is_https(&self) -> bool {
        self.url.starts_with("https://")
    }

    fn certificates(&self) -> Result<Vec<Certificate<'static>>, ApiError> {
        let mut certificates = Vec::new();
        if !self.is_https() {
            return Ok(certificates);
        }
        if let Some(path) = &self.ca_file {
            let pem = credential(path)?;
            certificates.extend(parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            }));
            if certificates.is_empty() {
                return Err(ApiError::Credential {
                    path: path.clone(),
                    why: "it holds no certificate".to_owned(),
                });
            }
        }
        if self.trusts_machine || self.ca_file.is_none() {
            let machine = rustls_native_certs::load_native_certs().certs;
            certificates.extend(
                machine
                    .iter()
                    .map(|cert| Certificate::from_der(cert).to_owned()),
            );
        }
        Ok(certificates)
    }

    /// `None` where there is none, or nobody may see it on its way.
    fn token(&self) -> Result<Option<String>, ApiError> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        if !self.is_https() && !is_this_machine(&self.url) {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&credential(path)?)
            .trim()
            .to_owned();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ApiError::Credential {
                path: path.clone(),
                why: "it holds no token".to_owned(),
            });
        }
        Ok(Some(text))
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::Unreachable {
            url: self.url.clone(),
            why: shown(&why.to_string()),
        }
    }

    fn bad(&self, why: impl AsRef<str>) -> ApiError {
        ApiError::BadAnswer {
            url: self.url.clone(),
            why: shown(why.as_ref()),
        }
    }
}

/// Host and port, and whatever else stands before the path.
fn host_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    matches!(scheme, "http" | "https").then(|| rest.split('/').next().unwrap_or_default())
}

fn is_this_machine(url: &str) -> bool {
    let host = host_of(url).unwrap_or_default();
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    bare == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn credential(path: &Path) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_CREDENTIAL_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(ApiError::Credential {
            path: path.to_owned(),
            why: error.to_string(),
        }),
    }
}

/// What the API server says in a `Status`, or else the beginning of the body.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    match serde_json::from_slice::<Status>(body) {
        Ok(status) => shown(&status.message),
        Err(_) => shown(&String::from_utf8_lossy(
            body.get(..MAX_WHY_CHARS).unwrap_or(body),
        )),
    }
}

/// Words that a server may have chosen, fit for a terminal.
fn shown(text: &str) -> String {
    let cut: String = text.trim().chars().take(MAX_WHY_CHARS).collect();
    cut.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests;
