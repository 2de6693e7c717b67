//! Two walkers, one answer: `bpf/unwind.bpf.h`, compiled as an ordinary program with the sanitizers on, and its twin in
//! Rust walk the same registers, stacks and mappings of real programs, stopped at random.

mod image;
mod stops;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use perfprof::profile::{FrameAddr, StackEnd, Why};
use perfprof::sys::abi::AddressSpace;
use perfprof::target::binaries::Binaries;
use perfprof::target::mappings::{MappedRegion, Mappings, Region};
use perfprof::unwind::Tables;
use perfprof::unwind::walk::walk;
use tempfile::TempDir;

use crate::support::workload::repository;
use crate::support::{Need, Workload, missing};
use image::Image;
use stops::{DAMAGES, Stop};

/// Stops of each workload.
const STOPS: usize = 60;

/// A walk's frames, leaf first, as the kernel's side sends them, and its end.
#[derive(Debug, PartialEq, Eq)]
struct Walk {
    frames: Vec<u64>,
    end: StackEnd,
}

/// Stops of several programs, and what both walkers need to know.
#[derive(Default)]
struct Recording {
    binaries: Binaries,
    image: Image,
    /// By the text of `/proc/PID/maps`.
    mappings: HashMap<String, (Mappings, AddressSpace)>,
    stops: Vec<(Stop, AddressSpace)>,
}

impl Recording {
    fn add(&mut self, pid: u32, stops: usize) {
        for stop in stops::record(pid, stops) {
            let space = self.space(pid, &stop.maps);
            self.stops.push((stop, space));
        }
    }

    fn space(&mut self, pid: u32, maps: &str) -> AddressSpace {
        if let Some((_, space)) = self.mappings.get(maps) {
            return *space;
        }
        let mut mappings = Mappings::default();
        for region in maps.lines().filter_map(Region::parse) {
            mappings.insert(MappedRegion {
                start: region.start,
                end: region.end,
                file_offset: region.file_offset,
                binary: self.binaries.of_region(pid, &region),
            });
        }
        let space = self.image.add_space(&mappings);
        self.mappings.insert(maps.to_string(), (mappings, space));
        space
    }

    /// Walks all stops by both, and every third one damaged, too, and checks that the answers are the same.
    fn assert_same(mut self) {
        let undamaged = self.stops.len();
        let damaged = self.stops.iter().step_by(3).enumerate();
        let damaged: Vec<_> = damaged
            .map(|(ix, (stop, space))| (stop.damaged(ix % DAMAGES), *space))
            .collect();
        self.stops.extend(damaged);
        let answers = self.walk();
        let (whole, damaged) = answers.split_at(undamaged);
        let complete = whole.iter().filter(|both| both.twin.end == StackEnd::Root);
        let (complete, frames) = (
            complete.count(),
            whole.iter().map(|both| both.twin.frames.len()),
        );
        let frames: usize = frames.sum();
        eprintln!("{undamaged} stops, {frames} frames, {complete} complete");
        assert!(
            complete * 2 > undamaged,
            "only {complete} of {undamaged} are complete"
        );
        assert_all(whole, |both| both.kernel_side == both.twin);
        assert_all(damaged, |both| both.kernel_side.frames == both.twin.frames);
    }

    fn walk(self) -> Vec<Answers> {
        let mut tables = Tables::default();
        let twin = self.stops.iter().map(|(stop, _)| {
            let (mappings, _) = &self.mappings[&stop.maps];
            let mut frames = Vec::new();
            let end = walk(&stop.registers, mappings, &mut tables, stop, &mut frames);
            Walk {
                frames: as_sent(&frames),
                end,
            }
        });
        let twin: Vec<Walk> = twin.collect();
        let kernel_side = kernel_side(&self.image.bytes(&self.stops));
        assert_eq!(kernel_side.len(), twin.len());
        let both = kernel_side.into_iter().zip(twin);
        both.map(|(kernel_side, twin)| Answers { kernel_side, twin })
            .collect()
    }
}

/// What both walkers say of a stop.
#[derive(Debug)]
struct Answers {
    kernel_side: Walk,
    twin: Walk,
}

#[track_caller]
fn assert_all(answers: &[Answers], test: impl Fn(&Answers) -> bool) {
    let others: Vec<&Answers> = answers.iter().filter(|both| !test(both)).collect();
    let (first, all) = (&others[..others.len().min(5)], answers.len());
    assert!(
        others.is_empty(),
        "{} of {all} differ: {first:#x?}",
        others.len()
    );
}

