//! Parca: gRPC `parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw`.
//!
//! In: a [`Batch`]. Out: a message. Source: github.com/parca-dev/parca,
//! `proto/parca/profilestore/v1alpha1/profilestore.proto`, whose field numbers are repeated here.
//!
//! Addresses of a profile are those of the files, which Parca calls normalized. Samples keep the names of their thread and
//! process, by which Parca groups.

use std::collections::BTreeMap;

use prost::Message;

use super::Batch;
use super::labels::{self, PROFILE_NAME};
use super::sink::{Untranslatable, lean_profile};

pub(super) const METHOD: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw";
const MAX_LABELS: usize = 62;
/// Labels of samples that are sent.
const SAMPLE_LABELS: [&str; 2] = ["thread", "process"];

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRawRequest {
    #[prost(message, repeated, tag = "2")]
    series: Vec<RawProfileSeries>,
    #[prost(bool, tag = "3")]
    normalized: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawProfileSeries {
    #[prost(message, optional, tag = "1")]
    labels: Option<LabelSet>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<RawSample>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LabelSet {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawSample {
    #[prost(bytes = "vec", tag = "1")]
    raw_profile: Vec<u8>,
}

pub(super) fn request(batch: &Batch) -> Result<Vec<u8>, Untranslatable> {
    let own = BTreeMap::from([
        ("__name__", PROFILE_NAME),
        ("service_name", batch.service.as_str()),
    ]);
    let labels = labels::prometheus(&own, &batch.labels, MAX_LABELS);
    let labels = labels.into_iter();
    let series = RawProfileSeries {
        labels: Some(LabelSet {
            labels: labels.map(|(name, value)| Label { name, value }).collect(),
        }),
        samples: vec![RawSample {
            raw_profile: lean_profile(&batch.pprof_gz, &SAMPLE_LABELS)?,
        }],
    };
    let request = WriteRawRequest {
        series: vec![series],
        normalized: true,
    };
    Ok(request.encode_to_vec())
}
