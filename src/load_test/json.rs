//! Which tool wrote a JSON document shows in the keys at its top.

use serde_json::Value;

use super::field::Field;
use super::{
    ContentError, LoadTest, MAX_JSON_BYTES, Split, artillery, k6, locust, normalized, oha,
};

pub(super) fn read(text: &str, split: Split) -> Result<Vec<LoadTest>, ContentError> {
    let value = value(text)?;
    let root = Field::root(&value);
    let has = |key: &str| value.get(key).is_some();
    let first = value.as_array().and_then(|items| items.first());
    if has("schema") || has("scenarios") {
        return normalized::read_document(&root);
    }
    if has("latencyPercentiles") || has("summary") {
        return Ok(vec![oha::read(&root)?]);
    }
    if has("aggregate") {
        return Ok(vec![artillery::read(&root)?]);
    }
    if has("metrics") {
        return k6::read(&root, split);
    }
    // k6's later format (`--new-machine-readable-summary`), whose figures lie elsewhere.
    if has("results") && has("metadata") {
        let message =
            "is of a k6 summary that is not read; use `--summary-export` or `handleSummary`";
        return Err(ContentError::figure("results", message));
    }
    if first.is_some_and(|entry| entry.get("num_requests").is_some()) {
        return locust::read_json(&root, split);
    }
    normalized::read_bare(&root)
}

/// The document; an error says where it is none.
pub(crate) fn value(text: &str) -> Result<Value, ContentError> {
    if text.len() as u64 > MAX_JSON_BYTES {
        return Err(ContentError::TooLong {
            limit: MAX_JSON_BYTES,
        });
    }
    serde_json::from_str(text).map_err(|error| ContentError::Json {
        line: error.line(),
        column: error.column(),
        // The position is told already.
        message: without_position(&error.to_string()),
    })
}

fn without_position(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
}
