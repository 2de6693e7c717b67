//! JSON documents with one entry per service: an entry is replaced or added, all others stay untouched, also those
//! of services this version knows nothing about.

use serde_json::Value;

/// The entries of an existing document; `None` when it is not one of this schema.
pub(super) fn entries(bytes: &[u8], schema: &str, version: u64) -> Option<Vec<Value>> {
    let mut document: Value = serde_json::from_slice(bytes).ok()?;
    if document["schema"] != schema || document["schema_version"] != version {
        return None;
    }
    match document.get_mut("services")?.take() {
        Value::Array(entries) if entries.iter().all(|e| e["service"].is_string()) => Some(entries),
        _ => None,
    }
}

/// Puts `entry` in the place of the one of the same service, or at the end.
pub(super) fn upsert(entries: &mut Vec<Value>, entry: Value) {
    match entries
        .iter_mut()
        .find(|e| e["service"] == entry["service"])
    {
        Some(old) => *old = entry,
        None => entries.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_is_replaced_in_place_or_added() {
        let document = json!({"schema": "s", "schema_version": 1,
            "services": [{"service": "a", "n": 1}, {"service": "b", "extra": true}]});
        let mut entries = entries(document.to_string().as_bytes(), "s", 1).expect("a document");
        upsert(&mut entries, json!({"service": "a", "n": 2}));
        upsert(&mut entries, json!({"service": "c"}));
        let expected = [
            json!({"service": "a", "n": 2}),
            json!({"service": "b", "extra": true}),
            json!({"service": "c"}),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn anything_else_is_no_document() {
        let bad = [
            "",
            "{",
            "[]",
            "null",
            r#"{"schema":"t","schema_version":1,"services":[]}"#,
            r#"{"schema":"s","schema_version":2,"services":[]}"#,
            r#"{"schema":"s","schema_version":1}"#,
            r#"{"schema":"s","schema_version":1,"services":[1]}"#,
        ];
        for text in bad {
            assert_eq!(entries(text.as_bytes(), "s", 1), None, "{text}");
        }
        assert_eq!(entries(&b"\xff".repeat(9), "s", 1), None);
        assert_eq!(
            entries(&b"[".repeat(1_000_000), "s", 1),
            None,
            "deep nesting"
        );
    }
}