/// What a signal interrupted is exact, and sent as its address plus one; the leaf as it is.
fn as_sent(frames: &[FrameAddr]) -> Vec<u64> {
    let sent = frames.iter().enumerate().map(|(depth, frame)| match frame {
        FrameAddr::Exact(addr) if depth > 0 => addr.0 + 1,
        FrameAddr::Exact(addr) | FrameAddr::Return(addr) => addr.0,
    });
    sent.collect()
}

/// What the kernel's side says to an image.
fn kernel_side(image: &[u8]) -> Vec<Walk> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = compile(&folder);
    let recorded = folder.path().join("recorded");
    std::fs::write(&recorded, image).expect("written");
    let output = Command::new(program)
        .stdin(File::open(&recorded).expect("just written"))
        .stderr(Stdio::piped())
        .output()
        .expect("it can be started");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", output.status);
    walks(&output.stdout)
}

fn compile(folder: &TempDir) -> PathBuf {
    let program = folder.path().join("kernel_side");
    let gcc = Command::new("gcc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"])
        .args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
        .arg("-I")
        .arg(repository().join("bpf"))
        .arg(repository().join("tests/it/twin_walkers/kernel_side.c"))
        .arg("-o")
        .arg(&program)
        .output()
        .expect("gcc runs");
    let words = String::from_utf8_lossy(&gcc.stderr);
    assert!(gcc.status.success(), "{words}");
    program
}

/// For each stop: end, whether bridged, number of frames, nothing, and the frames.
fn walks(mut bytes: &[u8]) -> Vec<Walk> {
    let mut walks = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<16>() {
        let number = |ix: usize| {
            let word = head[4 * ix..].first_chunk().expect("within the head");
            u32::from_ne_bytes(*word)
        };
        let (frames, rest) = rest.split_at(8 * number(2) as usize);
        let frames = frames.chunks_exact(8).map(|word| {
            let word = word.first_chunk().expect("8 bytes");
            u64::from_ne_bytes(*word)
        });
        walks.push(Walk {
            frames: frames.collect(),
            end: end(number(0), number(1) != 0),
        });
        bytes = rest;
    }
    walks
}

fn end(code: u32, bridged: bool) -> StackEnd {
    match code {
        0 if bridged => StackEnd::Truncated(Why::Bridged),
        0 => StackEnd::Root,
        _ => {
            let why = Why::ALL.into_iter().find(|why| *why as u32 == code);
            StackEnd::Truncated(why.expect("a known reason"))
        }
    }
}

#[test]
fn walks_of_hard_stacks_are_the_same_inside_the_kernel_and_in_its_twin() {
    if missing(&[Need::Program("gcc")]) {
        return;
    }
    let mut recording = Recording::default();
    for kind in ["large", "alloca", "aligned", "alternate", "bare"] {
        let workload = Workload::start("hard_stacks.c", &[kind]);
        recording.add(workload.pid(), STOPS);
    }
    for kind in ["longjmp", "coroutines", "assembly", "clock", "linker"] {
        let workload = Workload::start("detours.c", &[kind]);
        recording.add(workload.pid(), STOPS);
    }
    for (source, args) in [
        ("deep_recursion.c", &["300"][..]),
        ("deep_recursion.c", &["700"]),
        ("exceptions.cpp", &["0"]),
        ("split_70_30.cpp", &["2"]),
    ] {
        let workload = Workload::start(source, args);
        recording.add(workload.pid(), STOPS);
    }
    recording.assert_same();
}

/// A program of the machine, stopped when it has used some CPU time.
fn check_installed(words: &[&str]) {
    if missing(&[Need::Program("gcc"), Need::Program("sh")]) {
        return;
    }
    let mut said = vec!["-c", "echo ready; exec \"$@\" 2>/dev/null", "sh"];
    said.extend(words);
    let workload = Workload::start_program(Path::new("sh"), &said);
    crate::support::proc::wait_for_cpu(workload.pid(), 200_000_000);
    let mut recording = Recording::default();
    recording.add(workload.pid(), 300);
    recording.assert_same();
}

#[test]
fn walks_of_python_are_the_same_inside_the_kernel_and_in_its_twin() {
    if missing(&[Need::Program("python3")]) {
        return;
    }
    let program = "import json\nwhile True: json.loads(json.dumps(dict(a=sorted(range(999)))))";
    check_installed(&["python3", "-c", program]);
}

#[test]
fn walks_of_openssl_are_the_same_inside_the_kernel_and_in_its_twin() {
    if missing(&[Need::Program("openssl")]) {
        return;
    }
    check_installed(&["openssl", "speed", "-seconds", "60", "rsa2048", "sha512"]);
}
