//! Reading, step one and two: the file is split into messages, then mappings, functions and locations become the
//! profile's tables. Every index is looked up, every size has a limit; nothing is trusted.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::wire::{Fields, Value, offset_in, push_numbers};
use super::{
    DecodeError, REASON_MARK, UNMAPPED_KERNEL, UNRESOLVED_MARK, WOKEN_BY, comment, kind_by_path,
    proto,
};
use crate::profile::{
    BuildId, ElfAddr, FileOffset, Frame, FrameIx, FrameKind, Function, FunctionIx, Line, Mapping,
    MappingIx, MappingKind, ProfileBuilder, StackEnd, Unresolved,
};

/// Rows of one table, lines of all locations, and nodes of the stack tree. An hour of a busy node needs a tenth of it.
pub(super) const MAX_ROWS: usize = 16 << 20;
/// All names the profile will own together: one long text may be named by many rows.
const MAX_NAME_BYTES: usize = 256 << 20;
/// One sample, mapping, location or function: a stack of 65,536 frames has room.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The file's messages, not yet decoded, and its few plain numbers.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) whole: &'a [u8],
    pub(super) sample_types: Vec<proto::ValueType>,
    pub(super) samples: Vec<&'a [u8]>,
    mappings: Vec<&'a [u8]>,
    locations: Vec<&'a [u8]>,
    functions: Vec<&'a [u8]>,
    pub(super) strings: Vec<&'a [u8]>,
    pub(super) time_nanos: i64,
    pub(super) duration_nanos: i64,
    pub(super) period_type: Option<proto::ValueType>,
    pub(super) period: i64,
    comments: Vec<i64>,
    pub(super) default_sample_type: i64,
}

impl<'a> Parts<'a> {
    pub(super) fn split(whole: &'a [u8]) -> Result<Parts<'a>, DecodeError> {
        let mut parts = Parts {
            whole,
            ..Parts::default()
        };
        for field in Fields::of(whole) {
            let (number, value) = field?;
            parts.take(number, value)?;
        }
        match parts.sample_types.is_empty() {
            true => Err(DecodeError::Empty),
            false => Ok(parts),
        }
    }

    fn take(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match (number, value) {
            (1, Value::Bytes(bytes)) => {
                let row = self.row("sample type", self.sample_types.len(), bytes);
                self.sample_types.push(row.decode(bytes)?);
                limit("sample types", self.sample_types.len(), 64)?;
            }
            (2, Value::Bytes(bytes)) => push("samples", &mut self.samples, bytes)?,
            (3, Value::Bytes(bytes)) => push("mappings", &mut self.mappings, bytes)?,
            (4, Value::Bytes(bytes)) => push("locations", &mut self.locations, bytes)?,
            (5, Value::Bytes(bytes)) => push("functions", &mut self.functions, bytes)?,
            (6, Value::Bytes(bytes)) => push("strings", &mut self.strings, bytes)?,
            (9, Value::Varint(number)) => self.time_nanos = number as i64,
            (10, Value::Varint(number)) => self.duration_nanos = number as i64,
            (11, Value::Bytes(bytes)) => {
                let row = self.row("period type", 0, bytes);
                self.period_type = Some(row.decode(bytes)?);
            }
            (12, Value::Varint(number)) => self.period = number as i64,
            (13, value) => {
                let _ = push_numbers(&mut self.comments, value);
                limit("comments", self.comments.len(), MAX_ROWS)?;
            }
            (14, Value::Varint(number)) => self.default_sample_type = number as i64,
            _ => {} // A newer field; protobuf readers pass over what they do not know.
        }
        Ok(())
    }

    pub(super) fn row(&self, table: &'static str, row: usize, bytes: &[u8]) -> Row {
        Row {
            table,
            row,
            offset: offset_in(self.whole, bytes),
        }
    }

    /// A text by number; other tools' may hold invalid UTF-8.
    pub(super) fn text(&self, ix: i64) -> Option<Cow<'a, str>> {
        let bytes: &'a [u8] = self.strings.get(usize::try_from(ix).ok()?)?;
        Some(String::from_utf8_lossy(bytes))
    }

