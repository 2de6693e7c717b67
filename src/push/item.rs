//! A batch as a file: whole or recognized as not.
//!
//! In: a [`Batch`], or bytes of a file. Out: the other. Shape: 8 bytes that name the format and its version, the SHA-256
//! of all that follows, then a protobuf message. The hash tells damage, not malice.

use std::collections::BTreeMap;

use prost::Message;
use sha2::{Digest, Sha256};

use super::Batch;

const MAGIC: [u8; 8] = *b"PPpush\x00\x01";
const HEAD_BYTES: usize = MAGIC.len() + 32;
/// No file of the queue is larger; the bounds of a batch stay well below.
pub(super) const MAX_ITEM_BYTES: u64 = 48 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct Queued {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(btree_map = "string, string", tag = "2")]
    labels: BTreeMap<String, String>,
    #[prost(uint64, tag = "3")]
    started_unix_ns: u64,
    #[prost(uint64, tag = "4")]
    duration_ns: u64,
    #[prost(bytes = "vec", tag = "5")]
    pprof_gz: Vec<u8>,
}

pub(super) fn encode(batch: &Batch) -> Vec<u8> {
    let message = Queued {
        service: batch.service.clone(),
        labels: batch.labels.clone(),
        started_unix_ns: batch.started_unix_ns,
        duration_ns: batch.duration_ns,
        pprof_gz: batch.pprof_gz.clone(),
    };
    let mut bytes = Vec::with_capacity(HEAD_BYTES + message.encoded_len());
    bytes.extend(MAGIC);
    bytes.extend([0; 32]);
    message
        .encode(&mut bytes)
        .expect("a vector takes every message");
    let hash = Sha256::digest(&bytes[HEAD_BYTES..]);
    bytes[MAGIC.len()..HEAD_BYTES].copy_from_slice(&hash);
    bytes
}

/// `None` for what no version of this file has written, or what is damaged.
pub(super) fn decode(bytes: &[u8]) -> Option<Batch> {
    let (head, content) = bytes.split_at_checked(HEAD_BYTES)?;
    let (magic, hash) = head.split_at(MAGIC.len());
    if magic != MAGIC || hash != &Sha256::digest(content)[..] {
        return None;
    }
    let message = Queued::decode(content).ok()?;
    Some(Batch {
        service: message.service,
        labels: message.labels,
        started_unix_ns: message.started_unix_ns,
        duration_ns: message.duration_ns,
        pprof_gz: message.pprof_gz,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_bit_is_noticed() {
        let batch = Batch {
            service: "shop".into(),
            labels: BTreeMap::from([("pod".into(), "a\0\u{202e}b".into())]),
            started_unix_ns: 1,
            duration_ns: 2,
            pprof_gz: vec![1, 2, 3],
        };
        let bytes = encode(&batch);
        assert_eq!(decode(&bytes), Some(batch));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
