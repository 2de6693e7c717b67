//! Profiles to backends that keep them: Pyroscope, Parca, and whatever takes OTLP.
//!
//! In: [`Batch`]es, each one service's profile of one window as gzip'd pprof, and where to send them ([`SinkConfig`]). Out:
//! requests, and figures of what became of every batch ([`SinkFigures`]). It records nothing and asks no kernel.
//!
//! Between both is a queue on disk, a folder per sink, so that a backend may be away for hours and the agent may be killed:
//! [`Pusher::offer`] returns when the batch is durable. Delivery is **at least once**: a batch whose answer was lost is
//! sent again, with the same profile ID, by which a backend can tell. The oldest goes first. All folders together stay
//! within a budget; the oldest batch of all gives way, and is counted. Every batch ends as sent or as one [`DropReason`].
//!
//! | step | file |
//! |---|---|
//! | where to, and with which headers: read and refused | `config.rs` |
//! | a batch as a file, told from a damaged one | `item.rs` |
//! | the folders, their budget, the figures | `folder.rs`, `queue.rs`, `figures.rs` |
//! | one thread a sink: take, translate, send, judge, wait | `pusher.rs`, `worker.rs`, `patience.rs`, `backoff.rs` |
//! | what an answer means | `outcome.rs` |
//! | requests | `http.rs`, `grpc.rs`, `tls.rs` |
//! | what is said in them | `pyroscope.rs`, `parca.rs`, `labels.rs`, `otlp/` |
//!
//! Proxies: the HTTP sinks use those of the environment (`HTTPS_PROXY`, `NO_PROXY`); gRPC goes straight.
#![forbid(unsafe_code)]

mod backoff;
mod batch;
mod config;
mod figures;
mod folder;
mod grpc;
mod http;
mod item;
mod labels;
mod otlp;
mod outcome;
mod parca;
mod patience;
mod pusher;
mod pyroscope;
mod queue;
mod sink;
mod tls;
mod worker;

pub use batch::{Batch, BatchError};
pub use config::{ConfigError, Header, SinkConfig, SinkKind};
pub use figures::{DropReason, SinkFigures};
pub use otlp::{ConvertError, export_request};
pub use pusher::Pusher;
