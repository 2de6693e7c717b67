//! Addresses to names: functions, inlined functions, files and lines.
//!
//! In: the raw frames of a recording and the binaries they point into, whose files were opened at first sight. Out: a
//! [`Frame`] each, in the profile being built. Every distinct (binary, address) is looked up once. What has no name
//! keeps its address and gets a reason; a wrong name is worse than none.
#![forbid(unsafe_code)]

mod aside;
mod cache;
mod cost;
mod debug_files;
pub mod debuginfod;
mod demangle;
pub mod go;
mod jit;
mod kernel;
mod kernel_image;
mod known_roots;
mod namer;
mod naming;
pub mod options;
mod pace;
mod progress;
pub mod repair;
mod wire;
pub mod worker;
mod worker_process;

use std::cell::LazyCell;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::profile::{
    ElfAddr, FileOffset, Frame, FrameIx, FrameKind, Function, Line, Mapping, MappingIx,
    ProfileBuilder, Unresolved,
};
use crate::recorder::{Code, RawFrame, Tally};
use crate::target::binary::Binary;
use crate::target::jit::CodeNames;

use namer::Namer;
use options::SymbolOptions;

pub use aside::Aside;
pub use cost::Cost;
pub use kernel::KernelNames;
pub use progress::Progress;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What naming brought besides names.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// What a person should know of it, in whole sentences.
    pub notes: Vec<String>,
    pub cost: Cost,
}

/// What raw frames point into.
#[derive(Debug)]
pub struct Places<'a> {
    pub binaries: &'a [Arc<Binary>],
    pub generated: &'a CodeNames,
    pub kernel: KernelNames,
}

/// Names every frame of a tally and moves its ticks into `builder`. `aside` may know many of them already.
pub fn name_into(
    builder: &mut ProfileBuilder,
    tally: Tally,
    places: &Places,
    aside: Aside,
    options: &SymbolOptions,
) -> Naming {
    let mut namer = aside.finish(options);
    pour(builder, tally, places, &mut namer);
    namer.finish()
}

/// Some hundred bytes each.
const MAX_KEPT_NAMES: usize = 30_000;

/// Names that are kept from one window of a recording to the next.
#[derive(Debug)]
pub struct KeptNames(Namer);

impl KeptNames {
    pub fn new(options: &SymbolOptions) -> KeptNames {
        let workers = naming::Workers::new(options, Progress::default());
        KeptNames(Namer::new(workers))
    }

    /// Names every frame of a tally and moves its ticks into `builder`.
    pub fn name_into(&mut self, builder: &mut ProfileBuilder, tally: Tally, places: &Places) {
        self.0.forget_generated_code();
        self.0.get_kernel_list(tally.frames());
        pour(builder, tally, places, &mut self.0);
    }

    /// Whether so many addresses are known that it is better to begin anew.
    pub fn are_many(&self) -> bool {
        self.0.len() > MAX_KEPT_NAMES
    }

    /// CPU time and memory of the workers so far.
    pub fn cost(&mut self) -> Cost {
        self.0.workers().cost()
    }

    /// The workers that run now.
    pub fn worker_pids(&mut self) -> Vec<u32> {
        self.0.workers().pids().collect()
    }

    /// Gives back the workers' memory; what they found stays known.
    pub fn rest(&mut self) {
        self.0.workers().rest();
    }

    /// What naming brought besides names.
    pub fn finish(self) -> Naming {
        self.0.finish()
    }
}

fn pour(builder: &mut ProfileBuilder, tally: Tally, places: &Places, namer: &mut Namer) {
    namer.name(tally.frames(), places);
    let kernel: LazyCell<Mapping> = LazyCell::new(kernel_image::mapping);
    let named: Vec<FrameIx> = tally
        .frames()
        .iter()
        .map(|frame| {
            let mapping = mapping_of(frame, &kernel, places, builder);
            add_frame(frame, mapping, namer.found(frame), places.binaries, builder)
        })
        .collect();
    tally.pour_into(builder, &named, known_roots::settle);
}

/// The part of the file the frame's code was loaded from, as the file itself numbers it.
fn mapping_of(
    frame: &RawFrame,
    kernel: &LazyCell<Mapping>,
    places: &Places,
    builder: &mut ProfileBuilder,
) -> Option<MappingIx> {
    let mapping = match frame.code {
        Code::Unmapped => return None,
        Code::Kernel => Mapping::clone(kernel),
        Code::Jit(place) => jit::mapping(places.generated, place, frame.addr),
        Code::Binary(ix) => {
            let binary = &places.binaries[ix as usize];
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
            let lines = functions.iter().map(|f| add_found(f, builder)).collect();
            (lines, None)
        }
        Found::Nothing(reason) => {
            let name = address_name(raw, binaries);
            let function = FoundFunction::bare(name);
            (vec![add_found(&function, builder)], Some(*reason))
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

fn add_found(found: &FoundFunction, builder: &mut ProfileBuilder) -> Line {
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