    /// What follows `key` in the comment that begins with it.
    pub(super) fn comment(&self, key: &str) -> Option<Cow<'a, str>> {
        let texts = self.comments.iter().filter_map(|ix| {
            let bytes = self.strings.get(usize::try_from(*ix).ok()?)?;
            bytes.strip_prefix(key.as_bytes())
        });
        texts.map(String::from_utf8_lossy).next()
    }

    /// The JSON behind `key`; `None` where there is no such comment.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        let Some(text) = self.comment(key) else {
            return Ok(None);
        };
        let value = serde_json::from_str(&text);
        value
            .map_err(|source| DecodeError::Comment { key, source })
            .map(Some)
    }
}

fn push<'a>(
    what: &'static str,
    table: &mut Vec<&'a [u8]>,
    bytes: &'a [u8],
) -> Result<(), DecodeError> {
    table.push(bytes);
    limit(what, table.len(), MAX_ROWS)
}

pub(super) fn limit(what: &'static str, len: usize, limit: usize) -> Result<(), DecodeError> {
    match len > limit {
        true => Err(DecodeError::TooMany { what, limit }),
        false => Ok(()),
    }
}

/// A message's place in the file, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    table: &'static str,
    row: usize,
    offset: usize,
}

impl Row {
    pub(super) fn decode<M: Message + Default>(self, bytes: &[u8]) -> Result<M, DecodeError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(self.value("larger than 1 MiB"));
        }
        let Row { table, row, offset } = self;
        M::decode(bytes).map_err(|source| DecodeError::Message {
            table,
            row,
            offset,
            source,
        })
    }

    pub(super) fn reference(self, what: &'static str, id: u64) -> DecodeError {
        let Row { table, row, offset } = self;
        DecodeError::Reference {
            table,
            row,
            offset,
            what,
            id,
        }
    }

    pub(super) fn value(self, problem: &'static str) -> DecodeError {
        let Row { table, row, offset } = self;
        DecodeError::Value {
            table,
            row,
            offset,
            problem,
        }
    }

    pub(super) fn text<'a>(self, parts: &Parts<'a>, ix: i64) -> Result<Cow<'a, str>, DecodeError> {
        parts
            .text(ix)
            .ok_or_else(|| self.reference("string", ix as u64))
    }
}

/// What a location ID stands for in a stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Frame(FrameIx),
    /// The reason frame of an incomplete stack, which is no frame of ours.
    Reason(StackEnd),
    /// What stands between a stack and the one that woke it.
    WokenBy,
}

#[derive(Clone, Copy, Debug)]
enum NamedFunction {
    Code {
        ix: FunctionIx,
        unresolved: Option<Unresolved>,
    },
    /// No code, but a mark of ours.
    Mark(Place),
}

#[derive(Clone, Copy, Debug)]
enum Segment {
    Known(MappingIx),
    UnmappedKernel,
}

/// The tables of a profile in the making, by the file's IDs.
#[derive(Debug)]
pub(super) struct Tables<'p, 'a> {
    parts: &'p Parts<'a>,
    pub(super) builder: ProfileBuilder,
    own: bool,
    /// The profile's mappings, for naming addresses.
    mappings: Vec<Mapping>,
    segments: HashMap<u64, Segment>,
    functions: HashMap<u64, NamedFunction>,
    pub(super) places: HashMap<u64, Place>,
    lines: usize,
    name_bytes: usize,
}

