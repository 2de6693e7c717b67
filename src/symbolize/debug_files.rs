//! Where debug information of a binary may lie, outside of it.
//!
//! In: a binary, and what the worker has found to need. Out: open files, best first, for the worker to check. Files are
//! sought in the target's own root, in the folders of `--debug-dir`, and by build ID or below `/usr/lib/debug` in ours; a path
//! that the target chose is never followed out of its root. Source: GDB manual, "Separate Debug Files"; the layouts of
//! elfutils and Debian.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::debuginfod::{Artifact, Config, Debuginfod};
use super::options::SymbolOptions;
use super::wire::{Candidate, Check, Wanted};
use crate::profile::BuildId;
use crate::sys::channel::MAX_FILES;
use crate::target::binary::{Binary, DebugLink};
use crate::target::root::Root;

/// Where distributions put debug information.
const SYSTEM_DEBUG_DIR: &str = "/usr/lib/debug";

/// Where to look.
#[derive(Debug, Default)]
pub(super) struct SearchPath {
    /// Absolute.
    debug_dirs: Vec<PathBuf>,
    own_root: Option<Arc<Root>>,
    /// Servers that may be asked for what is nowhere else.
    debuginfod: Option<Debuginfod>,
}

/// A path in a root.
type Place = (Arc<Root>, PathBuf);

impl SearchPath {
    pub fn new(options: &SymbolOptions) -> SearchPath {
        let absolute = |dir: &PathBuf| std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        SearchPath {
            debug_dirs: options.debug_dirs.iter().map(absolute).collect(),
            own_root: Root::of(std::process::id()).ok().map(Arc::new),
            debuginfod: options
                .debuginfod
                .as_ref()
                .map(|servers| Debuginfod::new(Config::of(servers))),
        }
    }

    /// Files that may hold the debug information of `binary`.
    pub fn candidates(&self, binary: &Binary) -> Vec<(Candidate, File)> {
        let mut found = Found::new(binary);
        if let Some(build_id) = binary.build_id {
            found.open(self.by_build_id(binary, build_id), Check::BuildId);
        }
        if let Some(link) = &binary.debug_link {
            found.open(self.by_link(binary, link), Check::Crc(link.crc));
        }
        found.files
    }

    /// Files that debug information of `binary` names.
    pub fn wanted(&self, binary: &Binary, wanted: &Wanted) -> Vec<(Candidate, File)> {
        let mut found = Found::new(binary);
        let places = match wanted {
            Wanted::DebugInfo { .. } => Vec::new(),
            Wanted::Supplement {
                beside,
                name,
                build_id,
            } => self.supplement(binary, beside, name, build_id),
            Wanted::Package { beside } => self.package(binary, beside),
            Wanted::SplitUnit {
                beside,
                folder,
                name,
            } => self.split_unit(binary, beside, folder, name),
        };
        found.open(places, Check::ByContent);
        match wanted {
            Wanted::DebugInfo { build_id } => found.add(self.fetched(build_id, Check::BuildId)),
            Wanted::Supplement { build_id, .. } if found.files.is_empty() => {
                found.add(self.fetched(build_id, Check::ByContent));
            }
            _ => {}
        }
        found.files
    }

    /// Debug information from a server.
    fn fetched(&self, build_id: &str, check: Check) -> Option<(Candidate, File)> {
        let build_id = BuildId::from_hex(build_id)?;
        let servers = self.debuginfod.as_ref()?;
        let file = servers.fetch(build_id, Artifact::DebugInfo).ok()?;
        let path = format!("debuginfod:{build_id}");
        Some((Candidate { path, check }, file))
    }

    pub fn asks_servers(&self) -> bool {
        self.debuginfod.is_some()
    }

    /// What servers have sent and what they have not, in whole sentences.
    pub fn notes(&self) -> Vec<String> {
        let Some(servers) = &self.debuginfod else {
            return Vec::new();
        };
        let fetched = servers.fetched();
        let refused = fetched
            .cache_refused
            .map(|why| format!("The cache of debuginfod is not used: {why}."));
        let failed = fetched.failed.values().map(|(count, first)| {
            let files = if *count == 1 { "file" } else { "files" };
            format!("debuginfod did not bring {count} {files} with debug information: {first}.")
        });
        refused.into_iter().chain(failed).collect()
    }

