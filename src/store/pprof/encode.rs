//! A profile as gzip'd pprof. The same profile gives the same bytes, always.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::proto;
use super::{
    REASON_MARK, UNMAPPED_KERNEL, UNRESOLVED_MARK, WOKEN_BY, column, comment, kind_by_path, label,
};
use crate::profile::{
    Frame, FrameKind, FunctionIx, MappingKind, Profile, Sample, StackEnd, StackIx, ThreadIx,
    Unresolved, WaitSample, Waits,
};

/// `profile` as gzip'd pprof.
pub fn encode(profile: &Profile) -> Vec<u8> {
    let message = Encoder::new(profile).profile();
    // Level 6 and no time stamp: bytes depend on the profile alone.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    let written = gzip.write_all(&message.encode_to_vec());
    written
        .and_then(|()| gzip.finish())
        .expect("writing to memory does not fail")
}

/// Texts by number, as the string table needs them.
#[derive(Debug)]
struct Strings {
    table: Vec<String>,
    index: HashMap<String, i64>,
}

impl Strings {
    fn new() -> Strings {
        let mut strings = Strings {
            table: Vec::new(),
            index: HashMap::new(),
        };
        strings.add("");
        strings
    }

    fn add(&mut self, text: &str) -> i64 {
        if let Some(ix) = self.index.get(text) {
            return *ix;
        }
        let ix = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.index.insert(text.to_owned(), ix);
        ix
    }
}

struct Encoder<'a> {
    profile: &'a Profile,
    strings: Strings,
    out: proto::Profile,
    /// Functions by what their frames say of them; most have one entry.
    function_ids: HashMap<(FunctionIx, Option<Unresolved>), u64>,
    reason_ids: BTreeMap<StackEnd, u64>,
    /// The location between a waiting stack and its waker's.
    woken_by_id: u64,
    columns: usize,
}

