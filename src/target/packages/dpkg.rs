//! The databases of Debian and Ubuntu.
//!
//! `/var/lib/dpkg/status` has a paragraph for each package, `/var/lib/dpkg/info/PACKAGE.list` a line for each of its
//! files; packages that can be installed for several architectures are called `PACKAGE:ARCH.list`. Source: dpkg(1),
//! deb-control(5).

use std::path::Path;

use super::{Package, Reader, Wanted};
use crate::profile::PackageFact;

const STATUS: &str = "/var/lib/dpkg/status";
/// 4,000 packages have about 8 MB.
const MAX_STATUS_BYTES: u64 = 64 << 20;
/// linux-source and texlive come nearest, with 2 MB.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// A paragraph of the database.
#[derive(Debug, Default)]
struct Entry {
    package: Package,
    arch: String,
    is_installed: bool,
    is_multi_arch: bool,
}

pub(super) fn find(reader: &mut Reader, wanted: &mut Wanted) {
    let Some(status) = reader.read(STATUS, MAX_STATUS_BYTES) else {
        return;
    };
    let mut entries = entries(&String::from_utf8_lossy(&status));
    // Most files belong to a package that begins like them: `libz.so.1` to none, `libssl.so.3` to `libssl3`.
    let stems: Vec<String> = wanted
        .spellings
        .iter()
        .filter_map(|(path, _)| stem(path))
        .collect();
    entries.sort_by_cached_key(|entry| {
        !stems
            .iter()
            .any(|stem| entry.package.name.starts_with(&**stem))
    });
    for entry in entries {
        if wanted.is_empty() {
            return;
        }
        let Some(list) = entry.list(reader) else {
            continue;
        };
        for path in list.split(|byte| *byte == b'\n') {
            wanted.offer(path, || entry.package.clone());
        }
    }
}

impl Entry {
    fn list(&self, reader: &mut Reader) -> Option<Vec<u8>> {
        let name = &self.package.name;
        let path = match self.is_multi_arch {
            true => format!("/var/lib/dpkg/info/{name}:{}.list", self.arch),
            false => format!("/var/lib/dpkg/info/{name}.list"),
        };
        reader.read(&path, MAX_LIST_BYTES)
    }
}

fn entries(status: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut entry = Entry::default();
    for line in status.lines().chain([""]) {
        let field = line
            .split_once(": ")
            .map(|(key, value)| (key, value.trim()));
        match field {
            None if line.is_empty() => {
                let done = std::mem::take(&mut entry);
                if done.is_installed
                    && PackageFact::is_word(&done.package.name)
                    && PackageFact::is_word(&done.package.version)
                {
                    entries.push(done);
                }
            }
            Some(("Package", name)) => entry.package.name = name.to_owned(),
            Some(("Version", version)) => entry.package.version = version.to_owned(),
            Some(("Architecture", arch)) if PackageFact::is_word(arch) => {
                entry.arch = arch.to_owned()
            }
            Some(("Status", status)) => entry.is_installed = status.ends_with(" installed"),
            Some(("Multi-Arch", kind)) => entry.is_multi_arch = kind == "same",
            _ => {}
        }
    }
    entries
}

/// `libssl` of `libssl.so.3`; too short a name would prefer too many packages.
fn stem(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let name = Path::new(path).file_name()?.to_str()?;
    let stem = name.split(".so").next().unwrap_or(name);
    (stem.len() > 2).then(|| stem.to_lowercase())
}
