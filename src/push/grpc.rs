//! A unary gRPC call over HTTP/2, within bounds of time and size.
//!
//! In: an encoded message. Out: the encoded answer, or an outcome. Source: grpc/grpc, `doc/PROTOCOL-HTTP2.md`.
//!
//! A connection is kept while a queue is emptied and made anew after a pause, because nobody answers pings in between.
//! A runtime of this thread alone drives it; nothing runs outside of [`GrpcClient::call`] but a name being resolved.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use ureq::http::{HeaderMap, Method, Request, StatusCode, Uri};

use super::config::{Endpoint, Header, SinkConfig};
use super::http::{CONNECT_TIMEOUT, MAX_ANSWER_BYTES};
use super::outcome::{GrpcStatus, Outcome};
use super::sink::USER_AGENT;
use super::tls::Trust;

/// A connection that was not used for longer is not used again.
const KEPT: Duration = Duration::from_secs(5);
const MAX_HEADER_BYTES: u32 = 32 << 10;
/// A flag and a length stand before a message.
const FRAME_HEAD_BYTES: usize = 5;

#[derive(Debug)]
pub(super) struct GrpcClient {
    endpoint: Endpoint,
    uri: Uri,
    headers: Vec<Header>,
    tls: Arc<ClientConfig>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    requests: SendRequest<Bytes>,
    used: Instant,
}

/// Why there is no answer.
enum Failure {
    /// The backend has seen nothing of the message.
    NotReached(String),
    Broken(String),
}

impl Drop for GrpcClient {
    fn drop(&mut self) {
        // Does not wait for a name that is still being resolved.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl GrpcClient {
    pub(super) fn new(config: &SinkConfig, method: &str, trust: &Trust) -> io::Result<GrpcClient> {
        let endpoint = config.endpoint.clone();
        let uri = Uri::builder()
            .scheme(endpoint.scheme())
            .authority(endpoint.authority())
            .path_and_query(method)
            .build()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .build()?;
        Ok(GrpcClient {
            endpoint,
            uri,
            headers: config.headers.clone(),
            tls: trust.http2(),
            runtime: Some(runtime),
            connection: None,
        })
    }

    /// Sends `message`, which is gzip'd where `gzip` says so. An `Err` is the outcome of everything but an OK.
    pub(super) fn call(
        &mut self,
        message: Vec<u8>,
        gzip: bool,
        within: Duration,
    ) -> Result<Bytes, Outcome> {
        let kept = self.connection.take();
        let kept = kept.filter(|connection| connection.used.elapsed() < KEPT);
        let runtime = self.runtime.as_ref().expect("there until it is dropped");
        let called = runtime.block_on(async {
            match timeout(within, self.exchange(kept, message, gzip, within)).await {
                Ok(result) => result,
                Err(_) => {
                    let why = format!("no answer within {within:?}");
                    Err(Failure::Broken(why))
                }
            }
        });
        match called {
            Ok((requests, status, answer)) => {
                let used = Instant::now();
                self.connection = Some(Connection { requests, used });
                match status.is_ok() {
                    true => Ok(answer),
                    false => Err(status.outcome()),
                }
            }
            Err(Failure::NotReached(why)) => Err(Outcome::no_answer(why, false)),
            Err(Failure::Broken(why)) => Err(Outcome::no_answer(why, true)),
        }
    }

    async fn exchange(
        &self,
        kept: Option<Connection>,
        message: Vec<u8>,
        gzip: bool,
        within: Duration,
    ) -> Result<(SendRequest<Bytes>, GrpcStatus, Bytes), Failure> {
        let mut requests = self.ready(kept).await?;
        let request = self.request(gzip, within)?;
        let sent = requests.send_request(request, false);
        let (response, mut stream) = sent.map_err(broken)?;
        stream
            .send_data(frame(message, gzip), true)
            .map_err(broken)?;
        let response = response.await.map_err(broken)?;
        let (head, mut body) = response.into_parts();
        // A call that fails at once has its status where others have headers.
        if let Some(status) = status_in(&head.headers) {
            return Ok((requests, status, Bytes::new()));
        }
        if head.status != StatusCode::OK {
            return Ok((
                requests,
                GrpcStatus::of_http(head.status.as_u16()),
                Bytes::new(),
            ));
        }
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(broken)?;
            // An error here would be that of a stream that has ended.
            let _ = body.flow_control().release_capacity(chunk.len());
            answer.put(chunk);
            if answer.len() as u64 > MAX_ANSWER_BYTES {
                let why = format!("an answer of more than {MAX_ANSWER_BYTES} bytes");
                return Err(Failure::Broken(why));
            }
        }
        let trailers = body.trailers().await.map_err(broken)?;
        let status = trailers.as_ref().and_then(status_in);
        let status = status.unwrap_or_else(|| GrpcStatus::of_http(200));
        Ok((requests, status, unframed(answer.freeze())))
    }

