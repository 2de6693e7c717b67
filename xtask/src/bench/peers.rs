//! The tools that perfprof is held against: looked for, and installed where that touches nothing of the user's.
//!
//! What Debian packages is installed by `setup`; the others by `cargo install` into `target/bench/peers`. What cannot be
//! had is said, and its figures are missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::compile::on_path;
use crate::{must_succeed, repository, setup, target_dir};

/// Fixed, so that figures of different days mean the same.
pub(super) const SAMPLY: &str = "0.13.1";
const LIGHTSWITCH: &str = "0.7.0";
const INFERNO: &str = "0.12.8";

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// lightswitch insists on both being mounted; a mount namespace of its own leaves the machine's as they are.
pub(super) const WITH_TRACEFS: &str = "mount -t debugfs none /sys/kernel/debug; \
                            mount -t tracefs none /sys/kernel/tracing; exec \"$@\"";

#[derive(Debug)]
pub(super) struct Peers {
    pub(super) perf: bool,
    pub(super) bpftool: bool,
    pub(super) bpftrace: bool,
    pub(super) samply: Option<PathBuf>,
    pub(super) lightswitch: Option<PathBuf>,
    /// `inferno-collapse-perf`; `inferno-flamegraph` stands beside it.
    pub(super) inferno: Option<PathBuf>,
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
    /// What the unwinder is held against.
    pub(super) fn find() -> Peers {
        setup::run_for_bench();
        let mut peers = Peers::on_search_path();
        for (name, is_there) in [
            ("perf (package linux-perf)", peers.perf),
            ("bpftool", peers.bpftool),
            ("bpftrace", peers.bpftrace),
        ] {
            if !is_there {
                peers.absent.push(format!("{name}: not installed"));
            }
        }
        peers.install_recorders();
        peers.floor = peers.note("bpf_get_stackid", Floor::build());
        peers
    }

    /// What symbolization is held against.
    pub(super) fn find_for_symbols() -> Peers {
        let mut peers = Peers::on_search_path();
        if !peers.perf {
            let missing = "perf (package linux-perf): not installed";
            peers.absent.push(missing.into());
        }
        peers.install_recorders();
        let collapse = installed("inferno", "inferno-collapse-perf", INFERNO);
        peers.inferno = peers.note("inferno", collapse);
        peers
    }

    /// What accounting for waits is held against.
    pub(super) fn find_for_waits() -> Peers {
        let mut peers = Peers::on_search_path();
        for (name, is_there) in [
            ("perf (package linux-perf)", peers.perf),
            ("bpftrace", peers.bpftrace),
        ] {
            if !is_there {
                peers.absent.push(format!("{name}: not installed"));
            }
        }
        peers
    }

    fn on_search_path() -> Peers {
        Peers {
            perf: on_path("perf"),
            bpftool: on_path("bpftool"),
            bpftrace: on_path("bpftrace"),
            samply: None,
            lightswitch: None,
            inferno: None,
            floor: None,
            absent: Vec::new(),
        }
    }

    fn install_recorders(&mut self) {
        self.samply = self.note("samply", installed("samply", "samply", SAMPLY));
        let lightswitch = installed("lightswitch", "lightswitch", LIGHTSWITCH);
        self.lightswitch = self.note("lightswitch", lightswitch);
    }

    fn note<T>(&mut self, name: &str, found: anyhow::Result<T>) -> Option<T> {
        found
            .map_err(|error| self.absent.push(format!("{name}: {error:#}")))
            .ok()
    }
}

/// The path of a program from crates.io, installed at need.
fn installed(name: &str, program: &str, version: &str) -> anyhow::Result<PathBuf> {
    let root = target_dir().join("bench/peers");
    let program = root.join("bin").join(program);
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
        fs::create_dir_all(&folder).context("failed to create a folder")?;
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

/// samply gives up, also as root, where `kernel.perf_event_paranoid` is above 1. Lowered until it has opened its events.
#[derive(Debug)]
pub(super) struct Permitted {
    before: Option<String>,
}

impl Permitted {
    pub(super) fn open() -> Permitted {
        let level = fs::read_to_string(PARANOID).unwrap_or_default();
        let level = level.trim();
        let too_high = level.parse::<i32>().is_ok_and(|level| level > 1);
        // Where it may not be written, samply says so itself.
        let lowered = too_high && fs::write(PARANOID, "1").is_ok();
        Permitted {
            before: lowered.then(|| level.to_string()),
        }
    }
}

impl Drop for Permitted {
    fn drop(&mut self) {
        if let Some(level) = &self.before {
            thread::sleep(Duration::from_millis(100));
            if let Err(error) = fs::write(PARANOID, level) {
                eprintln!("warning: {PARANOID} was {level} and could not be put back: {error}");
            }
        }
    }
}
