//! The baseline of an artifact root, and what it has to say of each service where the config does not list it.
//!
//! In: `baseline-metrics.json` or `baseline-metrics.csv`, read without following links. Out: a [`Baseline`].

use super::documents::{BadInput, Documents, unreadable};
use crate::baseline::metrics::{
    CPU_CORES_P95, ERROR_RATE, MEMORY_PEAK, P95_LATENCY, THROUGHPUT, base,
};
use crate::baseline::{self, Baseline, CSV_FILE, JSON_FILE};

pub(super) const REQUIRED_BY_DEFAULT: [&str; 5] = [
    CPU_CORES_P95.name,
    MEMORY_PEAK.name,
    THROUGHPUT.name,
    P95_LATENCY.name,
    ERROR_RATE.name,
];

/// The baseline, and the file it comes from; `None` when there is neither.
pub(super) fn read(documents: &Documents) -> Result<Option<(&'static str, Baseline)>, BadInput> {
    for name in [JSON_FILE, CSV_FILE] {
        let path = documents.path(name);
        let bytes = documents.bytes(name);
        if let Some(bytes) = bytes.map_err(|error| unreadable(&path, &error))? {
            let read = baseline::from_bytes(&bytes);
            let read =
                read.map_err(|error| BadInput::of(&path, format!("is no baseline: {error}")))?;
            return Ok(Some((name, read)));
        }
    }
    Ok(None)
}

/// A figure may be one of a part of the service: `p95_latency[checkout]` is a `p95_latency`.
pub(super) fn is_of(figure: &str, metric: &str) -> bool {
    figure == metric || base(figure) == metric
}
