//! Figure 1, nanoseconds inside BPF per sample, and with the same recordings perfprof's share of complete stacks.
//!
//! The peer is the kernel's walk of frame pointers, `xtask/bpf/floor.bpf.c`, on the same program built with frame
//! pointers. A real program has none; there the peer is `bpf_get_stackid` on the same real program, which sees a frame
//! or two of it (and the same kernel stacks), plus the frames it does not see at what a frame costs it: the slope
//! between 8 and 60 frames, measured in the same round.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Context;

use super::kernel_cost::{KernelCost, Reading};
use super::recorder::{Recording, Scope, Taken, Tool, stacks_metric};
use super::scene::{Play, Scene};
use crate::bench::book::{Book, Target};
use crate::bench::peers::Peers;

const HZ: u32 = 997;
const WARM_UP: Duration = Duration::from_millis(500);
/// It drops samples until it has made its tables.
const LIGHTSWITCH_WARM_UP: Duration = Duration::from_millis(2000);
const WINDOW: Duration = Duration::from_millis(1500);

const FLOOR: &str = "bpf_get_stackid";
/// Measured on a machine like the one this was written on; `lightswitch` 0.5, 60 frames.
const LIGHTSWITCH_EARLIER: &str = "21,000 to 25,000";

/// What one recording gave.
struct Measured {
    grown: Reading,
    taken: Taken,
}

/// What a run for somebody else's tick costs.
struct Misses {
    perfprof_ns: f64,
    floor_ns: f64,
}

/// `bpf_get_stackid` as a function of depth: a line through two measurements.
#[derive(Clone, Copy, Debug)]
struct Line {
    ns_per_frame: f64,
}

pub(super) fn measure(
    peers: &Peers,
    plays: &[Play],
    rounds: usize,
    book: &mut Book,
) -> anyhow::Result<()> {
    if !peers.bpftool {
        book.gap("time inside BPF: bpftool is not installed".into());
        return Ok(());
    }
    let mut scenes = start_all(plays, book);
    let mut pair = Scene::of_fixture(Play::W1, "idle.c", &[])?;
    let mut noise = Scene::start(Play::W1)?;
    let mut twins = Twins::start()?;
    for round in 1..=rounds {
        println!("inside the kernel: round {round} of {rounds}");
        let misses = misses(peers, &mut pair, &mut noise, book)?;
        let line = twins.measure(peers, &misses, book);
        for scene in &mut scenes {
            if let Err(error) = turn(peers, scene, &misses, line, book) {
                book.gap(format!(
                    "{} inside the kernel: {error:#}",
                    scene.play.name()
                ));
            }
        }
    }
    report(plays, book);
    Ok(())
}

fn start_all(plays: &[Play], book: &mut Book) -> Vec<Scene> {
    let mut scenes = Vec::new();
    for play in plays {
        match Scene::start(*play) {
            Ok(scene) => scenes.push(scene),
            Err(error) => book.gap(format!("workload {}: {error:#}", play.name())),
        }
    }
    scenes
}

/// Records a scene that works; the growth of the figures over a window that begins when caches are warm.
fn record(tool: Tool, peers: &Peers, scope: Scope) -> anyhow::Result<Measured> {
    let recording = Recording::start(tool, peers, scope, HZ)?;
    let cost = KernelCost::of(recording.pid());
    thread::sleep(WARM_UP);
    let before = cost.read()?;
    thread::sleep(WINDOW);
    let grown = cost.read()?.since(&before);
    let taken = recording.finish()?;
    Ok(Measured { grown, taken })
}

/// Both programs while their target sleeps and others keep all CPUs busy.
fn misses(
    peers: &Peers,
    idle: &mut Scene,
    noise: &mut Scene,
    book: &mut Book,
) -> anyhow::Result<Misses> {
    noise.resume()?;
    let mut of = |tool: Tool| {
        // perfprof has no samples and says so with an error; its program's figures are read before.
        let ns = miss_of(tool, peers, idle.scope());
        book.note_or_gap("BPF ns per run for others' ticks", &tool.name(), ns);
        book.series("BPF ns per run for others' ticks", &tool.name())
            .last()
            .copied()
    };
    let misses = Misses {
        perfprof_ns: of(Tool::Perfprof).unwrap_or(f64::NAN),
        floor_ns: of(Tool::Floor).unwrap_or(f64::NAN),
    };
    noise.pause()?;
    Ok(misses)
}

