//! The files below an artifact root, without following any link.
//!
//! In: the root. Out: relative paths of regular files in the order of their names, and what was left out and why. The
//! manifest and the bundle are left out, because they are made of the rest; so are locks and files that are being
//! written.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::EvidenceError;
use super::{BUNDLE, MANIFEST, UPSTREAM_FOLDER};

const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 32;

/// What stands below the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// With `/` between names, sorted.
    pub files: Vec<String>,
    /// Path and reason, sorted.
    pub left_out: Vec<(String, String)>,
}

pub(super) fn scan(root: &Path) -> Result<Scan, EvidenceError> {
    let mut scan = Scan::default();
    let mut folders: Vec<(PathBuf, usize)> = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let path = root.join(&folder);
        let fail = |source| EvidenceError::List {
            path: path.display().to_string(),
            source,
        };
        for entry in fs::read_dir(&path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let relative = folder.join(entry.file_name());
            let Some(name) = relative.to_str() else {
                let shown = relative.to_string_lossy().into_owned();
                scan.left_out.push((shown, "its name is not UTF-8".into()));
                continue;
            };
            if is_own(name) {
                continue;
            }
            let kind = entry.file_type().map_err(fail)?;
            let left_out = |reason: &str| (name.to_owned(), reason.to_owned());
            match () {
                () if kind.is_symlink() => scan.left_out.push(left_out("it is a link")),
                () if kind.is_dir() && depth >= MAX_DEPTH => {
                    scan.left_out.push(left_out("it lies too deep"));
                }
                () if kind.is_dir() => folders.push((relative.clone(), depth + 1)),
                () if kind.is_file() => scan.files.push(name.to_owned()),
                () => scan.left_out.push(left_out("it is no regular file")),
            }
            if scan.files.len() + scan.left_out.len() > MAX_FILES {
                return Err(EvidenceError::TooMuch {
                    what: "files".into(),
                    path: root.display().to_string(),
                    limit: MAX_FILES as u64,
                });
            }
        }
    }
    scan.files.sort();
    scan.left_out.sort();
    Ok(scan)
}

/// What is made of the rest, or is not yet or no longer anything.
fn is_own(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    let temporary = last.starts_with('.') && last.ends_with(".tmp");
    [MANIFEST, BUNDLE, UPSTREAM_FOLDER, ".perfprof.lock"].contains(&name)
        || temporary
        || last.starts_with(".perfprof-probe.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn regular_files_are_listed_in_order_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("diagnostics/deep")).expect("made");
        fs::write(dir.path().join("secret"), "s").expect("written");
        for name in [
            "b.json",
            "diagnostics/a.svg",
            "diagnostics/deep/c",
            MANIFEST,
            BUNDLE,
            ".perfprof.lock",
            ".b.json.1-2.tmp",
        ] {
            fs::write(root.join(name), name).expect("written");
        }
        symlink(dir.path(), root.join("out")).expect("linked");
        symlink(
            dir.path().join("secret"),
            root.join("diagnostics/secret.svg"),
        )
        .expect("linked");
        let scan = scan(&root).expect("readable");
        assert_eq!(
            scan.files,
            ["b.json", "diagnostics/a.svg", "diagnostics/deep/c"]
        );
        let left_out: Vec<&str> = scan
            .left_out
            .iter()
            .map(|(path, _)| path.as_str())
            .collect();
        assert_eq!(left_out, ["diagnostics/secret.svg", "out"]);
        super::scan(Path::new("/no/such/root")).expect_err("nothing to list");
    }
}
