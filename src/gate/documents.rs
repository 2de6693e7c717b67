//! The documents of one artifact root, read as they are: bounded, no link followed, errors with their position.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::artifacts::{InsideError, read_inside, read_named};

/// A larger document was not written by perfprof, nor by hand.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// An input that is not what it should be: exit code 6. Names the file, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{file}`{} {message}", .position.as_ref().map(|at| format!(", {at}:")).unwrap_or_default())]
pub struct BadInput {
    pub file: String,
    /// `line 3, column 7`, or the place within the document.
    pub position: Option<String>,
    pub message: String,
}

impl BadInput {
    pub(super) fn of(file: &Path, message: impl Into<String>) -> BadInput {
        BadInput {
            file: file.display().to_string(),
            position: None,
            message: message.into(),
        }
    }

    pub(super) fn at(mut self, position: impl Into<String>) -> BadInput {
        self.position = Some(position.into());
        self
    }
}

/// Reads documents below the artifact root.
#[derive(Clone, Debug)]
pub struct Documents {
    root: PathBuf,
}

impl Documents {
    pub fn new(root: impl Into<PathBuf>) -> Documents {
        Documents { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// For evidence.
    pub(super) fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The bytes of a file below the root; `None` when there is none.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, InsideError> {
        read_inside(&self.root, Path::new(name), MAX_BYTES)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, BadInput> {
        let path = self.path(name);
        let bytes = self
            .bytes(name)
            .map_err(|error| unreadable(&path, &error))?;
        bytes.map(|bytes| to_text(&path, bytes)).transpose()
    }

    pub(super) fn json(&self, name: &str) -> Result<Option<Value>, BadInput> {
        let path = self.path(name);
        let bytes = self
            .bytes(name)
            .map_err(|error| unreadable(&path, &error))?;
        bytes.map(|bytes| to_json(&path, &bytes)).transpose()
    }

    /// The entries of a document with one per service; `None` when there is no such document.
    pub(super) fn services(
        &self,
        name: &str,
        schema: &str,
        version: u64,
    ) -> Result<Option<Vec<Value>>, BadInput> {
        let Some(mut document) = self.json(name)? else {
            return Ok(None);
        };
        let path = self.path(name);
        expect_schema(&path, &document, schema, version)?;
        match document["services"].take() {
            Value::Array(entries) if entries.iter().all(|e| e["service"].is_string()) => {
                Ok(Some(entries))
            }
            _ => {
                Err(BadInput::of(&path, "is no list of entries with a `service`").at("`services`"))
            }
        }
    }
}

/// The JSON of a file that the user has named; `None` when there is none.
pub(super) fn named_json(path: &Path) -> Result<Option<Value>, BadInput> {
    let bytes = read_named(path, MAX_BYTES).map_err(|error| unreadable(path, &error))?;
    bytes.map(|bytes| to_json(path, &bytes)).transpose()
}

pub(super) fn expect_schema(
    path: &Path,
    document: &Value,
    schema: &str,
    version: u64,
) -> Result<(), BadInput> {
    if document["schema"] != schema {
        let message = format!("is {}, not `{schema}`", document["schema"]);
        return Err(BadInput::of(path, message).at("`schema`"));
    }
    if document["schema_version"] != version {
        let found = &document["schema_version"];
        let message = format!("is {found}, and this version of perfprof reads {version}");
        return Err(BadInput::of(path, message).at("`schema_version`"));
    }
    Ok(())
}

pub(super) fn unreadable(path: &Path, error: &InsideError) -> BadInput {
    let message = match error {
        InsideError::Io(source) => format!("cannot be read: {source}"),
        other => other.to_string(),
    };
    BadInput::of(path, message)
}

fn to_text(path: &Path, bytes: Vec<u8>) -> Result<String, BadInput> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        BadInput::of(path, "is not UTF-8").at(format!("byte {at}"))
    })
}

pub(super) fn to_json(path: &Path, bytes: &[u8]) -> Result<Value, BadInput> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| json_error(path, &error))
}

pub(super) fn json_error(path: &Path, error: &serde_json::Error) -> BadInput {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    // serde_json repeats the position at the end of its message.
    let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
    BadInput::of(path, message).at(format!("line {line}, column {column}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn damage_is_named_with_its_position() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let documents = Documents::new(dir.path());
        let services = || documents.services("a.json", "s", 1);
        assert!(services().expect("none is no damage").is_none());
        for (text, words) in [
            ("{\n  \"a\": ]", "line 2, column 8"),
            ("", "line 1, column 0: EOF"),
            (r#"{"schema": "t"}"#, r#"`schema`: is "t", not `s`"#),
            (r#"{"schema": "s", "schema_version": 2}"#, "reads 1"),
            (
                r#"{"schema": "s", "schema_version": 1}"#,
                "`services`: is no list",
            ),
        ] {
            fs::write(dir.path().join("a.json"), text).expect("written");
            let error = services().expect_err(text).to_string();
            assert!(error.contains(words) && error.contains("a.json"), "{error}");
        }
        fs::write(dir.path().join("a.json"), [0x7b, 0xff]).expect("written");
        let error = documents.text("a.json").expect_err("no text").to_string();
        assert!(error.contains("byte 1: is not UTF-8"), "{error}");
    }
}
