//! Reading the small text files of `/proc`, `/sys` and cgroups: bounded, and decoded lossily, because names in them
//! are chosen by others.
//!
//! In: a path. Out: its text, at most [`MAX_BYTES`] of it. It does not interpret anything.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// No file read here is longer on a sane machine; `mountinfo` of a node with thousands of containers comes nearest.
pub const MAX_BYTES: u64 = 4 << 20;

/// The text of a file, cut at [`MAX_BYTES`], without the white space around it.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A number alone in a file; `None` when the file is missing or holds something else.
pub fn read_number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    read_text(path).ok()?.parse().ok()
}

/// The value after `key` and white space in lines like `nr_periods 45` or `CapEff:\t00ff`.
pub fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        rest.starts_with([' ', '\t']).then(|| rest.trim())
    })
}

/// A number after `key`, see [`field`].
pub fn field_number(text: &str, key: &str) -> Option<u64> {
    field(text, key)?.parse().ok()
}

/// A file kept open and read again and again from its start.
///
/// A held `/proc/PID` file stays with its process: once that has ended, reading fails instead of showing the next
/// process with the same PID.
#[derive(Debug)]
pub struct HeldFile(File);

impl HeldFile {
    pub fn open(path: &Path) -> io::Result<HeldFile> {
        File::open(path).map(HeldFile)
    }

    /// The file's text now, as much of it as fits into `buffer`; `None` when it cannot be read any more.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b str> {
        let n = self.0.read_at(buffer, 0).ok()?;
        let bytes = buffer.get(..n)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(text),
            // Every number stands before the first odd byte or on a line of its own; keep what is text.
            Err(error) => std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_needs_its_whole_key() {
        let text = "nr_periods_extra 7\nnr_periods 45\nthrottled_time 9";
        assert_eq!(field_number(text, "nr_periods"), Some(45));
        assert_eq!(field_number(text, "nr_period"), None);
        assert_eq!(field("CapEff:\t00ff\n", "CapEff:"), Some("00ff"));
        assert_eq!(field_number("oom_kill none", "oom_kill"), None);
    }

    #[test]
    fn a_huge_or_missing_file_is_bounded_and_not_a_panic() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("huge");
        std::fs::write(&path, vec![b'x'; MAX_BYTES as usize + 10]).expect("write");
        assert_eq!(read_text(&path).expect("read").len() as u64, MAX_BYTES);
        assert_eq!(read_number::<u64>(&dir.path().join("none")), None);
    }

    #[test]
    fn a_held_file_shows_the_newest_content() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("counter");
        std::fs::write(&path, "1\n").expect("write");
        let held = HeldFile::open(&path).expect("open");
        let mut buffer = [0; 16];
        assert_eq!(held.read(&mut buffer), Some("1\n"));
        std::fs::write(&path, "22\n").expect("write");
        assert_eq!(held.read(&mut buffer), Some("22\n"));
    }
}
