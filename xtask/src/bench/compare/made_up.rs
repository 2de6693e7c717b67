//! Profiles whose truth is known because they are made up: ticks over stacks and time slices, written as perfprof's own pprof.
//!
//! In: names, stacks, rows of ticks. Out: a `.pb.gz` file with recording, accounting and time slices, as `perfprof record`
//! writes it, so that nothing is left out of what a comparison does. The writer is its own; perfprof's does not vouch for
//! its own reader. Source: `profile.proto` of github.com/google/pprof, and the comments that `store/pprof` describes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

pub(super) const SLICE_NS: u64 = 100_000_000;
pub(super) const TICK_NS: u64 = 2_000_000;

/// What can be running.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub(super) functions: Vec<String>,
    /// Functions from root to leaf, by number.
    pub(super) stacks: Vec<Vec<u32>>,
}

/// Ticks of one stack in one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) stack: u32,
    pub(super) slice: u32,
    pub(super) ticks: u32,
}

/// Numbers in the table of texts that every file begins with; functions follow.
const TEXTS: [&str; 10] = [
    "",
    "samples",
    "count",
    "cpu",
    "nanoseconds",
    "slice",
    "pid",
    "tid",
    "stack_end",
    "root",
];

/// `rows` in the order of stacks. `started` seconds order the runs of a comparison.
pub(super) fn write(
    path: &Path,
    program: &Program,
    rows: &[Row],
    slices: u32,
    started: u64,
) -> anyhow::Result<()> {
    let ticks: u64 = rows.iter().map(|row| u64::from(row.ticks)).sum();
    let mut out = Message::default();
    out.message(1, |kind| kind.number(1, 1).number(2, 2));
    out.message(1, |kind| kind.number(1, 3).number(2, 4));
    for row in rows {
        out.message(2, |sample| {
            let stack = &program.stacks[row.stack as usize];
            let ids = stack.iter().rev().map(|function| u64::from(*function) + 1);
            sample.numbers(1, ids);
            let ticks = u64::from(row.ticks);
            sample.numbers(2, [ticks, ticks * TICK_NS]);
            sample.message(3, |label| label.number(1, 5).number(3, row.slice.into()));
            sample.message(3, |label| label.number(1, 6).number(3, 1));
            sample.message(3, |label| label.number(1, 7).number(3, 1));
            sample.message(3, |label| label.number(1, 8).number(2, 9))
        });
    }
    for (number, _) in program.functions.iter().enumerate() {
        let id = number as u64 + 1;
        out.message(4, |location| {
            location.number(1, id).number(3, id * 16);
            location.message(4, |line| line.number(1, id))
        });
        out.message(5, |function| {
            function
                .number(1, id)
                .number(2, id - 1 + TEXTS.len() as u64)
        });
    }
    let texts = TEXTS
        .into_iter()
        .chain(program.functions.iter().map(String::as_str));
    texts.for_each(|text| {
        out.bytes(6, text.as_bytes());
    });
    let first_comment = (TEXTS.len() + program.functions.len()) as u64;
    for (number, comment) in comments(ticks, slices, started).iter().enumerate() {
        out.bytes(6, comment.as_bytes());
        out.number(13, first_comment + number as u64);
    }
    let file =
        File::create(path).with_context(|| format!("failed to create `{}`", path.display()))?;
    let mut packed = GzEncoder::new(file, Compression::fast());
    packed
        .write_all(&out.0)
        .and_then(|()| packed.try_finish())
        .context("failed to write a profile")
}

/// What a recording says of itself: complete, on one thread.
fn comments(ticks: u64, slices: u32, started: u64) -> [String; 3] {
    let recording = json!({
        "origin": "perfprof", "service": "made-up", "event": "cpu-clock", "unwind": "dwarf", "sampler": "bpf",
        "frequency_hz": 1e9 / TICK_NS as f64, "kernel_stacks": true, "slice_ns": SLICE_NS, "cpus": 2,
        "duration_ns": u64::from(slices) * SLICE_NS, "started_unix_ns": (1_700_000_000 + started) * 1_000_000_000,
    });
    let accounting = json!({
        "source": "made up", "threads": [{"pid": 1, "tid": 1, "cpu_ns": ticks * TICK_NS}],
        "unattributed_cpu_ns": 0, "lost": 0, "throttled": 0, "gaps": [],
    });
    [
        format!("#perfprof.recording={recording}"),
        format!("#perfprof.accounting={accounting}"),
        "#perfprof.threads=[[1,1,\"app\",\"app\"]]".to_string(),
    ]
}

/// A message of the protobuf encoding under way.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn number(&mut self, field: u64, number: u64) -> &mut Message {
        self.varint(field << 3);
        self.varint(number);
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Message {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn numbers(&mut self, field: u64, numbers: impl IntoIterator<Item = u64>) {
        let mut packed = Message::default();
        numbers.into_iter().for_each(|number| packed.varint(number));
        self.bytes(field, &packed.0);
    }

    fn message(
        &mut self,
        field: u64,
        fill: impl FnOnce(&mut Message) -> &mut Message,
    ) -> &mut Message {
        let mut inner = Message::default();
        fill(&mut inner);
        self.bytes(field, &inner.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_messages_are_encoded_as_the_guide_shows() {
        // developers.google.com/protocol-buffers/docs/encoding: field 1 = 150 is 08 96 01; field 3 of that is 1a 03 08 96 01.
        let mut out = Message::default();
        out.message(3, |inner| inner.number(1, 150));
        assert_eq!(out.0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let mut out = Message::default();
        // Packed: 6, 270 and 86942.
        out.numbers(6, [3, 270, 86942]);
        assert_eq!(out.0, [0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]);
    }
}
