//! Finished windows on disk, within a budget.
//!
//! In: a directory that was filled under a temporary name. Out: `windows/2026-11-29T02-15-00Z/`, complete or not there, and
//! `latest`, a link to the newest. The oldest give way when the budget or the disk is full. What a crash left unfinished is
//! removed at the next start; a window that was finished before stays.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;

const WINDOWS: &str = "windows";
const LATEST: &str = "latest";
const LOCK: &str = ".agent.lock";
/// Where names are kept, if `XDG_CACHE_HOME` says so; others bound what it holds.
const CACHE: &str = "cache";
/// What a directory is called until it is complete.
const UNFINISHED: &str = ".unfinished-";
/// In the name of a recording that was asked for.
const DEEP: &str = "-deep";
/// Windows that begin within the same second.
const MAX_SAME_SECOND: u32 = 100;
/// Deeper than this nothing is measured; a window has two levels.
const MAX_DEPTH: u32 = 4;
/// A recording that was asked for takes less than this, with what it writes to see whether it can.
const LEAST_ROOM: u64 = 2 << 20;

/// A data directory that is this agent's alone.
#[derive(Debug)]
pub struct Windows {
    data: PathBuf,
    budget_bytes: u64,
    /// Oldest first, with their size.
    finished: Vec<(String, u64)>,
    /// Of files that are no windows, such as queues; counted by others.
    _lock: Flock<File>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("failed to {doing} `{}`", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("another agent uses `{}`", path.display())]
    InUse { path: PathBuf },
}

