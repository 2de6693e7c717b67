//! What is written is read back the same, and damaged files are errors.

use super::*;
use crate::profile::{
    Accounting, Frame, FrameKind, Function, Line, Mapping, MappingKind, Profile, ProfileBuilder,
    Recording, Sample, StackEnd, StackIx, Thread, Unresolved, Why, canned, canned_with_waits,
};
use crate::store::gzip::unpack;

fn round_trip(profile: &Profile) -> Profile {
    let packed = encode(profile);
    decode(&unpack(&packed).expect("our own gzip"), "test.pb.gz").expect("our own pprof")
}

/// Everything but the numbering of inner stack nodes, which no output shows.
fn assert_same(left: &Profile, right: &Profile) {
    assert_eq!(left.recording, right.recording);
    assert_eq!(left.accounting, right.accounting);
    assert_eq!(left.threads, right.threads);
    assert_eq!(left.mappings, right.mappings);
    assert_eq!(left.functions, right.functions);
    assert_eq!(left.frames, right.frames);
    assert_eq!(left.samples.len(), right.samples.len());
    for (a, b) in left.samples.iter().zip(&right.samples) {
        assert_eq!((a.slice, a.thread, a.end), (b.slice, b.thread, b.end));
        assert_eq!((a.count, a.cpu_ns), (b.count, b.cpu_ns));
        let stack: Vec<_> = left.stacks.leaf_to_root(a.stack).collect();
        assert_eq!(
            stack,
            right.stacks.leaf_to_root(b.stack).collect::<Vec<_>>()
        );
    }
}

/// One sample for every combination that pprof itself has no word for.
fn awkward() -> Profile {
    let mut builder = ProfileBuilder::default();
    let mut mapping = |kind, path: &str| {
        builder.mapping(Mapping {
            kind,
            path: path.into(),
            build_id: None,
            start: crate::profile::ElfAddr(0),
            end: crate::profile::ElfAddr(0x1000),
            file_offset: crate::profile::FileOffset(0),
        })
    };
    let mappings = [
        mapping(MappingKind::Anonymous, "/dev/zero (deleted)"),
        mapping(MappingKind::File, "[not a kernel]"),
        mapping(MappingKind::Kernel, "[nf_tables]"),
    ];
    let function = |builder: &mut ProfileBuilder, name: &str, linkage: &str| {
        builder.function(Function {
            name: name.into(),
            linkage_name: linkage.into(),
            file: String::new(),
        })
    };
    let mut frames = Vec::new();
    let reasons = Unresolved::ALL.map(Some);
    for (i, unresolved) in [None].into_iter().chain(reasons).enumerate() {
        // One function that is an address for every reason, and resolved once too.
        let function = function(&mut builder, "0x10\n;<script>", "");
        for (mapping, kind) in [
            (None, FrameKind::User),
            (None, FrameKind::Kernel),
            (Some(mappings[i % 2]), FrameKind::User),
            (Some(mappings[2]), FrameKind::Kernel),
        ] {
            frames.push(builder.frame(Frame {
                kind,
                mapping,
                addr: crate::profile::ElfAddr(0x10),
                lines: vec![Line { function, line: 0 }],
                unresolved,
            }));
        }
    }
    // A real function with the name of a reason frame stays a function.
    let impostor = function(&mut builder, "[truncated: jit]", "_Z3jit");
    let lines = vec![Line {
        function: impostor,
        line: 3,
    }];
    frames.push(builder.frame(Frame {
        kind: FrameKind::User,
        mapping: None,
        addr: crate::profile::ElfAddr(1),
        lines,
        unresolved: None,
    }));
    let ends = Why::ALL.map(StackEnd::Truncated);
    for (i, end) in [StackEnd::Root].into_iter().chain(ends).enumerate() {
        let thread = builder.thread(Thread {
            pid: 7,
            tid: 100 - i as u32,
            name: ["", "a`b|c"][i % 2].into(),
            process: "p\u{fffd}".into(),
        });
        // The deepest stack first, so that file order and stack order differ.
        for depth in (0..=frames.len())
            .step_by(3)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            let stack = builder.stack(frames[..depth].iter().copied());
            builder.sample(Sample {
                slice: (depth % 5) as u32,
                thread,
                stack,
                end,
                count: 1,
                cpu_ns: depth as u64,
            });
        }
    }
    let recording = Recording {
        frequency_hz: 99.1,
        precision: 0.1 + 0.2,
        duration_ns: 5,
        slice_ns: 1,
        ..Recording::default()
    };
    builder.build(recording, Accounting::default())
}

#[test]
fn everything_a_profile_knows_survives() {
    for profile in [canned(), awkward()] {
        let read = round_trip(&profile);
        assert_same(&profile, &read);
        assert_eq!(
            encode(&profile),
            encode(&read),
            "the bytes are a fixed point"
        );
    }
}

