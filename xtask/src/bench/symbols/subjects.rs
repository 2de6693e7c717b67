//! What is recorded: a new process each time, busy for much longer than a recording.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::generated_crate;
use crate::target_dir;

use super::debug_builds;
use super::symbol_server::{self, Asker};

/// What a process does before it is recorded, so that start-up is over.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// debug=2, searching a tree of text in two threads.
    Ripgrep,
    /// debug=2, its server looking up addresses of itself.
    Samply,
    /// As rustup ships it, with a symbol table only, compiling a generated crate.
    Rustc,
}

pub(super) const SUBJECTS: [Subject; 3] = [Subject::Ripgrep, Subject::Samply, Subject::Rustc];

impl Subject {
    pub(super) fn name(self) -> &'static str {
        match self {
            Subject::Ripgrep => "ripgrep",
            Subject::Samply => "samply",
            Subject::Rustc => "rustc",
        }
    }

    /// Seconds and peak megabytes of lightswitch 0.5.0 with a change that made it yield on our kernel, some other day.
    pub(super) fn lightswitch_once(self) -> (Option<f64>, Option<f64>) {
        match self {
            Subject::Ripgrep => (Some(1.26), None),
            Subject::Samply => (Some(1.56), Some(241.0)),
            Subject::Rustc => (Some(1.84), None),
        }
    }

    /// Builds what it needs.
    pub(super) fn prepare(self) -> anyhow::Result<()> {
        fs::create_dir_all(folder()).context("failed to create a folder")?;
        let program = match self {
            Subject::Ripgrep => {
                write_tree()?;
                debug_builds::ripgrep()?
            }
            Subject::Samply => debug_builds::samply()?,
            Subject::Rustc => return generated_crate::write(),
        };
        let megabytes = symbol_server::size(&program) as f64 / 1e6;
        println!("bench: {} with debug=2 has {megabytes:.0} MB", self.name());
        Ok(())
    }
}

/// Killed when dropped.
#[derive(Debug)]
pub(super) struct Busy {
    child: Child,
    asker: Option<Asker>,
}

impl Busy {
    pub(super) fn start(subject: Subject) -> anyhow::Result<Busy> {
        let (child, asker) = match subject {
            Subject::Ripgrep => (spawn(&mut ripgrep()?)?, None),
            Subject::Samply => {
                let (child, asker) = symbol_server::start(&debug_builds::samply()?)?;
                (child, Some(asker))
            }
            Subject::Rustc => (spawn(&mut generated_crate::rustc()?)?, None),
        };
        let mut busy = Busy { child, asker };
        thread::sleep(SETTLE);
        if let Some(status) = busy.child.try_wait()? {
            bail!(
                "{} ended with {status} before it was recorded",
                subject.name()
            );
        }
        Ok(busy)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn pause(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("what was recorded ended with {status} before the recording did");
        }
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGSTOP)
            .context("failed to stop what is recorded")
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.asker = None;
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet
        .spawn()
        .with_context(|| format!("failed to start `{name}`"))
}

pub(super) fn folder() -> PathBuf {
    target_dir().join("bench/symbols")
}

/// Searches the tree a thousand times over, a minute and more.
fn ripgrep() -> anyhow::Result<Command> {
    let mut command = Command::new(debug_builds::ripgrep()?);
    command.current_dir(folder());
    command.args([
        "-c",
        "-j2",
        "-i",
        r"\b(holmes|watson)\s+\w+ing\s.*[0-9]{5}$",
    ]);
    command.args(std::iter::repeat_n("tree", 1000));
    Ok(command)
}

/// 320 files of 2,000 lines, 37 MB; always the same.
fn write_tree() -> anyhow::Result<()> {
    const WORDS: [&str; 15] = [
        "sampling", "stack", "frame", "unwind", "Holmes", "watching", "kernel", "table", "symbol",
        "naming", "address", "Watson", "line", "file", "running",
    ];
    let mut seed = 1u64;
    let mut random = |below: u64| {
        // Knuth's MMIX generator; its upper bits are the good ones.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for file in 0..320 {
        let mut text = String::new();
        for _ in 0..2000 {
            for _ in 0..3 + random(9) {
                text.push_str(WORDS[random(WORDS.len() as u64) as usize]);
                text.push(' ');
            }
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", random(100_000));
        }
        let folder = folder().join(format!("tree/{}", file / 40));
        fs::create_dir_all(&folder).context("failed to create a folder of texts")?;
        fs::write(folder.join(format!("{file}.txt")), text).context("failed to write a text")?;
    }
    Ok(())
}
