//! The client against servers that mean it well, and against those that do not: a server whose answers a test chooses, and
//! the smallest file that is a right answer.

mod caching;
mod transfer;

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
