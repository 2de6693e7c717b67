//! Is what the manifest lists still there, and unchanged, and is there nothing else?
//!
//! In: an artifact root with its manifest. Out: what differs. A bundle that was unpacked can be verified, too: inputs
//! from elsewhere are then looked for in it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::error::EvidenceError;
use super::hash::{Hashed, hash_inside};
use super::manifest::hash_named;
use super::scan::scan;
use super::{MANIFEST, SCHEMA, SCHEMA_VERSION};
use crate::artifacts::read_inside;

const MAX_MANIFEST_BYTES: u64 = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Missing,
    Changed,
    Unlisted,
}

impl Kind {
    pub fn id(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Changed => "changed",
            Kind::Unlisted => "unlisted",
        }
    }
}

/// A file that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    pub path: String,
    pub detail: String,
}

/// What differs, and how many files were compared.
pub fn verify(root: &Path) -> Result<(Vec<Finding>, usize), EvidenceError> {
    let document = read(root)?;
    let mut findings = Vec::new();
    let mut listed = BTreeSet::new();
    for entry in entries(root, &document, "artifacts")? {
        let path = entry.path;
        // What was missing then is no finding as long as it still is; when it came, it is unlisted.
        let Some(expected) = entry.hashed else {
            continue;
        };
        listed.insert(path.to_owned());
        let found = hash_inside(root, path);
        match found {
            // A link in its place, say.
            Err(EvidenceError::Read { source, .. }) => findings.push(Finding {
                kind: Kind::Changed,
                path: path.to_owned(),
                detail: source.to_string(),
            }),
            Err(error) => return Err(error),
            Ok(found) => findings.extend(compare(path, expected, found)),
        }
    }
    for entry in entries(root, &document, "upstream")? {
        let Some(expected) = entry.hashed else {
            continue;
        };
        let bundled = entry
            .bundled_as
            .map(|path| hash_inside(root, path))
            .transpose()?
            .flatten();
        let found = match bundled {
            Some(found) => Some(found),
            None => hash_named(Path::new(entry.path))?,
        };
        findings.extend(compare(entry.path, expected, found));
    }
    let scan = scan(root)?;
    let unlisted = scan.files.iter().filter(|path| !listed.contains(*path));
    findings.extend(unlisted.map(|path| Finding {
        kind: Kind::Unlisted,
        path: path.clone(),
        detail: "is not in the manifest".into(),
    }));
    let known: BTreeSet<&str> = document["left_out"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["path"].as_str())
        .collect();
    let new = scan
        .left_out
        .iter()
        .filter(|(path, _)| !known.contains(path.as_str()) && !listed.contains(path));
    findings.extend(new.map(|(path, reason)| Finding {
        kind: Kind::Unlisted,
        path: path.clone(),
        detail: format!("is not in the manifest; {reason}"),
    }));
    findings.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    Ok((findings, listed.len()))
}

fn compare(path: &str, expected: Listed<'_>, found: Option<Hashed>) -> Option<Finding> {
    let (kind, detail) = match found {
        None => (Kind::Missing, "is listed and not there".to_owned()),
        Some(found) if found.size_bytes != expected.size => (
            Kind::Changed,
            format!(
                "has {} bytes, and {} are listed",
                found.size_bytes, expected.size
            ),
        ),
        Some(found) if found.sha256 != expected.sha256 => {
            (Kind::Changed, format!("its SHA-256 is {}", found.sha256))
        }
        Some(_) => return None,
    };
    Some(Finding {
        kind,
        path: path.to_owned(),
        detail,
    })
}

/// The manifest of a root.
pub(super) fn read(root: &Path) -> Result<Value, EvidenceError> {
    let path = root.join(MANIFEST).display().to_string();
    let bad = |message: String| EvidenceError::Manifest {
        path: path.clone(),
        message,
    };
    let bytes = read_inside(root, Path::new(MANIFEST), MAX_MANIFEST_BYTES);
    let bytes = bytes.map_err(|source| EvidenceError::Read {
        path: path.clone(),
        source,
    })?;
    let bytes = bytes.ok_or_else(|| bad("there is no manifest".into()))?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    if document["schema"] != SCHEMA || document["schema_version"] != SCHEMA_VERSION {
        let (schema, version) = (&document["schema"], &document["schema_version"]);
        return Err(bad(format!(
            "`schema` is {schema}, version {version}, not {SCHEMA} {SCHEMA_VERSION}"
        )));
    }
    Ok(document)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'a> {
    pub sha256: &'a str,
    pub size: u64,
}

/// A line of the manifest; without a hash, what was missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListedFile<'a> {
    pub path: &'a str,
    pub hashed: Option<Listed<'a>>,
    pub bundled_as: Option<&'a str>,
}

pub(super) fn entries<'a>(
    root: &Path,
    document: &'a Value,
    key: &str,
) -> Result<Vec<ListedFile<'a>>, EvidenceError> {
    let bad = |message: String| EvidenceError::Manifest {
        path: root.join(MANIFEST).display().to_string(),
        message,
    };
    let list = document[key]
        .as_array()
        .ok_or_else(|| bad(format!("`{key}` is no list")))?;
    let entry = |(index, entry): (usize, &'a Value)| {
        let path = entry["path"].as_str();
        let path = path.ok_or_else(|| bad(format!("`{key}[{index}].path` is no text")))?;
        let hashed = match (entry["sha256"].as_str(), entry["size_bytes"].as_u64()) {
            _ if entry["status"] == "missing" => None,
            (Some(sha256), Some(size)) => Some(Listed { sha256, size }),
            _ => {
                return Err(bad(format!(
                    "`{key}[{index}]` has no `sha256` or no `size_bytes`"
                )));
            }
        };
        Ok(ListedFile {
            path,
            hashed,
            bundled_as: entry["bundled_as"].as_str(),
        })
    };
    list.iter().enumerate().map(entry).collect()
}
