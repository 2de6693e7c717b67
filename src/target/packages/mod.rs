//! Which distribution a root holds, and which package owns a file in it: what a person has to install for names.
//!
//! In: something that opens files of a root, and paths in that root. Out: the distribution, and for Debian, Ubuntu and
//! Alpine the owner of each path. Databases of rpm are not read: there, debug packages are found by build ID. All of it
//! is text that the target's owner wrote: bounded, and every word that is kept fits into a command without quoting.

mod apk;
mod dpkg;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::binary::Binary;
use super::identity;
use super::root::Root;
use crate::profile::PackageFact;

/// os-release(5): a few hundred bytes.
const MAX_OS_RELEASE_BYTES: u64 = 64 << 10;
/// For all roots of a recording together. A desktop's dpkg lists have about 30 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Files opened, for all roots together. A desktop has about 4,000 packages, a list each.
const MAX_FILES: u32 = 50_000;

/// A package that is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
}

/// What os-release(5) says; empty where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    pub id: String,
    pub like: Vec<String>,
    pub release: String,
}

/// Opens a file of a root by its absolute path there.
pub type Open<'a> = &'a mut dyn FnMut(&Path) -> io::Result<File>;

/// The origin of each of `binaries` that has a root, in their order.
pub fn facts(binaries: &[&Binary]) -> Vec<PackageFact> {
    let mut budget = Budget::default();
    let mut roots: Vec<(&Arc<Root>, Vec<&Binary>)> = Vec::new();
    for binary in binaries {
        let Some(root) = &binary.root else { continue };
        match roots.iter_mut().find(|(known, _)| Arc::ptr_eq(known, root)) {
            Some((_, inside)) => inside.push(binary),
            None => roots.push((root, vec![binary])),
        }
    }
    let facts = roots.into_iter().flat_map(|(root, inside)| {
        let mut reader = Reader {
            open: &mut |path| root.open(path),
            budget: &mut budget,
        };
        facts_in(&mut reader, root, &inside)
    });
    facts.collect()
}

fn facts_in(reader: &mut Reader, root: &Root, binaries: &[&Binary]) -> Vec<PackageFact> {
    let distribution = reader.distribution();
    let inside = binaries.iter().map(|binary| root.inside(&binary.path));
    let paths: Vec<&str> = inside.collect();
    let owners = reader.owners(&paths);
    let facts = binaries.iter().zip(owners).map(|(binary, owner)| {
        let owner = owner
            .filter(|_| is_installed(root, binary))
            .unwrap_or_default();
        PackageFact {
            path: binary.path.clone(),
            build_id: binary
                .build_id
                .map_or_else(String::new, |id| id.to_string()),
            distribution: distribution.id.clone(),
            like: distribution.like.clone(),
            release: distribution.release.clone(),
            package: owner.name,
            version: owner.version,
        }
    });
    facts.collect()
}

/// What runs is what stands at its path: a package that was upgraded meanwhile has another version than the one that runs.
fn is_installed(root: &Root, binary: &Binary) -> bool {
    let Ok(installed) = root.open(Path::new(root.inside(&binary.path))) else {
        return false;
    };
    let inode = |file: &File| file.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let is_same_file = binary
        .file
        .as_ref()
        .is_some_and(|file| inode(file) == inode(&installed));
    is_same_file || binary.build_id.is_some() && identity::build_id(&installed) == binary.build_id
}

/// The distribution in the root that `open` opens.
pub fn distribution(open: Open) -> Distribution {
    let mut budget = Budget::default();
    Reader {
        open,
        budget: &mut budget,
    }
    .distribution()
}

/// The owner of each path in the root that `open` opens.
pub fn owners(open: Open, paths: &[&str]) -> Vec<Option<Package>> {
    let mut budget = Budget::default();
    Reader {
        open,
        budget: &mut budget,
    }
    .owners(paths)
}

/// What may still be read.
#[derive(Debug)]
struct Budget {
    bytes: u64,
    files: u32,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            bytes: MAX_BYTES,
            files: MAX_FILES,
        }
    }
}

/// Reads files of one root.
struct Reader<'a> {
    open: Open<'a>,
    budget: &'a mut Budget,
}

