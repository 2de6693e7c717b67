//! An executable file as far as recording needs it: identity, segments, unwind sections.
//!
//! In: an open file of the target. Out: a [`Binary`], which keeps the file open so that it can be symbolized after the
//! process has gone. A file that cannot be parsed is still a `Binary`, with the reason in [`Binary::problem`].

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ReadCache, elf};

use crate::profile::{BuildId, ElfAddr, FileOffset, MappingKind};

use super::framed::FramedFunctions;
use super::root::Root;

pub use super::framed::StackSwitch;

/// A section larger than this is not read: the largest `.eh_frame` known to us (Chromium) has about 30 MB.
const MAX_SECTION_BYTES: u64 = 256 << 20;

/// More sections that serve one purpose than this are not read.
const MAX_OF_A_KIND: usize = 8;

/// More program headers than this are not looked at.
const MAX_SEGMENTS: usize = 1024;

/// Every program that Go has linked has this section.
const GO_BUILD_ID: &str = ".note.go.buildid";

/// Why nothing is known of a mapped file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It could not be opened: deleted and out of reach.
    Unopened(String),
    /// It is not permitted to open it.
    Refused(String),
    /// What stands at its path is another build.
    Replaced,
    /// It is no 64-bit little-endian ELF file, or a damaged one.
    Malformed(String),
}

impl Problem {
    /// Why a file could not be opened.
    pub fn of_opening(why: &io::Error) -> Problem {
        match why.kind() {
            io::ErrorKind::PermissionDenied => Problem::Refused(why.to_string()),
            _ => Problem::Unopened(why.to_string()),
        }
    }
}

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub file_offset: u64,
    pub file_bytes: u64,
    pub vaddr: u64,
    pub memory_bytes: u64,
    pub executable: bool,
}

/// A section's address in the file's address space, and its bytes.
#[derive(Clone, Debug)]
pub struct Section {
    pub vaddr: u64,
    pub bytes: Arc<[u8]>,
}

/// Sections that tell how to unwind.
#[derive(Clone, Debug, Default)]
pub struct UnwindSections {
    /// BOLT leaves the former section beside its own, so there can be several.
    pub eh_frame: Vec<Section>,
    pub eh_frame_hdr: Option<Section>,
    pub debug_frame: Option<Section>,
    pub text: Option<(u64, u64)>,
    /// Procedure linkage tables, `.init` and `.fini`: code of known layouts that has no unwind information.
    pub stubs: Vec<Section>,
}

/// A `.gnu_debuglink` section: the debug information is in a file of this name, with this checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    pub name: String,
    pub crc: u32,
}

/// A file that code was executed from.
#[derive(Debug)]
pub struct Binary {
    /// Position in the order of first sight.
    pub ix: u32,
    pub kind: MappingKind,
    pub path: String,
    pub build_id: Option<BuildId>,
    pub file: Option<File>,
    pub segments: Vec<Segment>,
    /// Entry point; 0 where there is none.
    pub entry: ElfAddr,
    pub unwind: UnwindSections,
    /// It was made by Go's linker.
    is_go: bool,
    framed: FramedFunctions,
    /// Where its debug information says to be.
    pub debug_link: Option<DebugLink>,
    /// The root its path is to be read in; `None` where that is out of reach.
    pub root: Option<Arc<Root>>,
    pub problem: Option<Problem>,
}

impl Binary {
    /// Memory that no file stands behind.
    pub fn anonymous(ix: u32) -> Binary {
        Binary::unknown(ix, MappingKind::Anonymous, "[anon]".into(), None, None)
    }

    /// A file that is no program: generated code, or what tells of it, which is then kept open.
    pub fn generated(ix: u32, path: String, file: Option<File>) -> Binary {
        Binary {
            file,
            ..Binary::unknown(ix, MappingKind::Anonymous, path, None, None)
        }
    }

