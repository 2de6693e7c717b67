//! Call frame information of a file, `.eh_frame` and `.debug_frame`, as addresses and rules in ascending order.
//!
//! In: sections that `target` has read, and where code is. Out: calls of [`RowSink::set`]. First the extents of all
//! functions are listed and sorted, since sections are in any order and there may be several; then each program runs
//! once, straight into the sink. Nothing here trusts the file: every loop is bounded by the bytes there are, and each
//! common part runs once, however many functions share it.
//!
//! Where extents overlap, the one that begins last holds to its end, as in the sorted table of `.eh_frame_hdr`, which is
//! what C++ exceptions are unwound by. What `.debug_frame` says counts only where `.eh_frame` says nothing.

mod express;
mod go;
mod program;
pub(super) mod stubs;

use std::collections::HashMap;

use gimli::{
    BaseAddresses, CommonInformationEntry, DebugFrame, EhFrame, EndianSlice, FrameDescriptionEntry,
    LittleEndian, UnwindOffset, UnwindSection,
};

use crate::profile::ElfAddr;
use crate::target::binary::{Binary, Section, Segment, UnwindSections};

use super::row::Rule;
use express::rule_of;
use program::{Columns, Factors, Program};

pub use express::{Gap, Gaps};

/// More functions than this are not listed: Chromium has about a million.
const MAX_FUNCTIONS: usize = 4 << 20;

/// Common entries of a section; some linkers keep one for each compilation unit.
const MAX_COMMON: usize = 1 << 18;

/// A common entry is about 20 bytes long. Those of a hostile file could overlap, and each be as long as the file.
const MAX_COMMON_BYTES: u32 = 4096;

/// The source of a section of known layout, whose offset is its position among them.
const STUBS: u32 = u32::MAX;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// What rows are poured into.
pub(super) trait RowSink {
    /// From `addr` on this rule holds. Addresses never descend; a second rule for the same address replaces the first.
    /// `false` when there is no more room.
    fn set(&mut self, addr: u64, rule: Rule) -> bool;
}

/// The extent of a function's rules and where its program is.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u64,
    end: u64,
    /// Position among the sources.
    source: u32,
    offset: usize,
}

/// Pours the rows of a file into `sink`, and counts functions and what could not be said.
pub(super) fn compile(binary: &Binary, sink: &mut impl RowSink) -> (usize, Gaps) {
    let unwind = &binary.unwind;
    let text = unwind.text.map_or(0, |(start, _)| start);
    let mut gaps = Gaps::default();
    let mut eh_frames: Vec<_> = unwind
        .eh_frame
        .iter()
        .map(|section| {
            let frame = EhFrame::new(&section.bytes, LittleEndian);
            Source::new(frame, section, text, unwind.eh_frame_hdr.as_ref())
        })
        .collect();
    let mut debug_frames: Vec<_> = unwind
        .debug_frame
        .iter()
        .map(|section| {
            let mut frame = DebugFrame::new(&section.bytes, LittleEndian);
            frame.set_address_size(8);
            Source::new(frame, section, text, None)
        })
        .collect();
    let mut extents = Vec::new();
    for (ix, source) in eh_frames.iter_mut().enumerate() {
        source.list(ix as u32, &binary.segments, &mut extents, &mut gaps);
    }
    sort(&mut extents);
    let of_eh_frames = extents.len();
    for (ix, source) in debug_frames.iter_mut().enumerate() {
        let ix = (eh_frames.len() + ix) as u32;
        source.list(ix, &binary.segments, &mut extents, &mut gaps);
    }
    keep_uncovered(&mut extents, of_eh_frames);
    sort(&mut extents);
    let functions = extents.len();
    extents.extend(stubs_of(unwind, &binary.segments));
    keep_uncovered(&mut extents, functions);
    sort(&mut extents);
    let switchers = binary.stack_switchers();
    let mut program = Program::new(Factors::default(), Columns::default());
    for (ix, extent) in extents.iter().enumerate() {
        let next = extents.get(ix + 1).map_or(u64::MAX, |next| next.start);
        let end = extent.end.min(next);
        let source = extent.source as usize;
        let switch = switchers.get(&ElfAddr(extent.start)).copied();
        let mut rows = |addr, rule| match switch {
            None => sink.set(addr, rule),
            Some(switch) => go::rows(switch, addr, rule)
                .into_iter()
                .filter(|(from, _)| *from < end)
                .all(|(from, rule)| sink.set(from, rule)),
        };
        let has_room = match source.checked_sub(eh_frames.len()) {
            _ if extent.source == STUBS => stubs::rows(&unwind.stubs[extent.offset])
                .into_iter()
                .take_while(|(addr, _)| *addr < end)
                .all(|(addr, rule)| rows(addr, rule)),
            None => eh_frames[source].run(extent, end, &mut program, &mut rows, &mut gaps),
            Some(ix) => debug_frames[ix].run(extent, end, &mut program, &mut rows, &mut gaps),
        };
        if !has_room || (end < next && !sink.set(end, Rule::NONE)) {
            gaps.add(Gap::ManyRows, 1);
            break;
        }
    }
    (functions, gaps)
}

