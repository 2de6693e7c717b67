//! Recordings that somebody asks for: deeper than the windows, for some seconds, one at a time.
//!
//! In: how long, how often, what of the time. Out: an artifact root among the windows, and the profile's bytes. Each is made by
//! a process of its own, `perfprof record` with the same target: whatever becomes of it, the windows go on; and it ends with the
//! agent.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use super::state::State;
use super::windows::{self, Windows};
use crate::sys::confined::{self, Helper};
use crate::sys::usage::unix_ns;

/// A profile of more bytes than this is not sent.
const MAX_PROFILE_BYTES: u64 = 256 << 20;
/// What is told of a recording that failed.
const MAX_WORDS_BYTES: usize = 4096;
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
    #[error("failed to record: {words}")]
    Failed { words: String },
    #[error("failed to record")]
    Io(#[from] io::Error),
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
    /// Records, and answers when everything is written. Blocks for as long as was asked for, and some seconds.
    pub fn record(&self, asked: Asked) -> Result<Deep, DeepError> {
        let _turn = match self.one_at_a_time.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.count("refused");
                return Err(DeepError::Busy);
            }
        };
        let made = self.make(asked);
        self.count(match &made {
            Ok(deep) => deep.verdict,
            Err(_) => "failed",
        });
        made
    }

    fn count(&self, outcome: &'static str) {
        *self.state.figures().recordings.entry(outcome).or_default() += 1;
    }

    fn make(&self, asked: Asked) -> Result<Deep, DeepError> {
        let unfinished = windows::locked(&self.windows).begin_deep(unix_ns())?;
        let profile = unfinished.path().join("profile.pb.gz");
        let log = unfinished.path().join("record.log");
        let words = std::fs::File::create(&log)?;
        let helper =
            confined::helper(&self.words(asked, unfinished.path(), &profile), |command| {
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(words);
            })?;
        let status = self.wait(helper, asked)?;
        let verdict = match status.code() {
            Some(0) => "trusted",
            Some(5) => "inconclusive",
            _ => {
                let text = crate::target::small_file::read_text(&log).unwrap_or_default();
                let end = text.len().saturating_sub(MAX_WORDS_BYTES);
                let end = (end..text.len()).find(|at| text.is_char_boundary(*at));
                let words = end.map_or(status.to_string(), |at| text[at..].to_owned());
                return Err(DeepError::Failed { words });
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

    fn wait(&self, mut helper: Helper, asked: Asked) -> Result<ExitStatus, DeepError> {
        let most = Duration::from_secs_f64(asked.seconds) + MOST_OVERTIME;
        let begun = std::time::Instant::now();
        loop {
            if let Some(status) = helper.poll()? {
                return Ok(status);
            }
            if self.ending.load(Ordering::Relaxed) {
                return Err(DeepError::Ending);
            }
            if begun.elapsed() > most {
                let words = format!("it did not end within {} s", most.as_secs());
                return Err(DeepError::Failed { words });
            }
            std::thread::sleep(STEP);
        }
    }
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
