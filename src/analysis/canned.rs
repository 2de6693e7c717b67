//! Profiles with a known answer, for the tests of this room and of those that show its results.

use crate::profile::{
    Accounting, BuildId, Cause, CgroupCpu, ElfAddr, FileOffset, Frame, FrameIx, FrameKind,
    Function, FunctionIx, Line, Mapping, MappingIx, MappingKind, PackageFact, Profile,
    ProfileBuilder, QuotaTicks, Recording, Sample, SelfCost, StackEnd, StackIx, Thread, ThreadCpu,
    ThreadIx, ThreadTime, Unresolved, WaitFacts, WaitSample, Waits, Waker, Why,
};

/// Nanoseconds a tick stands for, at 999 Hz.
pub(crate) const TICK_NS: u64 = 1_001_001;
const SLICES: u32 = 100;
pub(crate) const HASH_STEP_TICKS: u64 = 3950;
pub(crate) const WALK_TREE_TICKS: u64 = 2500;
pub(crate) const KERNEL_TICKS: u64 = 1000;
pub(crate) const STRIPPED_TICKS: u64 = 800;
pub(crate) const TRUNCATED_TICKS: u64 = 5;
pub(crate) const EMPTY_TICKS: u64 = 1;
/// A thread that used 20 ms of CPU and got no tick.
pub(crate) const UNSAMPLED_TID: u32 = 4250;

/// Builds frames with less ceremony.
#[derive(Default)]
pub(crate) struct Sketch {
    pub(crate) builder: ProfileBuilder,
    address: u64,
}

impl Sketch {
    pub(crate) fn mapping(&mut self, kind: MappingKind, path: &str, id: Option<&str>) -> MappingIx {
        self.builder.mapping(Mapping {
            kind,
            path: path.into(),
            build_id: id.and_then(BuildId::from_hex),
            start: ElfAddr(0x1000),
            end: ElfAddr(0x9000),
            file_offset: FileOffset(0x1000),
        })
    }

    /// A frame at a fresh address; `lines` are (function, file, line), innermost first.
    pub(crate) fn frame(
        &mut self,
        kind: FrameKind,
        mapping: Option<MappingIx>,
        lines: &[(&str, &str, u32)],
        unresolved: Option<Unresolved>,
    ) -> FrameIx {
        self.address += 16;
        let lines = lines
            .iter()
            .map(|(name, file, line)| Line {
                function: self.builder.function(Function {
                    name: (*name).into(),
                    linkage_name: String::new(),
                    file: (*file).into(),
                }),
                line: *line,
            })
            .collect();
        self.builder.frame(Frame {
            kind,
            mapping,
            addr: ElfAddr(0x1000 + self.address),
            lines,
            unresolved,
        })
    }

    pub(crate) fn ticks(
        &mut self,
        slice: u32,
        thread: ThreadIx,
        stack: StackIx,
        end: StackEnd,
        count: u64,
    ) {
        self.builder.sample(Sample {
            slice,
            thread,
            stack,
            end,
            count,
            cpu_ns: count * TICK_NS,
        });
    }
}

/// Ten seconds of a small server: inlined, recursive, kernel, stripped, truncated and empty stacks.
pub(crate) fn server() -> Profile {
    named_server("tiny-server", ["serve", "walk_tree"])
}

