//! Real output of perf, held against its own counts and another reader; lines of every kind; damage.

use std::collections::BTreeMap;

use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;

use super::*;
use crate::profile::{FrameKind, MappingKind, Unresolved};
use crate::store::{self, ReadError, folded, pprof};

fn corpus(name: &str) -> String {
    std::fs::read_to_string(format!("fixtures/corpus/{name}")).expect("a fixture")
}

fn read(text: &str) -> Profile {
    store::from_bytes(text.as_bytes(), "dir/shop.txt").expect("readable")
}

fn error(text: &str) -> String {
    let error = decode(text.as_bytes(), "x").expect_err("refused");
    error.to_string()
}

/// Ticks by the name of the leaf.
fn by_leaf(profile: &Profile) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for sample in &profile.samples {
        let stack = profile.display_stack(sample, false);
        let leaf = stack.last().expect("the process at least");
        *counts.entry(leaf.name.to_string()).or_default() += sample.count;
    }
    counts
}

#[test]
fn ticks_by_function_are_those_of_perf_report() {
    let profile = read(&corpus("perf-script-inlined.txt"));
    // perf report calls what was inlined by the function that has the code, and prefers another of a function's names.
    let mut counts = by_leaf(&profile);
    let inlined = counts.remove("mix").expect("is inlined");
    *counts.get_mut("hash_page").expect("has the code") += inlined;
    let alias = counts.remove("__GI___libc_read").expect("is there");
    counts.insert("read".into(), alias);
    let report = corpus("perf-script-inlined.report.txt");
    let report = report.lines().map(|line| {
        let mut words = line.split_whitespace();
        let count = words.next().and_then(|word| word.parse().ok());
        (
            words.nth(1).expect("a symbol").to_owned(),
            count.expect("a count"),
        )
    });
    assert_eq!(counts, report.collect());
    assert_eq!(profile.total_count(), 64);
    assert_eq!(profile.total_cpu_ns(), 64 * 20_408_163);
}

