//! `performance-evidence-bundle.zip`: the manifest and everything it lists, in one file.
//!
//! In: an artifact root with its manifest. Out: the archive, written beside its place and renamed. Entries stand in the
//! order of the manifest with one fixed time, so the same files give the same archive. A file that is not as the
//! manifest says does not get in.

use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::error::EvidenceError;
use super::hash::sha256_of;
use super::verify::{Listed, entries, read};
use super::{BUNDLE, MANIFEST};
use crate::artifacts::{InsideError, read_inside, read_named, write_atomic_with};

/// Held in memory one at a time.
const MAX_FILE_BYTES: u64 = 1 << 30;
const MAX_TOTAL_BYTES: u64 = 64 << 30;
const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// Writes the bundle of the manifest that stands in `root`; its path and the number of files in it.
pub fn write_bundle(root: &Path) -> Result<(PathBuf, usize), EvidenceError> {
    let document = read(root)?;
    let path = root.join(BUNDLE);
    let artifacts = entries(root, &document, "artifacts")?;
    let upstream = entries(root, &document, "upstream")?;
    let listed = artifacts.iter().chain(&upstream);
    let total: u64 = listed
        .filter_map(|e| e.hashed)
        .map(|h| h.size)
        .fold(0, u64::saturating_add);
    if total > MAX_TOTAL_BYTES {
        return Err(EvidenceError::TooMuch {
            what: format!("{total} bytes"),
            path: root.display().to_string(),
            limit: MAX_TOTAL_BYTES,
        });
    }
    let mut count = 0;
    let mut failed = None;
    let written = write_atomic_with(&path, |file| {
        let mut pack = || -> Result<(), Stop> {
            let mut zip = ZipWriter::new(&mut *file);
            let manifest = inside(root, MANIFEST, MAX_MANIFEST_BYTES)?;
            add(&mut zip, MANIFEST, &manifest)?;
            for entry in &artifacts {
                let Some(listed) = entry.hashed else { continue };
                let bytes = inside(root, entry.path, MAX_FILE_BYTES)?;
                unchanged(entry.path, &bytes, listed)?;
                add(&mut zip, entry.path, &bytes)?;
                count += 1;
            }
            for entry in &upstream {
                let (Some(listed), Some(name)) = (entry.hashed, entry.bundled_as) else {
                    continue;
                };
                let bytes = named(Path::new(entry.path))?;
                unchanged(entry.path, &bytes, listed)?;
                add(&mut zip, name, &bytes)?;
                count += 1;
            }
            zip.finish().map_err(|error| Stop::Output(error.into()))?;
            Ok(())
        };
        pack().map_err(|stop| match stop {
            Stop::Output(error) => error,
            Stop::Input(error) => {
                failed = Some(error);
                io::ErrorKind::Other.into()
            }
        })
    });
    match (failed, written) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) => Ok((path, count)),
    }
}

/// Whose fault it is.
enum Stop {
    Input(EvidenceError),
    Output(io::Error),
}

fn add<W: Write + Seek>(zip: &mut ZipWriter<W>, name: &str, bytes: &[u8]) -> Result<(), Stop> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(6))
        // The earliest that the format knows, 1980: no clock, and the same everywhere.
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    zip.start_file(name, options)
        .map_err(|error| Stop::Output(error.into()))?;
    zip.write_all(bytes).map_err(Stop::Output)
}

fn inside(root: &Path, name: &str, limit: u64) -> Result<Vec<u8>, Stop> {
    let read = read_inside(root, Path::new(name), limit);
    found(&root.join(name), read)
}

fn named(path: &Path) -> Result<Vec<u8>, Stop> {
    found(path, read_named(path, MAX_FILE_BYTES))
}

fn found(path: &Path, read: Result<Option<Vec<u8>>, InsideError>) -> Result<Vec<u8>, Stop> {
    let path = path.display().to_string();
    match read {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Stop::Input(EvidenceError::Changed { path })),
        Err(source) => Err(Stop::Input(EvidenceError::Read { path, source })),
    }
}

fn unchanged(path: &str, bytes: &[u8], listed: Listed<'_>) -> Result<(), Stop> {
    match bytes.len() as u64 == listed.size && sha256_of(bytes) == listed.sha256 {
        true => Ok(()),
        false => Err(Stop::Input(EvidenceError::Changed {
            path: path.to_owned(),
        })),
    }
}

/// The names and bytes of an archive, for tests.
#[cfg(test)]
pub(super) fn unpack(path: &Path) -> Vec<(String, Vec<u8>)> {
    use std::fs::File;
    use std::io::Read;
    let mut archive = zip::ZipArchive::new(File::open(path).expect("there")).expect("a zip");
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).expect("an entry");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("readable");
        let name = entry.name().expect("UTF-8").into_owned();
        files.push((name, bytes));
    }
    files
}
