//! A tar archive that is the same bytes each time: entries in order of their paths, owned by root, of the year 1970.
//!
//! In: directories and files with their bytes. Out: the archive, in memory. Of the format (POSIX.1-1988 ustar) only what
//! an image of a few files needs: no links, no devices, no names of more than 100 bytes.

/// Paths are relative, without a leading `/`; a directory's has no trailing one.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Directory {
        path: String,
        mode: u32,
    },
    File {
        path: String,
        mode: u32,
        bytes: Vec<u8>,
    },
}

const BLOCK: usize = 512;
/// Of a name, and the most that eleven octal digits say of a length, in bytes.
const LONGEST_NAME: usize = 100;
const LARGEST_FILE: u64 = (1 << 33) - 1;

impl Entry {
    fn path(&self) -> &str {
        match self {
            Entry::Directory { path, .. } | Entry::File { path, .. } => path,
        }
    }
}

/// The archive of these entries; a message when the format cannot hold one, or two have the same path.
pub(crate) fn archive(mut entries: Vec<Entry>) -> Result<Vec<u8>, String> {
    entries.sort_by(|a, b| a.path().cmp(b.path()));
    if let Some(pair) = entries
        .windows(2)
        .find(|pair| pair[0].path() == pair[1].path())
    {
        return Err(format!("`{}` is there twice", pair[0].path()));
    }
    let mut archive = Vec::new();
    for entry in &entries {
        let (name, mode, kind, bytes) = match entry {
            Entry::Directory { path, mode } => (format!("{path}/"), *mode, b'5', &[][..]),
            Entry::File { path, mode, bytes } => (path.clone(), *mode, b'0', &bytes[..]),
        };
        archive.extend(header(&name, mode, kind, bytes.len() as u64)?);
        archive.extend(bytes);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0); // the end
    Ok(archive)
}

/// The block before an entry's bytes. Source: POSIX.1-2017, pax, "ustar Interchange Format".
fn header(name: &str, mode: u32, kind: u8, length: u64) -> Result<[u8; BLOCK], String> {
    if name.len() > LONGEST_NAME || name.starts_with('/') {
        return Err(format!(
            "`{name}` is no relative path of at most {LONGEST_NAME} bytes"
        ));
    }
    if length > LARGEST_FILE {
        return Err(format!("`{name}` is larger than 8 GiB"));
    }
    let mut block = [0; BLOCK];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000"); // user
    put(116, "0000000"); // group
    put(124, &format!("{length:011o}"));
    put(136, "00000000000"); // time of change
    put(148, "        "); // the sum is of the block with blanks in its place
    put(257, "ustar\0");
    put(263, "00");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}
