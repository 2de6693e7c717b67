//! Recordings that somebody asks for: deeper than the windows, for some seconds, one at a time.
//!
//! In: how long, how often, what of the time. Out: an artifact root among the windows, and the profile's bytes. Each is made by
//! a process of its own, `perfprof record` with the same target: whatever becomes of it, the windows go on; and it ends with the
//! agent.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::state::State;
use super::windows::{self, Windows};
use crate::sys::confined::{self, Helper};
use crate::sys::usage::unix_ns;

/// A profile of more bytes than this is not sent.
const MAX_PROFILE_BYTES: u64 = 256 << 20;
/// What is told of a recording that failed.
const MAX_WORDS_BYTES: u64 = 4096;
/// A recording that the disk had no room for is made once more, at the cost of the oldest window.
const MOST_TRIES: u32 = 2;
/// How often the end of a recording is looked for.
const STEP: Duration = Duration::from_millis(50);
/// What a recording may take beyond its time: to load programs, to find names, to write.
const MOST_OVERTIME: Duration = Duration::from_secs(180);

/// What of the time is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    OnCpu,
    All,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Asked {
    pub seconds: f64,
    pub frequency_hz: u32,
    pub mode: Mode,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Deep {
    /// Where its artifacts stand.
    pub directory: PathBuf,
    pub verdict: &'static str,
    /// Empty where the target used no CPU time at all.
    pub pprof_gz: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DeepError {
    #[error("another recording is going on")]
    Busy,
    #[error("the agent is ending")]
    Ending,
    /// Nobody hears this.
    #[error("whoever asked has gone")]
    Abandoned,
    #[error("failed to record: {words}")]
    Failed { words: String },
    /// The same, because the disk is full.
    #[error("failed to record: {words}")]
    Full { words: String },
    #[error("failed to record: {0}")]
    Io(#[from] io::Error),
}

impl DeepError {
    fn is_full(&self) -> bool {
        match self {
            DeepError::Full { .. } => true,
            DeepError::Io(error) => windows::is_full(error),
            _ => false,
        }
    }
}

/// Says how the target is told to `perfprof record`, as of now.
pub type DeepWords = Box<dyn Fn() -> Vec<OsString> + Send + Sync>;

/// The one place from which recordings are made.
pub(super) struct DeepRecordings {
    pub windows: Arc<Mutex<Windows>>,
    pub target_words: DeepWords,
    pub state: Arc<State>,
    /// Set when the agent is to end.
    pub ending: Arc<AtomicBool>,
    pub one_at_a_time: Mutex<()>,
}

impl std::fmt::Debug for DeepRecordings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeepRecordings").finish_non_exhaustive()
    }
}

impl DeepRecordings {
    /// Records, and answers when everything is written. Blocks for as long as was asked for, and some seconds; ends early when
    /// `abandoned` says that nobody waits any more.
    pub fn record(&self, asked: Asked, abandoned: &AtomicBool) -> Result<Deep, DeepError> {
        let _turn = match self.one_at_a_time.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.count("refused");
                return Err(DeepError::Busy);
            }
        };
        let made = self.make_at_all_costs(asked, abandoned);
        self.count(match &made {
            Ok(deep) => deep.verdict,
            Err(DeepError::Abandoned) => "abandoned",
            Err(_) => "failed",
        });
        made
    }

    fn count(&self, outcome: &'static str) {
        *self.state.figures().recordings.entry(outcome).or_default() += 1;
    }

    /// A full disk costs the oldest windows: before, so that there is room, and after, when that was not enough.
    fn make_at_all_costs(&self, asked: Asked, abandoned: &AtomicBool) -> Result<Deep, DeepError> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.make_room();
            match self.make(asked, abandoned) {
                Err(error) if tries < MOST_TRIES && error.is_full() => {
                    if !windows::locked(&self.windows).drop_oldest() {
                        return Err(error);
                    }
                    self.tell_dropped(1);
                }
                made => return made,
            }
        }
    }

    fn make_room(&self) {
        let dropped = windows::locked(&self.windows).make_room(0);
        if dropped > 0 {
            self.tell_dropped(dropped);
        }
    }

    fn tell_dropped(&self, count: u64) {
        let mut figures = self.state.figures();
        *figures.windows_dropped.entry("disk-full").or_default() += count;
    }

    fn make(&self, asked: Asked, abandoned: &AtomicBool) -> Result<Deep, DeepError> {
        let unfinished = windows::locked(&self.windows).begin_deep(unix_ns())?;
        let profile = unfinished.path().join("profile.pb.gz");
        // In memory: the disk may be full.
        let log = memfd_create("perfprof-record-log", MFdFlags::MFD_CLOEXEC);
        let mut log = File::from(log.map_err(io::Error::from)?);
        let words = log.try_clone()?;
        let helper =
            confined::helper(&self.words(asked, unfinished.path(), &profile), |command| {
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(words);
            })?;
        let status = self.wait(helper, asked, abandoned)?;
        let verdict = match status.code() {
            Some(0) => "trusted",
            Some(5) => "inconclusive",
            _ => {
                let words = last_words(&mut log).unwrap_or_default();
                return Err(match words.trim() {
                    "" => DeepError::Failed {
                        words: status.to_string(),
                    },
                    words if says_full(words) => DeepError::Full {
                        words: words.to_owned(),
                    },
                    words => DeepError::Failed {
                        words: words.to_owned(),
                    },
                });
            }
        };
        let pprof_gz = read_bounded(&profile)?;
        let directory = windows::locked(&self.windows).finish(unfinished)?;
        Ok(Deep {
            directory,
            verdict,
            pprof_gz,
        })
    }

    fn words(&self, asked: Asked, root: &Path, profile: &Path) -> Vec<OsString> {
        let mode = match asked.mode {
            Mode::OnCpu => "on-cpu",
            Mode::All => "all",
        };
        let mut words: Vec<OsString> = vec!["record".into()];
        words.extend((self.target_words)());
        words.extend(
            [
                "--duration",
                &asked.seconds.to_string(),
                "--frequency",
                &asked.frequency_hz.to_string(),
                "--mode",
                mode,
            ]
            .map(OsString::from),
        );
        words.extend([
            "--artifacts".into(),
            root.into(),
            "--output".into(),
            profile.into(),
        ]);
        words
    }

    /// Whoever returns before the helper has ended, ends it.
    fn wait(
        &self,
        mut helper: Helper,
        asked: Asked,
        abandoned: &AtomicBool,
    ) -> Result<ExitStatus, DeepError> {
        let most = Duration::from_secs_f64(asked.seconds) + MOST_OVERTIME;
        let begun = std::time::Instant::now();
        loop {
            if let Some(status) = helper.poll()? {
                return Ok(status);
            }
            if self.ending.load(Ordering::Relaxed) {
                return Err(DeepError::Ending);
            }
            if abandoned.load(Ordering::Relaxed) {
                return Err(DeepError::Abandoned);
            }
            if begun.elapsed() > most {
                let words = format!("it did not end within {} s", most.as_secs());
                return Err(DeepError::Failed { words });
            }
            // Windows go on, and would take the room.
            self.make_room();
            std::thread::sleep(STEP);
        }
    }
}

/// The end of what the helper said.
fn last_words(log: &mut File) -> io::Result<String> {
    let length = log.seek(SeekFrom::End(0))?;
    log.seek(SeekFrom::Start(length.saturating_sub(MAX_WORDS_BYTES)))?;
    let mut bytes = Vec::new();
    log.take(MAX_WORDS_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The helper is this very program, and says of an error which one it was.
fn says_full(words: &str) -> bool {
    let full = [Errno::ENOSPC, Errno::EDQUOT];
    full.iter()
        .any(|errno| words.contains(&io::Error::from(*errno).to_string()))
}

/// A recording without samples has written no profile.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_PROFILE_BYTES => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("`{}` has {} bytes", path.display(), meta.len()),
        )),
        Ok(_) => std::fs::read(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
