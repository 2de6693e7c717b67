//! What is pushed: one service's profile of one window, and what is known of it besides.
//!
//! In: the agent's words. Out: the same within bounds, and the identity that stays when it is sent again. It does not look
//! into the profile.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Labels of a batch, at most.
const MAX_LABELS: usize = 64;
/// Bytes of a service's name, a label's name, a label's value.
const MAX_TEXT_BYTES: usize = 4096;
/// Of the packed profile. A window of a large node has less than 2 MB.
const MAX_PPROF_BYTES: usize = 32 << 20;

/// One window of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub service: String,
    /// By the names the agent uses (`namespace`, `pod`, `pod_uid`, `container`, `container_id`, `image`, `node`, `host`) or
    /// any others; each sink turns them into its own.
    pub labels: BTreeMap<String, String>,
    pub started_unix_ns: u64,
    pub duration_ns: u64,
    /// As [`crate::store::pprof::encode`] writes it.
    pub pprof_gz: Vec<u8>,
}

/// Why a batch cannot be queued.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("a batch without a service's name")]
    NoService,
    #[error("a batch with {labels} labels; {MAX_LABELS} are the most")]
    TooManyLabels { labels: usize },
    #[error("a batch with a name or a label of {bytes} bytes; {MAX_TEXT_BYTES} are the most")]
    LongText { bytes: usize },
    #[error("a batch with a profile of {bytes} bytes; {MAX_PPROF_BYTES} are the most")]
    LargeProfile { bytes: usize },
}

impl Batch {
    /// Whether it keeps the bounds of a batch.
    pub fn check(&self) -> Result<(), BatchError> {
        if self.service.is_empty() {
            return Err(BatchError::NoService);
        }
        if self.labels.len() > MAX_LABELS {
            let labels = self.labels.len();
            return Err(BatchError::TooManyLabels { labels });
        }
        let names = self.labels.iter().flat_map(|(name, value)| [name, value]);
        let texts = names.chain([&self.service]);
        if let Some(bytes) = texts.map(String::len).max().filter(|b| *b > MAX_TEXT_BYTES) {
            return Err(BatchError::LongText { bytes });
        }
        match self.pprof_gz.len() {
            bytes if bytes > MAX_PPROF_BYTES => Err(BatchError::LargeProfile { bytes }),
            _ => Ok(()),
        }
    }

    /// 16 bytes that depend on the batch's content and `part` alone, so that what is sent twice can be known by it.
    pub(super) fn id(&self, part: &str) -> [u8; 16] {
        let mut hash = Sha256::new();
        let texts = self.labels.iter().flat_map(|(name, value)| [name, value]);
        for text in [part, &self.service]
            .into_iter()
            .chain(texts.map(String::as_str))
        {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.update(self.started_unix_ns.to_le_bytes());
        hash.update(&self.pprof_gz);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        // RFC 9562, version 8: bits of one's own choice.
        id[6] = id[6] & 0x0f | 0x80;
        id[8] = id[8] & 0x3f | 0x80;
        id
    }
}

/// An identity as UUIDs are written.
pub(super) fn uuid(id: [u8; 16]) -> String {
    let hex = |range: std::ops::Range<usize>| -> String {
        id[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    [hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        Batch {
            service: "shop".into(),
            labels: BTreeMap::from([("pod".into(), "shop-1".into())]),
            ..Batch::default()
        }
    }

    #[test]
    fn bounds_are_kept() {
        assert_eq!(batch().check(), Ok(()));
        assert_eq!(Batch::default().check(), Err(BatchError::NoService));
        let mut long = batch();
        long.labels
            .insert("x".into(), "y".repeat(MAX_TEXT_BYTES + 1));
        assert_eq!(long.check(), Err(BatchError::LongText { bytes: 4097 }));
        let mut many = batch();
        many.labels = (0..65).map(|i| (format!("l{i}"), String::new())).collect();
        assert_eq!(many.check(), Err(BatchError::TooManyLabels { labels: 65 }));
        let large = Batch {
            pprof_gz: vec![0; MAX_PPROF_BYTES + 1],
            ..batch()
        };
        assert!(matches!(
            large.check(),
            Err(BatchError::LargeProfile { .. })
        ));
    }

    #[test]
    fn an_identity_stays_and_differs_where_anything_does() {
        let one = batch();
        assert_eq!(one.id("cpu"), batch().id("cpu"));
        let later = Batch {
            started_unix_ns: 1,
            ..batch()
        };
        let other = Batch {
            labels: BTreeMap::new(),
            ..batch()
        };
        let ids = [
            one.id("cpu"),
            one.id("samples"),
            later.id("cpu"),
            other.id("cpu"),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        let text = uuid(one.id("cpu"));
        assert_eq!((text.len(), text.as_bytes()[14]), (36, b'8'));
    }
}
