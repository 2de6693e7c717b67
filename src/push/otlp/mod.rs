//! OTLP's profiles signal: what is sent, and what the answers mean, for both of its transports.
//!
//! In: a [`Batch`]. Out: an `ExportProfilesServiceRequest`, encoded. The messages are those of opentelemetry-proto 1.10
//! (`opentelemetry.proto.profiles.v1development`); that they are called *development* means that backends take the version
//! they were built with, and may refuse this one.
//!
//! Attributes are called as OpenTelemetry's semantic conventions have them (registry: `profile.*`, `process.*`, `thread.*`),
//! where they have a name; ours begin with `perfprof.`.

mod convert;
mod dictionary;
mod resource;

pub use convert::{ConvertError, export_request};

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceResponse;
use prost::Message;

use super::Batch;
use super::http::Answer;
use super::outcome::{Outcome, RpcStatus, of_http, shown};
use super::sink::{Untranslatable, unpacked};
use crate::store::pprof;

pub(super) const GRPC_METHOD: &str =
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
pub(super) const HTTP_PATH: &str = "/v1development/profiles";
pub(super) const HTTP_HEADERS: [(&str, &str); 2] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "gzip"),
];

pub(super) fn request(batch: &Batch) -> Result<Vec<u8>, Untranslatable> {
    let whole = unpacked(&batch.pprof_gz)?;
    let profile = pprof::decode(&whole, "batch").map_err(Untranslatable::Pprof)?;
    drop(whole);
    Ok(export_request(batch, &profile)?.encode_to_vec())
}

pub(super) fn http_outcome(answer: &Answer) -> Outcome {
    match answer.status.as_u16() {
        // "If the request is successful, the server MUST respond with HTTP 200 OK."
        200 => grpc_outcome(&answer.body),
        status => {
            let is_protobuf = answer.content_type.starts_with("application/x-protobuf");
            let decoded = is_protobuf.then(|| RpcStatus::decode(&*answer.body).ok());
            let said = decoded.flatten().unwrap_or_default();
            let after = answer.retry_after.or_else(|| said.retry_after());
            let words = match is_protobuf {
                true => said.message,
                false => String::from_utf8_lossy(&answer.body).into_owned(),
            };
            of_http(status, after, &words, true)
        }
    }
}

/// Of an OK. What cannot be read in it changes nothing: the batch was taken.
pub(super) fn grpc_outcome(answer: &[u8]) -> Outcome {
    let response = ExportProfilesServiceResponse::decode(answer).unwrap_or_default();
    let partial = response.partial_success.unwrap_or_default();
    let note = match &*partial.error_message {
        "" => None,
        said => Some(format!("taken in part, or with a warning: {}", shown(said))),
    };
    Outcome::Delivered {
        rejected_profiles: u64::try_from(partial.rejected_profiles).unwrap_or_default(),
        note,
    }
}
