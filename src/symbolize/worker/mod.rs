//! The process that reads ELF files and DWARF of others for perfprof.
//!
//! In: open files and addresses, over its standard input. Out: functions, inlined ones included, files and lines. It has
//! no privileges and a limit of memory ([`crate::sys::confined`]): a file made to crash or to overwhelm its reader ends
//! this process, which perfprof notices and counts. That is also why nothing here gives memory back: the process is
//! replaced when it has grown too large.

mod dwarf;
mod functions;
mod image;
mod lines;
mod names;
mod program;
mod split;
mod symbols;
mod units;

use std::fs::File;
use std::io;

use crate::sys::channel::Channel;
use crate::sys::confined::confine_self;
use crate::sys::usage::OwnUsage;

use super::wire::{self, Answer, Candidate, NameRequest, Request, Wanted};
use program::Programs;

/// What a worker needs besides what it reads: its own heap, stacks, and the messages.
const OWN_BYTES: u64 = 64 << 20;

/// Serves the process that started this one until it hangs up. `memory_bytes` may be used for what is read.
pub fn serve(memory_bytes: u64) -> io::Result<()> {
    let channel = Channel::of_standard_input()?;
    confine_self(memory_bytes.saturating_add(OWN_BYTES))?;
    let mut desk = Desk { channel };
    let mut programs = Programs::new(memory_bytes);
    loop {
        let (request, files) = match wire::receive(&mut desk.channel) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            received => received?,
        };
        match request {
            Request::Name(request) => desk.name(&mut programs, &request, files)?,
            Request::Files(_) => return Err(io::Error::other("files that nobody asked for")),
        }
    }
}

/// Where the worker's questions are answered.
#[derive(Debug)]
struct Desk {
    channel: Channel,
}

impl Desk {
    fn name(
        &mut self,
        programs: &mut Programs,
        request: &NameRequest,
        files: Vec<File>,
    ) -> io::Result<()> {
        let mut named = programs.name(request, files, self);
        let usage = OwnUsage::now();
        (named.cpu_ns, named.max_rss_bytes) = (usage.cpu_ns, usage.max_rss_bytes);
        wire::send(&mut self.channel, &Answer::Named(named), &[])
    }
}

/// Gets files that debug information names.
trait Fetch {
    /// Candidates, best first; none where the question itself fails.
    fn fetch(&mut self, wanted: Wanted) -> Vec<(Candidate, File)>;
}

impl Fetch for Desk {
    fn fetch(&mut self, wanted: Wanted) -> Vec<(Candidate, File)> {
        let asked = wire::send(&mut self.channel, &Answer::Wanted(wanted), &[]);
        let answer = asked.and_then(|()| wire::receive(&mut self.channel));
        match answer {
            Ok((Request::Files(candidates), files)) => candidates.into_iter().zip(files).collect(),
            // The other side is gone: the answer to the question at hand cannot be sent either, and ends this process.
            _ => Vec::new(),
        }
    }
}