#[test]
fn waits_survive_with_who_ended_them_and_what_used_a_quota_up() {
    let profile = canned_with_waits();
    let read = round_trip(&profile);
    assert_same(&profile, &read);
    let (waits, again) = (
        profile.waits.expect("waits"),
        read.waits.clone().expect("waits"),
    );
    assert_eq!(waits.facts, again.facts);
    // Stacks that the ticks have, too, keep their numbers.
    assert_eq!(waits.samples, again.samples);
    assert_eq!(waits.wakers, again.wakers);
    assert_eq!(waits.quota, again.quota);
    assert_eq!(encode(&read), encode(&round_trip(&read)));
}

#[test]
fn an_empty_stack_and_no_samples_at_all_survive() {
    let empty = ProfileBuilder::default().build(Recording::default(), Accounting::default());
    assert_same(&empty, &round_trip(&empty));
    let awkward = awkward();
    assert!(awkward.samples.iter().any(|s| s.stack == StackIx::EMPTY));
}

#[test]
fn other_tools_see_the_reason_frame_at_the_root() {
    let packed = encode(&canned());
    let bytes = unpack(&packed).expect("our own gzip");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("[truncated: no-unwind-info]"));
    let read = round_trip(&canned());
    assert!(
        !read
            .functions
            .iter()
            .any(|f| f.name.starts_with("[truncated"))
    );
}

fn foreign(types: &[(&str, &str)], values: Vec<i64>, period: i64) -> Vec<u8> {
    use prost::Message;
    let mut strings: Vec<String> = vec![String::new()];
    let mut add = |text: &str| {
        strings.push(text.to_owned());
        strings.len() as i64 - 1
    };
    let mut value_type = |(kind, unit): (&str, &str)| proto::ValueType {
        kind: add(kind),
        unit: add(unit),
    };
    let mut message = proto::Profile {
        sample_type: types.iter().map(|t| value_type(*t)).collect(),
        period_type: (period > 0).then(|| value_type(("cpu", "nanoseconds"))),
        period,
        sample: vec![proto::Sample {
            location_id: vec![9],
            value: values,
            label: Vec::new(),
        }],
        location: vec![proto::Location {
            id: 9,
            address: 0x1234,
            ..proto::Location::default()
        }],
        ..proto::Profile::default()
    };
    message.string_table = strings;
    message.encode_to_vec()
}

#[test]
fn weights_of_other_tools_follow_from_what_they_state() {
    let weight = |types: &[_], values, period| {
        let profile = decode(&foreign(types, values, period), "x.pb").expect("valid");
        (profile.total_count(), profile.total_cpu_ns())
    };
    let both = [("samples", "count"), ("cpu", "nanoseconds")];
    assert_eq!(weight(&both, vec![3, 30], 10), (3, 30));
    assert_eq!(weight(&both[..1], vec![3], 10), (3, 30));
    assert_eq!(weight(&both[..1], vec![3], 0), (3, 0));
    assert_eq!(weight(&both[1..], vec![30], 10), (3, 30));
    assert_eq!(weight(&both[1..], vec![30], 0), (1, 30));
    let micros = [("wall", "milliseconds"), ("cpu", "microseconds")];
    assert_eq!(weight(&micros, vec![8, 2], 0), (1, 2000));
    assert_eq!(weight(&[("cycles_sample", "count")], vec![5], 0), (5, 0));
}

#[test]
fn what_another_tool_does_not_say_is_marked() {
    let bytes = foreign(&[("cpu", "nanoseconds")], vec![30], 10);
    let profile = decode(&bytes, "x.pb").expect("valid");
    assert_eq!(profile.samples[0].end, StackEnd::Truncated(Why::NotStated));
    assert_eq!(profile.frames[0].unresolved, Some(Unresolved::NoMapping));
    assert_eq!(profile.functions[0].name, "0x1234");
    assert_eq!(profile.thread(profile.samples[0].thread).process, "x.pb");
    assert!(!profile.recording.warnings.is_empty());
}

#[test]
fn what_is_no_cpu_profile_is_refused_with_its_reason() {
    let error = |types: &[_], values| {
        let bytes = foreign(types, values, 0);
        decode(&bytes, "x.pb").expect_err("refused").to_string()
    };
    let heap = error(
        &[("inuse_objects", "count"), ("inuse_space", "bytes")],
        vec![1, 1],
    );
    let expected =
        "not a CPU profile: its sample types are `inuse_objects/count`, `inuse_space/bytes`";
    assert_eq!(heap, expected);
    let mutex = error(
        &[("contentions", "count"), ("delay", "nanoseconds")],
        vec![1, 1],
    );
    assert!(mutex.starts_with("not a CPU profile"));
    assert!(error(&[("cpu", "nanoseconds")], vec![-1]).ends_with("a negative value"));
    assert!(error(&[("cpu", "nanoseconds")], vec![]).ends_with("fewer values than sample types"));
    assert!(matches!(decode(b"", "x"), Err(DecodeError::Empty)));
}

