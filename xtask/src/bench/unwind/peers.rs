//! The tools that perfprof is held against: looked for, and installed where that touches nothing of the user's.
//!
//! What Debian packages is installed by `setup`; the others by `cargo install` into `target/bench/peers`. What cannot be
//! had is said, and its figures are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::compile::on_path;
use crate::{must_succeed, repository, setup, target_dir};

/// Fixed, so that figures of different days mean the same.
const SAMPLY: &str = "0.13.1";
const LIGHTSWITCH: &str = "0.7.0";

#[derive(Debug)]
pub(super) struct Peers {
    pub(super) perf: bool,
    pub(super) bpftool: bool,
    pub(super) bpftrace: bool,
    pub(super) samply: Option<PathBuf>,
    pub(super) lightswitch: Option<PathBuf>,
    pub(super) floor: Option<Floor>,
    /// What is missing, and why.
    pub(super) absent: Vec<String>,
}

/// The programs of `xtask/bpf`, built.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) program: PathBuf,
    pub(super) object: PathBuf,
}

impl Peers {
    pub(super) fn find() -> Peers {
        setup::run_for_bench();
        let mut peers = Peers {
            perf: on_path("perf"),
            bpftool: on_path("bpftool"),
            bpftrace: on_path("bpftrace"),
            samply: None,
            lightswitch: None,
            floor: None,
            absent: Vec::new(),
        };
        for (name, is_there) in [
            ("perf (package linux-perf)", peers.perf),
            ("bpftool", peers.bpftool),
            ("bpftrace", peers.bpftrace),
        ] {
            if !is_there {
                peers.absent.push(format!("{name}: not installed"));
            }
        }
        peers.samply = peers.note("samply", installed("samply", SAMPLY));
        peers.lightswitch = peers.note("lightswitch", installed("lightswitch", LIGHTSWITCH));
        peers.floor = peers.note("bpf_get_stackid", Floor::build());
        peers
    }

    fn note<T>(&mut self, name: &str, found: anyhow::Result<T>) -> Option<T> {
        found
            .map_err(|error| self.absent.push(format!("{name}: {error:#}")))
            .ok()
    }
}

/// The path of a program from crates.io, installed at need.
fn installed(name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let root = target_dir().join("bench/peers");
    let program = root.join("bin").join(name);
    if !program.is_file() {
        println!("bench: installing {name} {version} into {}", root.display());
        let mut command = crate::cargo(&["install", "--quiet", "--locked", "-j2", "--root"]);
        command.arg(&root).args(["--version", version, name]);
        command.env_remove("CARGO_TARGET_DIR");
        // Where Debian keeps libelf, which libbpf-sys otherwise does not find for a static build.
        let libraries = Path::new("/usr/lib/x86_64-linux-gnu");
        if libraries.is_dir() {
            command.env("LIBBPF_SYS_LIBRARY_PATH", libraries);
        }
        must_succeed(&mut command)?;
    }
    Ok(program)
}

impl Floor {
    fn build() -> anyhow::Result<Floor> {
        let (from, folder) = (
            repository().join("xtask/bpf"),
            target_dir().join("bench/floor"),
        );
        std::fs::create_dir_all(&folder).context("failed to create a folder")?;
        let floor = Floor {
            program: folder.join("floor"),
            object: folder.join("floor.bpf.o"),
        };
        // Debian keeps `asm/types.h` in a folder that clang does not search when the target is bpf.
        compile(
            Command::new("clang")
                .args(["-O2", "-g", "-Wall", "-target", "bpf"])
                .args(["-I/usr/include/x86_64-linux-gnu", "-c"])
                .arg(from.join("floor.bpf.c"))
                .arg("-o")
                .arg(&floor.object),
        )?;
        compile(
            Command::new("cc")
                .args(["-O2", "-Wall"])
                .arg(from.join("floor.c"))
                .arg("-o")
                .arg(&floor.program)
                .arg("-lbpf"),
        )?;
        Ok(floor)
    }
}

fn compile(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("failed to run the compiler")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it cannot be built: {words}");
    Ok(())
}