    /// A connection that takes a request: the kept one, if it still does.
    async fn ready(&self, kept: Option<Connection>) -> Result<SendRequest<Bytes>, Failure> {
        if let Some(connection) = kept
            && let Ok(ready) = connection.requests.ready().await
        {
            return Ok(ready);
        }
        let connected = timeout(CONNECT_TIMEOUT, self.connect()).await;
        let requests = connected.map_err(|_| {
            Failure::NotReached(format!("no connection within {CONNECT_TIMEOUT:?}"))
        })??;
        requests.ready().await.map_err(not_reached)
    }

    async fn connect(&self) -> Result<SendRequest<Bytes>, Failure> {
        let address = (self.endpoint.bare_host(), self.endpoint.port);
        let tcp = TcpStream::connect(address).await.map_err(not_reached)?;
        // Nothing is lost but a little time where it cannot be set.
        let _ = tcp.set_nodelay(true);
        if !self.endpoint.secure {
            return handshake(tcp).await;
        }
        let name = ServerName::try_from(self.endpoint.bare_host().to_owned());
        let name = name.map_err(not_reached)?;
        let connector = TlsConnector::from(self.tls.clone());
        let tls = connector.connect(name, tcp).await.map_err(not_reached)?;
        handshake(tls).await
    }

    fn request(&self, gzip: bool, within: Duration) -> Result<Request<()>, Failure> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", USER_AGENT)
            .header("grpc-accept-encoding", "identity")
            .header(
                "grpc-timeout",
                format!("{}m", within.as_millis().min(99_999_999)),
            );
        if gzip {
            request = request.header("grpc-encoding", "gzip");
        }
        for header in &self.headers {
            let (name, value) = header.pair();
            request = request.header(name, value);
        }
        request.body(()).map_err(not_reached)
    }
}

async fn handshake<T>(stream: T) -> Result<SendRequest<Bytes>, Failure>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(MAX_HEADER_BYTES);
    let (requests, connection) = builder.handshake(stream).await.map_err(not_reached)?;
    tokio::spawn(async move {
        // How it ended is seen by the request that was under way.
        let _ = connection.await;
    });
    Ok(requests)
}

fn broken(error: h2::Error) -> Failure {
    Failure::Broken(error.to_string())
}

fn not_reached(error: impl std::fmt::Display) -> Failure {
    Failure::NotReached(error.to_string())
}

fn status_in(headers: &HeaderMap) -> Option<GrpcStatus> {
    let bytes = |name| headers.get(name).map(|value| value.as_bytes());
    let code = headers.get("grpc-status")?.to_str().unwrap_or("");
    let message = bytes("grpc-message").unwrap_or_default();
    Some(GrpcStatus::read(
        code,
        message,
        bytes("grpc-status-details-bin"),
    ))
}

fn frame(message: Vec<u8>, compressed: bool) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.len());
    bytes.put_u8(compressed.into());
    bytes.put_u32(u32::try_from(message.len()).expect("a batch is far smaller than 4 GiB"));
    bytes.put_slice(&message);
    bytes.freeze()
}

/// The message of a frame; nothing where there is none, or one that was compressed unasked.
fn unframed(bytes: Bytes) -> Bytes {
    match bytes.first() {
        Some(0) if bytes.len() > FRAME_HEAD_BYTES => bytes.slice(FRAME_HEAD_BYTES..),
        _ => Bytes::new(),
    }
}
