//! Grafana Pyroscope: `POST /push.v1.PusherService/Push`, a Connect unary call with protobuf.
//!
//! In: a [`Batch`]. Out: a request. Source: github.com/grafana/pyroscope, `api/push/v1/push.proto` and
//! `api/types/v1/types.proto`, whose field numbers are repeated here; the Connect protocol, "Unary request".
//!
//! Pyroscope makes a series of every set of texts that samples are labelled with, so a profile is sent without its labels:
//! threads and stack ends would be a few hundred series for each pod. It rejects what is older than an hour by default.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::Value;

use super::Batch;
use super::batch::uuid;
use super::http::Answer;
use super::labels::{self, PROFILE_NAME};
use super::outcome::{Outcome, of_http};
use super::sink::{Untranslatable, lean_profile};

pub(super) const PATH: &str = "/push.v1.PusherService/Push";
pub(super) const HEADERS: [(&str, &str); 2] = [
    ("content-type", "application/proto"),
    ("connect-protocol-version", "1"),
];
/// Pyroscope's default limit is 30 names; two are ours.
const MAX_LABELS: usize = 28;

/// `push.v1.PushRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<RawProfileSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawProfileSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<RawSample>,
}

/// `types.v1.LabelPair`.
#[derive(Clone, PartialEq, prost::Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawSample {
    #[prost(bytes = "vec", tag = "1")]
    raw_profile: Vec<u8>,
    /// In the source it is called `ID`.
    #[prost(string, tag = "2")]
    id: String,
}

pub(super) fn request(batch: &Batch) -> Result<Vec<u8>, Untranslatable> {
    let own = BTreeMap::from([
        ("__name__", PROFILE_NAME),
        ("service_name", batch.service.as_str()),
    ]);
    let labels = labels::prometheus(&own, &batch.labels, MAX_LABELS);
    let labels = labels.into_iter();
    let series = RawProfileSeries {
        labels: labels
            .map(|(name, value)| LabelPair { name, value })
            .collect(),
        samples: vec![RawSample {
            raw_profile: lean_profile(&batch.pprof_gz, &[])?,
            id: uuid(batch.id("pyroscope")),
        }],
    };
    let request = PushRequest {
        series: vec![series],
    };
    Ok(request.encode_to_vec())
}

pub(super) fn outcome(answer: &Answer) -> Outcome {
    match answer.status.as_u16() {
        200 => Outcome::delivered(),
        status => of_http(status, answer.retry_after, &said(answer), false),
    }
}

/// The `message` of a Connect error, or the text as it is.
fn said(answer: &Answer) -> String {
    let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let message = json.as_ref().and_then(|json| json["message"].as_str());
    message.map_or_else(
        || String::from_utf8_lossy(&answer.body).into_owned(),
        str::to_owned,
    )
}