impl Windows {
    /// Takes the directory, creates what is missing, and removes what was left unfinished.
    pub fn open(data: &Path, budget_bytes: u64) -> Result<Windows, OpenError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io {
                doing,
                path,
                source,
            }
        };
        let windows = data.join(WINDOWS);
        // What a service runs, and where, is its owner's business.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&windows)
            .map_err(io("create", &windows))?;
        let lock = data.join(LOCK);
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock)
            .map_err(io("open", &lock))?;
        let refused = |(_, errno)| match errno {
            Errno::EWOULDBLOCK => OpenError::InUse {
                path: data.to_owned(),
            },
            errno => io("lock", &lock)(errno.into()),
        };
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(refused)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&windows).map_err(io("list", &windows))? {
            let entry = entry.map_err(io("list", &windows))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path()).map_err(io("remove", &entry.path()))?;
            } else if is_own(&name) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                names.push(name);
            }
        }
        names.sort();
        let sized = |name: String| {
            let bytes = size_of(&windows.join(&name), 0);
            (name, bytes)
        };
        let windows = Windows {
            data: data.to_owned(),
            budget_bytes,
            finished: names.into_iter().map(sized).collect(),
            _lock: held,
        };
        match windows.mend_latest() {
            // The next window will see to it.
            Err(error) if error.kind() == ErrorKind::StorageFull => {}
            mended => mended.map_err(io("mend", &windows.latest()))?,
        }
        Ok(windows)
    }

    /// An empty directory to be filled.
    pub fn begin(&self, started_unix_ns: u64) -> io::Result<Unfinished> {
        self.begin_as(&stamp(started_unix_ns))
    }

    /// The same for a recording that was asked for: it is kept among the windows, and is never the latest of them.
    pub fn begin_deep(&self, started_unix_ns: u64) -> io::Result<Unfinished> {
        self.begin_as(&format!("{}{DEEP}", stamp(started_unix_ns)))
    }

    fn begin_as(&self, stem: &str) -> io::Result<Unfinished> {
        for number in 0..MAX_SAME_SECOND {
            let name = match number {
                0 => stem.to_owned(),
                number => format!("{stem}-{number}"),
            };
            let path = self.windows().join(format!("{UNFINISHED}{name}"));
            if self.windows().join(&name).exists() {
                continue;
            }
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Unfinished { path, name }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// The directory is complete: it gets its name, and `latest` leads to it.
    pub fn finish(&mut self, unfinished: Unfinished) -> io::Result<PathBuf> {
        let path = self.windows().join(&unfinished.name);
        sync_dir(&unfinished.path)?;
        let is_newest = !unfinished.name.contains(DEEP);
        // Whatever takes space comes before the window has its name: on a full disk it is either there or not.
        if is_newest {
            self.prepare_link(&unfinished.name)?;
        }
        fs::rename(&unfinished.path, &path)?;
        if is_newest {
            fs::rename(self.prepared_link(), self.latest())?;
        }
        sync_dir(&self.windows())?;
        let bytes = size_of(&path, 0);
        // By the order in which they were finished: a clock may have been set back.
        self.finished.push((unfinished.name.clone(), bytes));
        Ok(path)
    }

    /// The newest window that was not asked for.
    fn newest(&self) -> Option<&str> {
        let mut names = self.finished.iter().rev().map(|(name, _)| name.as_str());
        names.find(|name| !name.contains(DEEP))
    }

    fn prepared_link(&self) -> PathBuf {
        self.data.join(format!(".{LATEST}"))
    }

    fn prepare_link(&self, name: &str) -> io::Result<()> {
        let beside = self.prepared_link();
        remove_if_there(&beside)?;
        symlink(Path::new(WINDOWS).join(name), &beside)
    }

    /// A crash may have come between a window and the link to it.
    fn mend_latest(&self) -> io::Result<()> {
        let Some(newest) = self.newest() else {
            return remove_if_there(&self.latest());
        };
        let leads_to = fs::read_link(self.latest());
        if leads_to.is_ok_and(|to| to == Path::new(WINDOWS).join(newest)) {
            return Ok(());
        }
        self.prepare_link(newest)?;
        fs::rename(self.prepared_link(), self.latest())
    }

    /// Removes the oldest windows until what is used, together with `others_bytes`, is within the budget; the newest stays.
    /// Answers how many went.
    pub fn rotate(&mut self, others_bytes: u64) -> u64 {
        let mut dropped = 0;
        while self.used_bytes() + others_bytes > self.budget_bytes && self.finished.len() > 1 {
            dropped += u64::from(self.drop_oldest());
        }
        dropped
    }

    /// Removes the oldest window, so that there is room for a new one. False: there is none, or it cannot be removed.
    pub fn drop_oldest(&mut self) -> bool {
        if self.finished.is_empty() {
            return false;
        }
        let (name, _) = self.finished.remove(0);
        let path = self.windows().join(&name);
        // Renamed first: a crash half way leaves no half window.
        let gone = self.windows().join(format!("{UNFINISHED}gone-{name}"));
        fs::rename(&path, &gone)
            .and_then(|()| fs::remove_dir_all(&gone))
            .is_ok()
    }

    /// Removes the oldest windows until the disk has room for two as large as the largest, and for `wanted_bytes`, whatever
    /// the budget says; the newest stays. Answers how many went.
    pub fn make_room(&mut self, wanted_bytes: u64) -> u64 {
        let largest = self.finished.iter().map(|(_, bytes)| *bytes).max();
        let room = (2 * largest.unwrap_or(0)).max(LEAST_ROOM).max(wanted_bytes);
        let mut dropped = 0;
        while self.finished.len() > 1 && self.room() < room {
            dropped += u64::from(self.drop_oldest());
        }
        dropped
    }

    /// What the disk has left; endless where it does not say.
    fn room(&self) -> u64 {
        statvfs(&self.data).map_or(u64::MAX, |disk| {
            disk.blocks_available().saturating_mul(disk.fragment_size())
        })
    }

    pub fn used_bytes(&self) -> u64 {
        self.finished.iter().map(|(_, bytes)| bytes).sum()
    }

    /// What a cache in the data directory takes, which is of the same budget.
    pub fn cache_bytes(&self) -> u64 {
        size_of(&self.data.join(CACHE), 0)
    }

    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    pub fn count(&self) -> usize {
        self.finished.len()
    }

    /// The newest window, once there is one.
    pub fn latest(&self) -> PathBuf {
        self.data.join(LATEST)
    }

    pub fn windows(&self) -> PathBuf {
        self.data.join(WINDOWS)
    }
}

/// Does something in a data directory that no agent has; false where one has it, or there is none.
pub(super) fn if_abandoned(data: &Path, act: impl FnOnce()) -> bool {
    let lock = fs::OpenOptions::new().write(true).open(data.join(LOCK));
    let held = lock.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock));
    let is_ours = matches!(held, Ok(Ok(_)));
    if is_ours {
        act();
    }
    is_ours
}

/// The directory, whoever panicked while holding it: what it knows is true at any time.
pub fn locked(windows: &Mutex<Windows>) -> MutexGuard<'_, Windows> {
    windows.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A window that is being written; removed when it is dropped.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    name: String,
}

