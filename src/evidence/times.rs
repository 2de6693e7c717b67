//! When a file came to be, as far as the file itself tells.
//!
//! A manifest with the time of its making would differ each time. So a file's time is the one it holds
//! (`generated_at`, `recorded_at`), else the one in its name, else `SOURCE_DATE_EPOCH` where that is set, and only else
//! the time it was last written, which a copy may change.

use jiff::Timestamp;
use serde_json::Value;

/// A document that is larger is not searched for its time.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 16 << 20;

/// `epoch` is `SOURCE_DATE_EPOCH`.
pub(super) fn generated_at(
    name: &str,
    document: Option<&Value>,
    modified: i64,
    epoch: Option<i64>,
) -> Timestamp {
    let own = document.and_then(of_document).or_else(|| of_name(name));
    let outside =
        || Timestamp::from_second(epoch.unwrap_or(modified)).unwrap_or(Timestamp::UNIX_EPOCH);
    own.unwrap_or_else(outside)
}

/// The document's own, or that of its newest service.
fn of_document(document: &Value) -> Option<Timestamp> {
    let time = |value: &Value| {
        value
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok())
    };
    if let Some(own) = time(&document["generated_at"]) {
        return Some(own);
    }
    let services = document["services"].as_array()?.iter();
    services
        .filter_map(|entry| time(&entry["recorded_at"]).or(time(&entry["generated_at"])))
        .max()
}

/// `cart-20260102T030405Z.svg`.
fn of_name(name: &str) -> Option<Timestamp> {
    let bytes = name.as_bytes();
    let stamp = |at: usize| {
        let text = name.get(at..at + 16)?;
        let shape = text.bytes().enumerate().all(|(i, b)| match i {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        });
        let iso = || {
            let (d, t) = (&text[..8], &text[9..15]);
            format!(
                "{}-{}-{}T{}:{}:{}Z",
                &d[..4],
                &d[4..6],
                &d[6..],
                &t[..2],
                &t[2..4],
                &t[4..]
            )
        };
        if shape { iso().parse().ok() } else { None }
    };
    let after_separator = (0..bytes.len())
        .rev()
        .filter(|at| *at > 0 && b"-_.".contains(&bytes[at - 1]));
    after_separator.filter_map(stamp).next()
}

pub(super) fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_tells_its_own_time_first() {
        let of = |name, document: Option<&Value>, epoch| {
            shown(generated_at(name, document, 1_000, epoch))
        };
        let document = json!({"services": [{"recorded_at": "2026-01-01T00:00:00Z"}, {"recorded_at": "2026-01-03T00:00:00Z"}]});
        assert_eq!(
            of("coverage.json", Some(&document), None),
            "2026-01-03T00:00:00Z"
        );
        let dated = json!({"generated_at": "2026-02-01T00:00:00Z"});
        assert_eq!(
            of("x-20260102T030405Z.json", Some(&dated), Some(7)),
            "2026-02-01T00:00:00Z"
        );
        assert_eq!(
            of("d/x-20260102T030405Z-2.off-cpu.svg", None, Some(7)),
            "2026-01-02T03:04:05Z"
        );
        assert_eq!(
            of("x-20269902T030405Z.svg", None, None),
            "1970-01-01T00:16:40Z"
        );
        assert_eq!(of("report.md", None, Some(7)), "1970-01-01T00:00:07Z");
        assert_eq!(
            of("é-2026", Some(&json!({"generated_at": 7})), None),
            "1970-01-01T00:16:40Z"
        );
    }
}
