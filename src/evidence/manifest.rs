//! `evidence-manifest.json`, schema `perfprof.evidence-manifest`: every file with its hash, and the gates' verdicts.
//!
//! In: the artifact root, what was expected there, inputs from elsewhere. Out: the document. It keeps the names of the
//! manifests that the workflow's own scripts write: `protocol_id`, `validators`, `artifacts`, `summary`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::error::EvidenceError;
use super::hash::{Hashed, hash_file, hash_inside};
use super::scan::scan;
use super::{UPSTREAM_FOLDER, VERIFIER, describe, stale, times};
use crate::artifacts::{InsideError, read_inside, slug};
use crate::gate::Gate;

pub const SCHEMA: &str = "perfprof.evidence-manifest";
pub const SCHEMA_VERSION: u64 = 1;

/// What the manifest says of the workflow.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub protocol_id: String,
    pub protocol_name: Option<String>,
    pub edition: u32,
    /// What the config says has to be there.
    pub expected: Vec<Expected>,
    pub upstream: Vec<Upstream>,
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
}

/// An artifact that has to be there, by its path from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub path: String,
    pub description: String,
}

/// An input that came from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub path: PathBuf,
    pub description: String,
}

/// The document, and the times to be told beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub document: Value,
    /// What was left out and why.
    pub left_out: Vec<(String, String)>,
    /// Expected and not there.
    pub missing: Vec<String>,
}

pub fn manifest(root: &Path, context: &Context) -> Result<Manifest, EvidenceError> {
    let scan = scan(root)?;
    let mut artifacts = Vec::new();
    let mut newest = None;
    let mut total_bytes = 0u64;
    for path in &scan.files {
        // Gone between the two looks is not there.
        let Some(hashed) = hash_inside(root, path)? else {
            continue;
        };
        let document = document_at(root, path, hashed.size_bytes);
        let time = times::generated_at(path, document.as_ref(), hashed.modified, context.epoch);
        newest = newest.max(Some(time));
        total_bytes += hashed.size_bytes;
        artifacts.push(present(path, &hashed, times::shown(time), context));
    }
    let present_count = artifacts.len();
    let is_there = |expected: &&Expected| !scan.files.contains(&expected.path);
    let absent: BTreeMap<&str, &Expected> = context
        .expected
        .iter()
        .filter(is_there)
        .map(|expected| (expected.path.as_str(), expected))
        .collect();
    artifacts.extend(absent.values().map(|expected| missing(expected)));
    let validators = validators(root, &scan.files, context.epoch)?;
    let count = |status: &str| validators.iter().filter(|v| v["status"] == status).count();
    let generated_at = match (context.epoch, newest) {
        (Some(epoch), _) => jiff::Timestamp::from_second(epoch).ok(),
        (None, newest) => newest,
    };
    let document = json!({
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "protocol_id": context.protocol_id,
        "protocol_name": context.protocol_name,
        "edition": context.edition,
        "generated_at": generated_at.map(times::shown),
        "verified_by": VERIFIER,
        "validators": validators,
        "artifacts": artifacts,
        "upstream": upstream(&context.upstream)?,
        "left_out": scan.left_out.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect::<Vec<_>>(),
        "summary": {
            "validators_passed": count("pass"),
            "validators_total": validators.len(),
            "validators_stale": validators.iter().filter(|v| v["stale"].is_string()).count(),
            "artifacts_present": present_count,
            "artifacts_total": present_count + absent.len(),
            "total_bytes": total_bytes,
        },
    });
    Ok(Manifest {
        document,
        missing: absent.keys().map(|path| (*path).to_owned()).collect(),
        left_out: scan.left_out,
    })
}