/// The same with other names for the service and two of its functions.
pub(crate) fn named_server(service: &str, [serve_name, walk_name]: [&str; 2]) -> Profile {
    let mut sketch = Sketch::default();
    let s = &mut sketch;
    let exe = s.mapping(
        MappingKind::File,
        "/opt/tiny/bin/tiny-server",
        Some("c0ffee01"),
    );
    let libz = s.mapping(MappingKind::File, "/usr/lib/libz.so.1", Some("0badcafe"));
    let libfoo = s.mapping(MappingKind::File, "/usr/lib/libfoo.so", None);
    let kernel = s.mapping(MappingKind::Kernel, "[kernel]", None);
    let user = FrameKind::User;

    let main = s.frame(user, Some(exe), &[("main", "src/main.c", 12)], None);
    let serve = s.frame(user, Some(exe), &[(serve_name, "src/serve.c", 30)], None);
    let hash = [42, 43].map(|line| {
        let lines = [
            ("hash_step", "src/hash.c", line),
            ("hash_row", "src/hash.c", 88),
        ];
        s.frame(user, Some(exe), &lines, None)
    });
    let walk = s.frame(user, Some(exe), &[(walk_name, "src/tree.c", 7)], None);
    let read = s.frame(user, Some(exe), &[("read_block", "src/io.c", 101)], None);
    let sys = s.frame(
        FrameKind::Kernel,
        Some(kernel),
        &[("ksys_read", "", 0)],
        None,
    );
    let copy = s.frame(
        FrameKind::Kernel,
        Some(kernel),
        &[("copy_to_user", "", 0)],
        None,
    );
    let no_symbol = Some(Unresolved::NoSymbol);
    let stripped = ["libz.so.1+0x12f0", "libz.so.1+0x1310"]
        .map(|name| s.frame(user, Some(libz), &[(name, "", 0)], no_symbol));
    let lost = s.frame(user, Some(libfoo), &[("foo_dispatch", "", 0)], None);

    let hash = hash.map(|leaf| s.builder.stack([main, serve, leaf]));
    let walk = s.builder.stack([main, serve, walk, walk, walk]);
    let read = s.builder.stack([main, serve, read, sys, copy]);
    let stripped = stripped.map(|leaf| s.builder.stack([main, serve, leaf]));
    let lost = s.builder.stack([lost]);

    let [first, second] = [4242, 4243].map(|tid| {
        s.builder.thread(Thread {
            pid: 4242,
            tid,
            name: if tid == 4242 {
                "tiny-server"
            } else {
                "worker-1"
            }
            .into(),
            process: "tiny-server".into(),
        })
    });
    let no_frame_pointer = StackEnd::Truncated(Why::FramePointerLost);
    for slice in 0..SLICES {
        // The hot function comes in runs of half a second.
        let hot = 30 + 10 * u64::from(slice / 5 % 3);
        s.ticks(slice, first, hash[0], StackEnd::Root, hot - 5);
        s.ticks(slice, first, hash[1], StackEnd::Root, 5);
        s.ticks(slice, second, walk, StackEnd::Root, 25);
        s.ticks(slice, first, read, StackEnd::Root, 10);
        s.ticks(slice, second, stripped[0], StackEnd::Root, 5);
        s.ticks(slice, second, stripped[1], StackEnd::Root, 3);
        if slice % 20 == 0 {
            s.ticks(slice, second, lost, no_frame_pointer, 1);
        }
    }
    s.ticks(
        50,
        first,
        StackIx::EMPTY,
        StackEnd::Truncated(Why::NoRegisters),
        1,
    );
    sketch.builder.build(recording(service), accounting())
}

/// Wall-clock time of each of the two threads of [`waiting_server`].
pub(crate) const WAITING_WALL_NS: u64 = 10_000_000_000;

/// The server with books and waits: the first thread waits for a lock that the second holds, and is throttled; the second
/// polls for work.
pub(crate) fn waiting_server() -> Profile {
    let mut profile = server();
    let named = |profile: &Profile, leaf: &str| {
        let ends_in = |sample: &&Sample| {
            let frame = profile.stacks.leaf(sample.stack);
            let lines = frame.map(|ix| &profile.frame(ix).lines);
            let mut names = lines.into_iter().flatten();
            names.any(|line| profile.function(line.function).name == leaf)
        };
        let sample = profile.samples.iter().find(ends_in).expect("a stack");
        (sample.thread, sample.stack)
    };
    let (first, hash) = named(&profile, "hash_step");
    let (second, walk) = named(&profile, "walk_tree");
    let main = profile.stacks.caller(profile.stacks.caller(hash));
    let (_, copy) = named(&profile, "copy_to_user");
    let caller = |stack| profile.stacks.caller(stack);
    let in_walk = caller(caller(walk));
    let read_block = caller(caller(copy));
    let libc = profile.mappings.len() as u32;
    profile.mappings.push(Mapping {
        path: "/usr/lib/libc.so.6".into(),
        ..profile.mappings[0].clone()
    });
    let function = FunctionIx(profile.functions.len() as u32);
    profile.functions.push(Function {
        name: "pthread_mutex_lock".into(),
        linkage_name: String::new(),
        file: String::new(),
    });
    profile.frames.push(Frame {
        kind: FrameKind::User,
        mapping: Some(MappingIx(libc)),
        addr: ElfAddr(0x5000),
        lines: vec![Line { function, line: 0 }],
        unresolved: None,
    });
    let lock = FrameIx(profile.frames.len() as u32 - 1);
    let locking = profile.stacks.push(read_block, lock);
    let root = StackEnd::Root;
    let wait = |thread, stack, cause, wait_ns| WaitSample {
        slice: 3,
        thread,
        stack,
        end: root,
        cause,
        stacks: 10,
        count: 100,
        wait_ns,
    };
    let mut of_first = ThreadTime {
        pid: 4242,
        tid: 4242,
        name: "tiny-server".into(),
        wall_ns: WAITING_WALL_NS,
        on_cpu_ns: 5_000_000_000,
        runnable_ns: 500_000_000,
        throttled_ns: 1_500_000_000,
        switches: 300,
        ..ThreadTime::default()
    };
    of_first.blocked_ns[Cause::Futex as usize] = 3_000_000_000;
    of_first.blocked_count[Cause::Futex as usize] = 100;
    let mut of_second = ThreadTime {
        pid: 4242,
        tid: 4243,
        name: "worker-1".into(),
        wall_ns: WAITING_WALL_NS,
        on_cpu_ns: 3_320_000_000,
        runnable_ns: 80_000_000,
        switches: 200,
        ..ThreadTime::default()
    };
    of_second.blocked_ns[Cause::Poll as usize] = 6_600_000_000;
    of_second.blocked_count[Cause::Poll as usize] = 200;
    profile.waits = Some(Waits {
        facts: WaitFacts {
            throttled_by: "task".into(),
            threads: vec![of_first, of_second],
            stacks_taken: 40,
            wakers_taken: 10,
            lost: 0,
            without_book: 0,
        },
        samples: vec![
            wait(first, locking, Cause::Futex, 3_000_000_000),
            wait(first, hash, Cause::Runnable, 500_000_000),
            wait(first, hash, Cause::Throttled, 1_500_000_000),
            wait(second, main, Cause::Poll, 6_600_000_000),
            wait(second, walk, Cause::Runnable, 80_000_000),
        ],
        wakers: vec![Waker {
            waiter: locking,
            cause: Cause::Futex,
            thread: second,
            stack: in_walk,
            end: root,
            count: 100,
            wait_ns: 3_000_000_000,
        }],
        quota: vec![QuotaTicks {
            thread: first,
            stack: hash,
            end: root,
            count: 50,
            cpu_ns: 50 * TICK_NS,
        }],
    });
    profile
}

