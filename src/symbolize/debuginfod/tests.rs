//! The client against servers that mean it well, and against those that do not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, SystemTime};

use super::*;

/// What a server that should answer gets: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);
/// What one that will not answer gets.
const IMPATIENCE: Duration = Duration::from_millis(200);

/// A TCP server whose answers a test chooses.
struct Stub {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    closing: Arc<AtomicBool>,
}

impl Stub {
    /// `answer` gets the connection, the path that was asked for, and is called in a thread of its own.
    fn new(answer: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (asked, closing) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, stop, answer) = (asked.clone(), closing.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(SeqCst) {
                    return;
                }
                let (count, answer) = (count.clone(), answer.clone());
                thread::spawn(move || serve(stream, &count, &*answer));
            }
        });
        Stub {
            address,
            asked,
            closing,
        }
    }

    /// One that sends these bytes whatever is asked, and hangs up.
    fn saying(answer: impl Into<Vec<u8>>) -> Stub {
        let answer = answer.into();
        Stub::new(move |stream, _| {
            let _ = stream.write_all(&answer);
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.closing.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, count: &AtomicUsize, answer: &dyn Fn(&mut TcpStream, &str)) {
    let mut lines = BufReader::new(stream.try_clone().expect("cloned")).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    count.fetch_add(1, SeqCst);
    answer(&mut stream, first.split(' ').nth(1).unwrap_or(""));
}

fn id() -> BuildId {
    BuildId::from_hex("00112233445566778899aabbccddeeff00112233").expect("valid")
}

/// The smallest ELF file with this build ID: a header, one program header, a note; elf(5).
fn elf_of(id: BuildId) -> Vec<u8> {
    let note_bytes = 16 + id.as_bytes().len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([3u16, 62].map(u16::to_le_bytes).concat()); // ET_DYN, x86-64
    elf.extend(1u32.to_le_bytes());
    elf.extend([0u64, 64, 0].map(u64::to_le_bytes).concat()); // program headers at 64
    elf.extend(0u32.to_le_bytes());
    elf.extend([64u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    elf.extend([4u32, 4].map(u32::to_le_bytes).concat()); // PT_NOTE
    elf.extend(
        [120u64, 0, 0, note_bytes, note_bytes, 4]
            .map(u64::to_le_bytes)
            .concat(),
    );
    elf.extend(
        [4, id.as_bytes().len() as u32, 3]
            .map(u32::to_le_bytes)
            .concat(),
    ); // NT_GNU_BUILD_ID
    elf.extend(b"GNU\0");
    elf.extend(id.as_bytes());
    elf
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), body].concat()
}

fn good() -> Vec<u8> {
    let elf = elf_of(id());
    let sizes = format!(
        "Content-Length: {0}\r\nX-DEBUGINFOD-SIZE: {0}\r\n",
        elf.len()
    );
    ok(&sizes, &elf)
}

const MISSING: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

fn client(urls: &[String], cache: Option<&Path>, timeout: Duration) -> Debuginfod {
    Debuginfod::new(Config {
        urls: urls.to_vec(),
        timeout,
        max_bytes: 1 << 20,
        cache_dir: cache.map(Path::to_owned),
    })
}

fn fetch_from(stub: &Stub) -> Result<File, FetchError> {
    client(&[stub.url()], None, PATIENCE).fetch(id(), Artifact::DebugInfo)
}

fn error_of(stub: &Stub) -> &'static str {
    fetch_from(stub).expect_err("refused").id()
}

fn contents(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("readable");
    bytes
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A cache in a temporary folder, and the folder of [`id`] in it.
fn cache() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let of_id = dir.path().join(id().to_string());
    (dir, of_id)
}

#[test]
fn a_file_is_asked_for_by_its_path_and_kept_as_elfutils_keeps_it() {
    let stub = Stub::new(|stream, path| {
        let answer = match path == format!("/buildid/{}/debuginfo", id()) {
            true => good(),
            false => MISSING.into(),
        };
        let _ = stream.write_all(&answer);
    });
    let (dir, of_id) = cache();
    let first = client(&[stub.url()], Some(dir.path()), PATIENCE);
    let file = first.fetch(id(), Artifact::DebugInfo).expect("there");
    assert_eq!(contents(file), elf_of(id()));
    assert_eq!(names_in(&of_id), ["debuginfo"]);
    let fetched = first.fetched();
    assert_eq!((fetched.from_servers, fetched.from_cache), (1, 0));
    assert_eq!(fetched.bytes, elf_of(id()).len() as u64);
    assert_eq!(first.received_bytes(), fetched.bytes);

    let second = client(&[stub.url()], Some(dir.path()), PATIENCE);
    let file = second
        .fetch(id(), Artifact::DebugInfo)
        .expect("in the cache");
    assert_eq!(contents(file), elf_of(id()));
    assert_eq!((stub.asked(), second.fetched().from_cache), (1, 1));
    let missing = second.fetch(id(), Artifact::Executable);
    assert_eq!(missing.expect_err("not there"), FetchError::NotFound);
    assert_eq!(names_in(&of_id), ["debuginfo", "executable"]);
}

#[test]
fn a_server_that_never_answers_is_asked_once() {
    let stub = Stub::new(|_, _| thread::sleep(PATIENCE));
    let (dir, of_id) = cache();
    let client = client(&[stub.url()], Some(dir.path()), IMPATIENCE);
    for _ in 0..3 {
        let error = client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("nothing came");
        assert_eq!(error.id(), "timed-out");
    }
    assert_eq!(stub.asked(), 1);
    assert_eq!(client.fetched().failed["timed-out"].0, 3);
    assert_eq!(
        names_in(&of_id),
        [""; 0],
        "nothing is remembered as missing"
    );
}

#[test]
fn a_server_that_drips_is_not_waited_for() {
    let drip = |stream: &mut TcpStream, before: &str, drop: &[u8]| {
        let _ = stream.write_all(before.as_bytes());
        while stream.write_all(drop).is_ok() {
            thread::sleep(IMPATIENCE / 20);
        }
    };
    let in_body = Stub::new(move |stream, _| drip(stream, "HTTP/1.1 200 OK\r\n\r\n", b"x"));
    let in_header = Stub::new(move |stream, _| drip(stream, "HTTP/1.1 200 OK\r\nX: ", b"y"));
    for stub in [in_body, in_header] {
        let client = client(&[stub.url()], None, IMPATIENCE);
        let error = client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("nothing whole came");
        assert_eq!(error.id(), "timed-out");
    }
}

#[test]
fn a_server_that_takes_long_to_have_nothing_is_given_up_too() {
    let stub = Stub::new(|stream, _| {
        thread::sleep(IMPATIENCE * 2 / 3);
        let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    });
    let client = client(&[stub.url()], None, IMPATIENCE);
    for _ in 0..5 {
        client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("nothing came");
    }
    assert!(stub.asked() <= 2, "asked {} times", stub.asked());
}

#[test]
fn a_server_that_is_not_there_is_told_from_a_file_that_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let (dir, of_id) = cache();
    let client = client(&[url], Some(dir.path()), PATIENCE);
    let error = client
        .fetch(id(), Artifact::DebugInfo)
        .expect_err("nobody there");
    assert_eq!(error.id(), "unreachable");
    assert_eq!(names_in(&of_id), [""; 0]);
}