impl Unfinished {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After it was finished nothing stands there.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// `2026-11-29T02-15-00Z`: sorts by time, and is a file name everywhere.
pub fn stamp(unix_ns: u64) -> String {
    let seconds = (unix_ns / 1_000_000_000) as i64;
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H-%M-%SZ").to_string()
}

/// Whether a name is one that [`stamp`] gives, with or without what follows. What somebody else put here is left alone.
fn is_own(name: &str) -> bool {
    const PATTERN: &[u8] = b"0000-00-00T00-00-00Z";
    let fits = |(byte, of): (u8, &u8)| match of {
        b'0' => byte.is_ascii_digit(),
        of => byte == *of,
    };
    name.len() >= PATTERN.len() && name.bytes().zip(PATTERN).all(fits)
}

/// Whether the disk, or what may be used of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// What a directory takes on disk. No link is followed.
pub fn size_of(path: &Path, depth: u32) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = meta.blocks() * 512;
    if !meta.is_dir() || depth >= MAX_DEPTH {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries
        .map(|entry| size_of(&entry.path(), depth + 1))
        .sum::<u64>()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn write(windows: &mut Windows, second: u64, bytes: usize) -> PathBuf {
        let unfinished = windows.begin(second * SECOND).expect("there is room");
        fs::write(unfinished.path().join("a.pb.gz"), vec![1; bytes]).expect("written");
        windows.finish(unfinished).expect("finished")
    }

    #[test]
    fn the_oldest_give_way_and_the_newest_is_led_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut windows = Windows::open(dir.path(), 40 << 10).expect("opened");
        for second in 0..6 {
            let path = write(&mut windows, second, 8 << 10);
            windows.rotate(0);
            assert!(path.exists(), "the newest stays");
            let latest = fs::canonicalize(windows.latest()).expect("leads somewhere");
            assert_eq!(latest, fs::canonicalize(&path).expect("there"));
            assert!(windows.used_bytes() <= 40 << 10);
        }
        assert!(windows.count() >= 2, "{}", windows.count());
        assert_eq!(windows.rotate(1 << 30) as usize, windows.count() + 1);
        assert_eq!(windows.count(), 1);
        assert_eq!(windows.cache_bytes(), 0);
        let names = dir.path().join(CACHE).join("perfprof/symbols");
        fs::create_dir_all(&names).expect("made");
        fs::write(names.join("one"), vec![1; 64 << 10]).expect("written");
        assert!(windows.cache_bytes() >= 64 << 10);
        assert!(!if_abandoned(dir.path(), || panic!("it is in use")));
        drop(windows);
        let mut acted = false;
        assert!(if_abandoned(dir.path(), || acted = true) && acted);
    }

    #[test]
    fn what_a_crash_left_is_removed_and_what_was_finished_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut windows = Windows::open(dir.path(), 1 << 20).expect("opened");
        write(&mut windows, 6, 10);
        let path = write(&mut windows, 7, 10);
        let unfinished = windows.begin(8 * SECOND).expect("begun");
        let half = unfinished.path().to_owned();
        std::mem::forget(unfinished);
        assert!(matches!(
            Windows::open(dir.path(), 1 << 20),
            Err(OpenError::InUse { .. })
        ));
        let latest = windows.latest();
        drop(windows);
        // As if it had come between the window and the link to it.
        for link in ["windows/1970-01-01T00-00-06Z", "windows/gone"] {
            fs::remove_file(&latest).expect("there");
            symlink(link, &latest).expect("made");
            let windows = Windows::open(dir.path(), 1 << 20).expect("opened again");
            assert!(path.exists() && !half.exists());
            assert_eq!(windows.count(), 2);
            let leads_to = fs::canonicalize(&latest).expect("leads somewhere");
            assert_eq!(leads_to, fs::canonicalize(&path).expect("there"));
        }
    }

    #[test]
    fn others_folders_are_left_alone_and_a_clock_may_be_set_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let saved = dir.path().join("windows/saved");
        fs::create_dir_all(&saved).expect("made");
        let mut windows = Windows::open(dir.path(), 1 << 20).expect("opened");
        assert_eq!(windows.count(), 0);
        write(&mut windows, 1000, 10);
        let newest = write(&mut windows, 7, 10);
        let latest = fs::canonicalize(windows.latest()).expect("leads somewhere");
        assert_eq!(latest, fs::canonicalize(&newest).expect("there"));
        windows.rotate(1 << 30);
        assert!(newest.exists() && saved.exists());
    }

    #[test]
    fn two_windows_of_one_second_have_two_names() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut windows = Windows::open(dir.path(), 1 << 20).expect("opened");
        assert_ne!(write(&mut windows, 7, 1), write(&mut windows, 7, 1));
        assert_eq!(stamp(1_796_001_300 * SECOND), "2026-11-30T01-15-00Z");
    }
}
