//! A large program that is busy as long as somebody asks: samply's server, asked for names in samply itself.
//!
//! In: samply, built with debug=2. Out: its process, which looks up addresses drawn at random for as long as the asker
//! lives. The profile that it is started with is empty but for the list of its libraries, which is samply's executable.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, ensure};
use serde_json::json;

use super::subjects::folder;

/// Addresses in one request: some milliseconds of work.
const ADDRESSES: usize = 200;

/// Asks until it is dropped.
#[derive(Debug)]
pub(super) struct Asker {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a request needs to know.
#[derive(Clone, Debug)]
struct Server {
    /// `127.0.0.1:PORT`.
    address: String,
    /// First part of every path.
    token: String,
    breakpad_id: String,
    text: std::ops::Range<u64>,
}

/// The server's process and who keeps it busy. It has answered once: its index is made.
pub(super) fn start(samply: &Path) -> anyhow::Result<(Child, Asker)> {
    let build_id = build_id(samply)?;
    let breakpad_id = breakpad_id(&build_id);
    let profile = write_profile(samply, &build_id, &breakpad_id)?;
    let mut child = Command::new(samply)
        .args(["load", "--no-open"])
        .arg(profile)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to start samply's server")?;
    let asker = greeting(&mut child).and_then(|(address, token)| {
        let text = text_range(samply)?;
        let server = Server {
            address,
            token,
            breakpad_id,
            text,
        };
        server.ask(&mut 1)?;
        Ok(Asker::start(server))
    });
    if asker.is_err() {
        // Both fail only when it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok((child, asker?))
}

/// Address and token, from the one line that says them, all percent-encoded:
/// `https://…/from-url/http%3A%2F%2F127.0.0.1%3A3000%2FTOKEN%2Fprofile.json`.
fn greeting(child: &mut Child) -> anyhow::Result<(String, String)> {
    let output = child.stdout.take().context("standard output is a pipe")?;
    let mut output = BufReader::new(output);
    let mut line = String::new();
    while !line.contains("127.0.0.1%3A") {
        line.clear();
        let read = output
            .read_line(&mut line)
            .context("failed to read samply's words")?;
        ensure!(read > 0, "samply's server does not say where it is");
    }
    let (_, rest) = line.split_once("127.0.0.1%3A").unwrap_or_default();
    let mut words = rest.split("%2F");
    let (port, token) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    Ok((format!("127.0.0.1:{port}"), token.to_string()))
}

fn write_profile(samply: &Path, build_id: &str, breakpad_id: &str) -> anyhow::Result<PathBuf> {
    let library = json!({
        "name": "samply", "path": samply, "debugName": "samply", "debugPath": samply,
        "breakpadId": breakpad_id, "codeId": build_id, "arch": "x86_64",
    });
    let profile = json!({
        "meta": { "version": 24, "preprocessedProfileVersion": 44 },
        "libs": [library], "threads": [], "processes": [],
    });
    let path = folder().join("samply-itself.json");
    let mut file = File::create(&path).context("failed to create a profile")?;
    file.write_all(profile.to_string().as_bytes())?;
    Ok(path)
}

impl Server {
    /// One request to its last byte. `seed` is changed by it.
    fn ask(&self, seed: &mut u64) -> anyhow::Result<()> {
        let span = self.text.end - self.text.start;
        let mut addresses = Vec::with_capacity(ADDRESSES);
        for _ in 0..ADDRESSES {
            // xorshift64: any numbers will do, the same ones each time.
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            addresses.push(json!([0, self.text.start + *seed % span]));
        }
        let memory_map = json!([["samply", self.breakpad_id]]);
        let body = json!({"jobs": [{"memoryMap": memory_map, "stacks": [addresses]}]}).to_string();
        let mut stream = TcpStream::connect(&self.address).context("samply's server is gone")?;
        write!(
            stream,
            "POST /{}/symbolicate/v5 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            self.address,
            body.len()
        )?;
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .context("samply's server does not answer")?;
        ensure!(
            answer.starts_with(b"HTTP/1.1 200"),
            "samply's server refuses to look up addresses"
        );
        Ok(())
    }
}

impl Asker {
    fn start(server: Server) -> Asker {
        let stopping = Arc::new(AtomicBool::new(false));
        let asked_to_stop = stopping.clone();
        let thread = thread::spawn(move || {
            let mut seed = 88_172_645_463_325_252;
            // The server is killed when the recording is over; that ends the last request.
            while !asked_to_stop.load(Ordering::Relaxed) && server.ask(&mut seed).is_ok() {}
        });
        Asker {
            stopping,
            thread: Some(thread),
        }
    }
}

impl Drop for Asker {
    /// The server must have ended: a request that it does not answer would last.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

fn readelf(flag: &str, program: &Path) -> anyhow::Result<String> {
    let output = Command::new("readelf")
        .arg(flag)
        .arg(program)
        .output()
        .context("failed to run readelf")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn build_id(program: &Path) -> anyhow::Result<String> {
    let notes = readelf("-n", program)?;
    let id = notes
        .split("Build ID: ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let id = id.with_context(|| format!("`{}` has no build ID", program.display()))?;
    ensure!(
        id.len() >= 32 && id.is_ascii(),
        "the build ID `{id}` is short"
    );
    Ok(id.to_string())
}

/// The first 16 bytes of a build ID as a GUID, whose first three fields are little-endian, and the age 0. Source: how
/// Breakpad makes a debug identifier out of a build ID.
fn breakpad_id(build_id: &str) -> String {
    let bytes: Vec<&str> = (0..16).map(|at| &build_id[2 * at..2 * at + 2]).collect();
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let hex: String = order.iter().map(|at| bytes[*at]).collect();
    hex.to_uppercase() + "0"
}

/// Where `.text` is loaded.
fn text_range(program: &Path) -> anyhow::Result<std::ops::Range<u64>> {
    let sections = readelf("-SW", program)?;
    let words = sections
        .lines()
        .find_map(|line| line.split_once(" .text "))
        .map(|(_, rest)| rest);
    // PROGBITS, address, offset, size.
    let words: Vec<&str> = words
        .context("it has no `.text`")?
        .split_whitespace()
        .collect();
    let number = |at: usize| u64::from_str_radix(words.get(at).unwrap_or(&""), 16);
    let (start, size) = (number(1)?, number(3)?);
    ensure!(size > 0, "its `.text` is empty");
    Ok(start..start + size)
}

/// How large the program is, in bytes.
pub(super) fn size(program: &Path) -> u64 {
    fs::metadata(program).map_or(0, |about| about.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_becomes_a_guid() {
        let id = breakpad_id("000102030405060708090a0b0c0d0e0f10111213");
        assert_eq!(id, "03020100050407060809".to_string() + "0A0B0C0D0E0F0");
    }
}
