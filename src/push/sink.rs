//! A backend as a worker sees it: a batch becomes a body, and a body becomes an outcome.
//!
//! In: a [`SinkConfig`]. Out: an open client of its protocol. Which protocol says what in which words is known by the
//! modules it asks; it neither queues nor waits.

use std::io::{self, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::grpc::GrpcClient;
use super::http::HttpClient;
use super::outcome::Outcome;
use super::tls::Trust;
use super::{Batch, ConvertError, SinkConfig, SinkKind, otlp, parca, pyroscope};
use crate::store::{gzip, pprof};

pub(super) const USER_AGENT: &str = concat!("perfprof/", env!("CARGO_PKG_VERSION"));
/// A profile that is larger unpacked is not sent: what an agent may spend on one.
pub(super) const MAX_UNPACKED_BYTES: u64 = 64 << 20;
/// Profiles are sent once, so speed counts more than size.
const LEVEL: Compression = Compression::new(3);

/// A batch that no request can be made of.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untranslatable {
    #[error("failed to unpack the profile")]
    Gzip(#[source] gzip::UnpackError),
    #[error("the profile is not readable pprof")]
    Pprof(#[source] pprof::DecodeError),
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

#[derive(Debug)]
pub(super) struct Sink {
    kind: SinkKind,
    client: Client,
}

#[derive(Debug)]
enum Client {
    Http(HttpClient),
    Grpc(Box<GrpcClient>),
}

impl Sink {
    pub(super) fn open(config: &SinkConfig, trust: &Trust) -> io::Result<Sink> {
        let http = |path| Client::Http(HttpClient::new(config, path, trust));
        let grpc = |method| -> io::Result<Client> {
            let client = GrpcClient::new(config, method, trust)?;
            Ok(Client::Grpc(Box::new(client)))
        };
        let client = match config.kind {
            SinkKind::Pyroscope => http(pyroscope::PATH),
            SinkKind::OtlpHttp => http(otlp::HTTP_PATH),
            SinkKind::Parca => grpc(parca::METHOD)?,
            SinkKind::OtlpGrpc => grpc(otlp::GRPC_METHOD)?,
        };
        let kind = config.kind;
        Ok(Sink { kind, client })
    }

    /// What is sent for `batch`; packed where the protocol packs it.
    pub(super) fn body(&self, batch: &Batch) -> Result<Vec<u8>, Untranslatable> {
        match self.kind {
            SinkKind::Pyroscope => pyroscope::request(batch),
            SinkKind::Parca => parca::request(batch),
            SinkKind::OtlpGrpc | SinkKind::OtlpHttp => Ok(packed(&otlp::request(batch)?)),
        }
    }

    /// Sends a body that [`Sink::body`] has made.
    pub(super) fn send(&mut self, body: Vec<u8>, timeout: Duration) -> Outcome {
        match &mut self.client {
            Client::Http(client) => {
                let headers = match self.kind {
                    SinkKind::Pyroscope => &pyroscope::HEADERS,
                    _ => &otlp::HTTP_HEADERS,
                };
                match (client.post(&body, headers, timeout), self.kind) {
                    (Err(outcome), _) => outcome,
                    (Ok(answer), SinkKind::Pyroscope) => pyroscope::outcome(&answer),
                    (Ok(answer), _) => otlp::http_outcome(&answer),
                }
            }
            Client::Grpc(client) => {
                let is_otlp = self.kind == SinkKind::OtlpGrpc;
                match client.call(body, is_otlp, timeout) {
                    Err(outcome) => outcome,
                    Ok(answer) if is_otlp => otlp::grpc_outcome(&answer),
                    Ok(_) => Outcome::delivered(),
                }
            }
        }
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), LEVEL);
    let written = gzip.write_all(bytes);
    written
        .and_then(|()| gzip.finish())
        .expect("writing to memory does not fail")
}

/// The unpacked pprof of a batch.
pub(super) fn unpacked(pprof_gz: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, Untranslatable> {
    gzip::unpack_within(pprof_gz, MAX_UNPACKED_BYTES).map_err(Untranslatable::Gzip)
}

/// The profile without what only perfprof reads in it, and with these labels of samples only.
pub(super) fn lean_profile(pprof_gz: &[u8], labels: &[&str]) -> Result<Vec<u8>, Untranslatable> {
    let whole = unpacked(pprof_gz)?;
    let lean = pprof::lean(&whole, labels).map_err(Untranslatable::Pprof)?;
    Ok(packed(&lean))
}
