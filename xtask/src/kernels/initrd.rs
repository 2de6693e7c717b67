//! The file system that a guest begins with: busybox, the first process' script, and the modules that show it the host's
//! files.
//!
//! In: a kernel's modules. Out: a cpio archive, "newc" format. Source: Documentation/driver-api/early-userspace/
//! buffer-format.rst of the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::image::Image;

/// Modules that a guest needs, where they are not built in: its devices, shared folders, and a writable layer above them.
const WANTED: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_rng"];

const INIT: &str = include_str!("init.sh");

/// Kinds of files and permissions, as `stat(2)` numbers them.
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

/// The whole archive for a kernel.
pub(crate) fn archive(image: &Image) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "modules"] {
        archive.add(folder, FOLDER, (0, 0), &[]);
    }
    // Messages of the first process go nowhere without it.
    archive.add("dev/console", CONSOLE, (5, 1), &[]);
    archive.add("init", PROGRAM, (0, 0), INIT.as_bytes());
    let busybox = super::busybox().context("busybox is not installed")?;
    let busybox = fs::read(busybox).context("failed to read busybox")?;
    archive.add("bin/busybox", PROGRAM, (0, 0), &busybox);
    let listed = image.modules.join("modules.dep");
    let listed = fs::read_to_string(&listed)
        .with_context(|| format!("failed to read `{}`", listed.display()))?;
    for (number, path) in in_order_of_loading(&listed, WANTED).iter().enumerate() {
        let name = path.rsplit('/').next().unwrap_or(path);
        let module = module(&image.modules.join(path))?;
        archive.add(
            &format!("modules/{number:03}-{name}"),
            PROGRAM,
            (0, 0),
            &module,
        );
    }
    Ok(archive.finish())
}

/// Paths of modules and of what they depend on, the latter first. Modules that are not listed are built in.
///
/// `listed` is a `modules.dep`: lines of `PATH: PATH…`, where a module's own dependencies stand before their own.
fn in_order_of_loading(listed: &str, wanted: &[&str]) -> Vec<String> {
    let dependencies: BTreeMap<String, (&str, &str)> = listed
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (module_name(path), (path, needs)))
        .collect();
    let mut order: Vec<String> = Vec::new();
    for (path, needs) in wanted.iter().filter_map(|name| dependencies.get(*name)) {
        for one in needs.split_whitespace().rev().chain([*path]) {
            if !order.iter().any(|known| known == one) {
                order.push(one.to_string());
            }
        }
    }
    order
}

/// A module's name as the kernel knows it, from its path.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let name = file.split_once(".ko").map_or(file, |(name, _)| name);
    name.replace('-', "_")
}

/// A module's bytes as `insmod` takes them.
fn module(path: &Path) -> anyhow::Result<Vec<u8>> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let unpack = match extension {
        Some("ko") => {
            return fs::read(path).with_context(|| format!("failed to read `{}`", path.display()));
        }
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => bail!("`{}` is packed in an unknown way", path.display()),
    };
    let output = Command::new(unpack)
        .arg("-dc")
        .arg(path)
        .output()
        .with_context(|| format!("failed to run `{unpack}`"))?;
    if !output.status.success() {
        bail!("`{unpack}` cannot unpack `{}`", path.display());
    }
    Ok(output.stdout)
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// `device` is major and minor number of a device file.
    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (links, nobody) = (1, 0);
        let header = [
            self.entries, // inode
            mode,
            nobody, // user
            nobody, // group
            links,
            0, // time
            content.len() as u32,
            0,
            0, // device that holds it
            device.0,
            device.1,
            path.len() as u32 + 1,
            0, // checksum, of another format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_after_what_they_need_and_once() {
        let listed = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/fscache.ko.xz kernel/fs/netfs.ko.xz\n\
                      kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz\n\
                      kernel/drivers/char/hw_random/virtio-rng.ko.xz:\n";
        assert_eq!(
            in_order_of_loading(listed, &["9pnet_virtio", "9p", "overlay", "virtio_rng"]),
            [
                "kernel/net/9p/9pnet.ko.xz",
                "kernel/net/9p/9pnet_virtio.ko.xz",
                "kernel/fs/netfs.ko.xz",
                "kernel/fs/fscache.ko.xz",
                "kernel/fs/9p/9p.ko.xz",
                "kernel/drivers/char/hw_random/virtio-rng.ko.xz",
            ]
        );
    }

    #[test]
    fn an_archive_is_aligned_and_ends_with_its_trailer() {
        let mut archive = Archive::default();
        archive.add("init", PROGRAM, (0, 0), b"#!/bin/sh");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
        // 110 bytes of header, the name and its end, aligned: the content begins at 116.
        assert_eq!(&bytes[116..125], b"#!/bin/sh");
        assert_eq!(&bytes[54..62], b"00000009");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }
}
