//! Addresses to names: functions, inlined functions, files and lines.
//!
//! In: the raw frames of a recording and the binaries they point into, whose files were opened at first sight. Out: a
//! [`Frame`] each, in the profile being built. Every distinct (binary, address) is looked up once. What has no name
//! keeps its address and gets a reason; a wrong name is worse than none.
#![forbid(unsafe_code)]

mod debug_files;
pub mod debuginfod;
mod demangle;
mod jit;
mod kernel;
mod known_roots;
mod naming;
pub mod options;
mod wire;
pub mod worker;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::profile::{
    ElfAddr, FileOffset, Frame, FrameIx, FrameKind, Function, Line, Mapping, MappingIx,
    MappingKind, ProfileBuilder, Unresolved,
};
use crate::recorder::{Code, RawFrame, Tally};
use crate::target::binary::{Binary, Problem};
use crate::target::jit::GeneratedCode;

use naming::{Job, Workers};
use options::SymbolOptions;

pub use kernel::KernelNames;

/// The hidden command that makes this program a worker.
pub const WORKER_COMMAND: &str = "symbol-worker";

/// What was found at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Innermost function first. Never empty.
    Functions(Vec<FoundFunction>),
    Nothing(Unresolved),
}

/// A function at an address, perhaps inlined there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    pub name: String,
    /// As the symbol table has it.
    pub linkage_name: String,
    /// Empty where unknown.
    pub file: String,
    /// 0 where unknown.
    pub line: u32,
}

impl FoundFunction {
    /// Known by a name only.
    fn bare(name: String) -> FoundFunction {
        FoundFunction {
            linkage_name: name.clone(),
            name,
            file: String::new(),
            line: 0,
        }
    }
}

/// Names every frame of a tally and moves its ticks into `builder`. Answers what a person should know of it.
pub fn name_into(
    builder: &mut ProfileBuilder,
    tally: Tally,
    places: &Places,
    options: &SymbolOptions,
) -> Vec<String> {
    let mut namer = Namer::new(options);
    namer.name(tally.frames(), places);
    let named: Vec<FrameIx> = tally
        .frames()
        .iter()
        .map(|frame| {
            let mapping = mapping_of(frame, places.binaries, places.generated, builder);
            add_frame(frame, mapping, namer.found(frame), places.binaries, builder)
        })
        .collect();
    tally.pour_into(builder, &named, known_roots::settle);
    namer.into_notes()
}

/// What raw frames point into.
#[derive(Debug)]
pub struct Places<'a> {
    pub binaries: &'a [Arc<Binary>],
    pub generated: &'a GeneratedCode,
    pub kernel: KernelNames,
}

/// Looks up every distinct address once.
#[derive(Debug)]
struct Namer {
    workers: Workers,
    found: HashMap<RawFrame, Found, RandomState>,
}

impl Namer {
    fn new(options: &SymbolOptions) -> Namer {
        Namer {
            workers: Workers::new(options),
            found: HashMap::default(),
        }
    }

    /// Names those of `frames` that are new.
    fn name(&mut self, frames: &[RawFrame], places: &Places) {
        let mut by_code: HashMap<Code, Vec<ElfAddr>> = HashMap::new();
        for frame in frames
            .iter()
            .filter(|frame| !self.found.contains_key(frame))
        {
            by_code.entry(frame.code).or_default().push(frame.addr);
        }
        let mut jobs = Vec::new();
        for (code, addrs) in by_code {
            match code {
                Code::Kernel => {
                    let found = places.kernel.look_up(&addrs);
                    self.keep(code, addrs, found);
                }
                Code::Unmapped => self.keep_nothing(code, addrs, Unresolved::NoMapping),
                Code::Jit(place) => {
                    let found = jit::look_up(places.generated, place, &addrs);
                    self.keep(code, addrs, found);
                }
                Code::Binary(ix) => {
                    let binary = &places.binaries[ix as usize];
                    match why_not(binary) {
                        Some(reason) => self.keep_nothing(code, addrs, reason),
                        None => jobs.push(Job { binary, addrs }),
                    }
                }
            }
        }
        for done in self.workers.name(jobs) {
            self.keep(Code::Binary(done.binary), done.addrs, done.found);
        }
    }

