//! The baseline on disk: `baseline-metrics.json` and the same as `.csv`. Figures that are measured anew take the place of
//! old ones; all others stay, also those that somebody wrote by hand.

use super::publish::{Published, basic_stamp, set_aside};
use super::root::{Existing, Locked};
use super::{ArtifactError, ArtifactRoot};
use crate::baseline::{self, Baseline, CSV_FILE, JSON_FILE, Measurement};

/// Puts the figures among those that stand there, and returns all of them.
pub fn publish_baseline(
    root: &ArtifactRoot,
    measurements: Vec<Measurement>,
    now_unix_ns: u64,
) -> Result<(Baseline, Published), ArtifactError> {
    let locked = root.lock()?;
    let mut published = Published::default();
    let stamp = basic_stamp(now_unix_ns);
    let mut all = present(&locked, &stamp, &mut published)?;
    all.replace(measurements);
    let json = format!("{:#}\n", baseline::to_json(&all));
    published
        .files
        .push(locked.write(JSON_FILE, json.as_bytes())?);
    let csv = baseline::to_csv(&all);
    published
        .files
        .push(locked.write(CSV_FILE, csv.as_bytes())?);
    Ok((all, published))
}

/// What stands there: in the JSON file, or where that is missing in the CSV file.
fn present(
    locked: &Locked<'_>,
    stamp: &str,
    published: &mut Published,
) -> Result<Baseline, ArtifactError> {
    for file in [JSON_FILE, CSV_FILE] {
        let found = match locked.read(file)? {
            Existing::Missing => continue,
            Existing::Bytes(bytes) => baseline::from_bytes(&bytes).ok(),
            Existing::Unreadable => None,
        };
        match found {
            Some(found) => return Ok(found),
            None => set_aside(locked, file, stamp, published)?,
        }
    }
    Ok(Baseline::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn figure(metric: &str, value: f64) -> Measurement {
        Measurement {
            service: "api".into(),
            metric: metric.into(),
            value,
            unit: "ms".into(),
            timestamp: "2026-01-01T00:00:00Z".parse().expect("a time"),
            source: "x.json".into(),
        }
    }

    #[test]
    fn what_is_not_measured_anew_stays_and_a_damaged_file_is_moved_aside() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(dir.path()).expect("writable");
        let own = "service,metric,value,unit,timestamp\napi,own,7,ms,2026-01-01T00:00:00Z\n";
        fs::write(dir.path().join(CSV_FILE), own).expect("writable");
        let put = |value| publish_baseline(&root, vec![figure("p95_latency", value)], 1 << 60);
        put(1.0).expect("written");
        let (all, published) = put(2.0).expect("written");
        assert!(published.notes.is_empty());
        let value = |metric| all.get("api", metric).map(|m| m.value);
        assert_eq!((value("own"), value("p95_latency")), (Some(7.0), Some(2.0)));
        for file in [JSON_FILE, CSV_FILE] {
            assert_eq!(
                baseline::read(&dir.path().join(file)).expect("valid"),
                all,
                "{file}"
            );
        }
        fs::write(dir.path().join(JSON_FILE), "{").expect("writable");
        let (again, published) = put(3.0).expect("written");
        assert_eq!(published.notes.len(), 1);
        assert_eq!(
            again.get("api", "own").map(|m| m.value),
            Some(7.0),
            "from the CSV"
        );
    }
}
