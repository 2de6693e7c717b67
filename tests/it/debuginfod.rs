//! Debug files come from debuginfod servers, through the cache that elfutils' client uses.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use object::{Object, ObjectSection};
use perfprof::profile::BuildId;
use perfprof::symbolize::debuginfod::{Artifact, Config, Debuginfod, FetchError};

use crate::support::debuginfod::{DebuginfodServer, free_port};
use crate::support::workload::build_as;
use crate::support::{Need, missing};

const NEEDS: [Need; 4] = [
    Need::Program("debuginfod"),
    Need::Program("debuginfod-find"),
    Need::Program("objcopy"),
    Need::Program("strip"),
];

/// A stripped program, whose debug file stands in another folder.
struct Stripped {
    _dir: tempfile::TempDir,
    program: PathBuf,
    /// With the debug file and nothing else.
    store: PathBuf,
    id: BuildId,
}

impl Stripped {
    fn make() -> Stripped {
        let recipe = ["cc", "-O2", "-g", "-Wl,--build-id"];
        let whole = build_as("steady.c", &recipe, "steady_debuginfod");
        let dir = tempfile::tempdir().expect("temporary folder");
        let (program, store) = (dir.path().join("steady"), dir.path().join("store"));
        std::fs::create_dir(&store).expect("made");
        let debug_file = store.join("steady.debug");
        run(Command::new("objcopy")
            .arg("--only-keep-debug")
            .args([&whole, &debug_file]));
        run(Command::new("strip").arg("-o").args([&program, &whole]));
        let bytes = std::fs::read(&program).expect("readable");
        let elf = object::File::parse(&*bytes).expect("ELF");
        let id = elf
            .build_id()
            .expect("readable")
            .and_then(BuildId::from_bytes);
        assert!(elf.section_by_name(".debug_info").is_none());
        Stripped {
            _dir: dir,
            program,
            store,
            id: id.expect("linked with one"),
        }
    }

    fn serve(&self) -> DebuginfodServer {
        DebuginfodServer::start(&self.store, |url| {
            let client = client(url, None);
            client.fetch(self.id, Artifact::DebugInfo).is_ok()
        })
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it can be run");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn client(url: &str, cache: Option<&Path>) -> Debuginfod {
    Debuginfod::new(Config {
        urls: vec![url.to_owned()],
        timeout: Duration::from_secs(30),
        max_bytes: 1 << 30,
        cache_dir: cache.map(Path::to_owned),
    })
}

fn nobody() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

/// What `debuginfod-find debuginfo ID` prints; `None` where it finds nothing.
fn find(id: BuildId, url: &str, cache: &Path) -> Option<PathBuf> {
    let output = Command::new("debuginfod-find")
        .args(["debuginfo", &id.to_string()])
        .env("DEBUGINFOD_URLS", url)
        .env("DEBUGINFOD_CACHE_PATH", cache)
        .output()
        .expect("debuginfod-find runs");
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then(|| path.into())
}

fn has_debug_info(mut file: File) -> bool {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("readable");
    let elf = object::File::parse(&*bytes).expect("ELF");
    let section = elf.section_by_name(".debug_info");
    section.is_some_and(|section| section.size() > 0)
}

#[test]
fn a_real_server_gives_what_it_has_and_says_what_it_has_not() {
    if missing(&NEEDS) {
        return;
    }
    let stripped = Stripped::make();
    let server = stripped.serve();
    let cache = tempfile::tempdir().expect("temporary folder");
    let client = client(&server.url(), Some(cache.path()));
    let file = client
        .fetch(stripped.id, Artifact::DebugInfo)
        .expect("there");
    assert!(has_debug_info(file));
    let size = std::fs::metadata(stripped.store.join("steady.debug"))
        .expect("there")
        .len();
    assert_eq!(
        (client.fetched().from_servers, client.fetched().bytes),
        (1, size)
    );
    let program = client.fetch(stripped.id, Artifact::Executable);
    assert_eq!(program.expect_err("not in the store"), FetchError::NotFound);
    assert!(stripped.program.exists());

    let tight = Debuginfod::new(Config {
        urls: vec![server.url()],
        timeout: Duration::from_secs(30),
        max_bytes: size - 1,
        cache_dir: None,
    });
    let error = tight
        .fetch(stripped.id, Artifact::DebugInfo)
        .expect_err("too large");
    assert_eq!(error.id(), "too-large");
}

#[test]
fn the_cache_is_shared_with_elfutils_both_ways() {
    if missing(&NEEDS) {
        return;
    }
    let stripped = Stripped::make();
    let server = stripped.serve();
    let unknown = BuildId::from_hex("0123456789abcdef0123456789abcdef01234567").expect("valid");

    let ours = tempfile::tempdir().expect("temporary folder");
    let here = client(&server.url(), Some(ours.path()));
    here.fetch(stripped.id, Artifact::DebugInfo).expect("there");
    here.fetch(unknown, Artifact::DebugInfo)
        .expect_err("not there");
    let found = find(stripped.id, &nobody(), ours.path()).expect("without asking anybody");
    assert!(has_debug_info(File::open(found).expect("readable")));

    let theirs = tempfile::tempdir().expect("temporary folder");
    find(stripped.id, &server.url(), theirs.path()).expect("there");
    assert_eq!(find(unknown, &server.url(), theirs.path()), None);
    let alone = client(&nobody(), Some(theirs.path()));
    let file = alone
        .fetch(stripped.id, Artifact::DebugInfo)
        .expect("in the cache");
    assert!(has_debug_info(file) && alone.fetched().from_cache == 1);
    let error = alone
        .fetch(unknown, Artifact::DebugInfo)
        .expect_err("known to be missing");
    assert_eq!(error, FetchError::NotFound);
}