    /// A file of which only the name is known.
    pub fn unknown(
        ix: u32,
        kind: MappingKind,
        path: String,
        build_id: Option<BuildId>,
        problem: Option<Problem>,
    ) -> Binary {
        Binary {
            ix,
            kind,
            path,
            build_id,
            file: None,
            segments: Vec::new(),
            entry: ElfAddr(0),
            unwind: UnwindSections::default(),
            is_go: false,
            framed: FramedFunctions::default(),
            debug_link: None,
            root: None,
            problem,
        }
    }

    /// Reads an open file. `expected` is the build ID the kernel reported for the mapping, if it did.
    pub fn read(
        ix: u32,
        kind: MappingKind,
        path: String,
        file: File,
        expected: Option<BuildId>,
    ) -> Binary {
        match Parsed::of(&file) {
            Ok(parsed) if expected.is_some() && parsed.build_id != expected => {
                Binary::unknown(ix, kind, path, expected, Some(Problem::Replaced))
            }
            Ok(parsed) => Binary {
                ix,
                kind,
                path,
                build_id: parsed.build_id,
                file: Some(file),
                segments: parsed.segments,
                entry: ElfAddr(parsed.entry),
                unwind: parsed.unwind,
                is_go: parsed.is_go,
                framed: FramedFunctions::default(),
                debug_link: parsed.debug_link,
                root: None,
                problem: None,
            },
            Err(why) => {
                let problem = Some(Problem::Malformed(why.to_string()));
                Binary::unknown(ix, kind, path, expected, problem)
            }
        }
    }

    /// Where a byte of the file is loaded. Two segments can share a page of the file; the executable one is meant.
    pub fn elf_addr(&self, offset: FileOffset) -> Option<ElfAddr> {
        let page_mask = !0xfffu64;
        let holds = |s: &&Segment| {
            let from = s.file_offset & page_mask;
            (from..s.file_offset.saturating_add(s.file_bytes)).contains(&offset.0)
        };
        let found = self.segments.iter().filter(|s| s.executable).find(holds);
        let segment = found.or_else(|| self.segments.iter().find(holds))?;
        Some(ElfAddr(
            offset
                .0
                .wrapping_sub(segment.file_offset)
                .wrapping_add(segment.vaddr),
        ))
    }

    /// Whether the function at an address without unwind information keeps a frame pointer.
    pub fn keeps_frame_pointer(&self, addr: ElfAddr) -> bool {
        let file = self.file.as_ref();
        file.is_some_and(|file| self.framed.holds(file, &self.segments, addr))
    }

    /// Where functions of Go's runtime begin that change stacks without saying so in their unwind information.
    pub fn stack_switchers(&self) -> HashMap<ElfAddr, StackSwitch> {
        match &self.file {
            Some(file) if self.is_go => self.framed.stack_switchers(file),
            _ => HashMap::new(),
        }
    }

    /// The segment an address belongs to.
    pub fn segment_of(&self, addr: ElfAddr) -> Option<&Segment> {
        self.segments.iter().find(|s| {
            let start = s.vaddr & !0xfff;
            (start..s.vaddr.saturating_add(s.memory_bytes)).contains(&addr.0)
        })
    }
}

/// What is read from the file.
struct Parsed {
    build_id: Option<BuildId>,
    segments: Vec<Segment>,
    entry: u64,
    unwind: UnwindSections,
    is_go: bool,
    debug_link: Option<DebugLink>,
}

impl Parsed {
    fn of(file: &File) -> Result<Parsed, object::Error> {
        let cache = ReadCache::new(file);
        let elf = ElfFile64::<Endianness, _>::parse(&cache)?;
        let endian = elf.endian();
        let segments = elf
            .elf_program_headers()
            .iter()
            .take(MAX_SEGMENTS)
            .filter(|header| header.p_type(endian) == elf::PT_LOAD)
            .map(|header| Segment {
                file_offset: header.p_offset(endian),
                file_bytes: header.p_filesz(endian),
                vaddr: header.p_vaddr(endian),
                memory_bytes: header.p_memsz(endian),
                executable: header.p_flags(endian).contains(elf::PF_X),
            })
            .collect();
        let build_id = elf.build_id().ok().flatten().and_then(BuildId::from_bytes);
        let unwind = UnwindSections {
            eh_frame: sections(&elf, &[".eh_frame", ".bolt.org.eh_frame"]),
            eh_frame_hdr: section(&elf, ".eh_frame_hdr"),
            debug_frame: section(&elf, ".debug_frame"),
            stubs: sections(&elf, &[".plt", ".plt.got", ".plt.sec", ".init", ".fini"]),
            text: elf
                .section_by_name(".text")
                .map(|s| (s.address(), s.address() + s.size())),
        };
        let entry = elf.elf_header().e_entry(endian);
        Ok(Parsed {
            build_id,
            segments,
            entry,
            unwind,
            is_go: elf.section_by_name(GO_BUILD_ID).is_some(),
            debug_link: debug_link(&elf),
        })
    }
}

