//! Formats that are only written, for people and machines. In: a profile and its analysis. Out: text or bytes; where
//! they go is decided elsewhere. Output never depends on hash order, the clock or the machine it is made on.
#![forbid(unsafe_code)]

pub mod baselines;
pub mod bottleneck;
pub mod coverage;
pub mod diff_flamegraph;
pub mod escape;
pub(crate) mod fit;
pub mod flamegraph;
pub mod load_tests;
pub mod markdown;
pub mod short_names;
pub mod speedscope;
mod strip;
pub(crate) mod table;
pub mod terminal;
pub mod trends;
pub mod units;

use serde_json::{Value, json};

/// A JSON document with one entry per service, as all documents of several services are.
pub fn document(schema: &str, version: u64, services: Vec<Value>) -> Value {
    json!({ "schema": schema, "schema_version": version, "services": services })
}
