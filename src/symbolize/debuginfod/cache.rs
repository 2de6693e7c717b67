//! The folder of files that were fetched, in the layout of elfutils' client, so that gdb, perf and `debuginfod-find`
//! find what perfprof fetched and the other way round.
//!
//! `CACHE/BUILDID/debuginfo` and `CACHE/BUILDID/executable`. An empty file means that no server had it when it was
//! made; that holds for the seconds in `CACHE/cache_miss_s`. New files are written beside and renamed. perfprof runs as
//! root: a folder that others could have filled is not used. Old files are not removed here; elfutils' client does that.
//!
//! Source: debuginfod_find_debuginfo(3), "Cache"; debuginfod-client.c of elfutils 0.188.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::Artifact;
use crate::profile::BuildId;

/// elfutils' default.
const DEFAULT_MISS: Duration = Duration::from_secs(600);
/// Longer than a day nothing is believed to be missing.
const MAX_MISS: Duration = Duration::from_secs(86_400);
/// Where the folder says otherwise, in seconds.
const MISS_FILE: &str = "cache_miss_s";

const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK);
const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_DIRECTORY);

/// What the cache knows.
#[derive(Debug)]
pub(super) enum Cached {
    /// Not yet checked.
    File(File),
    /// No server had it a short while ago.
    KnownMissing,
    Unknown,
}

/// A folder that only we can write.
#[derive(Debug)]
pub(super) struct Cache {
    folder: File,
    miss: Duration,
}

/// A folder that only we can write, made where it is missing. In words why it cannot be used.
pub(in crate::symbolize) fn own_folder(path: &Path) -> Result<File, String> {
    let fail = |why: &dyn std::fmt::Display| format!("`{}` is not used: {why}", path.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| fail(&error))?;
    let folder =
        nix::fcntl::open(path, FOLDER, Mode::empty()).map_err(|error| fail(&error.desc()))?;
    ours(folder).map_err(|error| fail(&error))
}

/// Where elfutils' client keeps its files; debuginfod-find(1), "Environment".
pub(super) fn default_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(variable(name)?);
        path.is_absolute().then_some(path)
    };
    if let Some(folder) = absolute("DEBUGINFOD_CACHE_PATH") {
        return Some(folder);
    }
    let home = absolute("HOME");
    let former = home
        .as_ref()
        .map(|home| home.join(".debuginfod_client_cache"));
    if let Some(former) = former.filter(|folder| folder.is_dir()) {
        return Some(former);
    }
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")));
    Some(caches?.join("debuginfod_client"))
}

impl Cache {
    /// Makes the folder where it is missing. In words why it cannot be used.
    pub fn open(path: &Path) -> Result<Cache, String> {
        let folder = own_folder(path)?;
        let miss = miss_of(&folder).unwrap_or(DEFAULT_MISS);
        Ok(Cache { folder, miss })
    }

    pub fn look_up(&self, id: BuildId, artifact: Artifact) -> Cached {
        match self.open_file(id, artifact.name()) {
            Ok((file, meta)) if meta.len() > 0 => Cached::File(file),
            Ok((_, meta)) if is_recent(&meta, self.miss) => Cached::KnownMissing,
            _ => Cached::Unknown,
        }
    }

