//! JMeter's JTL, as CSV and as XML: a row or element per sample.
//!
//! A transaction controller writes a sample for the requests it holds, which are there, too; like JMeter's own report we
//! leave it out, unless there is nothing else (its parent samples stand alone with "generate parent sample").
//! Format: <https://jmeter.apache.org/usermanual/listeners.html#csvlogformat> and `#xmlformat2.1`.

mod rows;
mod xml;

use std::collections::BTreeMap;

pub(super) use rows::{is_rows, read as read_rows};
pub(super) use xml::read as read_xml;

use super::samples::{Sample, Samples};
use super::{ContentError, LoadTest, MAX_RESULTS, Split};

/// How JMeter begins the message of a transaction controller's sample.
const TRANSACTION: &str = "Number of samples in transaction";

/// Samples as they are read.
#[derive(Debug)]
struct Collected {
    split: Split,
    requests: BTreeMap<String, Samples>,
    transactions: BTreeMap<String, Samples>,
    /// Whether times count from 1970.
    epoch: bool,
}

impl Collected {
    fn new(split: Split) -> Collected {
        Collected {
            split,
            requests: BTreeMap::new(),
            transactions: BTreeMap::new(),
            epoch: true,
        }
    }

    /// `false` when there are too many labels.
    fn add(&mut self, label: &str, message: &str, sample: Sample) -> bool {
        let of = match message.starts_with(TRANSACTION) {
            true => &mut self.transactions,
            false => &mut self.requests,
        };
        let label = match self.split {
            Split::Endpoints => label,
            Split::Whole | Split::Scenarios => "",
        };
        if of.len() >= MAX_RESULTS && !of.contains_key(label) {
            return false;
        }
        of.entry(label.to_owned()).or_default().add(sample);
        true
    }

    fn tests(self) -> Result<Vec<LoadTest>, ContentError> {
        let chosen = match self.requests.is_empty() {
            true => self.transactions,
            false => self.requests,
        };
        if chosen.values().all(Samples::is_empty) {
            return Err(ContentError::figure(
                "elapsed",
                "is missing: there is no sample",
            ));
        }
        let epoch = self.epoch;
        let tests = chosen.into_iter().map(|(label, samples)| LoadTest {
            start: samples.start().filter(|_| epoch),
            scenario: (!label.is_empty()).then_some(label),
            ..samples.test("jmeter", None)
        });
        Ok(tests.collect())
    }
}