    /// The target's root and ours.
    fn roots(&self, binary: &Binary) -> impl Iterator<Item = Arc<Root>> {
        let roots = [binary.root.clone(), self.own_root.clone()];
        roots.into_iter().flatten()
    }

    /// A path that the target chose: in its own root only.
    fn in_its_root(&self, binary: &Binary, path: &Path) -> Option<Place> {
        Some((binary.root.clone()?, path.to_owned()))
    }

    /// A path of our making, in each root.
    fn in_roots(&self, binary: &Binary, path: &Path) -> Vec<Place> {
        let place = |root| (root, path.to_owned());
        self.roots(binary).map(place).collect()
    }

    /// Paths below each folder of `--debug-dir`.
    fn in_debug_dirs(&self, below: &[PathBuf]) -> Vec<Place> {
        let Some(own) = &self.own_root else {
            return Vec::new();
        };
        let dirs = self.debug_dirs.iter();
        dirs.flat_map(|dir| below.iter().map(move |path| (own.clone(), dir.join(path))))
            .collect()
    }

    fn by_build_id(&self, binary: &Binary, build_id: BuildId) -> Vec<Place> {
        let Some(linked) = linked_path(build_id) else {
            return Vec::new();
        };
        // The second is how debuginfod's clients keep what they have fetched.
        let cached = PathBuf::from(build_id.to_string()).join("debuginfo");
        // A folder may also simply hold the programs before they were stripped.
        let base = base_name(path_of(binary));
        let (unstripped, debug) = (base.into(), format!("{base}.debug").into());
        let mut places = self.in_debug_dirs(&[linked.clone(), cached, debug, unstripped]);
        places.extend(self.in_roots(binary, &Path::new(SYSTEM_DEBUG_DIR).join(linked)));
        places
    }

    fn by_link(&self, binary: &Binary, link: &DebugLink) -> Vec<Place> {
        let folder = folder_of(path_of(binary));
        let below_root = folder.strip_prefix("/").unwrap_or(&folder);
        let mut places =
            self.in_debug_dirs(&[below_root.join(&link.name), PathBuf::from(&link.name)]);
        let system = Path::new(SYSTEM_DEBUG_DIR);
        for folder in [folder.clone(), folder.join(".debug")] {
            places.extend(self.in_its_root(binary, &folder.join(&link.name)));
        }
        let mut folders = vec![system.join(below_root)];
        // `/lib` may be a link to `/usr/lib`, and debug files stand under either name.
        folders.push(match below_root.strip_prefix("usr") {
            Ok(rest) => system.join(rest),
            Err(_) => system.join("usr").join(below_root),
        });
        for folder in folders {
            places.extend(self.in_roots(binary, &folder.join(&link.name)));
        }
        places
    }

    fn supplement(&self, binary: &Binary, beside: &str, name: &str, build_id: &str) -> Vec<Place> {
        let base = base_name(name);
        let linked = BuildId::from_hex(build_id).and_then(linked_path);
        let mut below = vec![Path::new(".dwz").join(base), PathBuf::from(base)];
        below.extend(linked.clone());
        let mut places = self.in_debug_dirs(&below);
        places.extend(self.in_its_root(binary, &folder_of(beside).join(name)));
        places.extend(self.in_its_root(binary, &folder_of(path_of(binary)).join(name)));
        // Debian has a folder for each architecture there.
        let by_architecture = name.rsplit_once(".dwz/").and_then(|(_, rest)| within(rest));
        let by_architecture = by_architecture.map(|rest| Path::new(".dwz").join(rest));
        let system = [by_architecture, Some(Path::new(".dwz").join(base)), linked];
        for below in system.into_iter().flatten() {
            places.extend(self.in_roots(binary, &Path::new(SYSTEM_DEBUG_DIR).join(below)));
        }
        places
    }