/// A name with a `/` would lead out of every folder it is looked up in, so it is none.
fn debug_link(elf: &Elf) -> Option<DebugLink> {
    let (name, crc) = elf.gnu_debuglink().ok()??;
    let name = std::str::from_utf8(name).ok()?;
    let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    plain.then(|| DebugLink {
        name: name.to_owned(),
        crc,
    })
}

type Elf<'a> = ElfFile64<'a, Endianness, &'a ReadCache<&'a File>>;

/// Every section of these names, in this order.
fn sections(elf: &Elf, names: &[&str]) -> Vec<Section> {
    names
        .iter()
        .flat_map(|name| {
            elf.sections()
                .filter(move |section| section.name() == Ok(name))
        })
        .take(MAX_OF_A_KIND)
        .filter_map(|section| contents(&section))
        .collect()
}

fn section(elf: &Elf, name: &str) -> Option<Section> {
    contents(&elf.section_by_name(name)?)
}

fn contents<'a>(section: &impl ObjectSection<'a>) -> Option<Section> {
    if section.size() > MAX_SECTION_BYTES {
        return None;
    }
    let data = section.uncompressed_data().ok()?;
    if data.is_empty() || data.len() as u64 > MAX_SECTION_BYTES {
        return None;
    }
    Some(Section {
        vaddr: section.address(),
        bytes: data.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Binary {
        use std::io::Write;
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(bytes).expect("written");
        Binary::read(0, MappingKind::File, "/x".into(), file, None)
    }

    #[test]
    fn an_elf_file_cut_anywhere_is_a_problem_and_never_a_panic() {
        let own = std::fs::read("/proc/self/exe").expect("own binary");
        assert!(read(&own).problem.is_none());
        for len in [0, 1, 4, 16, 63, 64, 65, 200, 1000, 5000] {
            let cut = read(&own[..len]);
            assert!(
                cut.problem.is_some() || cut.unwind.eh_frame.is_empty(),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn another_build_than_the_kernel_reported_is_not_used() {
        let file = File::open("/proc/self/exe").expect("own binary");
        let other = BuildId::from_bytes(&[1, 2, 3]);
        let binary = Binary::read(0, MappingKind::File, "/x".into(), file, other);
        assert_eq!(binary.problem, Some(Problem::Replaced));
        assert!(binary.file.is_none());
    }

    #[test]
    fn an_offset_in_a_page_two_segments_share_belongs_to_the_executable_one() {
        let mut binary = Binary::anonymous(0);
        let data = Segment {
            file_offset: 0,
            file_bytes: 0x1800,
            vaddr: 0,
            memory_bytes: 0x1800,
            executable: false,
        };
        let text = Segment {
            file_offset: 0x1800,
            file_bytes: 0x1000,
            vaddr: 0x2800,
            memory_bytes: 0x1000,
            executable: true,
        };
        binary.segments = vec![data, text];
        assert_eq!(binary.elf_addr(FileOffset(0x1900)), Some(ElfAddr(0x2900)));
        assert_eq!(binary.elf_addr(FileOffset(0x1000)), Some(ElfAddr(0x2000)));
        assert_eq!(binary.elf_addr(FileOffset(0x100)), Some(ElfAddr(0x100)));
        assert_eq!(binary.elf_addr(FileOffset(0x9000)), None);
    }
}
