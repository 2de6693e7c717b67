//! SHA-256 and size of a file, in one reading.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::EvidenceError;
use crate::artifacts::open_inside;

/// A profile export of a day is far smaller.
const MAX_FILE_BYTES: u64 = 16 << 30;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hashed {
    /// 64 lower-case hexadecimal digits.
    pub sha256: String,
    pub size_bytes: u64,
    /// When it was last written, in seconds since 1970.
    pub modified: i64,
}

/// Of a file below the root; `None` when it is not there.
pub(super) fn hash_inside(root: &Path, relative: &str) -> Result<Option<Hashed>, EvidenceError> {
    let path = || root.join(relative).display().to_string();
    let opened = open_inside(root, Path::new(relative));
    let opened = opened.map_err(|source| EvidenceError::Read {
        path: path(),
        source,
    })?;
    let Some(file) = opened else { return Ok(None) };
    hash_file(file)
        .map(Some)
        .map_err(|source| EvidenceError::Content {
            path: path(),
            source,
        })
}

pub(super) fn hash_file(mut file: File) -> io::Result<Hashed> {
    let modified = file.metadata()?.modified()?;
    let modified = match modified.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => since.as_secs() as i64,
        Err(_) => 0,
    };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size_bytes = 0;
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        size_bytes += n as u64;
        if size_bytes > MAX_FILE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        hasher.update(&buffer[..n]);
    }
    Ok(Hashed {
        sha256: hex(&hasher.finalize()),
        size_bytes,
        modified,
    })
}

pub(super) fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("f"), "abc").expect("written");
        let hashed = hash_inside(dir.path(), "f")
            .expect("readable")
            .expect("there");
        assert_eq!((hashed.sha256.as_str(), hashed.size_bytes), (abc, 3));
        assert_eq!(sha256_of(b"abc"), abc);
        assert_eq!(hash_inside(dir.path(), "g").expect("readable"), None);
    }
}
