//! One debuginfod server: a request, and the body that comes, within bounds.
//!
//! In: the path of a request and an empty file. Out: the file filled, or why not. A server that lets the time pass or
//! cannot be reached is given up for this run.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Timeout};

use super::FetchError;

/// Public servers redirect once or twice, to a mirror.
const MAX_REDIRECTS: u32 = 5;
/// To find and reach a server, TLS included; only the search for a file may take the user's whole patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// A server's words are cut here.
const MAX_WHY_CHARS: usize = 160;
/// The size of the file, whatever the transfer does to it; debuginfod(8).
const SIZE_HEADER: &str = "x-debuginfod-size";
/// Asks the server to refuse larger files, with 406; debuginfod(8).
const MAX_SIZE_HEADER: &str = "x-debuginfod-maxsize";

/// A server, and whether it is still worth asking.
#[derive(Debug)]
pub(super) struct Server {
    /// As it is shown: no password.
    pub name: String,
    url: String,
    agent: Agent,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    given_up: Option<FetchError>,
    /// Spent on answers without a file since the last file.
    fruitless: Duration,
}

/// A client for each URL. All share the machine's certificates, which are read once.
pub(super) fn servers(urls: &[String], timeout: Duration) -> Vec<Server> {
    let certificates = match urls.iter().any(|url| is_https(url)) {
        true => machine_certificates(),
        false => Arc::new(Vec::new()),
    };
    urls.iter()
        .map(|url| Server::new(url, timeout, &certificates))
        .collect()
}

fn is_https(url: &str) -> bool {
    url.starts_with("https://")
}

/// Those that other programs here trust, which may include the company's own; none in an empty container.
fn machine_certificates() -> Arc<Vec<Certificate<'static>>> {
    let found = rustls_native_certs::load_native_certs().certs;
    Arc::new(
        found
            .iter()
            .map(|cert| Certificate::from_der(cert).to_owned())
            .collect(),
    )
}