fn present(path: &str, hashed: &Hashed, generated_at: String, context: &Context) -> Value {
    let expected = context.expected.iter().find(|e| e.path == path);
    let described = expected
        .map(|e| e.description.as_str())
        .filter(|d| !d.is_empty());
    json!({
        "name": name_of(path),
        "path": path,
        "description": described.unwrap_or(describe::of(path)),
        "status": "exists",
        "sha256": hashed.sha256,
        "size_bytes": hashed.size_bytes,
        "generated_at": generated_at,
        "verified_by": VERIFIER,
    })
}

fn missing(expected: &Expected) -> Value {
    json!({
        "name": name_of(&expected.path),
        "path": expected.path,
        "description": expected.description,
        "status": "missing",
        "sha256": null,
        "size_bytes": 0,
        "generated_at": null,
        "verified_by": VERIFIER,
    })
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// For its time. What is no JSON tells none.
pub(super) fn document_at(root: &Path, path: &str, size: u64) -> Option<Value> {
    if !path.ends_with(".json") || size > times::MAX_DOCUMENT_BYTES {
        return None;
    }
    let bytes = read_inside(root, Path::new(path), times::MAX_DOCUMENT_BYTES).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// All four gates: what each said, or that it was not asked.
fn validators(
    root: &Path,
    files: &[String],
    epoch: Option<i64>,
) -> Result<Vec<Value>, EvidenceError> {
    let of = |gate: Gate| {
        let path = format!("gate-results/{}.json", gate.id());
        let result = document_at(root, &path, 0);
        let text = |key: &str| {
            let value = result.as_ref().map(|result| &result[key]);
            value.and_then(Value::as_str).map(str::to_owned)
        };
        let status = text("verdict").unwrap_or_else(|| "not-run".into());
        let notes = match status.as_str() {
            "not-run" => Some(format!("run: perfprof gate {}", gate.id())),
            _ => text("first_failure"),
        };
        json!({
            "name": format!("gate_{}", gate.id()),
            "command": format!("perfprof gate {}", gate.id()),
            "status": status,
            "score": result.as_ref().map(|result| result["score"].clone()),
            "threshold": result.as_ref().map(|result| result["threshold"].clone()),
            "stale": result.as_ref().and_then(|result| stale::reason(root, files, result, epoch)),
            "notes": notes.unwrap_or_default(),
            "result": result.as_ref().map(|_| path),
        })
    };
    Ok(Gate::ALL.into_iter().map(of).collect())
}

/// The file's hash wherever it stands; where a bundle holds it.
fn upstream(inputs: &[Upstream]) -> Result<Vec<Value>, EvidenceError> {
    let mut names: Vec<String> = Vec::new();
    let mut entries = Vec::new();
    for input in inputs {
        let path = input.path.display().to_string();
        let hashed = hash_named(&input.path)?;
        let name = input.path.file_name().unwrap_or_default().to_string_lossy();
        let mut bundled = format!("{UPSTREAM_FOLDER}/{}", slug(&name));
        if names.contains(&bundled) {
            bundled = format!("{UPSTREAM_FOLDER}/{}-{}", names.len(), slug(&name));
        }
        names.push(bundled.clone());
        entries.push(json!({
            "name": name,
            "path": path,
            "description": input.description,
            "status": if hashed.is_some() { "exists" } else { "missing" },
            "sha256": hashed.as_ref().map(|h| h.sha256.clone()),
            "size_bytes": hashed.as_ref().map_or(0, |h| h.size_bytes),
            "bundled_as": hashed.map(|_| bundled),
        }));
    }
    Ok(entries)
}

/// A file that the config names; a link is followed there.
pub(super) fn hash_named(path: &Path) -> Result<Option<Hashed>, EvidenceError> {
    let shown = || path.display().to_string();
    match std::fs::metadata(path) {
        Err(_) => return Ok(None),
        Ok(metadata) if !metadata.is_file() => {
            return Err(EvidenceError::Read {
                path: shown(),
                source: InsideError::WrongKind,
            });
        }
        Ok(_) => {}
    }
    let hashed = File::open(path).and_then(hash_file);
    hashed.map(Some).map_err(|source| EvidenceError::Content {
        path: shown(),
        source,
    })
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