/// The extents of procedure linkage tables.
fn stubs_of(unwind: &UnwindSections, segments: &[Segment]) -> impl Iterator<Item = Extent> {
    unwind.stubs.iter().enumerate().filter_map(|(ix, section)| {
        let start = section.vaddr;
        let end = start.checked_add(section.bytes.len() as u64)?;
        let is_code = segments.iter().any(|segment| holds(segment, start, end));
        is_code.then_some(Extent {
            start,
            end,
            source: STUBS,
            offset: ix,
        })
    })
}

/// In order of addresses; of those that begin together the first listed stays.
fn sort(extents: &mut Vec<Extent>) {
    extents.sort_by_key(|extent| (extent.start, extent.source, extent.offset));
    extents.dedup_by_key(|extent| extent.start);
}

/// Removes extents from `sorted` on that begin within one before.
fn keep_uncovered(extents: &mut Vec<Extent>, sorted: usize) {
    let mut others = extents.split_off(sorted);
    let covers = |addr: u64| {
        let after = extents.partition_point(|extent| extent.start <= addr);
        after > 0 && extents[after - 1].end > addr
    };
    others.retain(|extent| !covers(extent.start));
    extents.extend(others);
}

/// A section with call frame information, and its common parts as far as they were needed.
struct Source<'a, S: UnwindSection<Slice<'a>>> {
    section: S,
    bytes: &'a [u8],
    bases: BaseAddresses,
    common: HashMap<S::Offset, Option<Common<'a>>>,
}

/// A common information entry, and what its program says.
#[derive(Clone, Debug)]
struct Common<'a> {
    entry: CommonInformationEntry<Slice<'a>>,
    factors: Factors,
    initial: Columns,
}

impl<'a, S> Source<'a, S>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: std::hash::Hash,
{
    fn new(section: S, of: &'a Section, text: u64, header: Option<&Section>) -> Self {
        let mut bases = BaseAddresses::default()
            .set_eh_frame(of.vaddr)
            .set_text(text);
        if let Some(header) = header {
            bases = bases.set_eh_frame_hdr(header.vaddr);
        }
        Source {
            section,
            bytes: &of.bytes,
            bases,
            common: HashMap::new(),
        }
    }

    /// Lists the functions, past terminators too: some tools join sections that each have one.
    fn list(
        &mut self,
        source: u32,
        segments: &[Segment],
        extents: &mut Vec<Extent>,
        gaps: &mut Gaps,
    ) {
        for offset in Entries::new(self.bytes) {
            let is_common = self.is_common(offset);
            if is_common {
                continue;
            }
            if extents.len() >= MAX_FUNCTIONS {
                gaps.add(Gap::ManyRows, 1);
                return;
            }
            let Some((entry, _)) = self.function(offset) else {
                gaps.add(Gap::Malformed, 1);
                continue;
            };
            let (start, end) = (entry.initial_address(), entry.end_address());
            if start >= end {
                continue;
            }
            if !segments.iter().any(|segment| holds(segment, start, end)) {
                gaps.add(Gap::OutsideCode, 1);
                continue;
            }
            extents.push(Extent {
                start,
                end,
                source,
                offset,
            });
        }
    }

    /// `.eh_frame` marks a common entry by 0, `.debug_frame` by all ones, each as wide as the length.
    fn is_common(&self, offset: usize) -> bool {
        let word = |at: usize| self.bytes.get(at..)?.first_chunk().copied();
        let long = word(offset).map(u32::from_le_bytes) == Some(u32::MAX);
        let id = word(offset + if long { 12 } else { 4 }).map(u32::from_le_bytes);
        id == Some(if S::has_zero_terminator() {
            0
        } else {
            u32::MAX
        })
    }

