//! One HTTP POST, within bounds of time and size.
//!
//! In: a body. Out: the answer's status, how long it asks to wait, and its first bytes. It judges nothing, and follows no
//! redirect: headers may hold a token that is for one backend alone.

use std::time::Duration;

use jiff::Timestamp;
use ureq::http::{StatusCode, header};
use ureq::{Agent, Timeout};

use super::config::{Header, SinkConfig};
use super::outcome::{Outcome, retry_after};
use super::tls::Trust;

/// To find and reach a backend, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// More of an answer is not read.
pub(super) const MAX_ANSWER_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct HttpClient {
    agent: Agent,
    url: String,
    headers: Vec<Header>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: String,
    pub(super) retry_after: Option<Duration>,
    /// Cut at [`MAX_ANSWER_BYTES`].
    pub(super) body: Vec<u8>,
}

impl HttpClient {
    /// A client for `path` below the sink's URL.
    pub(super) fn new(config: &SinkConfig, path: &str, trust: &Trust) -> HttpClient {
        let agent = Agent::config_builder()
            .tls_config(trust.ureq())
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .https_only(config.endpoint.secure)
            .http_status_as_error(false)
            .user_agent(super::sink::USER_AGENT)
            .build();
        let base = config.endpoint.url();
        HttpClient {
            agent: agent.new_agent(),
            // Some write the whole address.
            url: match base.ends_with(path) {
                true => base,
                false => base + path,
            },
            headers: config.headers.clone(),
        }
    }

    /// Sends `body` with headers of the protocol. An `Err` is the outcome when there is no answer.
    pub(super) fn post(
        &self,
        body: &[u8],
        protocol: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<Answer, Outcome> {
        let request = self.agent.post(&self.url);
        let mut request = request.config().timeout_global(Some(timeout)).build();
        for (name, value) in protocol {
            request = request.header(*name, *value);
        }
        for header in &self.headers {
            let (name, value) = header.pair();
            request = request.header(name, value);
        }
        let mut response = request.send(body).map_err(no_answer)?;
        let headers = response.headers();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let content_type = text(header::CONTENT_TYPE).unwrap_or("").to_owned();
        let retry_after =
            text(header::RETRY_AFTER).and_then(|text| retry_after(text, Timestamp::now()));
        let status = response.status();
        // What the status says stands, whatever happens to the words.
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES);
        Ok(Answer {
            status,
            content_type,
            retry_after,
            body: body.read_to_vec().unwrap_or_default(),
        })
    }
}

fn no_answer(error: ureq::Error) -> Outcome {
    use ureq::Error;
    let reached = !matches!(
        error,
        Error::Timeout(Timeout::Resolve | Timeout::Connect)
            | Error::HostNotFound
            | Error::ConnectionFailed
            | Error::ConnectProxyFailed(_)
            | Error::InvalidProxyUrl
            | Error::Tls(_)
            | Error::Rustls(_)
            | Error::Pem(_)
            | Error::TlsRequired
    );
    let refused =
        matches!(&error, Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused);
    Outcome::no_answer(error, reached && !refused)
}
