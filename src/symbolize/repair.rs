//! Names for a profile that was recorded earlier, perhaps elsewhere.
//!
//! In: a profile whose frames keep the build ID of their file and the address in it. Out: the same profile with names and
//! lines for those frames that lacked them, from debug information of the very same builds.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::naming::{Job, Workers};
use super::options::SymbolOptions;
use super::{Found, Naming, Progress, add_found, known_roots};
use crate::profile::{
    ElfAddr, Frame, FrameIx, FunctionIx, Line, Mapping, MappingIx, MappingKind, Profile,
    ProfileBuilder, Sample, Unresolved,
};
use crate::target::binary::Binary;
use crate::target::root::Root;

/// What came of it.
#[derive(Debug)]
pub struct Repaired {
    pub profile: Profile,
    /// Frames that lacked a name or a line, and those of which more is known now.
    pub lacking: usize,
    pub mended: usize,
    pub naming: Naming,
}

/// Looks up again what lacks a name or a line.
pub fn repair(profile: Profile, options: &SymbolOptions, progress: &Progress) -> Repaired {
    let wanted = wanted(&profile);
    let lacking = profile.frames.iter().filter(|frame| lacks(&profile, frame));
    let lacking = lacking.count();
    let binaries: Vec<Arc<Binary>> = wanted
        .keys()
        .map(|ix| Arc::new(binary_of(*ix, profile.mapping(*ix))))
        .collect();
    let jobs = binaries.iter().zip(wanted.into_values());
    let jobs = jobs.map(|(binary, addrs)| Job { binary, addrs }).collect();
    let mut workers = Workers::new(options, progress.clone());
    let mut found: HashMap<(MappingIx, ElfAddr), Found> = HashMap::new();
    for done in workers.name(jobs) {
        let mapping = MappingIx(done.binary);
        let addrs = done.addrs.into_iter().map(|addr| (mapping, addr));
        found.extend(addrs.zip(done.found));
    }
    let (profile, mended) = renamed(profile, &found);
    Repaired {
        profile,
        lacking,
        mended,
        naming: workers.finish(),
    }
}

/// All addresses in files whose build is known: that inlined functions are missing does not show.
fn wanted(profile: &Profile) -> BTreeMap<MappingIx, Vec<ElfAddr>> {
    let mut wanted: BTreeMap<MappingIx, Vec<ElfAddr>> = BTreeMap::new();
    for frame in &profile.frames {
        let Some(ix) = frame.mapping else { continue };
        let mapping = profile.mapping(ix);
        let known = mapping.kind == MappingKind::File && mapping.build_id.is_some();
        // Without the file, not even the address in it was known.
        let without_file = [Unresolved::FileGone, Unresolved::FileRefused].map(Some);
        if known && !without_file.contains(&frame.unresolved) {
            wanted.entry(ix).or_default().push(frame.addr);
        }
    }
    wanted
}

/// Whether a frame has no name, or no line.
fn lacks(profile: &Profile, frame: &Frame) -> bool {
    let has_line = |line: &Line| line.line > 0 && !profile.function(line.function).file.is_empty();
    frame.unresolved.is_some() || !frame.lines.iter().any(has_line)
}

/// The build of a mapping: the file at its path here, if it is the same one.
fn binary_of(ix: MappingIx, mapping: &Mapping) -> Binary {
    let root = Root::of(std::process::id()).ok().map(Arc::new);
    let path = mapping.path.clone();
    let open = |root: &Arc<Root>| -> Option<File> { root.open(Path::new(&mapping.path)).ok() };
    let file = root.as_ref().and_then(open);
    let mut binary = match file {
        Some(file) => Binary::read(ix.0, MappingKind::File, path, file, mapping.build_id),
        None => Binary::unknown(ix.0, MappingKind::File, path, mapping.build_id, None),
    };
    binary.root = root;
    binary
}

/// The profile with new names, and how many frames have them.
fn renamed(profile: Profile, found: &HashMap<(MappingIx, ElfAddr), Found>) -> (Profile, usize) {
    let mut builder = ProfileBuilder::default();
    for mapping in &profile.mappings {
        builder.mapping(mapping.clone());
    }
    let mut mended = 0;
    let frames: Vec<FrameIx> = profile
        .frames
        .iter()
        .map(|frame| {
            let found = frame.mapping.and_then(|ix| found.get(&(ix, frame.addr)));
            match found {
                Some(Found::Functions(functions)) if is_better(&profile, frame, functions) => {
                    mended += 1;
                    let lines = functions
                        .iter()
                        .map(|f| add_found(f, &mut builder))
                        .collect();
                    builder.frame(Frame {
                        lines,
                        unresolved: None,
                        ..frame.clone()
                    })
                }
                _ => kept(&profile, frame, &mut builder),
            }
        })
        .collect();
    for sample in &profile.samples {
        let stack = profile.stacks.root_to_leaf(sample.stack);
        let mut stack: Vec<FrameIx> = stack.map(|ix| frames[ix.0 as usize]).collect();
        let end = known_roots::settle(&builder, sample.end, &mut stack);
        let thread = builder.thread(profile.thread(sample.thread).clone());
        let stack = builder.stack(stack);
        builder.sample(Sample {
            thread,
            stack,
            end,
            ..*sample
        });
    }
    (builder.build(profile.recording, profile.accounting), mended)
}

/// A name or lines where there were none, or functions inlined there that were not known.
fn is_better(profile: &Profile, frame: &Frame, functions: &[super::FoundFunction]) -> bool {
    let has_line = functions.iter().any(|function| function.line > 0);
    frame.unresolved.is_some()
        || (has_line && (lacks(profile, frame) || functions.len() > frame.lines.len()))
}

fn kept(profile: &Profile, frame: &Frame, builder: &mut ProfileBuilder) -> FrameIx {
    let lines = frame.lines.iter().map(|line| {
        let function: FunctionIx = builder.function(profile.function(line.function).clone());
        Line { function, ..*line }
    });
    let lines = lines.collect();
    builder.frame(Frame {
        lines,
        ..frame.clone()
    })
}
