//! The identity of a binary: the bytes of its GNU build-ID note.

use std::fmt;

/// At most 20 bytes, as the kernel reports them in `PERF_RECORD_MMAP2`. Shown as lower-case hex.
///
/// Source: `perf_event_open(2)`, `PERF_RECORD_MISC_MMAP_BUILD_ID`; ELF note type `NT_GNU_BUILD_ID`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId {
    len: u8,
    bytes: [u8; 20],
}

impl BuildId {
    /// `None` for an empty ID, an all-zero one, or one longer than 20 bytes.
    pub fn from_bytes(id: &[u8]) -> Option<BuildId> {
        if id.is_empty() || id.len() > 20 || id.iter().all(|b| *b == 0) {
            return None;
        }
        let mut bytes = [0; 20];
        bytes[..id.len()].copy_from_slice(id);
        Some(BuildId {
            len: id.len() as u8,
            bytes,
        })
    }

    pub fn from_hex(text: &str) -> Option<BuildId> {
        if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > 40 {
            return None;
        }
        let bytes: Option<Vec<u8>> = (0..text.len() / 2)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok())
            .collect();
        BuildId::from_bytes(&bytes?)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_nonsense_is_refused() {
        let id = BuildId::from_hex("00ff10").expect("valid hex");
        assert_eq!(id.as_bytes(), &[0, 0xff, 0x10]);
        assert_eq!(id.to_string(), "00ff10");
        for bad in ["", "0", "zz", "0000", "é0", &"ab".repeat(21)] {
            assert_eq!(BuildId::from_hex(bad), None, "{bad}");
        }
    }
}