impl<'p, 'a> Tables<'p, 'a> {
    /// `own`: the file is perfprof's, so its conventions hold instead of guesses.
    pub(super) fn read(parts: &'p Parts<'a>, own: bool) -> Result<Tables<'p, 'a>, DecodeError> {
        let mut tables = Tables {
            parts,
            builder: ProfileBuilder::default(),
            own,
            mappings: Vec::new(),
            segments: HashMap::new(),
            functions: HashMap::new(),
            places: HashMap::new(),
            lines: 0,
            name_bytes: 0,
        };
        let kinds = parts.json(comment::MAPPING_KINDS)?.unwrap_or_default();
        for (i, bytes) in parts.mappings.iter().enumerate() {
            tables.mapping(parts.row("mapping", i, bytes), bytes, &kinds)?;
        }
        for (i, bytes) in parts.functions.iter().enumerate() {
            tables.function(parts.row("function", i, bytes), bytes)?;
        }
        for (i, bytes) in parts.locations.iter().enumerate() {
            tables.location(parts.row("location", i, bytes), bytes)?;
        }
        Ok(tables)
    }

    /// The file of the first mapping, by pprof's convention the main program.
    pub(super) fn main_program(&self) -> Option<&str> {
        let name = self.mappings.first()?.short_name();
        Some(name).filter(|name| !name.is_empty())
    }

    /// An owned text, counted against the limit for all of them.
    pub(super) fn own_text(&mut self, row: Row, ix: i64) -> Result<String, DecodeError> {
        let text = row.text(self.parts, ix)?;
        self.name_bytes += text.len();
        limit("bytes of names", self.name_bytes, MAX_NAME_BYTES)?;
        Ok(text.into_owned())
    }

    fn mapping(
        &mut self,
        row: Row,
        bytes: &[u8],
        kinds: &BTreeMap<String, String>,
    ) -> Result<(), DecodeError> {
        let message: proto::Mapping = row.decode(bytes)?;
        let path = self.own_text(row, message.filename)?;
        let segment = if path == UNMAPPED_KERNEL {
            Segment::UnmappedKernel
        } else {
            let kind = kinds.get(&path).and_then(|id| kind_from_id(id));
            let mapping = Mapping {
                kind: kind.unwrap_or_else(|| kind_by_path(&path)),
                path,
                build_id: BuildId::from_hex(&row.text(self.parts, message.build_id)?),
                start: ElfAddr(message.memory_start),
                end: ElfAddr(message.memory_limit),
                file_offset: FileOffset(message.file_offset),
            };
            let ix = self.builder.mapping(mapping.clone());
            if ix.0 as usize == self.mappings.len() {
                self.mappings.push(mapping);
            }
            Segment::Known(ix)
        };
        insert_new(&mut self.segments, row, message.id, segment)
    }

    fn function(&mut self, row: Row, bytes: &[u8]) -> Result<(), DecodeError> {
        let message: proto::Function = row.decode(bytes)?;
        let mut name = self.own_text(row, message.name)?;
        let mut linkage_name = self.own_text(row, message.system_name)?;
        let mark = match name.as_str() {
            WOKEN_BY => Some(Place::WokenBy),
            name => StackEnd::from_reason_frame(name).map(Place::Reason),
        };
        if let (Some(mark), true) = (mark, linkage_name == REASON_MARK) {
            let function = NamedFunction::Mark(mark);
            return insert_new(&mut self.functions, row, message.id, function);
        }
        let unresolved = unresolved_from_mark(&linkage_name);
        if unresolved.is_some() {
            linkage_name.clear();
        }
        if !self.own && name.is_empty() {
            name.clone_from(&linkage_name);
        }
        if !self.own && name == linkage_name {
            linkage_name.clear();
        }
        let file = self.own_text(row, message.filename)?;
        let ix = self.builder.function(Function {
            name,
            linkage_name,
            file,
        });
        let function = NamedFunction::Code { ix, unresolved };
        insert_new(&mut self.functions, row, message.id, function)
    }