#[test]
fn sizes_are_bounded_and_lies_about_them_found() {
    let elf = elf_of(id());
    let endless = Stub::new(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".to_vec(), vec![0; 0x10000], b"\r\n".to_vec()].concat();
        while stream.write_all(&chunk).is_ok() {}
    });
    assert_eq!(error_of(&endless), "too-large");
    let huge = Stub::saying(ok("Content-Length: 99999999999\r\n", &elf));
    assert_eq!(error_of(&huge), "too-large");
    let unpacked = Stub::saying(ok("X-DEBUGINFOD-SIZE: 99999999999\r\n", &elf));
    assert_eq!(error_of(&unpacked), "too-large");
    let refused = Stub::saying("HTTP/1.1 406 Not Acceptable\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(error_of(&refused), "too-large");
    let cut = Stub::saying(ok("Content-Length: 100000\r\n", &elf));
    assert_eq!(error_of(&cut), "bad-response");
    let other = Stub::saying(ok("X-DEBUGINFOD-SIZE: 9\r\n", &elf));
    assert_eq!(error_of(&other), "bad-response");
    let torn = Stub::saying(ok("Transfer-Encoding: chunked\r\n", b"1000\r\nabc"));
    assert_eq!(error_of(&torn), "bad-response");
    let packed = Stub::saying(ok("Content-Encoding: gzip\r\n", &elf));
    assert_eq!(error_of(&packed), "bad-response");
}

