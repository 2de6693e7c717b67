//! The baseline on disk: `baseline-metrics.json` and the same as `.csv`. Figures that are measured anew take the place of
//! old ones; all others stay, also those that somebody wrote by hand.

use super::publish::{Published, basic_stamp, set_aside};
use super::root::{Existing, Locked};
use super::{ArtifactError, ArtifactRoot};
use crate::baseline::{self, Baseline, CSV_FILE, JSON_FILE, Measurement};
use crate::render::escape::visible;

/// Disagreements that are told one by one.
const MAX_NOTES: usize = 5;

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

/// What stands there, in both files: rows that somebody added to one of them stay. Where they disagree the later figure
/// counts, and of two of one time that of the JSON file.
fn present(
    locked: &Locked<'_>,
    stamp: &str,
    published: &mut Published,
) -> Result<Baseline, ArtifactError> {
    let mut of = |file| match locked.read(file)? {
        Existing::Missing => Ok(Baseline::default()),
        Existing::Bytes(bytes) if let Ok(found) = baseline::from_bytes(&bytes) => Ok(found),
        Existing::Bytes(_) | Existing::Unreadable => {
            set_aside(locked, file, stamp, published)?;
            Ok(Baseline::default())
        }
    };
    let (json, csv) = (of(JSON_FILE)?, of(CSV_FILE)?);
    let both = csv.measurements().iter().chain(json.measurements());
    let all = Baseline::new(both.cloned());
    disagreements(&json, &csv, &all, published);
    Ok(all)
}

fn disagreements(json: &Baseline, csv: &Baseline, all: &Baseline, published: &mut Published) {
    let mut found = csv.measurements().iter().filter_map(|row| {
        let other = json.get(&row.service, &row.metric)?;
        let kept = all.get(&row.service, &row.metric)?;
        (other.value != row.value).then_some((row, other, kept))
    });
    for (row, other, kept) in found.by_ref().take(MAX_NOTES) {
        published.notes.push(format!(
            "`{}` of `{}` is {} in {CSV_FILE} and {} in {JSON_FILE}; {} was kept, as the later",
            visible(&row.metric),
            visible(&row.service),
            row.value,
            other.value,
            kept.value
        ));
    }
    let more = found.count();
    if more > 0 {
        published.notes.push(format!(
            "{more} more figures differ between {CSV_FILE} and {JSON_FILE}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn rows_of_others_stay_beside_the_json_file_and_a_disagreement_is_said() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = ArtifactRoot::open(dir.path()).expect("writable");
        let put = |metric| publish_baseline(&root, vec![figure(metric, 2.0)], 1 << 60);
        put("p95_latency").expect("written");
        let csv = dir.path().join(CSV_FILE);
        let mut rows = fs::read_to_string(&csv)
            .expect("written")
            .replace(",2,", ",9,");
        rows.push_str("web,own,7,ms,2026-01-01T00:00:00Z,mine\n");
        fs::write(&csv, rows).expect("writable");
        let (all, published) = put("throughput").expect("written");
        let value = |service, metric| all.get(service, metric).map(|m| m.value);
        assert_eq!(value("web", "own"), Some(7.0));
        assert_eq!(
            value("api", "p95_latency"),
            Some(2.0),
            "of one time: the JSON file's"
        );
        assert_eq!(published.notes.len(), 1, "{:?}", published.notes);
        assert!(
            published.notes[0].contains("`p95_latency` of `api` is 9"),
            "{:?}",
            published.notes
        );
    }

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
