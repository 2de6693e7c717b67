//! The images that Pods of the tests are made of, as files for `podman load`: perfprof as `cargo xtask image` makes it, from
//! the very build under test, and a workload. Each is made once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use super::super::recording::perfprof as program_under_test;
use super::super::workload::{build_as, repository};

// How an image is made is known in one place, shared with `cargo xtask image`.
#[path = "../../../../xtask/src/image/contents.rs"]
mod contents;
#[path = "../../../../xtask/src/image/oci/mod.rs"]
#[allow(dead_code)]
pub(super) mod oci;
#[path = "../../../../xtask/src/image/static_link.rs"]
#[allow(dead_code)]
mod static_link;

/// Names of the images once they are loaded.
pub(super) const PERFPROF: &str = "localhost/perfprof:test";
pub(super) const WORKLOAD: &str = "localhost/workload:test";

const FASTEST_COMPRESSION: u32 = 1;

/// `steady` without libraries: two threads, each in `unit_of_work` below sixty frames of `descend`.
const STATIC_STEADY: [&str; 7] = [
    "gcc",
    "-O2",
    "-g",
    "-fomit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-pthread",
    "-static-pie",
];

pub(super) fn perfprof() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let program = program_under_test();
        let dependencies = program.parent().expect("in a folder").join("deps");
        let compiled = static_link::Compiled {
            repository: repository(),
            rlib: &library_of(program, &dependencies),
            dependencies: &dependencies,
        };
        let folder = folder();
        let linked = folder.join(format!("perfprof-{}", std::process::id()));
        static_link::link(&compiled, &folder, &linked).unwrap_or_else(|words| panic!("{words}"));
        let bytes = fs::read(&linked).expect("linked above");
        fs::remove_file(&linked).expect("ours");
        write(PERFPROF, contents::layer(bytes), contents::entrypoint())
    })
}

pub(super) fn workload() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let program = build_as("steady.c", &STATIC_STEADY, "steady");
        let entry = oci::tar::Entry::File {
            path: "steady".into(),
            mode: 0o755,
            bytes: fs::read(program).expect("built above"),
        };
        write(WORKLOAD, vec![entry], vec!["/steady".into()])
    })
}

fn write(name: &str, layer: Vec<oci::tar::Entry>, entrypoint: Vec<String>) -> PathBuf {
    let image = oci::Image {
        name: name.into(),
        layer,
        entrypoint,
        labels: contents::labels("test"),
        created: None,
        compression: FASTEST_COMPRESSION,
    };
    let archive = folder().join(format!("{}.tar", name.replace(['/', ':'], "-")));
    let written = image
        .layout()
        .and_then(|layout| layout.write_archive(&archive));
    written.unwrap_or_else(|words| panic!("{words}"));
    archive
}

/// The library that cargo has made the program of: the newest that is not newer than it. The same sources give others
/// beside it, with other features of our dependencies.
fn library_of(program: &Path, dependencies: &Path) -> PathBuf {
    let made = |path: &Path| -> SystemTime {
        let metadata = fs::metadata(path).expect("a file that cargo has made");
        metadata.modified().expect("files have times")
    };
    let entries = fs::read_dir(dependencies).expect("cargo's folder can be listed");
    let libraries = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libperfprof-") && name.ends_with(".rlib")
    });
    libraries
        .filter(|path| made(path) <= made(program))
        .max_by_key(|path| made(path))
        .expect("a program of cargo's has a library")
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
    fs::create_dir_all(&folder).expect("writable");
    folder
}