impl Reader<'_> {
    /// The file's bytes, as far as the budget goes; `None` where it cannot be read.
    fn read(&mut self, path: &str, max_bytes: u64) -> Option<Vec<u8>> {
        self.budget.files = self.budget.files.checked_sub(1)?;
        let file = (self.open)(Path::new(path)).ok()?;
        let mut bytes = Vec::new();
        let limit = max_bytes.min(self.budget.bytes);
        file.take(limit).read_to_end(&mut bytes).ok()?;
        self.budget.bytes -= bytes.len() as u64;
        Some(bytes)
    }

    fn distribution(&mut self) -> Distribution {
        let paths = ["/etc/os-release", "/usr/lib/os-release"];
        let mut texts = paths
            .iter()
            .filter_map(|path| self.read(path, MAX_OS_RELEASE_BYTES));
        let text = texts.next().unwrap_or_default();
        os_release(&String::from_utf8_lossy(&text))
    }

    fn owners(&mut self, paths: &[&str]) -> Vec<Option<Package>> {
        let mut wanted = Wanted::of(paths);
        if wanted.is_empty() {
            return wanted.owners;
        }
        dpkg::find(self, &mut wanted);
        apk::find(self, &mut wanted);
        wanted.owners
    }
}

fn os_release(text: &str) -> Distribution {
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']))
    };
    let plain = |key: &str| {
        value(key)
            .filter(|v| PackageFact::is_word(v))
            .unwrap_or_default()
            .to_owned()
    };
    let like = value("ID_LIKE").unwrap_or_default().split_whitespace();
    let release = [plain("VERSION_CODENAME"), plain("VERSION_ID")];
    Distribution {
        id: plain("ID"),
        like: like
            .filter(|id| PackageFact::is_word(id))
            .map(str::to_owned)
            .collect(),
        release: release
            .into_iter()
            .find(|word| !word.is_empty())
            .unwrap_or_default(),
    }
}

/// Paths whose owner is sought, in all spellings a database may have: `/lib` is a link to `/usr/lib` on most systems,
/// and packages write either.
struct Wanted {
    spellings: Vec<(Vec<u8>, usize)>,
    owners: Vec<Option<Package>>,
}

/// Where packages put programs and libraries; what lies elsewhere was put there by people.
const PACKAGED: [&str; 5] = ["/usr/", "/lib", "/bin/", "/sbin/", "/opt/"];
const BY_HAND: &str = "/usr/local/";
/// Links into `/usr` on a merged system.
const MERGED: [&str; 6] = ["/lib/", "/lib64/", "/lib32/", "/libx32/", "/bin/", "/sbin/"];

impl Wanted {
    fn of(paths: &[&str]) -> Wanted {
        let packaged = |path: &str| {
            PACKAGED.iter().any(|folder| path.starts_with(folder)) && !path.starts_with(BY_HAND)
        };
        let mut spellings = Vec::new();
        for (ix, path) in paths.iter().enumerate().filter(|(_, path)| packaged(path)) {
            spellings.push((path.as_bytes().to_vec(), ix));
            let merged = |path: &str| MERGED.iter().any(|folder| path.starts_with(folder));
            match path.strip_prefix("/usr") {
                Some(short) if merged(short) => spellings.push((short.into(), ix)),
                None if merged(path) => spellings.push((format!("/usr{path}").into(), ix)),
                _ => {}
            }
        }
        spellings.sort_unstable();
        Wanted {
            spellings,
            owners: vec![None; paths.len()],
        }
    }

    /// Nothing is left to find.
    fn is_empty(&self) -> bool {
        self.spellings.is_empty()
    }

    /// Where a path of the database is one of those sought, its owner is `package`.
    fn offer(&mut self, path: &[u8], package: impl FnOnce() -> Package) {
        let Ok(at) = self
            .spellings
            .binary_search_by(|(spelling, _)| spelling.as_slice().cmp(path))
        else {
            return;
        };
        let ix = self.spellings[at].1;
        self.owners[ix] = Some(package());
        self.spellings.retain(|(_, other)| *other != ix);
    }
}

#[cfg(test)]
mod tests;