fn recording(service: &str) -> Recording {
    Recording {
        service: service.into(),
        version: "0.1.0".into(),
        command: "perfprof record --pid 4242 -F 999 -d 10 --service tiny-server".into(),
        target: "PID 4242 and its 2 threads".into(),
        hostname: "db-1".into(),
        kernel: "6.18.0".into(),
        arch: "x86_64".into(),
        cpus: 2,
        event: "cpu-clock".into(),
        event_reason: "no hardware cycle counter in this virtual machine".into(),
        sampler: "perf".into(),
        sampler_reason: "chosen with --sampler".into(),
        unwind: "dwarf-copy".into(),
        unwind_reason: "the target has no frame pointers".into(),
        frequency_hz: 999.0,
        kernel_stacks: true,
        started_unix_ns: 1_700_000_000_000_000_000,
        duration_ns: 10_000_000_000,
        slice_ns: 100_000_000,
        stopped_by: "duration".into(),
        processes_seen: 1,
        threads_seen: 3,
        self_cost: SelfCost {
            cpu_ns: 412_000_000,
            max_rss_bytes: 38 << 20,
            bpf_run_ns: Some(9_800_000),
            bpf_runs: Some(9_990),
            finish_ns: 230_000_000,
        },
        precision: 0.01,
        packages: vec![PackageFact {
            path: "/usr/lib/libz.so.1".into(),
            build_id: "0badcafe".into(),
            distribution: "debian".into(),
            release: "bookworm".into(),
            package: "zlib1g".into(),
            version: "1:1.2.13".into(),
            ..PackageFact::default()
        }],
        warnings: vec!["the clock source changed from `tsc` to `hpet` while recording.".into()],
        ..Recording::default()
    }
}

fn accounting() -> Accounting {
    let thread = |tid, cpu_ns| ThreadCpu {
        pid: 4242,
        tid,
        cpu_ns,
    };
    Accounting {
        source: "schedstat at start and end".into(),
        threads: vec![
            thread(4242, 4_990_000_000),
            thread(4243, 3_320_000_000),
            thread(UNSAMPLED_TID, 20_000_000),
        ],
        unattributed_cpu_ns: 4_000_000,
        lost: 2,
        throttled: 0,
        cgroup: Some(CgroupCpu {
            path: "/system.slice/tiny.service".into(),
            cpu_ns: 9_000_000_000,
        }),
        gaps: Vec::new(),
    }
}

/// A profile of no sense but every shape: random stacks, ends, threads and weights.
pub(crate) fn random(seed: u64) -> Profile {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    let mut sketch = Sketch::default();
    let library = sketch.mapping(MappingKind::File, "/lib/random.so", None);
    let frames: Vec<FrameIx> = (0..40)
        .map(|i| {
            let names: Vec<String> = (0..=below(3)).map(|_| format!("f{}", below(12))).collect();
            let lines: Vec<(&str, &str, u32)> = names
                .iter()
                .map(|name| (name.as_str(), "r.c", below(5) as u32))
                .collect();
            if i % 7 == 0 {
                let bare = [("random.so+0x1", "", 0)];
                return sketch.frame(
                    FrameKind::User,
                    Some(library),
                    &bare,
                    Some(Unresolved::NoSymbol),
                );
            }
            sketch.frame(FrameKind::User, Some(library), &lines, None)
        })
        .collect();
    for _ in 0..200 {
        let stack: Vec<FrameIx> = (0..below(12)).map(|_| frames[below(40) as usize]).collect();
        let stack = sketch.builder.stack(stack);
        let thread = sketch.builder.thread(Thread {
            pid: 1,
            tid: 1 + below(3) as u32,
            name: "t".into(),
            process: "p".into(),
        });
        let end = match below(3) {
            0 => StackEnd::Truncated(Why::ALL[below(11) as usize]),
            _ => StackEnd::Root,
        };
        let (slice, count) = (below(60) as u32, 1 + below(20));
        sketch.ticks(slice, thread, stack, end, count);
    }
    sketch.builder.build(recording("random"), accounting())
}
