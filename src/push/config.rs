//! Where profiles are sent to: a URL and headers, read from what a user typed, with errors that name what is wrong.
//!
//! In: text. Out: a [`SinkConfig`] that only has to be used. Values of headers are secrets: no error and no `Debug` shows
//! them. It opens no connection.

use std::fmt;

use ureq::http::{HeaderName, HeaderValue, Uri};

/// Longer URLs and headers are refused.
const MAX_URL_BYTES: usize = 2048;
const MAX_HEADER_BYTES: usize = 8192;
const MAX_HEADERS: usize = 32;
/// Headers that the protocols set themselves, or that change what a connection is.
const OWN_HEADERS: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Which protocol a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SinkKind {
    /// Grafana Pyroscope's `push.v1.PusherService/Push`, over HTTP.
    Pyroscope,
    /// Parca's `ProfileStoreService/WriteRaw`, over gRPC.
    Parca,
    /// OTLP profiles over gRPC.
    OtlpGrpc,
    /// OTLP profiles as protobuf over HTTP.
    OtlpHttp,
}

impl SinkKind {
    pub const ALL: [SinkKind; 4] = [
        SinkKind::Pyroscope,
        SinkKind::Parca,
        SinkKind::OtlpGrpc,
        SinkKind::OtlpHttp,
    ];

    /// Stable name: of the sink's folder, and in figures.
    pub fn id(self) -> &'static str {
        match self {
            SinkKind::Pyroscope => "pyroscope",
            SinkKind::Parca => "parca",
            SinkKind::OtlpGrpc => "otlp-grpc",
            SinkKind::OtlpHttp => "otlp-http",
        }
    }

    pub fn is_grpc(self) -> bool {
        matches!(self, SinkKind::Parca | SinkKind::OtlpGrpc)
    }
}

/// Why a sink cannot be used as it was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("`{url}` is not a URL a profile can be pushed to: {why}")]
    Url { url: String, why: &'static str },
    #[error("header `{name}` cannot be sent: {why}")]
    Header { name: String, why: &'static str },
    #[error("{headers} headers; {MAX_HEADERS} are the most")]
    TooManyHeaders { headers: usize },
}

/// A header of every request to a sink; in gRPC, an entry of the metadata.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    name: HeaderName,
    value: HeaderValue,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: (hidden)", self.name)
    }
}

impl Header {
    /// Reads `NAME=VALUE`; the value may have further `=`.
    pub fn parse(text: &str) -> Result<Header, ConfigError> {
        match text.split_once('=') {
            Some((name, value)) => Header::new(name.trim(), value.trim()),
            // What was typed may be the secret.
            None => Err(refused("…", "it is not of the form NAME=VALUE")),
        }
    }

    pub fn new(name: &str, value: &str) -> Result<Header, ConfigError> {
        if name.len() + value.len() > MAX_HEADER_BYTES {
            return Err(refused(name, "it is too long"));
        }
        let lower = name.to_ascii_lowercase();
        let Ok(parsed) = HeaderName::from_bytes(lower.as_bytes()) else {
            return Err(refused(name, "its name has characters that no header has"));
        };
        if OWN_HEADERS.contains(&&*lower) || lower.starts_with("grpc-") {
            return Err(refused(name, "perfprof sets it itself"));
        }
        if lower.ends_with("-bin") {
            return Err(refused(
                name,
                "gRPC takes names that end in `-bin` as binary",
            ));
        }
        let Ok(mut value) = HeaderValue::from_str(value) else {
            return Err(refused(name, "its value has characters that no header has"));
        };
        if value.to_str().is_err() {
            return Err(refused(name, "its value is not ASCII"));
        }
        value.set_sensitive(true);
        let name = parsed;
        Ok(Header { name, value })
    }

    pub(super) fn pair(&self) -> (&HeaderName, &HeaderValue) {
        (&self.name, &self.value)
    }
}

fn refused(name: &str, why: &'static str) -> ConfigError {
    ConfigError::Header {
        name: shown(name),
        why,
    }
}

/// A backend: its protocol, where it is, and what every request to it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    pub(super) kind: SinkKind,
    pub(super) endpoint: Endpoint,
    pub(super) headers: Vec<Header>,
}

impl SinkConfig {
    /// `url` is `http://HOST[:PORT]` or `https://…`; for the protocols over HTTP it may have a path, to which the
    /// protocol's own is added.
    pub fn new(kind: SinkKind, url: &str, headers: Vec<Header>) -> Result<SinkConfig, ConfigError> {
        if headers.len() > MAX_HEADERS {
            let headers = headers.len();
            return Err(ConfigError::TooManyHeaders { headers });
        }
        let endpoint = Endpoint::parse(url)?;
        if kind.is_grpc() && !endpoint.path.is_empty() {
            let why = "gRPC has no place for a path";
            return Err(bad_url(url, why));
        }
        Ok(SinkConfig {
            kind,
            endpoint,
            headers,
        })
    }

    pub fn kind(&self) -> SinkKind {
        self.kind
    }

