//! Figure 4, complete stacks: perfprof's were measured with the cost inside the kernel; here are the peers', one recording
//! each. How a peer's stack is judged is said in `stacks`.

use std::thread;
use std::time::Duration;

use super::in_kernel::complete_figure;
use super::recorder::{PERF_COPY_BYTES, Recording, Tool};
use super::scene::{Play, Scene};
use super::stacks::complete_share;
use crate::bench::book::{Book, Target};
use crate::bench::peers::Peers;

const HZ: u32 = 997;
const TIME: Duration = Duration::from_secs(2);
/// The most that perf copies.
const PERF_MOST_BYTES: u32 = 65_528;

const PEERS: [Tool; 4] = [
    Tool::PerfFp,
    Tool::PerfDwarf(PERF_COPY_BYTES),
    Tool::PerfDwarf(PERF_MOST_BYTES),
    Tool::SamplyNamed,
];

pub(super) fn measure(peers: &Peers, plays: &[Play], book: &mut Book) -> anyhow::Result<()> {
    println!("complete stacks of peers: one recording each");
    for play in plays.iter().filter(|play| **play != Play::Cold) {
        let Ok(mut scene) = Scene::start(*play) else {
            continue; // said when perfprof was to record it
        };
        for tool in PEERS.into_iter().filter(|tool| tool.is_there(peers)) {
            let share = turn(tool, peers, &mut scene);
            scene.pause()?;
            let figure = complete_figure(play.name());
            book.note_or_gap(&figure, &tool.name(), share.map(|share| 100.0 * share));
        }
    }
    Ok(())
}

fn turn(tool: Tool, peers: &Peers, scene: &mut Scene) -> anyhow::Result<f64> {
    scene.resume()?;
    let recording = Recording::start(tool, peers, scene.scope_of_one()?, HZ)?;
    thread::sleep(TIME);
    let taken = recording.finish()?;
    complete_share(tool, &taken)
}

pub(super) fn report(plays: &[Play], book: &mut Book) {
    for play in plays.iter().filter(|play| **play != Play::Cold) {
        let figure = complete_figure(play.name());
        book.print(&figure);
        let least = match play {
            Play::Rustc => 95.0,
            _ => 99.5,
        };
        book.row(&figure, "samply with names", Target::AtLeast(least));
    }
}
