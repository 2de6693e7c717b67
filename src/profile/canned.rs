//! A small profile with a known answer, for tests and golden files of every room: one service with two processes, three
//! threads, inlined functions, kernel code, code without symbols, and one incomplete stack.

use super::{
    Accounting, BuildId, Cause, ElfAddr, FileOffset, Frame, FrameIx, FrameKind, Function, Line,
    Mapping, MappingIx, MappingKind, Profile, ProfileBuilder, QuotaTicks, Recording, Sample,
    StackEnd, StackIx, Thread, ThreadCpu, ThreadIx, ThreadTime, Unresolved, WaitFacts, WaitSample,
    Waits, Waker, Why,
};

/// Nanoseconds one tick stands for: 100 ticks per second.
const TICK_NS: u64 = 10_000_000;

/// 100 ticks in four slices: `mix` (inlined into `hash`) has 40, `hash` itself 20, the kernel's `copy_page` 20, an
/// address in `libz.so.1` 15 (each with an incomplete stack), `clock_gettime` 5 (in a second process, `cron`).
#[doc(hidden)]
pub fn canned() -> Profile {
    ticks().build(recording(), accounting())
}

/// The same with waits: of the first stack for a lock, ended by the second; of the first, too, without a CPU; of the third
/// for a disk; and time without a stack.
#[doc(hidden)]
pub fn canned_with_waits() -> Profile {
    let mut profile = canned();
    let mut samples = profile.samples.clone();
    samples.sort_by_key(|sample| (sample.stack, sample.thread));
    samples.dedup_by_key(|sample| sample.stack);
    let wait = |sample: &Sample, cause, wait_ns| WaitSample {
        slice: 1,
        thread: sample.thread,
        stack: sample.stack,
        end: sample.end,
        cause,
        stacks: 2,
        count: 20,
        wait_ns,
    };
    let mut time = ThreadTime {
        pid: 100,
        tid: 100,
        name: "shop".into(),
        wall_ns: 400_000_000,
        on_cpu_ns: 200_000_000,
        runnable_ns: 20_000_000,
        ..ThreadTime::default()
    };
    time.blocked_ns[Cause::Futex as usize] = 180_000_000;
    let without_stack = WaitSample {
        stack: StackIx::EMPTY,
        end: StackEnd::Truncated(Why::NotTaken),
        stacks: 0,
        count: 0,
        ..wait(&samples[0], Cause::Futex, 5_000_000)
    };
    let waits = Waits {
        facts: WaitFacts {
            throttled_by: "task".into(),
            threads: vec![time],
            stacks_taken: 6,
            ..WaitFacts::default()
        },
        samples: vec![
            wait(&samples[0], Cause::Futex, 100_000_000),
            wait(&samples[0], Cause::Runnable, 20_000_000),
            wait(&samples[2], Cause::Disk, 75_000_001),
            without_stack,
        ],
        wakers: vec![Waker {
            waiter: samples[0].stack,
            cause: Cause::Futex,
            thread: samples[1].thread,
            stack: samples[1].stack,
            end: samples[1].end,
            count: 20,
            wait_ns: 100_000_000,
        }],
        quota: vec![QuotaTicks {
            thread: samples[1].thread,
            stack: samples[1].stack,
            end: samples[1].end,
            count: 3,
            cpu_ns: 3 * TICK_NS,
        }],
    };
    profile.waits = Some(waits.settled(0));
    profile
}

