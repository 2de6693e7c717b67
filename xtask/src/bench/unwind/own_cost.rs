//! Figure 3, what the recorder itself uses: CPU time, memory, bytes.
//!
//! Recorded for a short and for a long time, by turns: the difference of the two, over the difference of their samples, is
//! what a sample costs; what is left of the short one is what starting and stopping costs, names and tables included.

use std::thread;
use std::time::Duration;

use super::recorder::{Recording, Taken, Tool};
use super::scene::{Play, Scene};
use crate::bench::book::{Book, Target};
use crate::bench::peers::Peers;

const HZ: u32 = 997;
/// Long enough that both recordings hold kernel frames, whose names are read once.
const SHORT: Duration = Duration::from_millis(1500);
const LONG: Duration = Duration::from_millis(6000);

const TOOLS: [Tool; 4] = [
    Tool::Perfprof,
    Tool::PerfFp,
    Tool::Samply,
    Tool::SamplyNamed,
];

const PER_SAMPLE: &str = "own CPU per 1000 samples, ms, w1";
const IN_ALL: &str = "own CPU per 1000 samples, start and stop of 6 s included, ms, w1";
const ONCE: &str = "own CPU once, s, w1";
const MEMORY: &str = "peak memory, MB, w1";
const BYTES: &str = "bytes per 1000 samples, w1";
const ALL_BYTES: &str = "bytes per 1000 samples with all reports, w1";
const LONG_SAMPLES: &str = "samples of the long recording, w1";

const FIGURES: [&str; 7] = [
    PER_SAMPLE,
    IN_ALL,
    ONCE,
    MEMORY,
    BYTES,
    ALL_BYTES,
    LONG_SAMPLES,
];

pub(super) fn measure(peers: &Peers, rounds: usize, book: &mut Book) -> anyhow::Result<()> {
    let mut scene = Scene::start(Play::W1)?;
    for round in 1..=rounds {
        println!("what the recorder uses: round {round} of {rounds}");
        for tool in TOOLS.into_iter().filter(|tool| tool.is_there(peers)) {
            if let Err(error) = turn(tool, peers, &mut scene, book) {
                scene.pause()?;
                book.gap(format!("what {} uses: {error:#}", tool.name()));
                for figure in FIGURES {
                    book.note(figure, &tool.name(), f64::NAN);
                }
            }
        }
    }
    for figure in FIGURES {
        book.print(figure);
    }
    book.row(PER_SAMPLE, "samply", Target::Times(0.15));
    book.row(IN_ALL, "samply", Target::None);
    book.row(ONCE, "perf -g", Target::Times(1.0));
    book.row(MEMORY, "samply with names", Target::Times(1.0));
    book.row(MEMORY, "samply", Target::None);
    book.row(BYTES, "samply", Target::Times(1.0));
    let reports = book.series(ALL_BYTES, "perfprof").to_vec();
    let samply = book.series(BYTES, "samply").to_vec();
    book.row_of(ALL_BYTES, &reports, "samply", &samply, Target::None);
    Ok(())
}

fn turn(tool: Tool, peers: &Peers, scene: &mut Scene, book: &mut Book) -> anyhow::Result<()> {
    let short = record(tool, peers, scene, SHORT)?;
    let long = record(tool, peers, scene, LONG)?;
    let name = tool.name();
    let seconds =
        (long.ended.cpu_seconds - short.ended.cpu_seconds) / (long.samples - short.samples);
    book.note(PER_SAMPLE, &name, seconds * 1e6);
    book.note(
        ONCE,
        &name,
        short.ended.cpu_seconds - seconds * short.samples,
    );
    book.note(MEMORY, &name, long.ended.rss_bytes as f64 / 1e6);
    let thousands = long.samples / 1000.0;
    book.note(IN_ALL, &name, long.ended.cpu_seconds * 1e3 / thousands);
    book.note(BYTES, &name, long.profile_bytes(tool)? / thousands);
    if tool == Tool::Perfprof {
        book.note(ALL_BYTES, &name, long.artifact_bytes()? / thousands);
    }
    book.note(LONG_SAMPLES, &name, long.samples);
    Ok(())
}

fn record(tool: Tool, peers: &Peers, scene: &mut Scene, time: Duration) -> anyhow::Result<Taken> {
    scene.resume()?;
    let recording = Recording::start(tool, peers, scene.scope(), HZ)?;
    thread::sleep(time);
    let taken = recording.finish()?;
    scene.pause()?;
    Ok(taken)
}