/// As inferno's reader of the same text folds it, with differences that are meant: it knows no address for a name that
/// perf does not know, and is not held to names of threads, which it cuts at blanks. It adds up periods.
#[test]
fn stacks_are_those_that_another_reader_finds() {
    for name in ["perf-script-inlined.txt", "perf-script-system.txt"] {
        let text = corpus(name);
        let mut theirs = Vec::new();
        let mut folder = Folder::default();
        folder
            .collapse(text.as_bytes(), &mut theirs)
            .expect("readable");
        let theirs = String::from_utf8(theirs).expect("text");
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for line in theirs.lines() {
            let (stack, ns) = line.rsplit_once(' ').expect("a count");
            let (_, stack) = stack.split_once(';').expect("a thread's name");
            *expected.entry(stack.into()).or_default() += ns.parse::<u64>().expect("a number");
        }
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        let profile = read(&text);
        for sample in &profile.samples {
            let frames = profile.display_stack(sample, false);
            let names = frames.iter().skip(1).map(|frame| {
                let name = match frame.name.rsplit_once("+0x") {
                    Some((file, _)) => file.trim_matches(['[', ']']),
                    None if frame.name.starts_with("0x") => "unknown",
                    None => return frame.name.to_string(),
                };
                format!("[{name}]")
            });
            let stack = names.collect::<Vec<_>>().join(";");
            *found.entry(stack).or_default() += sample.cpu_ns;
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn places_in_the_source_change_nothing_but_places() {
    let profile = read(&corpus("perf-script-places.txt"));
    let inlined = read(&corpus("perf-script-inlined.txt"));
    let known = |profile: &Profile| {
        let mut leaves = by_leaf(profile);
        leaves.retain(|name, _| !name.contains('+'));
        leaves
    };
    assert_eq!(known(&profile), known(&inlined));
    let function = profile.functions.iter().find(|f| f.name == "job");
    assert_eq!(function.expect("is there").file, "threads.cpp");
    let mixed = profile.frames.iter().find(|frame| frame.lines.len() == 2);
    let lines = &mixed.expect("an inlined function").lines;
    assert_eq!(profile.function(lines[0].function).name, "mix");
    assert_eq!((lines[0].line, lines[1].line), (8, 9));
}

#[test]
fn samples_have_threads_processes_and_time_slices() {
    let profile = read(&corpus("perf-script-places.txt"));
    let thread = profile.threads.iter().find(|t| t.name == "job 1");
    let thread = thread.expect("is there");
    assert_eq!((thread.pid, thread.tid), (27019, 27023));
    let main = profile.threads.iter().any(|t| t.pid == t.tid);
    let process = if main { "shop" } else { "job 1" };
    assert_eq!(thread.process, process);
    assert_eq!(profile.recording.slice_ns, 100_000_000);
    let last = profile.samples.last().expect("has samples").slice;
    let seconds = profile.recording.duration_ns as f64 / 1e9;
    assert!((f64::from(last) / 10.0..f64::from(last) / 10.0 + 0.2).contains(&seconds));
    // Not printed, so not known.
    assert_eq!(profile.total_cpu_ns(), 0);
    let warnings = profile.recording.warnings.join("\n");
    assert!(
        warnings.contains("CPU time is not known: the periods"),
        "{warnings}"
    );

    let by_tid = read(&corpus("perf-script-inlined.txt"));
    assert!(by_tid.threads.iter().all(|t| t.pid == 0 && t.tid > 0));
    assert!((by_tid.recording.frequency_hz - 49.0).abs() < 1e-5);
    assert_eq!(by_tid.recording.event, "cpu-clock");
}

#[test]
fn one_event_is_read_and_what_it_was_not_is_said() {
    let profile = read(&corpus("perf-script-events.txt"));
    assert_eq!(profile.recording.event, "cpu-clock:u");
    assert_eq!(profile.total_count(), 6);
    assert_eq!(profile.total_cpu_ns(), 206_896_548);
    let warnings = profile.recording.warnings.join("\n");
    let left_out = "17 samples of other events were left out; those of `cpu-clock:u` were read.";
    assert!(warnings.contains(left_out), "{warnings}");
    assert!(!profile.recording.kernel_stacks);
}

#[test]
fn samples_without_call_chains_and_other_records_are_told_apart() {
    let profile = read(&corpus("perf-script-flat.txt"));
    assert_eq!(profile.total_count(), 17);
    let leaves = by_leaf(&profile);
    assert_eq!(
        (leaves["hash_page"], leaves["read_zero"]),
        (12, 5),
        "by perf report"
    );
    assert!(profile.frames.len() < 30);
}

#[test]
fn the_header_says_where_and_how() {
    let profile = read(&corpus("perf-script-system.txt"));
    let recording = &profile.recording;
    assert!(
        recording
            .command
            .starts_with("/usr/bin/perf record -F 61 -a -g")
    );
    assert_eq!((recording.arch.as_str(), recording.cpus), ("x86_64", 2));
    assert_eq!(recording.event, "cpu-clock");
    assert!(recording.kernel.starts_with("6.18"));
    assert!(recording.kernel_stacks);
    let report = corpus("perf-script-system.report.txt");
    let mut threads: BTreeMap<String, u64> = BTreeMap::new();
    for sample in &profile.samples {
        let name = profile.thread(sample.thread).name.clone();
        *threads.entry(name).or_default() += sample.count;
    }
    let report = report.lines().map(|line| {
        let (count, name) = line.trim().split_once(' ').expect("two columns");
        (name.trim().to_owned(), count.parse().expect("a count"))
    });
    assert_eq!(threads, report.collect(), "by perf report");
}

#[test]
fn whatever_fields_were_asked_for() {
    let stack = "\t            1382 mix(unsigned int)+0x12 (inlined)\n\t            1382 job (/opt/a (1)/shop)\n";
    for (first, comm, ids, slice, cpu_ns) in [
        (
            "shop 12  5.000000:   10 cpu-clock: ",
            "shop",
            (0, 12),
            0,
            10,
        ),
        (
            "Web Content 7/12 [003] 5.000000000: 10 cpu-clock:pppH:",
            "Web Content",
            (7, 12),
            0,
            10,
        ),
        ("a 1 2 3/4 5.0:  task-clock:uP:", "a 1 2", (3, 4), 0, 0),
        (
            "kworker/0:1-ev  9 [000] 5.0: 3 task-clock:",
            "kworker/0:1-ev",
            (0, 9),
            0,
            3,
        ),
        (":-1  -1/-1  5.0: 1 cycles:", ":-1", (0, 0), 0, 0),
        (
            "x: y: 3 5.000001: cpu_core/cycles/P:",
            "x: y:",
            (0, 3),
            0,
            0,
        ),
        ("shop 12", "shop", (0, 12), 0, 0),
        ("shop 12 cycles:", "shop", (0, 12), 0, 0),
        ("shop", "shop", (0, 0), 0, 0),
        ("7/12 5.0: ", "", (7, 12), 0, 0),
        ("cycles:", "", (0, 0), 0, 0),
        ("5.25: ", "", (0, 0), 0, 0),
    ] {
        let text = format!("{first}\n{stack}\n\n{first}\n{stack}");
        let profile = read(&text);
        assert_eq!(profile.total_count(), 2, "{first}");
        let thread = &profile.threads[0];
        assert_eq!(
            (thread.name.as_str(), (thread.pid, thread.tid)),
            (comm, ids),
            "{first}"
        );
        assert_eq!(profile.samples[0].slice, slice);
        assert_eq!(profile.total_cpu_ns(), 2 * cpu_ns, "{first}");
        let frame = &profile.frames[0];
        let names: Vec<_> = frame
            .lines
            .iter()
            .map(|l| &profile.function(l.function).name)
            .collect();
        assert_eq!(names, ["mix(unsigned int)", "job"], "{first}");
        assert_eq!(
            profile.mapping(frame.mapping.expect("a file")).path,
            "/opt/a (1)/shop"
        );
    }
    // Stacks alone, and tabs that became blanks on their way.
    let profile = read("\n\t  35be f\n\t  1379 main\n\n\n\t  35be f\n\t  1379 main\n\n");
    assert_eq!((profile.total_count(), profile.recording.slice_ns), (2, 0));
    assert_eq!(profile.recording.event, "samples");
    let profile =
        read("shop 1 1.0: cycles:\n            35be f (x.so)\n            1379 main (x)\n");
    assert_eq!(profile.frames.len(), 2);
}

#[test]
fn frames_are_of_the_kernel_the_process_or_unknown() {
    let lines = [
        (
            "ffffffff81000c82 asm_exc_page_fault+0x22 ([kernel.kallsyms])",
            "asm_exc_page_fault",
            FrameKind::Kernel,
            None,
        ),
        (
            "ffffffffc0a01000 ext4_read ([ext4])",
            "ext4_read",
            FrameKind::Kernel,
            None,
        ),
        (
            "ffffffffc0a01000 f (/lib/modules/6.1/kernel/fs/x.ko.xz)",
            "f",
            FrameKind::Kernel,
            None,
        ),
        (
            "ffffffffc0b01000 bpf_prog_6deef7357e7b4530_f (bpf_prog_6deef7357e7b4530_f)",
            "bpf_prog_6deef7357e7b4530_f",
            FrameKind::Kernel,
            None,
        ),
        (
            "ffffffff81d33df7 read_zero",
            "read_zero",
            FrameKind::Kernel,
            None,
        ),
        (
            "ffffffff81d33df7 [unknown] ([kernel.kallsyms])",
            "[kernel.kallsyms]+0xffffffff81d33df7",
            FrameKind::Kernel,
            Some(Unresolved::KernelHidden),
        ),
        (
            "7ffd 1 __vdso_gettimeofday ([vdso])",
            "1 __vdso_gettimeofday",
            FrameKind::User,
            None,
        ),
        (
            "a58f3 [unknown] (/usr/lib/libstdc++.so.6)",
            "libstdc++.so.6+0xa58f3",
            FrameKind::User,
            Some(Unresolved::NoSymbol),
        ),
        (
            "7fa613 [unknown] (/tmp/perf-12.map)",
            "perf-12.map+0x7fa613",
            FrameKind::User,
            Some(Unresolved::NotInJitMap),
        ),
        (
            "7fa613 [unknown] (//anon)",
            "anon+0x7fa613",
            FrameKind::User,
            Some(Unresolved::Jit),
        ),
        (
            "0 [unknown] ([unknown])",
            "0x0",
            FrameKind::User,
            Some(Unresolved::NoMapping),
        ),
        (
            "35be operator new(unsigned long)+0x1a (/a/b.so+0x9)",
            "operator new(unsigned long)",
            FrameKind::User,
            None,
        ),
        (
            "35be (anonymous namespace)::f(int (*)(char))",
            "(anonymous namespace)::f(int (*)(char))",
            FrameKind::User,
            None,
        ),
        (
            "35be f (/memfd:doublemapper (deleted))",
            "f",
            FrameKind::User,
            None,
        ),
    ];
    for (line, name, kind, unresolved) in lines {
        let profile = read(&format!("shop 1 1.0: cycles:\n\t {line}\n\n"));
        let frame = &profile.frames[0];
        let function = profile.function(frame.lines[0].function);
        let found = (function.name.as_str(), frame.kind, frame.unresolved);
        assert_eq!(found, (name, kind, unresolved), "{line}");
    }
    assert_eq!(frames::mapping_kind("[vdso]"), MappingKind::Vdso);
}

#[test]
fn functions_of_one_address_are_one_frame_only_if_inlined() {
    let profile = read(concat!(
        "shop 1 1.0: cycles:\n",
        "\t 10 a (inlined)\n\t 10 b (inlined)\n\t 10 c (/s)\n",
        "\t 20 r (/s)\n\t 20 r (/s)\n",
        "\t 30 alias (inlined)\n\t 40 main (/s)\n",
        "\t    old_style (inlined)\n\t 50 start (/s)\n\n",
    ));
    let stack: Vec<Vec<&str>> = profile
        .stacks
        .root_to_leaf(profile.samples[0].stack)
        .map(|frame| {
            let lines = profile.frame(frame).lines.iter();
            lines
                .map(|line| profile.function(line.function).name.as_str())
                .collect()
        })
        .collect();
    let expected: [&[&str]; 6] = [
        &["old_style", "start"],
        &["main"],
        &["alias"],
        &["r"],
        &["r"],
        &["a", "b", "c"],
    ];
    assert_eq!(stack, expected);
}

#[test]
fn slices_follow_time_and_out_of_order_samples() {
    let profile = read("a 1 100.25: cycles:\n\n\na 1 100.0: cycles:\n\na 1 100.1: cycles:\n");
    let slices: Vec<u32> = profile.samples.iter().map(|sample| sample.slice).collect();
    assert_eq!(slices, [0, 1, 2]);
    assert_eq!(profile.recording.duration_ns, 250_000_000);
}

#[test]
fn errors_name_the_line() {
    for (text, start) in [
        (
            "a 1 1.0: cycles:\n\t35be f\n\nb: nonsense here\n",
            "line 4 does not begin a sample",
        ),
        (
            "a 1 1.0: cycles:\n\t35be f\n\txyz g\n",
            "line 3 is not a frame with an address: `xyz g`",
        ),
        (
            "a 1 1.0: cycles:\n\n\na 1 999999999.0: cycles:\n",
            "line 4 is at 999999999 s, more than",
        ),
        (
            "a 1 1.0: 9223372036854775807 cpu-clock:\n\na 1 1.0: 9 cpu-clock:\n",
            "line 3: all periods together",
        ),
        ("# only comments\n\n", "it holds no samples"),
        ("a 1 1.0: PERF_RECORD_COMM: a\n", "it holds no samples"),
    ] {
        let error = error(text);
        assert!(error.starts_with(start), "{error}");
    }
    let deep = "a 1 1.0: cycles:\n".to_owned() + &"\t1 f\n".repeat(70_000);
    assert!(error(&deep).starts_with("line 2: a stack has more than 65536 frames"));
}

#[test]
fn the_format_is_told_from_folded_stacks() {
    for text in [
        "a 1 1.0: cycles:\n\t35be f 12\n",
        "\n\t35be f\n\t35bf g\n",
        "# ========\n# hostname : a\n#\na b 1/2 [000] 1.0: 10 cycles:\n\t35be f (x)\n",
        "         shop 12 1.0:  10 cycles:      35be f (/x)\n",
        "shop\n\t35be f (x)\n",
        "shop 12 \n\t35be f (x)\n",
    ] {
        assert!(is_like(text.as_bytes()), "{text}");
    }
    for text in [
        "a;b 1\n",
        "a b;c: 12\n",
        "# p;f 1\n",
        "",
        "nothing\n",
        "a;b\n\n",
        "  a;b 3\n",
    ] {
        assert!(!is_like(text.as_bytes()), "{text}");
    }
    for fixture in ["inlined", "places", "events", "flat", "system"] {
        let text = corpus(&format!("perf-script-{fixture}.txt"));
        assert!(is_like(text.as_bytes()), "{fixture}");
        assert!(is_like(text.replace('\n', "\r\n").as_bytes()), "{fixture}");
    }
    let broken = store::from_bytes(b"a 1 1.0: cycles:\n\txyz\n", "/data/x.txt").expect_err("bad");
    assert!(matches!(broken, ReadError::PerfScript { .. }));
    let said = "`/data/x.txt` is not readable output of `perf script`";
    assert_eq!(broken.to_string(), said);
}

#[test]
fn what_was_read_survives_as_pprof_and_folded() {
    for fixture in ["inlined", "places", "events", "flat", "system"] {
        let profile = read(&corpus(&format!("perf-script-{fixture}.txt")));
        let again = pprof::encode(&profile);
        let again = store::from_bytes(&again, "x.pb.gz").expect("our own");
        assert_eq!(again.samples, profile.samples, "{fixture}");
        assert_eq!(again.frames, profile.frames, "{fixture}");
        assert_eq!(again.mappings, profile.mappings, "{fixture}");
        let lines = folded::encode(&profile, false);
        let total = |lines: &str| -> u64 {
            let counts = lines
                .lines()
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            counts.sum()
        };
        assert_eq!(total(&lines), profile.total_count());
    }
}

#[test]
fn damaged_text_is_an_error_or_a_profile() {
    let text = corpus("perf-script-events.txt");
    let bytes = &text.as_bytes()[..6000];
    for end in (0..bytes.len()).step_by(11) {
        _ = decode(&bytes[..end], "x");
    }
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };
    let alphabet = "\n\t ()[]:/.-+0a9#|é\u{2028}x".as_bytes();
    for _ in 0..1000 {
        let mut damaged = bytes[..1500].to_vec();
        for _ in 0..=random() % 20 {
            let at = random() % damaged.len();
            damaged[at] = alphabet[random() % alphabet.len()];
        }
        _ = decode(&damaged, "x");
        _ = store::from_bytes(&damaged, "x");
    }
}