    fn keep(&mut self, code: Code, addrs: Vec<ElfAddr>, found: Vec<Found>) {
        let frames = addrs.into_iter().map(|addr| RawFrame { code, addr });
        self.found.extend(frames.zip(found));
    }

    fn keep_nothing(&mut self, code: Code, addrs: Vec<ElfAddr>, reason: Unresolved) {
        let found = vec![Found::Nothing(reason); addrs.len()];
        self.keep(code, addrs, found);
    }

    fn found(&self, frame: &RawFrame) -> &Found {
        const UNKNOWN: &Found = &Found::Nothing(Unresolved::NoSymbol);
        self.found.get(frame).unwrap_or(UNKNOWN)
    }

    fn into_notes(self) -> Vec<String> {
        self.workers.notes
    }
}

/// Why nothing can be looked up in a binary.
fn why_not(binary: &Binary) -> Option<Unresolved> {
    match (&binary.file, &binary.problem, binary.kind) {
        (Some(_), _, _) => None,
        (None, Some(Problem::Malformed(_)), _) => Some(Unresolved::BadFile),
        (None, None, MappingKind::Anonymous) => Some(Unresolved::Jit),
        (None, _, _) => Some(Unresolved::FileGone),
    }
}

/// The part of the file the frame's code was loaded from, as the file itself numbers it.
fn mapping_of(
    frame: &RawFrame,
    binaries: &[Arc<Binary>],
    generated: &GeneratedCode,
    builder: &mut ProfileBuilder,
) -> Option<MappingIx> {
    let mapping = match frame.code {
        Code::Unmapped => return None,
        Code::Kernel => Mapping {
            kind: MappingKind::Kernel,
            path: "[kernel]".into(),
            build_id: None,
            start: ElfAddr(0),
            end: ElfAddr(u64::MAX),
            file_offset: FileOffset(0),
        },
        Code::Jit(place) => jit::mapping(generated, place, frame.addr),
        Code::Binary(ix) => {
            let binary = &binaries[ix as usize];
            let segment = binary.segment_of(frame.addr);
            Mapping {
                kind: binary.kind,
                path: binary.path.clone(),
                build_id: binary.build_id,
                start: ElfAddr(segment.map_or(0, |s| s.vaddr)),
                end: ElfAddr(segment.map_or(u64::MAX, |s| s.vaddr.saturating_add(s.memory_bytes))),
                file_offset: FileOffset(segment.map_or(0, |s| s.file_offset)),
            }
        }
    };
    Some(builder.mapping(mapping))
}

fn add_frame(
    raw: &RawFrame,
    mapping: Option<MappingIx>,
    found: &Found,
    binaries: &[Arc<Binary>],
    builder: &mut ProfileBuilder,
) -> FrameIx {
    let kind = if raw.code == Code::Kernel {
        FrameKind::Kernel
    } else {
        FrameKind::User
    };
    let (lines, unresolved) = match found {
        Found::Functions(functions) => {
            let lines = functions.iter().map(|f| add_line(f, builder)).collect();
            (lines, None)
        }
        Found::Nothing(reason) => {
            let name = address_name(raw, binaries);
            let function = FoundFunction::bare(name);
            (vec![add_line(&function, builder)], Some(*reason))
        }
    };
    builder.frame(Frame {
        kind,
        mapping,
        addr: raw.addr,
        lines,
        unresolved,
    })
}

fn add_line(found: &FoundFunction, builder: &mut ProfileBuilder) -> Line {
    let function = builder.function(Function {
        name: found.name.clone(),
        linkage_name: match found.linkage_name == found.name {
            true => String::new(),
            false => found.linkage_name.clone(),
        },
        file: found.file.clone(),
    });
    Line {
        function,
        line: found.line,
    }
}

/// A name for what has none: `libfoo.so+0x1234`.
fn address_name(raw: &RawFrame, binaries: &[Arc<Binary>]) -> String {
    let addr = raw.addr.0;
    match raw.code {
        Code::Kernel => format!("[kernel]+{addr:#x}"),
        Code::Unmapped => format!("[unmapped]+{addr:#x}"),
        Code::Jit(_) => format!("[anon]+{addr:#x}"),
        Code::Binary(ix) => {
            let path = &binaries[ix as usize].path;
            let file_name = path.rsplit('/').next().unwrap_or(path);
            format!("{file_name}+{addr:#x}")
        }
    }
}
