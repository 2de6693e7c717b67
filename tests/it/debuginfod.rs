//! Debug files come from debuginfod servers, through the cache that elfutils' client uses.

use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use object::{Object, ObjectSection};
use perfprof::profile::BuildId;
use perfprof::symbolize::debuginfod::{Artifact, Config, Debuginfod, FetchError};

use crate::support::debuginfod::{DebuginfodServer, free_port};
use crate::support::recording::{Finished, perfprof};
use crate::support::workload::build_as;
use crate::support::{Folded, Need, Record, Workload, missing};

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

/// Does most of the work of steady.c.
const HOT: &str = "unit_of_work";

/// Half a second of the stripped program's CPU time.
fn record(stripped: &Stripped, cache: &Path, args: &[&str]) -> Finished {
    let workload = Workload::start_program(&stripped.program, &["1"]);
    let recording = Record::pid(workload.pid())
        .env("DEBUGINFOD_CACHE_PATH", cache)
        .args(args);
    let recorded = recording.run_for_cpu(workload.pid(), 500);
    recorded.assert_recorded();
    recorded
}

#[test]
fn a_recording_gets_names_and_lines_that_only_a_server_has() {
    if missing(&[&[Need::Perf], &NEEDS[..]].concat()) {
        return;
    }
    let stripped = Stripped::make();
    let server = stripped.serve();
    let cache = tempfile::tempdir().expect("temporary folder");
    let recorded = record(
        &stripped,
        cache.path(),
        &[&format!("--debuginfod={}", server.url())],
    );
    let folded = recorded.folded();
    let (hot, all) = (folded.with(HOT), folded.total());
    assert!(
        hot * 2 > all,
        "{hot} of {all} ticks are in `{HOT}`\n{}",
        recorded.stderr
    );
    let lines = recorded.coverage("source_lines");
    assert!(lines > 0.9, "{lines} of the frames have lines");
    assert!(
        cache
            .path()
            .join(stripped.id.to_string())
            .join("debuginfo")
            .is_file()
    );
}

#[test]
fn a_server_that_is_not_there_costs_names_and_nothing_else() {
    if missing(&[&[Need::Perf], &NEEDS[..]].concat()) {
        return;
    }
    let stripped = Stripped::make();
    let cache = tempfile::tempdir().expect("temporary folder");
    let recorded = record(
        &stripped,
        cache.path(),
        &[&format!("--debuginfod={}", nobody())],
    );
    assert_eq!(recorded.folded().with(HOT), 0);
    let report = recorded.report();
    assert!(report.contains("cannot be reached"), "{report}");
    let request = format!("/buildid/{}/debuginfo", stripped.id);
    assert!(report.contains(&request), "{report}");
}

#[test]
fn a_server_that_never_answers_ends_with_its_time() {
    if missing(&[&[Need::Perf], &NEEDS[2..]].concat()) {
        return;
    }
    let stripped = Stripped::make();
    let cache = tempfile::tempdir().expect("temporary folder");
    // The kernel takes connections for it; it never does.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let server = format!("--debuginfod={url}");
    let recorded = record(
        &stripped,
        cache.path(),
        &[&server, "--debuginfod-timeout=0.5"],
    );
    let report = recorded.report();
    assert!(report.contains("was not done within 500ms"), "{report}");
}

/// A server that speaks TLS, and the certificate of the authority that signed its own.
struct TlsServer {
    child: Child,
    url: String,
    authority: PathBuf,
}

impl TlsServer {
    /// Serves the debug file of `stripped` by its path.
    fn start(stripped: &Stripped, folder: &Path) -> TlsServer {
        let openssl = |args: &str| {
            run(Command::new("openssl")
                .args(args.split(' '))
                .current_dir(folder))
        };
        let file = folder.join(format!("buildid/{}/debuginfo", stripped.id));
        std::fs::create_dir_all(file.parent().expect("below the folder")).expect("made");
        std::fs::copy(stripped.store.join("steady.debug"), file).expect("copied");
        std::fs::write(
            folder.join("ext"),
            "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .expect("written");
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        );
        openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server");
        openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile ext",
        );
        let port = free_port();
        let child = Command::new("openssl")
            .args([
                "s_server",
                "-WWW",
                "-quiet",
                "-cert",
                "server.pem",
                "-key",
                "server.key",
                "-accept",
            ])
            .arg(format!("127.0.0.1:{port}"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "openssl does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        TlsServer {
            child,
            url: format!("https://127.0.0.1:{port}"),
            authority: folder.join("ca.pem"),
        }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_profile_is_mended_over_https_from_a_server_that_is_trusted_only() {
    if missing(&[&[Need::Perf, Need::Program("openssl")], &NEEDS[..]].concat()) {
        return;
    }
    let stripped = Stripped::make();
    let cache = tempfile::tempdir().expect("temporary folder");
    let recorded = record(&stripped, cache.path(), &[]);
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = TlsServer::start(&stripped, folder.path());
    let nowhere = folder.path().join("none");
    let mended = |certificates: &Path| {
        let out = tempfile::tempdir().expect("temporary folder");
        let folded = out.path().join("mended.folded");
        let entries = std::fs::read_dir(recorded.artifact("diagnostics")).expect("there");
        let mut files = entries.flatten().map(|entry| entry.path());
        let profile = files.find(|path| path.to_string_lossy().ends_with(".pb.gz"));
        let output = Command::new(perfprof())
            .arg("symbolize")
            .arg(profile.expect("a profile was written"))
            .arg(format!("--debuginfod={}", server.url))
            .arg("--artifacts")
            .arg(out.path())
            .arg("-o")
            .arg(&folded)
            .env("DEBUGINFOD_CACHE_PATH", cache.path())
            .env("SSL_CERT_FILE", certificates)
            .env("SSL_CERT_DIR", &nowhere)
            .output()
            .expect("perfprof runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (Folded::read(&folded).with(HOT), stderr)
    };
    let (hot, stderr) = mended(&nowhere);
    assert_eq!(hot, 0, "{stderr}");
    assert!(stderr.contains("certificate"), "{stderr}");
    let (hot, stderr) = mended(&server.authority);
    assert!(hot > 0, "{stderr}");
}
