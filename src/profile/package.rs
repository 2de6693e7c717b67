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
