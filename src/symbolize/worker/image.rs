//! An ELF file in memory: its sections as they are or unpacked.
//!
//! In: an open file, of anybody's making. Out: sections as bytes that live as long as the process. Unpacking is bounded
//! by what the file may claim, and by the process's own limit of memory.

use std::fs::File;
use std::io::Read;

use lzma_rust2::XzReader;
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection};

use crate::profile::BuildId;
use crate::sys::file_map::FileMap;

/// Read in pieces of this size where a mapping would only fill memory.
const READ_BYTES: usize = 256 << 10;

pub(super) type Elf = ElfFile64<'static, LittleEndian, &'static [u8]>;

/// A parsed file. Cheap to copy around by reference; never given back, see the head of this room.
#[derive(Debug)]
pub(super) struct Image {
    pub elf: Elf,
    limit: u64,
    /// `None` for what was unpacked from another file.
    map: Option<&'static FileMap>,
}

/// Why a file or a section cannot be used, in words.
pub(super) type Why = String;

impl Image {
    pub fn of(file: &File, limit: u64) -> Result<Image, Why> {
        let map: &'static FileMap = Box::leak(Box::new(FileMap::of(file).map_err(words)?));
        let image = Image::of_bytes(map, limit)?;
        Ok(Image {
            map: Some(map),
            ..image
        })
    }

    /// The file's mapping.
    pub fn map(&self) -> Option<&'static FileMap> {
        self.map
    }

    fn of_bytes(bytes: &'static [u8], limit: u64) -> Result<Image, Why> {
        let elf = Elf::parse(bytes).map_err(words)?;
        Ok(Image {
            elf,
            limit,
            map: None,
        })
    }

    pub fn build_id(&self) -> Option<BuildId> {
        self.elf
            .build_id()
            .ok()
            .flatten()
            .and_then(BuildId::from_bytes)
    }

    /// Most bytes a section may have unpacked.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The build ID; of a supplement in the form of DWARF 5, the checksum in its `.debug_sup`.
    pub fn identity(&self) -> Option<BuildId> {
        self.build_id().or_else(|| {
            let rest = self.section(".debug_sup").ok()?.get(3..)?;
            let end = rest.iter().position(|byte| *byte == 0)?;
            let (len, id) = rest.get(end + 1..)?.split_first()?;
            BuildId::from_bytes(id.get(..usize::from(*len))?)
        })
    }

    pub fn has(&self, name: &str) -> bool {
        let section = self.elf.section_by_name(name);
        section.is_some_and(|section| section.data().is_ok_and(|data| !data.is_empty()))
    }

    /// A section's content, unpacked; empty where there is none. `.debug_x` also finds `.zdebug_x`.
    pub fn section(&self, name: &str) -> Result<&'static [u8], Why> {
        let Some(section) = self.elf.section_by_name(name) else {
            return Ok(&[]);
        };
        let packed = section.compressed_data().map_err(words)?;
        if packed.uncompressed_size > self.limit
            && packed.data.len() as u64 != packed.uncompressed_size
        {
            return Err(format!(
                "`{name}` claims {} bytes unpacked, more than `--symbol-memory` allows",
                packed.uncompressed_size
            ));
        }
        match packed.decompress().map_err(words)? {
            std::borrow::Cow::Borrowed(bytes) => Ok(bytes),
            std::borrow::Cow::Owned(bytes) => Ok(bytes.leak()),
        }
    }

    /// MiniDebugInfo: an ELF file with only a symbol table, packed by xz.
    /// Source: GDB manual, "MiniDebugInfo".
    pub fn mini(&self) -> Result<Option<Image>, Why> {
        let packed = self.section(".gnu_debugdata")?;
        if packed.is_empty() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let unpacked = XzReader::new(packed, false)
            .take(self.limit.saturating_add(1))
            .read_to_end(&mut bytes);
        unpacked.map_err(words)?;
        if bytes.len() as u64 > self.limit {
            return Err("`.gnu_debugdata` is larger unpacked than `--symbol-memory` allows".into());
        }
        Image::of_bytes(bytes.leak(), self.limit).map(Some)
    }
}

fn words(why: impl std::fmt::Display) -> Why {
    why.to_string()
}

/// The checksum in a `.gnu_debuglink` section, of a whole file.
/// Source: GDB manual, "Separate Debug Files".
pub(super) fn crc(mut file: &File) -> std::io::Result<u32> {
    use std::io::Seek;
    file.rewind()?;
    let mut crc = flate2::Crc::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crc.sum()),
            n => crc.update(&buffer[..n]),
        }
    }
}