    fn location(&mut self, row: Row, bytes: &[u8]) -> Result<(), DecodeError> {
        let message: proto::Location = row.decode(bytes)?;
        let mut lines = Vec::with_capacity(message.line.len());
        let mut unresolved = None;
        for line in &message.line {
            match self.functions.get(&line.function_id) {
                None => return Err(row.reference("function", line.function_id)),
                Some(NamedFunction::Mark(mark)) if message.line.len() == 1 => {
                    return insert_new(&mut self.places, row, message.id, *mark);
                }
                Some(NamedFunction::Mark(_)) => {
                    return Err(row.value("a reason frame among other functions"));
                }
                Some(NamedFunction::Code {
                    ix,
                    unresolved: mark,
                }) => {
                    unresolved = unresolved.or(*mark);
                    lines.push(Line {
                        function: *ix,
                        line: u32::try_from(line.line).unwrap_or(0),
                    });
                }
            }
        }
        self.lines += lines.len();
        limit("lines", self.lines, MAX_ROWS)?;
        let (mapping, kind) = self.segment(row, &message)?;
        if lines.is_empty() {
            let (line, reason) = self.address_line(mapping, message.address);
            lines.push(line);
            unresolved = Some(reason);
        }
        let frame = self.builder.frame(Frame {
            kind,
            mapping,
            addr: ElfAddr(message.address),
            lines,
            unresolved,
        });
        insert_new(&mut self.places, row, message.id, Place::Frame(frame))
    }

    fn segment(
        &self,
        row: Row,
        message: &proto::Location,
    ) -> Result<(Option<MappingIx>, FrameKind), DecodeError> {
        let mapping = match (message.mapping_id, self.segments.get(&message.mapping_id)) {
            // The upper half of the address space is the kernel's; our own files say so by the mapping.
            (0, _) if !self.own && message.address >> 63 == 1 => {
                return Ok((None, FrameKind::Kernel));
            }
            (0, _) => return Ok((None, FrameKind::User)),
            (id, None) => return Err(row.reference("mapping", id)),
            (_, Some(Segment::UnmappedKernel)) => return Ok((None, FrameKind::Kernel)),
            (_, Some(Segment::Known(ix))) => *ix,
        };
        let kind = match self.mappings[mapping.0 as usize].kind {
            MappingKind::Kernel => FrameKind::Kernel,
            _ => FrameKind::User,
        };
        Ok((Some(mapping), kind))
    }

    /// The one line of a frame without functions: its address as a name.
    fn address_line(&mut self, mapping: Option<MappingIx>, address: u64) -> (Line, Unresolved) {
        let (name, reason) = match mapping.map(|ix| &self.mappings[ix.0 as usize]) {
            None => (format!("{address:#x}"), Unresolved::NoMapping),
            Some(mapping) => {
                let offset = address.wrapping_sub(mapping.start.0);
                let offset = offset.wrapping_add(mapping.file_offset.0);
                (
                    format!("{}+{offset:#x}", mapping.short_name()),
                    Unresolved::NoSymbol,
                )
            }
        };
        let function = self.builder.function(Function {
            name,
            linkage_name: String::new(),
            file: String::new(),
        });
        (Line { function, line: 0 }, reason)
    }
}

fn insert_new<T>(
    table: &mut HashMap<u64, T>,
    row: Row,
    id: u64,
    item: T,
) -> Result<(), DecodeError> {
    if id == 0 {
        return Err(row.value("its ID is 0"));
    }
    match table.insert(id, item) {
        Some(_) => Err(row.value("its ID is taken by an earlier one")),
        None => Ok(()),
    }
}

fn unresolved_from_mark(system_name: &str) -> Option<Unresolved> {
    let id = system_name
        .strip_prefix(UNRESOLVED_MARK)?
        .strip_suffix(']')?;
    Unresolved::from_id(id)
}

fn kind_from_id(id: &str) -> Option<MappingKind> {
    match id {
        "file" => Some(MappingKind::File),
        "vdso" => Some(MappingKind::Vdso),
        "kernel" => Some(MappingKind::Kernel),
        "anonymous" => Some(MappingKind::Anonymous),
        _ => None,
    }
}
