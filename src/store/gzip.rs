//! Unpacks gzip'd input of unknown origin within a fixed bound.

use std::borrow::Cow;
use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// A profile larger than this, unpacked, is refused: far above any real one, and what a gzip bomb may cost us.
pub const MAX_UNPACKED_BYTES: u64 = 1 << 30;

const MAGIC: [u8; 2] = [0x1f, 0x8b];

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("the gzip data is damaged or cut off after {unpacked} unpacked bytes")]
    Damaged { unpacked: usize, source: io::Error },
    #[error("the content is larger than {limit} bytes, the most that is read")]
    TooLarge { limit: u64 },
}

/// The bytes themselves, or what they unpack to when they are gzip'd.
pub fn unpack(bytes: &[u8]) -> Result<Cow<'_, [u8]>, UnpackError> {
    unpack_within(bytes, MAX_UNPACKED_BYTES)
}

/// The same for a reader who has less to spare: what unpacks to more than `limit` bytes is refused.
pub fn unpack_within(bytes: &[u8], limit: u64) -> Result<Cow<'_, [u8]>, UnpackError> {
    let content = match bytes.starts_with(&MAGIC) {
        false => Cow::Borrowed(bytes),
        true => Cow::Owned(gunzip(bytes, limit)?),
    };
    match content.len() as u64 > limit {
        true => Err(UnpackError::TooLarge { limit }),
        false => Ok(content),
    }
}

/// At most one byte more than `limit`.
fn gunzip(bytes: &[u8], limit: u64) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = Vec::new();
    let mut reader = MultiGzDecoder::new(bytes).take(limit + 1);
    match reader.read_to_end(&mut unpacked) {
        Ok(_) => Ok(unpacked),
        Err(source) => Err(UnpackError::Damaged {
            unpacked: unpacked.len(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("a Vec takes every write");
        encoder.finish().expect("a Vec takes every write")
    }

    #[test]
    fn a_gzip_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(bomb.len() < 2000);
        let result = unpack_within(&bomb, 1000);
        assert!(matches!(result, Err(UnpackError::TooLarge { limit: 1000 })));
        assert_eq!(unpack_within(&bomb, 1 << 20).expect("fits").len(), 1 << 20);
        let plain = unpack_within(b"12345", 4);
        assert!(matches!(plain, Err(UnpackError::TooLarge { limit: 4 })));
    }

    #[test]
    fn cut_gzip_data_is_an_error_and_plain_bytes_pass() {
        let packed = gzip(b"hello");
        assert_eq!(&*unpack(&packed).expect("whole"), b"hello");
        assert_eq!(&*unpack(b"hello").expect("plain"), b"hello");
        let cut = unpack(&packed[..packed.len() - 3]);
        assert!(matches!(cut, Err(UnpackError::Damaged { .. })));
    }
}
