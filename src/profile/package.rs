//! Which package a binary came from: what it takes to say how its frames can get names.

use serde::{Deserialize, Serialize};

/// A binary and its origin, as the root it was found in tells. Strings may be empty where something is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PackageFact {
    /// As in the mapping.
    pub path: String,
    /// Lower-case hex.
    pub build_id: String,
    /// `ID` of os-release(5): `debian`, `fedora`.
    pub distribution: String,
    /// `ID_LIKE`: those it descends from, nearest first.
    pub like: Vec<String>,
    /// `VERSION_CODENAME`, else `VERSION_ID`: `bookworm`, `41`.
    pub release: String,
    /// That installed the file; empty where no package did, or its database was not read.
    pub package: String,
    pub version: String,
}

/// Names and versions of packages are shorter.
const MAX_WORD_BYTES: usize = 128;

impl PackageFact {
    /// Whether `text` can be a package's name or version, and part of a command: nothing in it means anything to a
    /// shell, a terminal or Markdown. Source: Debian Policy §5.6.1, §5.6.12, which allow the most.
    pub fn is_word(text: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-.:~_".contains(&b);
        (1..=MAX_WORD_BYTES).contains(&text.len())
            && text.bytes().all(plain)
            && !text.starts_with('-')
    }
}