fn miss_of(tool: Tool, peers: &Peers, scope: Scope) -> anyhow::Result<f64> {
    let recording = Recording::start(tool, peers, scope, HZ)?;
    let cost = KernelCost::of(recording.pid());
    let before = cost.read()?;
    thread::sleep(Duration::from_secs(1));
    Ok(cost.read()?.since(&before).ns_per_run())
}

/// W1 with frame pointers, with small and large frames, and a shallow one for the slope.
struct Twins {
    shallow: Scene,
    deep: Scene,
    large: Scene,
}

impl Twins {
    fn start() -> anyhow::Result<Twins> {
        Ok(Twins {
            shallow: Scene::with_frame_pointers("steady_fp.c", 8)?,
            deep: Scene::with_frame_pointers("steady_fp.c", 60)?,
            large: Scene::with_frame_pointers("steady_large_fp.c", 60)?,
        })
    }

    fn measure(&mut self, peers: &Peers, misses: &Misses, book: &mut Book) -> Option<Line> {
        let mut of = |scene: &mut Scene, name: &str| {
            let measured = scene.resume().and_then(|()| floor(peers, scene, misses));
            let paused = scene.pause();
            let (ns, frames) = match paused.and(measured) {
                Ok(found) => found,
                Err(error) => {
                    book.gap(format!("{FLOOR} on {name}: {error:#}"));
                    (f64::NAN, f64::NAN)
                }
            };
            book.note(&figure(name), FLOOR, ns);
            book.note(&format!("user frames, {name}"), FLOOR, frames);
            (ns, frames)
        };
        let (shallow, deep) = (
            of(&mut self.shallow, "8 frames"),
            of(&mut self.deep, Play::W1.name()),
        );
        of(&mut self.large, Play::W1Large.name());
        if Tool::Bpftrace.is_there(peers) {
            let theirs = by_books(
                Tool::Bpftrace,
                peers,
                &mut self.deep,
                misses.floor_ns,
                WARM_UP,
            );
            let theirs = self.deep.pause().and(theirs);
            book.note_or_gap(&figure(Play::W1.name()), "bpftrace", theirs);
        }
        // The cold workload has as many and as large frames as W1, and a walk of frame pointers looks nothing up.
        book.note(&figure(Play::Cold.name()), FLOOR, deep.0);
        let ns_per_frame = (deep.0 - shallow.0) / (deep.1 - shallow.1);
        ns_per_frame.is_finite().then_some(Line { ns_per_frame })
    }
}

/// Nanoseconds per hit, and the mean number of user frames it saw.
fn floor(peers: &Peers, scene: &Scene, misses: &Misses) -> anyhow::Result<(f64, f64)> {
    let Measured { grown, taken } = record(Tool::Floor, peers, scene.scope_of_one()?)?;
    let log = fs::read_to_string(taken.folder.join("log")).context("it wrote no log")?;
    let line = log.lines().last().unwrap_or_default();
    let said: serde_json::Value =
        serde_json::from_str(line).context("it does not say its frames")?;
    let frames = said["frames"]
        .as_f64()
        .context("it does not say its frames")?;
    Ok((grown.ns_per_hit(misses.floor_ns), frames))
}

fn figure(workload: &str) -> String {
    format!("BPF ns per sample, {workload}")
}

/// All that is measured on one workload in one round.
fn turn(
    peers: &Peers,
    scene: &mut Scene,
    misses: &Misses,
    line: Option<Line>,
    book: &mut Book,
) -> anyhow::Result<()> {
    let name = scene.play.name();
    scene.resume()?;
    let ours = record(Tool::Perfprof, peers, scene.scope());
    scene.pause()?;
    let frames = match ours {
        Ok(measured) => note_ours(name, &measured, misses, book)?,
        Err(error) => {
            book.gap(format!("perfprof on {name}: {error:#}"));
            book.note(&figure(name), "perfprof", f64::NAN);
            f64::NAN
        }
    };
    match scene.play {
        Play::W1 if Tool::Lightswitch.is_there(peers) => {
            let tool = Tool::Lightswitch;
            let theirs = by_books(tool, peers, scene, misses.floor_ns, LIGHTSWITCH_WARM_UP);
            scene.pause()?;
            book.note_or_gap(&figure(name), "lightswitch", theirs);
        }
        Play::W1 => {}
        Play::W1Large | Play::Cold => {}
        _ => {
            scene.resume()?;
            let theirs = floor(peers, scene, misses);
            scene.pause()?;
            let at_depth = theirs.and_then(|(ns, seen)| {
                book.note(&format!("user frames, {name}"), FLOOR, seen);
                let line = line.context("the cost of a frame is not known")?;
                Ok(ns + line.ns_per_frame * (frames - seen).max(0.0))
            });
            book.note_or_gap(&figure(name), FLOOR, at_depth);
        }
    }
    Ok(())
}

