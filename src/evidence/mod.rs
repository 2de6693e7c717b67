//! The evidence of one artifact root: which files there are, what they hold down to the last bit, and what the gates
//! said; and whether that is still so.
//!
//! In: an artifact root. Out: `evidence-manifest.json`, findings of a verification, `performance-evidence-bundle.zip`. No
//! link is followed, numbers and sizes are bounded. The same files give the same manifest and the same bundle: times
//! come from the files, never from a clock.
#![forbid(unsafe_code)]

mod bundle;
mod describe;
mod error;
mod hash;
mod manifest;
mod scan;
mod stale;
mod times;
mod verify;

pub use bundle::write_bundle;
pub use error::EvidenceError;
pub use manifest::{Context, Expected, Manifest, SCHEMA, SCHEMA_VERSION, Upstream, manifest};
pub use verify::{Finding, Kind, verify};

/// At the artifact root.
pub const MANIFEST: &str = "evidence-manifest.json";
pub const BUNDLE: &str = "performance-evidence-bundle.zip";
/// Where a bundle holds inputs from elsewhere.
const UPSTREAM_FOLDER: &str = "upstream";
/// Who verified what is listed.
const VERIFIER: &str = concat!("perfprof ", env!("CARGO_PKG_VERSION"));
