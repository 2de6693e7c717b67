//! The program without shared libraries, in a second instead of minutes: what cargo has compiled is linked once more.
//!
//! The usual way (`-C target-feature=+crt-static --target …`) compiles every dependency again, into a folder of its own.
//! That is not needed: cargo's code is position independent already, and whether libc, libgcc and std's own libraries come
//! static is decided where a program is linked, by conditions on `crt-static` in their `#[link]` attributes. So only
//! `src/main.rs`, which does nothing but call the library, is compiled again, with the library that cargo has made. None of
//! our dependencies has code that depends on `crt-static`. libbpf, SQLite and ring are inside their crates' archives;
//! libelf and zlib, which libbpf needs, are found first in a folder that has nothing but their archives.
//!
//! In: the library and the folder of its dependencies. Out: a static-pie program; it is an error when it is not one.
//! Names are still resolved in it: since glibc 2.34 files and DNS need no library, and an image has no `nsswitch.conf`
//! that could name one that does. Needed besides what the build needs: nothing on Debian; where libelf was built with
//! zstd (Ubuntu 24.04), libzstd-dev, on which libelf-dev depends.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As in Cargo.toml.
const EDITION: &str = "2024";

#[derive(Debug)]
pub(crate) struct Compiled<'a> {
    pub(crate) repository: &'a Path,
    /// `libperfprof*.rlib`
    pub(crate) rlib: &'a Path,
    /// cargo's `deps`
    pub(crate) dependencies: &'a Path,
}

/// Links `out`, and whatever it needs in between into `folder`, which is made.
pub(crate) fn link(compiled: &Compiled, folder: &Path, out: &Path) -> Result<(), String> {
    let natives = folder.join("native");
    let late = native_archives(&natives)?;
    let flag = |name: &str, path: &Path| format!("{name}{}", path.display());
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .current_dir(compiled.repository)
        .args([
            "src/main.rs",
            "--crate-name",
            "perfprof",
            "--crate-type",
            "bin",
        ])
        .args(["--edition", EDITION, "-C", "target-feature=+crt-static"])
        // Function names stay: they are what a panic shows.
        .args(["-C", "opt-level=3", "-C", "strip=debuginfo"])
        .args(["--extern", &flag("perfprof=", compiled.rlib)])
        .args(["-L", &flag("dependency=", compiled.dependencies)])
        .args(["-L", &flag("native=", &natives)])
        .args(late.iter().map(|archive| flag("-Clink-arg=", archive)))
        .arg("-o")
        .arg(out);
    let output = (rustc.output()).map_err(|e| format!("failed to run `rustc`: {e}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("failed to link `{}`:\n{words}", out.display()));
    }
    let program = fs::read(out).map_err(|e| format!("failed to read `{}`: {e}", out.display()))?;
    must_be_static(&program).map_err(|what| format!("`{}` {what}", out.display()))
}

/// Fills a folder with the archives that libbpf needs, and no shared library; those that these need in turn.
fn native_archives(folder: &Path) -> Result<Option<PathBuf>, String> {
    fs::create_dir_all(folder)
        .map_err(|e| format!("failed to create `{}`: {e}", folder.display()))?;
    for name in ["libelf.a", "libz.a"] {
        let link = folder.join(name);
        let _ = fs::remove_file(&link); // there from the last time
        symlink(archive(name)?, &link)
            .map_err(|e| format!("failed to link `{}`: {e}", link.display()))?;
    }
    let libelf = archive("libelf.a")?;
    let bytes =
        fs::read(&libelf).map_err(|e| format!("failed to read `{}`: {e}", libelf.display()))?;
    mentions_zstd(&bytes)
        .then(|| archive("libzstd.a"))
        .transpose()
}

/// elfutils from 0.189 on unpacks sections with zstd where it was built with it; an archive does not say what it needs.
fn mentions_zstd(archive: &[u8]) -> bool {
    archive.windows(5).any(|window| window == b"ZSTD_")
}

/// Where the C compiler finds a static library.
fn archive(name: &str) -> Result<PathBuf, String> {
    let output = Command::new("cc")
        .arg(format!("-print-file-name={name}"))
        .output()
        .map_err(|e| format!("failed to run `cc`: {e}"))?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    // The bare name comes back when there is none.
    if path.is_absolute() && path.exists() {
        return Ok(path);
    }
    Err(format!(
        "`cc` finds no `{name}`\nhint: apt-get install libelf-dev zlib1g-dev libzstd-dev"
    ))
}

/// Whether a 64-bit ELF program asks for no interpreter. Source: `elf(5)`, `Elf64_Ehdr` and `Elf64_Phdr`.
fn must_be_static(program: &[u8]) -> Result<(), String> {
    const PT_INTERP: u64 = 3;
    const PT_DYNAMIC: u64 = 2;
    const DT_NEEDED: u64 = 1;
    let number = |at: u64, bytes: usize| -> Result<u64, String> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let field = program.get(at..at.saturating_add(bytes));
        let field = field.ok_or("is cut short")?;
        Ok(field
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    if program.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("is no 64-bit little-endian ELF file".into());
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for at in (0..count).map(|index| table.saturating_add(index * size)) {
        let (kind, offset, length) = (number(at, 4)?, number(at + 8, 8)?, number(at + 32, 8)?);
        let mut tags = (0..length / 16).map(|entry| offset.saturating_add(entry * 16));
        if kind == PT_INTERP {
            return Err("is not static: it asks for an interpreter".into());
        }
        if kind == PT_DYNAMIC && tags.any(|tag| number(tag, 8) == Ok(DT_NEEDED)) {
            return Err("is not static: it needs a shared library".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_shared_libraries_is_told_from_one_without() {
        let own = fs::read("/proc/self/exe").expect("own program");
        let refused = must_be_static(&own).expect_err("tests are linked to libc");
        assert!(refused.contains("interpreter"), "{refused}");
        assert!(must_be_static(b"#!/bin/sh").is_err());
        for length in [7, 50, 100] {
            let cut = must_be_static(&own[..length]).expect_err("half a head");
            assert!(cut.contains("cut short"), "{cut}");
        }
    }

    #[test]
    fn libelf_says_by_its_symbols_that_it_needs_zstd() {
        assert!(mentions_zstd(b"..ZSTD_compress2.."));
        assert!(!mentions_zstd(b"deflate\0inflate"));
    }
}