#[test]
fn what_is_no_answer_is_said_without_its_control_characters() {
    for answer in [
        "",
        "HTTP/1.1 503 \u{1b}[31m\r\n\r\n",
        "\u{1b}]0;x\u{7}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA:\u{1b}[2J\0\r\n\r\n",
    ] {
        let stub = Stub::saying(answer);
        let error = fetch_from(&stub).expect_err("no file");
        assert_eq!(error.id(), "bad-response", "{answer:?}: {error}");
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
    }
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let target = Stub::saying(good());
    let away = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}/x\r\nContent-Length: 0\r\n\r\n",
        target.url()
    );
    assert_eq!(
        contents(fetch_from(&Stub::saying(away)).expect("followed")),
        elf_of(id())
    );

    let around = Stub::new(|stream, path| {
        let answer =
            format!("HTTP/1.1 302 Found\r\nLocation: {path}x\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes());
    });
    assert_eq!(error_of(&around), "bad-response");
    assert!(around.asked() <= 10, "asked {} times", around.asked());
    for elsewhere in ["file:///etc/passwd", "gopher://a", "http://", "//"] {
        let stub = Stub::saying(format!(
            "HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n"
        ));
        fetch_from(&stub).expect_err("not followed");
    }
}

#[test]
fn another_build_is_refused_and_leaves_nothing_behind() {
    let other = elf_of(BuildId::from_hex("aa").expect("valid"));
    let (dir, of_id) = cache();
    for body in [&other[..], b"<html>", b""] {
        let stub = Stub::saying(ok(&format!("Content-Length: {}\r\n", body.len()), body));
        let client = client(&[stub.url()], Some(dir.path()), PATIENCE);
        let error = client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("another build");
        assert_eq!(error.id(), "wrong-build-id");
        assert_eq!(names_in(&of_id), [""; 0]);
    }
}

#[test]
fn the_next_server_is_asked_where_one_fails_or_has_nothing() {
    let wrong = Stub::saying(ok("", b"no ELF"));
    let (missing, having) = (Stub::saying(MISSING), Stub::saying(good()));
    let urls = [wrong.url(), missing.url(), having.url()];
    let (dir, _) = cache();
    let all = client(&urls, Some(dir.path()), PATIENCE);
    assert_eq!(
        contents(
            all.fetch(id(), Artifact::DebugInfo)
                .expect("the last has it")
        ),
        elf_of(id())
    );

    let (dir, of_id) = cache();
    let two = client(&urls[..2], Some(dir.path()), PATIENCE);
    let error = two
        .fetch(id(), Artifact::DebugInfo)
        .expect_err("none has it");
    assert_eq!(error.id(), "wrong-build-id", "the more telling answer");
    assert_eq!(
        names_in(&of_id),
        [""; 0],
        "one of them may have it tomorrow"
    );
}

#[test]
fn that_nobody_has_it_is_remembered_for_a_while() {
    let stub = Stub::saying(MISSING);
    let (dir, of_id) = cache();
    let ask = || {
        let client = client(&[stub.url()], Some(dir.path()), PATIENCE);
        let error = client
            .fetch(id(), Artifact::DebugInfo)
            .expect_err("not there");
        assert_eq!(error, FetchError::NotFound);
        stub.asked()
    };
    assert_eq!((ask(), ask()), (1, 1));
    let age = |to: SystemTime| {
        let empty = File::open(of_id.join("debuginfo")).expect("an empty file");
        empty.set_modified(to).expect("own file");
    };
    age(SystemTime::now() - Duration::from_secs(700));
    assert_eq!((ask(), ask()), (2, 2), "older than ten minutes");
    age(SystemTime::now() + Duration::from_secs(700));
    assert_eq!(ask(), 3, "made in the future");
    std::fs::write(dir.path().join("cache_miss_s"), "7200\n").expect("written");
    age(SystemTime::now() - Duration::from_secs(700));
    assert_eq!(ask(), 3, "the folder's own patience");
}