impl<'a> Encoder<'a> {
    fn new(profile: &'a Profile) -> Encoder<'a> {
        Encoder {
            profile,
            strings: Strings::new(),
            out: proto::Profile::default(),
            function_ids: HashMap::new(),
            reason_ids: BTreeMap::new(),
            woken_by_id: 0,
            columns: match profile.waits {
                Some(_) => column::ALL,
                None => 2,
            },
        }
    }

    fn profile(mut self) -> proto::Profile {
        self.header();
        self.mappings();
        self.functions();
        self.locations();
        self.reason_locations();
        self.samples();
        if let Some(waits) = &self.profile.waits {
            self.wait_rows(waits);
            self.quota_rows(waits);
            self.waker_rows(waits);
        }
        self.comments();
        self.out.string_table = self.strings.table;
        self.out
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> proto::ValueType {
        proto::ValueType {
            kind: self.strings.add(kind),
            unit: self.strings.add(unit),
        }
    }

    fn header(&mut self) {
        let recording = &self.profile.recording;
        let cpu = self.value_type("cpu", "nanoseconds");
        self.out.sample_type = vec![self.value_type("samples", "count"), cpu];
        if self.profile.waits.is_some() {
            let more = [
                self.value_type("waits", "count"),
                self.value_type("off_cpu", "nanoseconds"),
                self.value_type("quota_cpu", "nanoseconds"),
                self.value_type("woken", "nanoseconds"),
            ];
            self.out.sample_type.extend(more);
        }
        self.out.default_sample_type = cpu.kind;
        self.out.period_type = Some(cpu);
        if recording.frequency_hz > 0.0 {
            self.out.period = (1e9 / recording.frequency_hz).round() as i64;
        }
        self.out.time_nanos = signed(recording.started_unix_ns);
        self.out.duration_nanos = signed(recording.duration_ns);
    }

    /// The profile's mappings as IDs 1 and up, then the one for kernel code without a mapping, where needed.
    fn mappings(&mut self) {
        for (i, mapping) in self.profile.mappings.iter().enumerate() {
            let build_id = mapping.build_id.map(|id| id.to_string());
            let filename = self.strings.add(&mapping.path);
            let build_id = self.strings.add(build_id.as_deref().unwrap_or(""));
            self.out.mapping.push(proto::Mapping {
                id: i as u64 + 1,
                memory_start: mapping.start.0,
                memory_limit: mapping.end.0,
                file_offset: mapping.file_offset.0,
                filename,
                build_id,
                ..SYMBOLIZED
            });
        }
        if self.profile.frames.iter().any(is_unmapped_kernel) {
            let filename = self.strings.add(UNMAPPED_KERNEL);
            self.out.mapping.push(proto::Mapping {
                id: self.unmapped_kernel_id(),
                filename,
                ..SYMBOLIZED
            });
        }
    }

    fn unmapped_kernel_id(&self) -> u64 {
        self.profile.mappings.len() as u64 + 1
    }

    /// The profile's functions as IDs 1 and up. A function that frames name both as resolved and as unresolved (or for
    /// two reasons) has further entries behind those.
    fn functions(&mut self) {
        let mut uses: Vec<Vec<Option<Unresolved>>> = vec![Vec::new(); self.profile.functions.len()];
        for frame in &self.profile.frames {
            for line in &frame.lines {
                let marks = &mut uses[line.function.0 as usize];
                if !marks.contains(&frame.unresolved) {
                    marks.push(frame.unresolved);
                }
            }
        }
        for (i, marks) in uses.iter().enumerate() {
            let mark = marks.first().copied().flatten();
            self.function(FunctionIx(i as u32), mark);
        }
        for (i, marks) in uses.iter().enumerate() {
            for mark in marks.iter().skip(1) {
                self.function(FunctionIx(i as u32), *mark);
            }
        }
    }

    fn function(&mut self, ix: FunctionIx, unresolved: Option<Unresolved>) {
        let function = self.profile.function(ix);
        let system_name = match unresolved {
            Some(reason) => format!("{UNRESOLVED_MARK}{}]", reason.id()),
            // A symbol that looks like a mark would be read as one.
            None if function.linkage_name.starts_with(UNRESOLVED_MARK) => String::new(),
            None if function.linkage_name == REASON_MARK => String::new(),
            None => function.linkage_name.clone(),
        };
        let id = self.push_function(&function.name, &system_name, &function.file);
        self.function_ids.insert((ix, unresolved), id);
    }

    fn push_function(&mut self, name: &str, system_name: &str, file: &str) -> u64 {
        let id = self.out.function.len() as u64 + 1;
        let function = proto::Function {
            id,
            name: self.strings.add(name),
            system_name: self.strings.add(system_name),
            filename: self.strings.add(file),
            start_line: 0,
        };
        self.out.function.push(function);
        id
    }

    fn locations(&mut self) {
        for (i, frame) in self.profile.frames.iter().enumerate() {
            let mapping_id = match frame.mapping {
                Some(ix) => u64::from(ix.0) + 1,
                None if is_unmapped_kernel(frame) => self.unmapped_kernel_id(),
                None => 0,
            };
            let line = frame.lines.iter().map(|line| proto::Line {
                function_id: self.function_ids[&(line.function, frame.unresolved)],
                line: line.line.into(),
            });
            self.out.location.push(proto::Location {
                id: i as u64 + 1,
                mapping_id,
                address: frame.addr.0,
                line: line.collect(),
            });
        }
    }

    /// One location and one function for each reason that occurs, behind all others.
    fn reason_locations(&mut self) {
        let mut ends: HashSet<StackEnd> = self.profile.samples.iter().map(|s| s.end).collect();
        if let Some(waits) = &self.profile.waits {
            ends.extend(waits.samples.iter().map(|s| s.end));
            ends.extend(waits.quota.iter().map(|s| s.end));
        }
        let mut ends: Vec<StackEnd> = ends.into_iter().collect();
        ends.sort_unstable();
        for end in ends {
            let Some(name) = end.shown_reason_frame() else {
                continue;
            };
            let id = self.mark_location(&name);
            self.reason_ids.insert(end, id);
        }
        let waits = self.profile.waits.as_ref();
        if waits.is_some_and(|waits| !waits.wakers.is_empty()) {
            self.woken_by_id = self.mark_location(WOKEN_BY);
        }
    }

    /// A location that is no code.
    fn mark_location(&mut self, name: &str) -> u64 {
        let function_id = self.push_function(name, REASON_MARK, "");
        let id = self.out.location.len() as u64 + 1;
        self.out.location.push(proto::Location {
            id,
            line: vec![proto::Line {
                function_id,
                line: 0,
            }],
            ..proto::Location::default()
        });
        id
    }

    /// In the order of stacks, so that a reader that interns them as they come numbers them as we do.
    fn samples(&mut self) {
        let mut samples: Vec<&Sample> = self.profile.samples.iter().collect();
        samples.sort_unstable_by_key(|s| (s.stack, s.slice, s.thread, s.end));
        for sample in samples {
            let message = self.sample(sample);
            self.out.sample.push(message);
        }
    }

    fn sample(&mut self, sample: &Sample) -> proto::Sample {
        let mut label = vec![self.number(label::SLICE, sample.slice.into())];
        label.extend(self.labels(sample.thread, sample.end));
        let mut value = vec![0; self.columns];
        value[0] = signed(sample.count);
        value[1] = signed(sample.cpu_ns);
        proto::Sample {
            location_id: self.location_ids(sample.stack, sample.end),
            value,
            label,
        }
    }

    /// Leaf first, the reason frame last.
    fn location_ids(&self, stack: StackIx, end: StackEnd) -> Vec<u64> {
        let frames = self.profile.stacks.leaf_to_root(stack);
        let reason = self.reason_ids.get(&end).copied();
        frames.map(|ix| u64::from(ix.0) + 1).chain(reason).collect()
    }

    fn labels(&mut self, thread: ThreadIx, end: StackEnd) -> [proto::Label; 5] {
        let thread = self.profile.thread(thread);
        [
            self.number(label::PID, thread.pid.into()),
            self.number(label::TID, thread.tid.into()),
            self.text(label::THREAD, &thread.name),
            self.text(label::PROCESS, &thread.process),
            self.text(label::STACK_END, end.id()),
        ]
    }

    fn wait_rows(&mut self, waits: &Waits) {
        let mut samples: Vec<&WaitSample> = waits.samples.iter().collect();
        samples.sort_unstable_by_key(|s| (s.stack, s.slice, s.thread, s.end, s.cause));
        for sample in samples {
            let mut label = vec![
                self.number(label::SLICE, sample.slice.into()),
                self.text(label::WAIT, sample.cause.id()),
                self.number(label::STACKS, sample.stacks),
            ];
            label.extend(self.labels(sample.thread, sample.end));
            let mut value = vec![0; self.columns];
            value[column::WAITS] = signed(sample.count);
            value[column::OFF_CPU] = signed(sample.wait_ns);
            self.out.sample.push(proto::Sample {
                location_id: self.location_ids(sample.stack, sample.end),
                value,
                label,
            });
        }
    }

    fn quota_rows(&mut self, waits: &Waits) {
        for ticks in &waits.quota {
            let mut label = vec![self.number(label::TICKS, ticks.count)];
            label.extend(self.labels(ticks.thread, ticks.end));
            let mut value = vec![0; self.columns];
            value[column::QUOTA] = signed(ticks.cpu_ns);
            self.out.sample.push(proto::Sample {
                location_id: self.location_ids(ticks.stack, ticks.end),
                value,
                label,
            });
        }
    }

    fn waker_rows(&mut self, waits: &Waits) {
        for waker in &waits.wakers {
            let mut label = vec![
                self.text(label::WAIT, waker.cause.id()),
                self.number(label::WAITS, waker.count),
            ];
            label.extend(self.labels(waker.thread, waker.end));
            let mut value = vec![0; self.columns];
            value[column::WOKEN] = signed(waker.wait_ns);
            let woken = self.profile.stacks.leaf_to_root(waker.waiter);
            let mut location_id: Vec<u64> = woken.map(|ix| u64::from(ix.0) + 1).collect();
            let waker = self.profile.stacks.root_to_leaf(waker.stack);
            let above = waker.map(|ix| u64::from(ix.0) + 1);
            location_id.splice(0..0, above.chain([self.woken_by_id]));
            self.out.sample.push(proto::Sample {
                location_id,
                value,
                label,
            });
        }
    }

    fn number(&mut self, key: &str, num: u64) -> proto::Label {
        proto::Label {
            key: self.strings.add(key),
            num: signed(num),
            ..proto::Label::default()
        }
    }

    fn text(&mut self, key: &str, text: &str) -> proto::Label {
        proto::Label {
            key: self.strings.add(key),
            str: self.strings.add(text),
            ..proto::Label::default()
        }
    }

    fn comments(&mut self) {
        let profile = self.profile;
        let threads = profile.threads.iter();
        let threads: Vec<_> = threads
            .map(|t| (t.pid, t.tid, &t.name, &t.process))
            .collect();
        let unusual = profile.mappings.iter();
        let unusual = unusual.filter(|mapping| kind_by_path(&mapping.path) != mapping.kind);
        let kinds: BTreeMap<&str, &str> = unusual
            .map(|mapping| (mapping.path.as_str(), kind_id(mapping.kind)))
            .collect();
        self.comment(comment::RECORDING, &profile.recording);
        self.comment(comment::ACCOUNTING, &profile.accounting);
        self.comment(comment::THREADS, &threads);
        self.comment(comment::MAPPING_KINDS, &kinds);
        if let Some(waits) = &profile.waits {
            self.comment(comment::WAITS, &waits.facts);
        }
    }

    fn comment(&mut self, key: &str, value: &impl serde::Serialize) {
        let json = serde_json::to_string(value).expect("plain data with text keys");
        let ix = self.strings.add(&format!("{key}{json}"));
        self.out.comment.push(ix);
    }
}

/// A mapping that tells other tools to leave its names alone.
const SYMBOLIZED: proto::Mapping = proto::Mapping {
    id: 0,
    memory_start: 0,
    memory_limit: 0,
    file_offset: 0,
    filename: 0,
    build_id: 0,
    has_functions: true,
    has_filenames: true,
    has_line_numbers: true,
    has_inline_frames: true,
};

fn is_unmapped_kernel(frame: &Frame) -> bool {
    frame.kind == FrameKind::Kernel && frame.mapping.is_none()
}

/// Inverse of `tables::kind_from_id`.
fn kind_id(kind: MappingKind) -> &'static str {
    match kind {
        MappingKind::File => "file",
        MappingKind::Vdso => "vdso",
        MappingKind::Kernel => "kernel",
        MappingKind::Anonymous => "anonymous",
    }
}

/// pprof's numbers are signed. 2⁶³ nanoseconds are 292 years.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
