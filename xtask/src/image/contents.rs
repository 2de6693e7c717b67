//! What is in perfprof's image, and what it says of itself.
//!
//! In: the static program. Out: the entries of the image's only layer, its entry point, its labels. Not the format, and not
//! the program: those are `oci` and `static_link`.

use std::collections::BTreeMap;

use super::oci::tar::Entry;

/// The program, a folder for what is short-lived, and one for recordings and the token, which are nobody else's business.
pub(crate) fn layer(program: Vec<u8>) -> Vec<Entry> {
    let folder = |path: &str, mode| Entry::Directory {
        path: path.into(),
        mode,
    };
    vec![
        Entry::File {
            path: "perfprof".into(),
            mode: 0o755,
            bytes: program,
        },
        folder("tmp", 0o1777),
        folder("var", 0o755),
        folder("var/lib", 0o755),
        folder("var/lib/perfprof", 0o700),
    ]
}

pub(crate) fn entrypoint() -> Vec<String> {
    vec!["/perfprof".into()]
}

/// Source: OCI image specification, `annotations.md`. The program holds glibc and libelf, which are LGPL.
pub(crate) fn labels(version: &str) -> BTreeMap<String, String> {
    let label = |name: &str, value: &str| {
        (
            format!("org.opencontainers.image.{name}"),
            value.to_string(),
        )
    };
    BTreeMap::from([
        label("title", "perfprof"),
        label(
            "description",
            "A Linux sampling profiler that says how much of the truth it saw",
        ),
        label("version", version),
        label(
            "licenses",
            "(Apache-2.0 OR MIT) AND LGPL-2.1-or-later AND LGPL-3.0-or-later",
        ),
    ])
}