    /// The URL as it is used; it has no password.
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Whether what the headers say goes over the network for everybody to read: they are sent without TLS, and not to
    /// this machine. Worth a warning.
    pub fn exposes_headers(&self) -> bool {
        let host = self.endpoint.host.as_str();
        let local = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        !self.endpoint.secure && !local && !self.headers.is_empty()
    }
}

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) secure: bool,
    /// A name or an address; IPv6 in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Begins with `/` and does not end with one, or is empty.
    pub(super) path: String,
}

impl Endpoint {
    fn parse(url: &str) -> Result<Endpoint, ConfigError> {
        let bad = |why| Err(bad_url(url, why));
        if url.len() > MAX_URL_BYTES {
            return bad("it is too long");
        }
        let Ok(uri) = url.parse::<Uri>() else {
            return bad("it cannot be read as a URL");
        };
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return bad("it begins with neither `http://` nor `https://`"),
        };
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return bad("it names no host");
        };
        if authority.as_str().contains('@') {
            return bad("it has a user or a password, which belong into a header");
        }
        if host.is_empty() {
            return bad("it names no host");
        }
        if uri.query().is_some() || url.contains('#') {
            return bad("it has a query or a fragment");
        }
        let typed_port = authority.as_str().len() > host.len();
        let port = match (uri.port_u16(), secure) {
            (Some(0), _) => return bad("its port is 0"),
            (Some(port), _) => port,
            (None, _) if typed_port => return bad("its port is no number"),
            (None, true) => 443,
            (None, false) => 80,
        };
        Ok(Endpoint {
            secure,
            host: host.to_owned(),
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) fn scheme(&self) -> &'static str {
        match self.secure {
            true => "https",
            false => "http",
        }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority(), self.path)
    }

    /// As names are resolved and certificates are checked: IPv6 without brackets.
    pub(super) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn bad_url(url: &str, why: &'static str) -> ConfigError {
    // A password must not come back in an error.
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let url = match scheme {
        "" => shown(rest),
        _ => shown(&format!("{scheme}://{rest}")),
    };
    ConfigError::Url { url, why }
}

/// Somebody's words, fit for a terminal.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(160).collect();
    cut.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(kind: SinkKind, url: &str) -> Result<String, String> {
        let config = SinkConfig::new(kind, url, Vec::new());
        config
            .map(|config| config.url())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn urls_are_read_and_refused_by_their_fault() {
        let http = |text| url(SinkKind::Pyroscope, text);
        assert_eq!(http("http://a.b:4040/x/"), Ok("http://a.b:4040/x".into()));
        assert_eq!(http("https://a"), Ok("https://a:443".into()));
        assert_eq!(http("http://[::1]:1"), Ok("http://[::1]:1".into()));
        for (text, fault) in [
            ("", "cannot be read"),
            ("a.b:4040", "neither `http://`"),
            ("ftp://a", "neither `http://`"),
            ("http://a?x=1", "a query"),
            ("http://a/#x", "a query or a fragment"),
            ("http://a:0", "port is 0"),
            ("http://a:99999", "a URL a profile can be pushed to"),
            ("http://a b", "cannot be read"),
        ] {
            let error = http(text).expect_err(text);
            assert!(error.contains(fault), "{text}: {error}");
        }
        let secret = http("http://me:hunter2@a").expect_err("a password");
        assert!(secret.contains("belong into a header"), "{secret}");
        assert!(!secret.contains("hunter2"), "{secret}");
        let path = url(SinkKind::OtlpGrpc, "http://a:4317/v1").expect_err("a path");
        assert!(path.contains("no place for a path"), "{path}");
        assert!(url(SinkKind::Parca, "http://a:7070/").is_ok());
    }

    #[test]
    fn headers_are_read_and_their_values_never_shown() {
        let header = Header::parse("Authorization=Bearer a=b").expect("good");
        assert_eq!(header.pair().1, "Bearer a=b");
        assert_eq!(format!("{header:?}"), "authorization: (hidden)");
        for (text, fault) in [
            ("hunter2", "NAME=VALUE"),
            ("=hunter2", "no header has"),
            ("a b=hunter2", "no header has"),
            ("x=hunter2\nevil: 1", "its value has characters"),
            ("x=hünter2", "not ASCII"),
            ("Content-Length=5", "sets it itself"),
            ("grpc-timeout=5", "sets it itself"),
            ("x-bin=hunter2", "binary"),
        ] {
            let error = Header::parse(text).expect_err(text).to_string();
            assert!(error.contains(fault), "{text}: {error}");
            assert!(!error.contains("nter2"), "{error}");
        }
    }

    #[test]
    fn a_token_in_the_clear_is_told() {
        let token = || vec![Header::new("authorization", "Bearer x").expect("good")];
        let exposes = |url, headers| {
            SinkConfig::new(SinkKind::Parca, url, headers)
                .expect("good")
                .exposes_headers()
        };
        assert!(exposes("http://parca:7070", token()));
        assert!(!exposes("http://parca:7070", Vec::new()));
        assert!(!exposes("https://parca:7070", token()));
        assert!(!exposes("http://127.0.0.1:7070", token()));
    }
}
