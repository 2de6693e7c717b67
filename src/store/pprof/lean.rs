//! A pprof profile as other tools need it: without what only perfprof reads.
//!
//! In: an unpacked profile of our own. Out: an unpacked profile that has the same columns with the same sums, with chosen
//! labels only; samples that have become equal are added up. Comments, which hold the recording and its command line, are
//! gone. Messages are copied as they are, so this costs a fraction of decoding.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::wire::{Fields, Value, offset_in, push_numbers};
use super::{DecodeError, proto};

/// Field numbers of `profile.proto`: of `Profile`, and of `Sample`.
const SAMPLE: u64 = 2;
const STRING_TABLE: u64 = 6;
const COMMENT: u64 = 13;
const LOCATION_IDS: u64 = 1;
const VALUES: u64 = 2;
const LABELS: u64 = 3;

/// `profile`, unpacked, with `labels` alone on its samples.
pub fn lean(profile: &[u8], labels: &[&str]) -> Result<Vec<u8>, DecodeError> {
    let facts = Facts::collect(profile, labels)?;
    let mut samples = Samples::default();
    let mut out = Vec::with_capacity(profile.len() / 2);
    let mut string = 0;
    for field in Fields::of(profile) {
        let (number, value) = field?;
        match (number, value) {
            (SAMPLE, Value::Bytes(bytes)) => samples.add(profile, bytes, &facts.kept)?,
            (COMMENT, _) => {}
            (STRING_TABLE, Value::Bytes(text)) => {
                let text = match facts.comments.contains(&string) {
                    true => &[],
                    false => text,
                };
                string += 1;
                write_bytes(&mut out, number, text);
            }
            (_, Value::Bytes(bytes)) => write_bytes(&mut out, number, bytes),
            (_, Value::Varint(value)) => {
                encode_key(number as u32, WireType::Varint, &mut out);
                encode_varint(value, &mut out);
            }
            (_, Value::Fixed) => {}
        }
    }
    samples.write(&mut out);
    Ok(out)
}

/// What must be known before samples are read.
#[derive(Debug, Default)]
struct Facts {
    /// Numbers of the texts that are keys of the labels that stay.
    kept: Vec<i64>,
    /// Numbers of texts that are comments, in order.
    comments: Vec<i64>,
}

impl Facts {
    fn collect(profile: &[u8], labels: &[&str]) -> Result<Facts, DecodeError> {
        let mut facts = Facts::default();
        let mut string = 0;
        for field in Fields::of(profile) {
            match field? {
                (STRING_TABLE, Value::Bytes(text)) => {
                    if labels.iter().any(|label| label.as_bytes() == text) {
                        facts.kept.push(string);
                    }
                    string += 1;
                }
                (COMMENT, value) => numbers(&mut facts.comments, value, 0)?,
                _ => {}
            }
        }
        // A text may serve as both; one that names a label stays.
        let kept = &facts.kept;
        facts.comments.retain(|comment| !kept.contains(comment));
        facts.comments.sort_unstable();
        Ok(facts)
    }
}

/// Locations and labels, each as in the file.
type Key = (Vec<i64>, Vec<u8>);

#[derive(Debug, Default)]
struct Samples {
    index: HashMap<Key, usize, RandomState>,
    /// In order of first appearance.
    values: Vec<Vec<i64>>,
}

impl Samples {
    fn add(&mut self, whole: &[u8], sample: &[u8], kept: &[i64]) -> Result<(), DecodeError> {
        let (mut locations, mut values, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        let offset = offset_in(whole, sample);
        for field in Fields::of(sample) {
            match field? {
                (LOCATION_IDS, value) => numbers(&mut locations, value, offset)?,
                (VALUES, value) => numbers(&mut values, value, offset)?,
                (LABELS, Value::Bytes(bytes)) => {
                    let label = proto::Label::decode(bytes).map_err(|source| {
                        let (table, row) = ("sample", self.values.len());
                        DecodeError::Message {
                            table,
                            row,
                            offset,
                            source,
                        }
                    })?;
                    if kept.contains(&label.key) {
                        write_bytes(&mut labels, LABELS, bytes);
                    }
                }
                _ => {}
            }
        }
        let next = self.values.len();
        let at = *self.index.entry((locations, labels)).or_insert(next);
        match self.values.get_mut(at) {
            None => self.values.push(values),
            Some(sums) => {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = sum.saturating_add(value);
                }
            }
        }
        Ok(())
    }