#[test]
fn totals_that_would_overflow_are_refused() {
    use prost::Message;
    let bytes = foreign(&[("cpu", "nanoseconds")], vec![i64::MAX], 10);
    let mut message = proto::Profile::decode(&bytes[..]).expect("valid");
    message.sample.push(message.sample[0].clone());
    let error = decode(&message.encode_to_vec(), "x").expect_err("refused");
    assert!(error.to_string().contains("exceed 2⁶³"), "{error}");
}

#[test]
fn references_to_nothing_are_named_with_their_place() {
    use prost::Message;
    let bytes = foreign(&[("cpu", "nanoseconds")], vec![1], 10);
    let message = proto::Profile::decode(&bytes[..]).expect("valid");
    let error = |change: &dyn Fn(&mut proto::Profile)| {
        let mut message = message.clone();
        change(&mut message);
        let result = decode(&message.encode_to_vec(), "x");
        result.expect_err("refused").to_string()
    };
    let missing = error(&|m| m.sample[0].location_id.push(77));
    assert!(missing.starts_with("sample 0 at byte "), "{missing}");
    assert!(
        missing.ends_with("names location 77, which does not exist"),
        "{missing}"
    );
    let line = proto::Line {
        function_id: 5,
        line: 1,
    };
    assert!(error(&|m| m.location[0].line.push(line)).contains("function 5"));
    assert!(error(&|m| m.location[0].mapping_id = 3).contains("mapping 3"));
    assert!(error(&|m| m.location.push(m.location[0].clone())).contains("taken by an earlier"));
    let mapping = proto::Mapping {
        id: 1,
        filename: -4,
        ..proto::Mapping::default()
    };
    assert!(error(&|m| m.mapping.push(mapping)).contains("string"));
}

/// Marsaglia's xorshift: the same numbers in every run.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Follows every index and asks for every sum, as any output would.
fn walk(profile: &Profile) {
    profile.total_count();
    profile.total_cpu_ns();
    profile.slice_count();
    profile.accounting.cpu_ns();
    for sample in &profile.samples {
        assert!(!profile.display_stack(sample, true).is_empty());
    }
    if let Some(view) = profile.off_cpu_view(|ix| ix % 2 == 0) {
        view.total_count();
        for sample in &view.samples {
            assert!(!view.display_stack(sample, true).is_empty());
        }
    }
    for frame in &profile.frames {
        assert!(!frame.lines.is_empty());
        frame.mapping.map(|ix| profile.mapping(ix));
    }
}

#[test]
fn damaged_files_are_errors_or_profiles_whose_indices_all_hold() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let packed = encode(&canned());
    let own = unpack(&packed).expect("our own gzip").into_owned();
    let waiting = encode(&canned_with_waits());
    let waiting = unpack(&waiting).expect("our own gzip").into_owned();
    let go = std::fs::read("fixtures/corpus/go-cpu.pb.gz").expect("a fixture");
    let go = unpack(&go).expect("gzip").into_owned();
    let folded = crate::store::folded::encode(&canned(), true).into_bytes();
    for whole in [&own, &waiting, &go, &packed, &folded] {
        let (mut read, mut refused) = (0, 0);
        for _ in 0..2000 {
            let bytes = damaged(whole, &mut random);
            match crate::store::from_bytes(&bytes, "damaged") {
                Ok(profile) => {
                    walk(&profile);
                    // What was read can be written and read again.
                    walk(&round_trip(&profile));
                    read += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
        assert!(read > 0 && refused > 20, "{read} read, {refused} refused");
    }
}

fn damaged(whole: &[u8], random: &mut Xorshift) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes.truncate(at + 1),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.below(256) as u8,
            _ => drop(bytes.splice(at..at, [random.below(256) as u8])),
        }
    }
    bytes
}

#[test]
fn a_profile_of_an_older_perfprof_lacks_fields_and_is_read() {
    let bytes = unpack(&encode(&canned()))
        .expect("our own gzip")
        .into_owned();
    let text = br#""stopped_by":"duration","#;
    let at = bytes
        .windows(text.len())
        .position(|window| window == text)
        .expect("present");
    // Same length, so that no length in the file is wrong: the field is now one we do not know.
    let mut older = bytes.clone();
    older[at + 1..at + 11].copy_from_slice(b"newer_thing"[..10].as_ref());
    let profile = decode(&older, "x").expect("readable");
    assert_eq!(profile.recording.stopped_by, "");
    assert_eq!(profile.recording.service, "shop");
}
