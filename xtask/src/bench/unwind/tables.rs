//! Figure 6, unwind tables and start-up: bytes per row and per binary, the time to make the largest table, and how long
//! it takes from exec to the first tick where the target has hundreds of libraries.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::recorder::{Recording, Tool};
use super::scene::{Play, Scene, postgres_folder, program};
use crate::bench::book::{Book, Target};
use crate::bench::peers::Peers;
use crate::bench::perfprof;
use crate::bench::spread::Spread;
use crate::target_dir;

const LIBRARIES: &str = "500";
const HZ: u32 = 997;

pub(super) fn measure(peers: &Peers, rounds: usize, book: &mut Book) -> anyhow::Result<()> {
    println!("unwind tables, {rounds} rounds each");
    for (name, path) in binaries() {
        for _ in 0..rounds {
            if let Err(error) = table_of(&name, &path, book) {
                book.gap(format!("table of {name}: {error:#}"));
            }
        }
        let figures = ["rows", "bytes", "bytes per row", "ms to make"].map(|what| {
            let series = book.series(&table_figure(&name, what), "perfprof");
            format!("{what} {}", Spread::of(series).brief())
        });
        println!("  {name:16} {}", figures.join(", "));
        if name == "librustc_driver" {
            for what in ["bytes", "bytes per row", "ms to make"] {
                book.row(&table_figure(&name, what), "", Target::None);
            }
        }
    }
    start_up(peers, rounds, book)
}

/// Those that are here, of the ones that the workloads run.
fn binaries() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    let libraries = PathBuf::from(sysroot.unwrap_or_default()).join("lib");
    for entry in fs::read_dir(libraries).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("librustc_driver") {
            found.push(("librustc_driver".into(), entry.path()));
        }
    }
    let system = "/usr/lib/x86_64-linux-gnu";
    for (name, path) in [
        ("libc", format!("{system}/libc.so.6")),
        ("libstdc++", format!("{system}/libstdc++.so.6")),
        ("libcrypto", format!("{system}/libcrypto.so.3")),
        ("python3.11", "/usr/bin/python3.11".into()),
        ("redis-server", "/usr/bin/redis-server".into()),
    ] {
        let path = PathBuf::from(path);
        if path.is_file() {
            found.push((name.into(), path));
        }
    }
    if let Some(folder) = postgres_folder() {
        found.push(("postgres".into(), folder.join("postgres")));
    }
    found
}

fn table_figure(name: &str, what: &str) -> String {
    format!("table of {name}, {what}")
}

fn table_of(name: &str, path: &PathBuf, book: &mut Book) -> anyhow::Result<()> {
    let output = Command::new(perfprof())
        .args(["show", "rows"])
        .arg(path)
        .output()
        .context("failed to run perfprof")?;
    ensure!(output.status.success(), "`perfprof show rows` failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = |head: &str| -> Vec<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(head));
        let words = line.unwrap_or_default().split([' ', ',']);
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let (rows, memory, time) = (numbers("rows "), numbers("memory "), numbers("time "));
    ensure!(
        rows.len() == 1 && memory.len() == 2 && time.len() == 2,
        "`perfprof show rows` speaks otherwise"
    );
    let mut note = |what: &str, value: f64| book.note(&table_figure(name, what), "perfprof", value);
    note("rows", rows[0]);
    note("bytes", memory[0]);
    note("bytes per row", memory[1]);
    note("ms to make", time[0] + time[1]);
    Ok(())
}

/// perfprof: to the first run of its program. perf: until its events are open.
fn start_up(peers: &Peers, rounds: usize, book: &mut Book) -> anyhow::Result<()> {
    let folder = target_dir().join("bench/libraries");
    fs::create_dir_all(&folder).context("failed to create a folder")?;
    let plugin = program("plugin.c")?;
    let words = [
        &plugin.to_string_lossy(),
        &*folder.to_string_lossy(),
        LIBRARIES,
    ];
    let mut scene = Scene::of_fixture(Play::W1, "many_libraries.c", &words)?;
    let Some(pid) = scene.pid() else {
        return Ok(());
    };
    let mappings =
        fs::read_to_string(format!("/proc/{pid}/maps")).map_or(0, |maps| maps.lines().count());
    let figure = format!("exec to first tick, ms, {LIBRARIES} libraries ({mappings} mappings)");
    for _ in 0..rounds {
        for tool in [Tool::Perfprof, Tool::PerfFp]
            .into_iter()
            .filter(|tool| tool.is_there(peers))
        {
            let begin = Instant::now();
            let recording = Recording::start(tool, peers, scene.scope(), HZ);
            let ms = recording.map(|_recording| begin.elapsed().as_secs_f64() * 1e3);
            book.note_or_gap(&figure, &tool.name(), ms);
        }
    }
    scene.pause()?;
    book.print(&figure);
    book.row(&figure, "perf -g", Target::None);
    Ok(())
}