#[test]
fn what_lies_in_the_cache_is_checked_and_replaced() {
    let stub = Stub::saying(good());
    let (dir, of_id) = cache();
    let file = of_id.join("debuginfo");
    let elsewhere = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::create_dir(&of_id).expect("made");
    let other: &dyn Fn() = &|| {
        std::fs::write(&file, elf_of(BuildId::from_hex("aa").expect("valid"))).expect("written")
    };
    let link: &dyn Fn() = &|| symlink(elsewhere.path(), &file).expect("linked");
    let fifo: &dyn Fn() =
        &|| nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("made");
    for (put, refused) in [(other, 1), (link, 0), (fifo, 0)] {
        put();
        let client = client(&[stub.url()], Some(dir.path()), PATIENCE);
        let fetched = client.fetch(id(), Artifact::DebugInfo).expect("fetched");
        assert_eq!(contents(fetched), elf_of(id()));
        assert_eq!(client.fetched().refused_in_cache, refused);
        assert!(std::fs::symlink_metadata(&file).expect("there").is_file());
        std::fs::remove_file(&file).expect("removed");
    }
    assert_eq!(elsewhere.as_file().metadata().expect("there").len(), 0);
}

#[test]
fn a_cache_that_others_can_write_is_not_used_and_that_is_said() {
    let stub = Stub::saying(good());
    let (dir, of_id) = cache();
    let open_to = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("own")
    };
    open_to(dir.path(), 0o777);
    let unsafe_one = client(&[stub.url()], Some(dir.path()), PATIENCE);
    assert_eq!(
        contents(
            unsafe_one
                .fetch(id(), Artifact::DebugInfo)
                .expect("fetched")
        ),
        elf_of(id())
    );
    assert!(
        unsafe_one
            .fetched()
            .cache_refused
            .expect("said")
            .contains("others may write")
    );
    assert!(!of_id.exists());

    open_to(dir.path(), 0o700);
    std::fs::create_dir(&of_id).expect("made");
    open_to(&of_id, 0o777);
    let inner = client(&[stub.url()], Some(dir.path()), PATIENCE);
    let error = inner
        .fetch(id(), Artifact::DebugInfo)
        .expect_err("nowhere to put it");
    assert_eq!(error.id(), "not-stored");

    let none = client(&[stub.url()], Some(Path::new("/proc/nowhere")), PATIENCE);
    assert!(none.fetched().cache_refused.is_some());
    assert!(none.fetch(id(), Artifact::DebugInfo).is_ok());
}

#[test]
fn the_cache_is_where_elfutils_keeps_it() {
    let home = tempfile::tempdir().expect("temporary folder");
    let folder = |path: Option<&str>, xdg: Option<&str>| {
        default_folder_with(&[
            ("DEBUGINFOD_CACHE_PATH", path),
            ("XDG_CACHE_HOME", xdg),
            ("HOME", home.path().to_str()),
        ])
    };
    assert_eq!(folder(Some("/a"), Some("/b")), Some("/a".into()));
    assert_eq!(
        folder(Some("relative"), Some("/b")),
        Some("/b/debuginfod_client".into())
    );
    assert_eq!(
        folder(None, None),
        Some(home.path().join(".cache/debuginfod_client"))
    );
    let former = home.path().join(".debuginfod_client_cache");
    std::fs::create_dir(&former).expect("made");
    assert_eq!(folder(None, Some("/b")), Some(former));
    assert_eq!(default_folder_with(&[]), None);
}

fn default_folder_with(variables: &[(&str, Option<&str>)]) -> Option<PathBuf> {
    cache::default_folder(|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found?.1.map(Into::into)
    })
}

#[test]
fn an_https_server_that_speaks_no_tls_is_an_error() {
    let stub = Stub::saying("220 hello\r\n");
    let url = format!("https://{}", stub.address);
    let client = client(&[url], None, PATIENCE);
    client.fetch(id(), Artifact::DebugInfo).expect_err("no TLS");
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let client = client(&[format!("http://me:secret@{address}")], None, PATIENCE);
    let error = client
        .fetch(id(), Artifact::DebugInfo)
        .expect_err("nobody there");
    assert!(!error.to_string().contains("secret"), "{error}");
}