fn ticks() -> ProfileBuilder {
    let mut builder = ProfileBuilder::default();
    let [shop, libz, vdso, kernel] = mappings(&mut builder);
    let main = frame(&mut builder, shop, 0x1000, &[("main", "src/main.rs", 12)]);
    let serve = frame(&mut builder, shop, 0x1100, &[("serve", "src/main.rs", 40)]);
    let hash = [("hash", "src/hash.rs", 7)];
    let plain_hash = frame(&mut builder, shop, 0x1200, &hash);
    let mixing = [("mix", "src/hash.rs", 21), ("hash", "src/hash.rs", 9)];
    let mixing_hash = frame(&mut builder, shop, 0x1210, &mixing);
    let flush = frame(&mut builder, shop, 0x1300, &[("flush", "src/main.rs", 77)]);
    let write = frame(
        &mut builder,
        kernel,
        0xffff_ffff_8100_1000,
        &[("write", "", 0)],
    );
    let copy = frame(
        &mut builder,
        kernel,
        0xffff_ffff_8100_2000,
        &[("copy_page", "", 0)],
    );
    let unnamed = frame(&mut builder, libz, 0x4f2, &[("libz.so.1+0x4f2", "", 0)]);
    let clock = frame(&mut builder, vdso, 0x9f0, &[("clock_gettime", "", 0)]);

    let leader = thread(&mut builder, 100, 100, "shop", "shop");
    let worker = thread(&mut builder, 100, 101, "worker", "shop");
    let cron = thread(&mut builder, 200, 200, "cron", "cron");
    let cut = StackEnd::Truncated(Why::NoUnwindInfo);
    for slice in 0..4 {
        let mut add = |thread, stack: &[FrameIx], end, count| {
            let stack = builder.stack(stack.iter().copied());
            builder.sample(Sample {
                slice,
                thread,
                stack,
                end,
                count,
                cpu_ns: count * TICK_NS,
            });
        };
        add(worker, &[main, serve, mixing_hash], StackEnd::Root, 10);
        add(worker, &[main, serve, plain_hash], StackEnd::Root, 5);
        add(leader, &[main, flush, write, copy], StackEnd::Root, 5);
        if slice > 0 {
            add(worker, &[unnamed], cut, 5);
        }
    }
    let stack = builder.stack([clock]);
    builder.sample(Sample {
        slice: 3,
        thread: cron,
        stack,
        end: StackEnd::Root,
        count: 5,
        cpu_ns: 5 * TICK_NS,
    });
    builder
}

fn mappings(builder: &mut ProfileBuilder) -> [MappingIx; 4] {
    let mut add = |kind, path: &str, build_id: Option<&str>, start, end, offset| {
        builder.mapping(Mapping {
            kind,
            path: path.into(),
            build_id: build_id.and_then(BuildId::from_hex),
            start: ElfAddr(start),
            end: ElfAddr(end),
            file_offset: FileOffset(offset),
        })
    };
    let (start, end) = (0xffff_ffff_8100_0000, 0xffff_ffff_8200_0000);
    [
        add(
            MappingKind::File,
            "/srv/shop",
            Some("c0ffee01"),
            0x1000,
            0x2000,
            0x1000,
        ),
        add(
            MappingKind::File,
            "/usr/lib/libz.so.1",
            Some("abad1dea"),
            0,
            0x8000,
            0,
        ),
        add(MappingKind::Vdso, "[vdso]", None, 0, 0x2000, 0),
        add(MappingKind::Kernel, "[kernel]", Some("beef"), start, end, 0),
    ]
}

/// A frame whose `lines` are (name, file, line), innermost first; in the kernel's mapping it is a kernel frame, and a
/// name with `+0x` is an address.
fn frame(
    builder: &mut ProfileBuilder,
    mapping: MappingIx,
    addr: u64,
    lines: &[(&str, &str, u32)],
) -> FrameIx {
    let unresolved = lines[0].0.contains("+0x").then_some(Unresolved::NoSymbol);
    let lines = lines.iter().map(|(name, file, line)| Line {
        function: builder.function(Function {
            name: (*name).into(),
            linkage_name: String::new(),
            file: (*file).into(),
        }),
        line: *line,
    });
    let lines = lines.collect();
    let kind = match addr >> 63 {
        1 => FrameKind::Kernel,
        _ => FrameKind::User,
    };
    builder.frame(Frame {
        kind,
        mapping: Some(mapping),
        addr: ElfAddr(addr),
        lines,
        unresolved,
    })
}

fn thread(builder: &mut ProfileBuilder, pid: u32, tid: u32, name: &str, process: &str) -> ThreadIx {
    builder.thread(Thread {
        pid,
        tid,
        name: name.into(),
        process: process.into(),
    })
}

fn recording() -> Recording {
    Recording {
        service: "shop".into(),
        version: "0.1.0".into(),
        command: "perfprof record --pid 100 -d 1 -F 100".into(),
        target: "PID 100 and its 1 descendant".into(),
        event: "cpu-clock".into(),
        sampler: "perf".into(),
        unwind: "dwarf-copy".into(),
        frequency_hz: 100.0,
        kernel_stacks: true,
        cpus: 2,
        started_unix_ns: 1_700_000_000_000_000_000,
        duration_ns: 1_000_000_000,
        slice_ns: 250_000_000,
        stopped_by: "duration".into(),
        processes_seen: 2,
        threads_seen: 3,
        precision: 0.1,
        ..Recording::default()
    }
}

fn accounting() -> Accounting {
    let cpu = |pid, tid, cpu_ns| ThreadCpu { pid, tid, cpu_ns };
    Accounting {
        source: "schedstat at start and end".into(),
        threads: vec![
            cpu(100, 100, 201_000_000),
            cpu(100, 101, 752_000_000),
            cpu(200, 200, 51_000_000),
        ],
        ..Accounting::default()
    }
}