impl Server {
    fn new(url: &str, timeout: Duration, certificates: &Arc<Vec<Certificate<'static>>>) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(certificates.clone()))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .max_redirects(MAX_REDIRECTS)
            // Who was asked securely may not send us elsewhere insecurely.
            .https_only(is_https(url))
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("perfprof/", env!("CARGO_PKG_VERSION")))
            .build();
        let host = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (_password, name) = host.rsplit_once('@').unwrap_or(("", host));
        Server {
            name: name.to_owned(),
            url: url.to_owned(),
            agent: config.new_agent(),
            timeout,
            state: Mutex::default(),
        }
    }

    /// Fills `into` with what stands at `path`, at most `limit_bytes`, and adds to `received` as it comes. Returns the
    /// bytes.
    pub fn download(
        &self,
        path: &str,
        into: &File,
        limit_bytes: u64,
        received: &AtomicU64,
    ) -> Result<u64, FetchError> {
        if let Some(error) = &self.state().given_up {
            return Err(error.clone());
        }
        let begun = Instant::now();
        let result = self.request(path, into, limit_bytes, received, begun);
        self.judge(&result, begun.elapsed());
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to ask again: not after a time-out, and not once answers without a file took as long as one.
    fn judge(&self, result: &Result<u64, FetchError>, took: Duration) {
        let mut state = self.state();
        match result {
            Ok(_) => state.fruitless = Duration::ZERO,
            Err(error @ (FetchError::TimedOut { .. } | FetchError::Unreachable { .. })) => {
                state.given_up = Some(error.clone());
            }
            Err(_) => {
                state.fruitless += took;
                if state.fruitless > self.timeout {
                    state.given_up = Some(self.timed_out());
                }
            }
        }
    }

    fn request(
        &self,
        path: &str,
        into: &File,
        limit_bytes: u64,
        received: &AtomicU64,
        begun: Instant,
    ) -> Result<u64, FetchError> {
        let request = self
            .agent
            .get(format!("{}{path}", self.url))
            .header(MAX_SIZE_HEADER, limit_bytes.to_string());
        let response = request.call().map_err(|error| self.before_answer(error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(FetchError::NotFound),
            StatusCode::NOT_ACCEPTABLE => return Err(self.too_large(limit_bytes)),
            other => return Err(self.bad(format!("HTTP status {}", other.as_u16()))),
        }
        let expected = self.check_headers(response.headers(), limit_bytes)?;
        let mut body = response.into_body().into_reader();
        let bytes = self.copy(&mut body, into, limit_bytes, received, begun)?;
        match expected {
            Some(expected) if expected != bytes => {
                Err(self.bad(format!("{bytes} bytes came, {expected} were announced")))
            }
            _ => Ok(bytes),
        }
    }

    /// The size that is announced, if any.
    fn check_headers(
        &self,
        headers: &HeaderMap,
        limit_bytes: u64,
    ) -> Result<Option<u64>, FetchError> {
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Err(self.bad("it is compressed, which was not asked for"));
        }
        let number =
            |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
        let sizes = [number(SIZE_HEADER), number(header::CONTENT_LENGTH.as_str())];
        if sizes.iter().flatten().any(|size| *size > limit_bytes) {
            return Err(self.too_large(limit_bytes));
        }
        Ok(sizes.into_iter().flatten().next())
    }

    fn copy(
        &self,
        body: &mut impl Read,
        mut into: &File,
        limit_bytes: u64,
        received: &AtomicU64,
        begun: Instant,
    ) -> Result<u64, FetchError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut bytes = 0;
        loop {
            let read = match body.read(&mut chunk) {
                Ok(0) => return Ok(bytes),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.in_answer(error)),
            };
            bytes += read as u64;
            received.fetch_add(read as u64, Ordering::Relaxed);
            if bytes > limit_bytes {
                return Err(self.too_large(limit_bytes));
            }
            into.write_all(&chunk[..read])
                .map_err(|error| FetchError::NotStored(error.to_string()))?;
            // A body that comes byte by byte makes progress with each.
            if begun.elapsed() > self.timeout {
                return Err(self.timed_out());
            }
        }
    }

    fn before_answer(&self, error: ureq::Error) -> FetchError {
        use ureq::Error;
        match error {
            Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                self.unreachable(format_args!("no connection within {CONNECT_TIMEOUT:?}"))
            }
            Error::Timeout(_) => self.timed_out(),
            Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => self.timed_out(),
            Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.bad("it hung up")
            }
            Error::Io(_)
            | Error::HostNotFound
            | Error::ConnectionFailed
            | Error::ConnectProxyFailed(_)
            | Error::InvalidProxyUrl
            | Error::Tls(_)
            | Error::Rustls(_)
            | Error::Pem(_)
            | Error::TlsRequired => self.unreachable(error),
            other => self.bad(other),
        }
    }

    fn in_answer(&self, error: io::Error) -> FetchError {
        match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => self.timed_out(),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => self.timed_out(),
            other => self.bad(other),
        }
    }

    fn timed_out(&self) -> FetchError {
        FetchError::TimedOut {
            server: self.name.clone(),
            within: self.timeout,
        }
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> FetchError {
        FetchError::Unreachable {
            server: self.name.clone(),
            why: shown(why),
        }
    }

    fn too_large(&self, limit_bytes: u64) -> FetchError {
        FetchError::TooLarge {
            server: self.name.clone(),
            limit_bytes,
        }
    }

    fn bad(&self, why: impl std::fmt::Display) -> FetchError {
        FetchError::BadResponse {
            server: self.name.clone(),
            why: shown(why),
        }
    }
}

/// Words that a server may have chosen, fit for a terminal.
fn shown(why: impl std::fmt::Display) -> String {
    let text = why.to_string();
    let cut: String = text.chars().take(MAX_WHY_CHARS).collect();
    cut.escape_debug().to_string()
}
