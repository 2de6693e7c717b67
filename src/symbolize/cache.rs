//! Names that were found before, on disk by build ID.
//!
//! In: a binary and the files its names may come from. Out: names of the last recording of the very same files. They are
//! told apart by inode, size and times of change, so that neither a rebuilt binary nor debug information that was
//! installed since meets old names. perfprof runs as root: a folder that others could have filled is not used.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::FoundFunction;
use super::debuginfod::cache::own_folder;
use super::wire::Candidate;
use crate::profile::{BuildId, ElfAddr};

/// What is kept of one binary unpacks to no more than this.
const MAX_UNPACKED_BYTES: u64 = 64 << 20;

/// All of it together; beyond, what was written longest ago goes.
const MAX_CACHE_BYTES: u64 = 256 << 20;

/// Another version may name things differently.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The functions at an address; empty where there are none.
type Functions = Vec<FoundFunction>;

/// A file as it was when names were read from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    path: String,
    inode: u64,
    bytes: u64,
    /// Of content and of status, in nanoseconds since the epoch.
    modified_ns: i128,
    changed_ns: i128,
}

/// What is known of one binary.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    version: String,
    sources: Vec<Source>,
    functions: HashMap<u64, Functions>,
    #[serde(skip)]
    is_new: bool,
}

impl Entry {
    pub fn get(&self, addr: ElfAddr) -> Option<&Functions> {
        self.functions.get(&addr.0)
    }

    pub fn add(&mut self, addr: ElfAddr, functions: Functions) {
        self.is_new |= self.functions.insert(addr.0, functions).is_none();
    }
}

/// The folder.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// `$XDG_CACHE_HOME/perfprof/symbols`, or that below `~/.cache`; `None` where neither is said.
    pub fn of_user() -> Option<Result<Cache, String>> {
        let absolute = |name| {
            let path = PathBuf::from(std::env::var_os(name)?);
            path.is_absolute().then_some(path)
        };
        let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        Some(Cache::at(&caches?.join("perfprof/symbols")))
    }

    /// In words why it cannot be used.
    fn at(folder: &Path) -> Result<Cache, String> {
        own_folder(folder)?;
        Ok(Cache {
            folder: folder.to_owned(),
        })
    }

    /// What is known of a build from these files: nothing at first.
    pub fn load(&self, build_id: BuildId, files: &[(Candidate, File)]) -> Entry {
        let sources = files.iter().filter_map(source).collect();
        let known = self.read(build_id).ok();
        match known.filter(|entry| entry.version == VERSION && entry.sources == sources) {
            Some(entry) => entry,
            None => Entry {
                version: VERSION.into(),
                sources,
                functions: HashMap::new(),
                is_new: false,
            },
        }
    }

    fn read(&self, build_id: BuildId) -> io::Result<Entry> {
        let file = File::open(self.path(build_id))?;
        let mut json = Vec::new();
        GzDecoder::new(file)
            .take(MAX_UNPACKED_BYTES)
            .read_to_end(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// Keeps what is new. A cache that cannot be written costs time in the next recording, nothing else.
    pub fn store(&self, build_id: BuildId, entry: &Entry) {
        if entry.is_new {
            let _ = self.write(build_id, entry);
        }
    }

    fn write(&self, build_id: BuildId, entry: &Entry) -> io::Result<()> {
        let json = serde_json::to_vec(entry)?;
        if json.len() as u64 >= MAX_UNPACKED_BYTES {
            return Ok(());
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&json)?;
        let bytes = gzip.finish()?;
        self.make_room(bytes.len() as u64);
        let path = self.path(build_id);
        let aside = path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&aside, bytes)?;
        fs::rename(&aside, path)
    }

    fn path(&self, build_id: BuildId) -> PathBuf {
        self.folder.join(format!("{build_id}.json.gz"))
    }

    fn make_room(&self, bytes: u64) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<(i64, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let meta = entry.metadata().ok()?;
                Some((meta.mtime(), meta.len(), entry.path()))
            })
            .collect();
        files.sort_unstable();
        let mut total: u64 = bytes + files.iter().map(|(_, len, _)| len).sum::<u64>();
        for (_, len, path) in files {
            if total <= MAX_CACHE_BYTES {
                return;
            }
            if fs::remove_file(path).is_ok() {
                total -= len;
            }
        }
    }
}

fn source((candidate, file): &(Candidate, File)) -> Option<Source> {
    let meta = file.metadata().ok()?;
    let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    Some(Source {
        path: candidate.path.clone(),
        inode: meta.ino(),
        bytes: meta.len(),
        modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
        changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::wire::Check;

    fn files(path: &Path) -> Vec<(Candidate, File)> {
        let candidate = Candidate {
            path: path.display().to_string(),
            check: Check::Itself,
        };
        vec![(candidate, File::open(path).expect("a file"))]
    }

    #[test]
    fn names_are_those_of_the_very_same_files() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::at(&dir.path().join("cache")).expect("a folder of our own");
        let program = dir.path().join("program");
        fs::write(&program, "one").expect("written");
        let build_id = BuildId::from_bytes(&[1, 2, 3]).expect("an ID");
        let mut entry = cache.load(build_id, &files(&program));
        assert!(entry.get(ElfAddr(16)).is_none());
        entry.add(ElfAddr(16), vec![FoundFunction::bare("work".into())]);
        cache.store(build_id, &entry);

        let again = cache.load(build_id, &files(&program));
        let functions = again.get(ElfAddr(16)).expect("known");
        assert_eq!(functions[0].name, "work");
        assert!(again.get(ElfAddr(17)).is_none() && !again.is_new);

        fs::write(&program, "two").expect("written");
        assert!(cache.load(build_id, &files(&program)).functions.is_empty());
        fs::write(cache.path(build_id), "nonsense").expect("written");
        assert!(cache.load(build_id, &files(&program)).functions.is_empty());
    }

    #[test]
    fn a_folder_that_others_may_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary directory");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(dir.path(), open).expect("changed");
        let why = Cache::at(dir.path()).expect_err("refused");
        assert!(why.contains("is not used"), "{why}");
    }
}
