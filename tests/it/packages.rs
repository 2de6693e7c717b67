//! Which package owns a file is told as the system's own tool tells it.

use std::path::{Path, PathBuf};
use std::process::Command;

use perfprof::target::packages::owners;
use perfprof::target::root::Root;

use crate::support::{Need, missing};

/// Real libraries and programs that are compared.
const FILES: usize = 40;
const FOLDERS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/bin"];

/// `PACKAGE` and its version as dpkg has them, for either spelling of a merged path.
fn by_dpkg(path: &str) -> Option<(String, String)> {
    let short = path.strip_prefix("/usr").unwrap_or(path);
    let package = [path, short].iter().find_map(|spelling| {
        let output = Command::new("dpkg-query")
            .args(["-S", spelling])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let owner = text
            .lines()
            .find(|line| !line.starts_with("diversion"))?
            .split(": ")
            .next()?;
        output.status.success().then(|| owner.to_owned())
    })?;
    let show = ["-W", "-f", "${Package} ${Version}\n", &package];
    let output = Command::new("dpkg-query").args(show).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (name, version) = text.lines().next()?.split_once(' ')?;
    Some((name.to_owned(), version.to_owned()))
}

/// Regular files only: what is mapped is never a link.
fn files() -> Vec<String> {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in FOLDERS {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let regular = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let mut paths: Vec<PathBuf> = regular.map(|entry| entry.path()).collect();
        paths.sort();
        let step = (paths.len() * FOLDERS.len() / FILES).max(1);
        files.extend(paths.into_iter().step_by(step));
    }
    let libc = Path::new(FOLDERS[0]).join("libc.so.6");
    files.push(libc);
    files
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn owners_of_real_files_are_those_dpkg_names() {
    if missing(&[Need::Program("dpkg-query")]) {
        return;
    }
    let files = files();
    let paths: Vec<&str> = files.iter().map(String::as_str).collect();
    let root = Root::of(std::process::id()).expect("own root");
    let found = owners(&mut |path| root.open(path), &paths);
    let mut owned = 0;
    for (path, found) in paths.iter().zip(found) {
        let found = found.map(|package| (package.name, package.version));
        assert_eq!(found, by_dpkg(path), "{path}");
        owned += usize::from(found.is_some());
    }
    assert!(
        owned >= FILES / 2,
        "{owned} of {} files are owned",
        paths.len()
    );
}