    /// A regular file only: a link, a FIFO or a folder of that name is none of ours.
    fn open_file(&self, id: BuildId, name: &str) -> io::Result<(File, fs::Metadata)> {
        let file = File::from(openat(self.subfolder(id)?, name, READ, Mode::empty())?);
        let meta = file.metadata()?;
        match meta.is_file() {
            true => Ok((file, meta)),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// For others, too. That it cannot be remembered costs a request the next time, nothing else.
    pub fn remember_missing(&self, id: BuildId, artifact: Artifact) {
        let _ = self.leave_empty(id, artifact.name());
    }

    fn leave_empty(&self, id: BuildId, name: &str) -> io::Result<()> {
        let folder = self.made_subfolder(id)?;
        let create = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match openat(&folder, name, create, Mode::S_IRUSR) {
            Err(Errno::EEXIST) => {}
            made => return Ok(made.map(drop)?),
        }
        // An older one has expired, else nobody would have been asked; a file that is no longer empty stays.
        if self.open_file(id, name)?.1.len() == 0 {
            unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir)?;
            openat(&folder, name, create, Mode::S_IRUSR)?;
        }
        Ok(())
    }

    fn subfolder(&self, id: BuildId) -> io::Result<File> {
        let name = id.to_string();
        ours(openat(
            &self.folder,
            name.as_str(),
            FOLDER | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )?)
    }

    fn made_subfolder(&self, id: BuildId) -> io::Result<File> {
        match mkdirat(&self.folder, id.to_string().as_str(), Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => self.subfolder(id),
            Err(error) => Err(error.into()),
        }
    }
}

/// Nobody but us can have put something into it.
fn ours(folder: OwnedFd) -> io::Result<File> {
    let folder = File::from(folder);
    let meta = folder.metadata()?;
    if meta.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!(
            "it belongs to user {}",
            meta.uid()
        )));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write there"));
    }
    Ok(folder)
}

fn miss_of(folder: &File) -> Option<Duration> {
    let file = File::from(openat(folder, MISS_FILE, READ, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_MISS))
}

/// A time in the future is none that could be trusted.
fn is_recent(meta: &fs::Metadata, within: Duration) -> bool {
    let age = meta
        .modified()
        .map(|made| SystemTime::now().duration_since(made));
    matches!(age, Ok(Ok(age)) if age <= within)
}

/// A file that is being written: in the cache under a name nobody looks for, or without any name where there is no
/// cache. Gone unless it is kept.
#[derive(Debug)]
pub(super) struct Aside {
    file: File,
    /// Folder of the build ID, the name beside, the final name.
    place: Option<(File, String, &'static str)>,
}

impl Aside {
    pub fn create(cache: Option<&Cache>, id: BuildId, artifact: Artifact) -> io::Result<Aside> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let Some(cache) = cache else {
            return Ok(Aside {
                file: unnamed(number)?,
                place: None,
            });
        };
        let beside = format!(
            "{}.perfprof-{}-{number}",
            artifact.name(),
            std::process::id()
        );
        let folder = cache.made_subfolder(id)?;
        // Left over by a process of the same number that was killed.
        let _ = unlinkat(&folder, beside.as_str(), UnlinkatFlags::NoRemoveDir);
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let file = openat(&folder, beside.as_str(), flags, Mode::S_IRUSR)?;
        Ok(Aside {
            file: file.into(),
            place: Some((folder, beside, artifact.name())),
        })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Half of what is free: a production machine's disk is never filled by us.
    pub fn affordable_bytes(&self) -> u64 {
        fstatvfs(&self.file).map_or(u64::MAX, |disk| {
            disk.blocks_available().saturating_mul(disk.fragment_size()) / 2
        })
    }

    /// The file under its final name, for reading.
    pub fn keep(&mut self) -> io::Result<File> {
        let Some((folder, beside, name)) = &self.place else {
            let mut file = self.file.try_clone()?;
            file.rewind()?;
            return Ok(file);
        };
        let opened = openat(folder, beside.as_str(), READ, Mode::empty())?;
        renameat(folder, beside.as_str(), folder, *name)?;
        self.place = None;
        Ok(opened.into())
    }
}

/// A file that goes when it is closed. `O_TMPFILE` would need a file system that has it.
fn unnamed(number: u64) -> io::Result<File> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now_ns = now.map_or(0, |now| now.as_nanos());
    let name = format!("perfprof-{}-{number}-{now_ns:x}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some((folder, beside, _)) = &self.place {
            let _ = unlinkat(folder, beside.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}