/// Returns the mean number of user frames.
fn note_ours(
    name: &str,
    measured: &Measured,
    misses: &Misses,
    book: &mut Book,
) -> anyhow::Result<f64> {
    let grown = &measured.grown;
    let per = |counter: &str, of: &str| grown.counter(counter) / grown.counter(of);
    let looked_up = grown.counter("cache_hits") + grown.counter("cache_misses");
    let frames = per("frames", "walks");
    book.note(
        &figure(name),
        "perfprof",
        grown.ns_per_hit(misses.perfprof_ns),
    );
    book.note(&format!("user frames, {name}"), "perfprof", frames);
    book.note(
        &format!("reads of user memory per sample, {name}"),
        "perfprof",
        per("reads", "walks"),
    );
    let remembered = 100.0 * grown.counter("cache_hits") / looked_up;
    book.note(
        &format!("rules remembered, %, {name}"),
        "perfprof",
        remembered,
    );
    let stacks = stacks_metric(&measured.taken.folder, "denominator")?;
    book.note(&format!("stacks, {name}"), "perfprof", stacks);
    let complete = 100.0 * stacks_metric(&measured.taken.folder, "numerator")? / stacks;
    book.note(&complete_figure(name), "perfprof", complete);
    Ok(frames)
}

pub(super) fn complete_figure(workload: &str) -> String {
    format!("complete stacks, %, {workload}")
}

/// A recorder that does not say how many ticks hit its target; the target's own books do, by its CPU time in the window.
fn by_books(
    tool: Tool,
    peers: &Peers,
    scene: &mut Scene,
    miss_ns: f64,
    warm_up: Duration,
) -> anyhow::Result<f64> {
    scene.resume()?;
    let recording = Recording::start(tool, peers, scene.scope(), HZ)?;
    let cost = KernelCost::of(recording.pid());
    thread::sleep(warm_up);
    let (before, cpu_before) = (cost.read()?, cpu_seconds(scene)?);
    thread::sleep(WINDOW);
    let (mut grown, cpu_after) = (cost.read()?.since(&before), cpu_seconds(scene)?);
    let ticks = (cpu_after - cpu_before) * f64::from(HZ);
    grown.counters.insert("ticks".into(), ticks);
    Ok(grown.ns_per_hit(miss_ns))
}

fn cpu_seconds(scene: &mut Scene) -> anyhow::Result<f64> {
    let truth = scene.truth_so_far()?;
    let ns = truth["cpu_ns"].as_f64();
    Ok(ns.context("no `cpu_ns` in the workload's books")? / 1e9)
}

fn report(plays: &[Play], book: &mut Book) {
    for play in plays {
        let name = play.name();
        for what in [
            "BPF ns per sample",
            "user frames",
            "reads of user memory per sample",
            "rules remembered, %",
            "stacks",
        ] {
            book.print(&format!("{what}, {name}"));
        }
        let target = match play {
            Play::W1 => Target::Times(0.6),
            Play::Cold => Target::Times(2.0),
            Play::W1Large | Play::Redis | Play::Rustc => Target::Times(1.0),
            _ => Target::None,
        };
        book.row(&figure(name), FLOOR, target);
        if *play == Play::W1 {
            book.row(&figure(name), "bpftrace", Target::None);
            match book
                .series(&figure(name), "lightswitch")
                .iter()
                .any(|ns| ns.is_finite())
            {
                true => book.row(&figure(name), "lightswitch", Target::Times(0.15)),
                false => {
                    book.row_of_old(&figure(name), "lightswitch", LIGHTSWITCH_EARLIER, "≤ 0.15x")
                }
            }
        }
    }
    book.print("BPF ns per run for others' ticks");
}
