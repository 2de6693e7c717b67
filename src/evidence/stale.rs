//! Whether a verdict still speaks of what lies there.
//!
//! In: a gate's verdict, and the files of the artifact root. Out: why it does not, if so: a file that a check found is
//! gone, or one that it looked at is newer than the verdict. It does not ask the gate again.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::hash::hash_inside;
use super::manifest::document_at;
use super::times;

/// The reason; `None` when the verdict holds, or does not say when it was given.
pub(super) fn reason(
    root: &Path,
    files: &[String],
    verdict: &Value,
    epoch: Option<i64>,
) -> Option<String> {
    let given: Timestamp = verdict["generated_at"].as_str()?.parse().ok()?;
    let shown_root = verdict["artifacts"].as_str().unwrap_or_default();
    let checks = verdict["checks"].as_array().into_iter().flatten();
    let mut seen: Vec<&str> = Vec::new();
    for (check, path) in checks.flat_map(|check| looked_at(check, shown_root)) {
        let is_there = files.iter().any(|file| file == path);
        if !is_there && check["status"] == "pass" {
            return Some(format!("`{path}`, which it rests on, is missing"));
        }
        if !is_there || seen.contains(&path) {
            continue;
        }
        seen.push(path);
        if time_of(root, path, epoch).is_some_and(|time| time > given) {
            return Some(format!("`{path}`, which it rests on, is newer"));
        }
    }
    None
}

/// What a check was answered from: its evidence, and for a profile, whose evidence is the picture, its coverage, too.
fn looked_at<'a>(check: &'a Value, root: &str) -> impl Iterator<Item = (&'a Value, &'a str)> {
    let evidence = check["evidence"]
        .as_str()
        .and_then(|path| below(root, path));
    let is_profile = check["id"]
        .as_str()
        .is_some_and(|id| id.starts_with("profiling:"));
    let coverage = is_profile.then_some("coverage.json");
    evidence
        .into_iter()
        .chain(coverage)
        .map(move |path| (check, path))
}

/// A path as a verdict shows it, from the root.
fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    let path = Path::new(path).strip_prefix(root).ok()?;
    path.to_str()
}

fn time_of(root: &Path, path: &str, epoch: Option<i64>) -> Option<Timestamp> {
    let hashed = hash_inside(root, path).ok()??;
    let document = document_at(root, path, hashed.size_bytes);
    Some(times::generated_at(
        path,
        document.as_ref(),
        hashed.modified,
        epoch,
    ))
}
