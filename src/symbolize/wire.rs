//! What perfprof and the process that reads ELF and DWARF for it say to each other.
//!
//! In: JSON over a [`Channel`], with open files. One question is answered at a time: perfprof asks for names; the worker
//! may ask back for files it has found to need, and then answers.

use std::fs::File;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sys::channel::Channel;

/// What perfprof says. Files go with `Name` (as many as `files` lists) and `Files`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Name(NameRequest),
    /// The answer to [`Answer::Wanted`]: candidates, best first.
    Files(Vec<Candidate>),
}

/// Names are wanted for addresses of one program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NameRequest {
    /// Names the program between the two.
    pub program: u32,
    /// Whether it is asked for the first time.
    pub new: bool,
    /// For messages.
    pub path: String,
    /// Of a new one, the program itself (where it is at hand) and then candidates for its debug information.
    pub files: Vec<Candidate>,
    /// What those must have that are not the program itself.
    pub build_id: Option<String>,
    /// As the file numbers them.
    pub addrs: Vec<u64>,
    /// Leave debug information alone: reading it has failed before.
    pub symbols_only: bool,
}

/// A file that may hold what is sought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Candidate {
    /// For messages, and for what is sought beside it.
    pub path: String,
    pub check: Check,
}

/// How it is known that a candidate belongs to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Check {
    /// It is the program.
    Itself,
    /// It must have the same build ID.
    BuildId,
    /// It must have this CRC, and the same build ID where both have one.
    Crc(u32),
    /// The worker knows what to look for.
    ByContent,
}

/// What the worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Wanted(Wanted),
    Named(Named),
}

/// A file that debug information names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Wanted {
    /// Debug information of the build with this ID, from wherever it can be had.
    DebugInfo { build_id: String },
    /// What several debug files have in common, from `.gnu_debugaltlink` or `.debug_sup` of the file at `beside`.
    Supplement {
        beside: String,
        name: String,
        build_id: String,
    },
    /// All split units of the file at `beside` in one package.
    Package { beside: String },
    /// One split unit, by the folder it was compiled in and its name.
    SplitUnit {
        beside: String,
        folder: String,
        name: String,
    },
}

/// Names, by position of the addresses asked for. Texts are said once, and named by position.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Named {
    pub texts: Vec<String>,
    /// Innermost function first; empty where nothing is known.
    pub frames: Vec<Vec<NamedFunction>>,
    /// What a person should know, in whole sentences.
    pub notes: Vec<String>,
    /// The file could not be parsed at all.
    pub unreadable: bool,
    /// The worker's own, so far.
    pub cpu_ns: u64,
    pub max_rss_bytes: u64,
}

/// Positions in [`Named::texts`], and a line (0 where unknown).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct NamedFunction {
    pub name: u32,
    pub linkage_name: u32,
    pub file: u32,
    pub line: u32,
}

pub(super) fn send(
    channel: &mut Channel,
    message: &impl Serialize,
    files: &[&File],
) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, files)
}

pub(super) fn receive<T: DeserializeOwned>(channel: &mut Channel) -> io::Result<(T, Vec<File>)> {
    let message = channel.receive()?;
    Ok((serde_json::from_slice(&message.bytes)?, message.files))
}