    fn write(self, out: &mut Vec<u8>) {
        let mut rows: Vec<(Key, usize)> = self.index.into_iter().collect();
        rows.sort_unstable_by_key(|(_, at)| *at);
        let mut message = Vec::new();
        let mut packed = Vec::new();
        for ((locations, labels), at) in rows {
            message.clear();
            for (number, numbers) in [(LOCATION_IDS, &locations), (VALUES, &self.values[at])] {
                packed.clear();
                for one in numbers {
                    encode_varint(*one as u64, &mut packed);
                }
                write_bytes(&mut message, number, &packed);
            }
            message.extend(labels);
            write_bytes(out, SAMPLE, &message);
        }
    }
}

/// `offset` is that of the message they stand in.
fn numbers(into: &mut Vec<i64>, value: Value<'_>, offset: usize) -> Result<(), DecodeError> {
    push_numbers(into, value).ok_or(DecodeError::Wire {
        offset,
        problem: "a list of numbers is cut off",
    })
}

fn write_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    encode_key(number as u32, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{canned, canned_with_waits};
    use crate::store::{gzip, pprof};

    fn unpacked(profile: &crate::profile::Profile) -> proto::Profile {
        proto::Profile::decode(&*bytes(profile)).expect("our own")
    }

    fn bytes(profile: &crate::profile::Profile) -> Vec<u8> {
        let packed = pprof::encode(profile);
        gzip::unpack(&packed).expect("our own gzip").into_owned()
    }

    fn sums(profile: &proto::Profile) -> Vec<i64> {
        let columns = 0..profile.sample_type.len();
        let sum = |column: usize| profile.sample.iter().map(|s| s.value[column]).sum();
        columns.map(sum).collect()
    }

    #[test]
    fn sums_and_tables_stay_while_labels_and_comments_go() {
        for profile in [canned(), canned_with_waits()] {
            let whole = unpacked(&profile);
            for labels in [&[][..], &["thread"], &["thread", "process"]] {
                let made = lean(&bytes(&profile), labels).expect("readable");
                let made = proto::Profile::decode(&*made).expect("pprof");
                assert_eq!(sums(&made), sums(&whole));
                assert!(made.sample.len() < whole.sample.len());
                assert_eq!(made.location, whole.location);
                assert_eq!(made.function, whole.function);
                assert_eq!(made.mapping, whole.mapping);
                assert_eq!(made.string_table.len(), whole.string_table.len());
                assert!(made.comment.is_empty());
                assert!(!made.string_table.iter().any(|text| text.starts_with('#')));
                for sample in &made.sample {
                    assert_eq!(sample.label.len(), labels.len());
                    assert!(!sample.location_id.is_empty() || labels.is_empty());
                }
            }
        }
    }

    #[test]
    fn equal_stacks_of_all_slices_are_one_sample() {
        let made = lean(&bytes(&canned()), &[]).expect("readable");
        let made = proto::Profile::decode(&*made).expect("pprof");
        let mut values: Vec<i64> = made.sample.iter().map(|s| s.value[0]).collect();
        values.sort_unstable();
        assert_eq!(values, [5, 15, 20, 20, 40]);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_a_message() {
        let whole = bytes(&canned_with_waits());
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..2000 {
            let mut damaged = whole.clone();
            let at = random.usize(..damaged.len());
            damaged[at] ^= 1 << random.u8(..8);
            damaged.truncate(random.usize(at..damaged.len()) + 1);
            if let Ok(made) = lean(&damaged, &["thread"]) {
                assert!(made.len() <= whole.len() * 2);
            }
        }
    }
}
