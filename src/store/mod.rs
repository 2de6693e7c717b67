//! Formats that perfprof writes and reads back: pprof, its own profile, and folded stacks. The output of `perf script` is
//! only read.
//!
//! In: a `&Profile`, or the bytes of a file of unknown origin. Out: bytes, or a `Profile` whose every index holds. Reading
//! is bounded (see the limits in `gzip.rs` and `pprof/tables.rs`) and never panics; the format is told by the content,
//! never by the name. Formats that are only written live in [`crate::render`].
#![forbid(unsafe_code)]

pub mod folded;
pub mod gzip;
pub mod perf_script;
pub mod pprof;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::profile::{FrameKind, Profile};

/// Why a file could not be read as a profile. The file is named here, the position by the source.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("failed to read `{file}`")]
    Io { file: String, source: io::Error },
    #[error("failed to unpack `{file}`")]
    Gzip {
        file: String,
        source: gzip::UnpackError,
    },
    #[error("`{file}` is empty")]
    Empty { file: String },
    #[error("`{file}` is a perf.data file, which is not read; the output of `perf script` is")]
    PerfData { file: String },
    #[error("`{file}` is not a readable pprof profile")]
    Pprof {
        file: String,
        source: pprof::DecodeError,
    },
    #[error("`{file}` is not a readable file of folded stacks")]
    Folded {
        file: String,
        source: folded::DecodeError,
    },
    #[error("`{file}` is not readable output of `perf script`")]
    PerfScript {
        file: String,
        source: perf_script::DecodeError,
    },
}

/// Reads a profile from a file: pprof, folded stacks or the output of `perf script`, gzip'd or not.
pub fn read(path: &Path) -> Result<Profile, ReadError> {
    let name = path.display().to_string();
    let bytes = read_bounded(path).map_err(|source| ReadError::Io {
        file: name.clone(),
        source,
    })?;
    from_bytes(&bytes, &name)
}

/// At most one byte more than may be read, so that `/dev/zero` ends too.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(gzip::MAX_UNPACKED_BYTES + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a profile from the bytes of a file; `name` is that file's, for errors and for a foreign profile's origin.
pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Profile, ReadError> {
    let file = || name.to_owned();
    let content = gzip::unpack(bytes).map_err(|source| ReadError::Gzip {
        file: file(),
        source,
    })?;
    let base = name.rsplit('/').next().unwrap_or(name);
    match Format::of(&content) {
        Format::Nothing => Err(ReadError::Empty { file: file() }),
        Format::PerfData => Err(ReadError::PerfData { file: file() }),
        Format::Pprof => pprof::decode(&content, base).map_err(|source| ReadError::Pprof {
            file: file(),
            source,
        }),
        Format::Folded => folded::decode(&content, base).map_err(|source| ReadError::Folded {
            file: file(),
            source,
        }),
        Format::PerfScript => {
            perf_script::decode(&content, base).map_err(|source| ReadError::PerfScript {
                file: file(),
                source,
            })
        }
    }
}

/// States in a foreign profile's recording what is only known once its samples are read.
fn count_contents(profile: &mut Profile) {
    let threads = profile.threads.iter();
    let processes: BTreeSet<_> = threads.map(|t| (t.pid, &t.process)).collect();
    profile.recording.processes_seen = processes.len() as u32;
    profile.recording.threads_seen = profile.threads.len() as u32;
    let mut frames = profile.frames.iter();
    profile.recording.kernel_stacks = frames.any(|frame| frame.kind == FrameKind::Kernel);
}

#[derive(Debug, PartialEq)]
enum Format {
    Nothing,
    PerfData,
    Pprof,
    Folded,
    PerfScript,
}

impl Format {
    fn of(content: &[u8]) -> Format {
        if content.is_empty() {
            Format::Nothing
        } else if content.starts_with(b"PERFILE2") {
            Format::PerfData
        } else if content.contains(&0) {
            // Every pprof file has one: the length of the empty text its string table begins with. Text has none.
            Format::Pprof
        } else if perf_script::is_like(content) {
            Format::PerfScript
        } else {
            Format::Folded
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::profile::canned;

    #[test]
    fn the_format_is_told_by_the_content() {
        let packed = pprof::encode(&canned());
        let unpacked = gzip::unpack(&packed).expect("our own gzip").into_owned();
        let folded = folded::encode(&canned(), false).into_bytes();
        for bytes in [packed, unpacked, folded] {
            let profile = from_bytes(&bytes, "no-extension").expect("readable");
            assert_eq!(profile.total_count(), 100);
        }
    }

    #[test]
    fn errors_name_the_file_and_their_source_the_position() {
        let error = from_bytes(b"main;f 1\nmain;g x\n", "/data/a.folded").expect_err("no number");
        assert_eq!(
            error.to_string(),
            "`/data/a.folded` is not a readable file of folded stacks"
        );
        let source = error.source().expect("has a source").to_string();
        assert!(source.starts_with("line 2"), "{source}");
        assert_eq!(
            from_bytes(b"", "a").expect_err("empty").to_string(),
            "`a` is empty"
        );
        let missing = read(Path::new("/nonexistent/x.pb.gz")).expect_err("no such file");
        assert_eq!(missing.to_string(), "failed to read `/nonexistent/x.pb.gz`");
    }
}