    fn package(&self, binary: &Binary, beside: &str) -> Vec<Place> {
        let of = |path: &str| PathBuf::from(format!("{path}.dwp"));
        let mut places = self.in_debug_dirs(&[of(base_name(path_of(binary)))]);
        places.extend(self.in_its_root(binary, &of(path_of(binary))));
        if beside != path_of(binary) {
            places.extend(self.in_its_root(binary, &of(beside)));
        }
        places
    }

    fn split_unit(&self, binary: &Binary, beside: &str, folder: &str, name: &str) -> Vec<Place> {
        let base = base_name(name);
        let mut below = vec![PathBuf::from(base)];
        below.extend(within(name));
        let mut places = self.in_debug_dirs(&below);
        places.extend(self.in_its_root(binary, &Path::new(folder).join(name)));
        for beside in [beside, path_of(binary)] {
            places.extend(self.in_its_root(binary, &folder_of(beside).join(name)));
            places.extend(self.in_its_root(binary, &folder_of(beside).join(base)));
        }
        places
    }
}

/// Where the binary stands in its own root.
fn path_of(binary: &Binary) -> &str {
    let root = binary.root.as_ref();
    root.map_or(&binary.path, |root| root.inside(&binary.path))
}

/// `.build-id/ab/cdef….debug`.
fn linked_path(build_id: BuildId) -> Option<PathBuf> {
    let hex = build_id.to_string();
    let (first, rest) = hex.split_at_checked(2)?;
    Some(PathBuf::from(format!(".build-id/{first}/{rest}.debug")))
}

/// A path that stays below the folder it is joined to.
fn within(path: &str) -> Option<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    path.components().all(plain).then(|| path.to_owned())
}

fn folder_of(path: &str) -> PathBuf {
    Path::new(path)
        .parent()
        .unwrap_or(Path::new("/"))
        .to_owned()
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Files opened so far, each once, and not the binary itself.
struct Found {
    known: Vec<(u64, u64)>,
    files: Vec<(Candidate, File)>,
}

impl Found {
    fn new(binary: &Binary) -> Found {
        let own = binary.file.as_ref().and_then(inode);
        Found {
            known: own.into_iter().collect(),
            files: Vec::new(),
        }
    }

    fn add(&mut self, file: Option<(Candidate, File)>) {
        self.files.extend(file);
    }

    fn open(&mut self, places: Vec<Place>, check: Check) {
        for (root, path) in places {
            // One is left for the program itself.
            if self.files.len() + 1 >= MAX_FILES {
                return;
            }
            let Ok(file) = root.open(&path) else { continue };
            let inode = inode(&file);
            if inode.is_none_or(|inode| self.known.contains(&inode)) {
                continue;
            }
            self.known.extend(inode);
            let candidate = Candidate {
                path: path.to_string_lossy().into_owned(),
                check,
            };
            self.files.push((candidate, file));
        }
    }
}

fn inode(file: &File) -> Option<(u64, u64)> {
    let meta = file.metadata().ok()?;
    Some((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_a_target_leads_out_of_a_folder_of_ours() {
        assert_eq!(within("a/b.dwo"), Some(PathBuf::from("a/b.dwo")));
        assert_eq!(within("//a/b.dwo"), Some(PathBuf::from("a/b.dwo")));
        assert_eq!(within("../shadow"), None);
        assert_eq!(within("a/../../shadow"), None);
    }

    #[test]
    fn what_a_target_names_is_sought_in_its_own_root_only() {
        let search = SearchPath::new(&SymbolOptions::default());
        let binary = Binary::unknown(
            0,
            crate::profile::MappingKind::File,
            "/x".into(),
            None,
            None,
        );
        let wanted = |name: &str| Wanted::SplitUnit {
            beside: "/x".into(),
            folder: "/".into(),
            name: name.into(),
        };
        assert!(binary.root.is_none() && Path::new("/etc/passwd").exists());
        assert!(search.wanted(&binary, &wanted("/etc/passwd")).is_empty());
        let package = Wanted::Package {
            beside: "/x".into(),
        };
        assert!(search.wanted(&binary, &package).is_empty());
    }
}