    /// The function's entry, and what it shares with others.
    fn function(
        &mut self,
        offset: usize,
    ) -> Option<(FrameDescriptionEntry<Slice<'a>>, Common<'a>)> {
        let (bytes, common, mut used) = (self.bytes, &mut self.common, None);
        let entry = self
            .section
            .fde_from_offset(&self.bases, offset.into(), |section, bases, at| {
                let is_one_more = common.len() < MAX_COMMON || common.contains_key(&at);
                if !is_one_more || length_of(bytes, UnwindOffset::into(at)) > MAX_COMMON_BYTES {
                    return Err(gimli::Error::NotCieId(0));
                }
                let common = common
                    .entry(at)
                    .or_insert_with(|| Common::read(section, bases, at));
                let common = common.clone().ok_or(gimli::Error::NotCieId(0))?;
                let entry = common.entry.clone();
                used = Some(common);
                Ok(entry)
            })
            .ok()?;
        used.map(|common| (entry, common))
    }

    /// Runs a function's program up to `end`; `false` when the sink is full.
    fn run(
        &mut self,
        extent: &Extent,
        end: u64,
        program: &mut Program,
        rows: &mut impl FnMut(u64, Rule) -> bool,
        gaps: &mut Gaps,
    ) -> bool {
        let Some((entry, common)) = self.function(extent.offset) else {
            gaps.add(Gap::Malformed, 1);
            return rows(extent.start, Rule::NONE);
        };
        program.restart(common.factors, common.initial);
        let mut instructions = entry.instructions(&self.section, &self.bases);
        let mut at = extent.start;
        loop {
            let next = match instructions.next() {
                Ok(Some(instruction)) => match program.apply(instruction, at) {
                    Ok(None) => continue,
                    Ok(Some(next)) => next,
                    Err(_) => break,
                },
                Ok(None) => end,
                Err(_) => break,
            };
            if next > at && !rows(at, rule_of(&program.columns, self.bytes, gaps)) {
                return false;
            }
            if next >= end {
                return true;
            }
            at = next;
        }
        gaps.add(Gap::Malformed, 1);
        rows(at, Rule::NONE)
    }
}

impl<'a> Common<'a> {
    fn read<S: UnwindSection<Slice<'a>>>(
        section: &S,
        bases: &BaseAddresses,
        at: S::Offset,
    ) -> Option<Common<'a>> {
        let entry = section.cie_from_offset(bases, at).ok()?;
        let factors = Factors {
            code: entry.code_alignment_factor(),
            data: entry.data_alignment_factor(),
            return_address: entry.return_address_register(),
        };
        let mut program = Program::new(factors, Columns::default());
        let mut instructions = entry.instructions(section, bases);
        while let Some(instruction) = instructions.next().ok()? {
            // A common part is about no address, so that it cannot move on.
            if program.apply(instruction, 0).ok()?.is_some() {
                return None;
            }
        }
        Some(Common {
            initial: program.columns,
            entry,
            factors,
        })
    }
}

/// Offsets of the entries of a section.
struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    fn new(bytes: &'a [u8]) -> Entries<'a> {
        Entries { bytes, at: 0 }
    }
}

impl Iterator for Entries<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            let at = self.at;
            let rest = self.bytes.get(at..)?;
            let short = u32::from_le_bytes(*rest.first_chunk()?);
            let (header, length) = match short {
                u32::MAX => (12, u64::from_le_bytes(*rest.get(4..)?.first_chunk()?)),
                _ => (4, u64::from(short)),
            };
            self.at = at
                .checked_add(header)?
                .checked_add(usize::try_from(length).ok()?)?;
            if length > 0 {
                return (self.at <= self.bytes.len()).then_some(at);
            }
        }
    }
}

/// What the entry at `offset` says of its length; the most there can be where it is the long form, or cut.
fn length_of(bytes: &[u8], offset: usize) -> u32 {
    let word = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    word.map_or(u32::MAX, |word| u32::from_le_bytes(*word))
}

fn holds(segment: &Segment, start: u64, end: u64) -> bool {
    let segment_end = segment.vaddr.saturating_add(segment.memory_bytes);
    segment.executable && segment.vaddr <= start && end <= segment_end
}
