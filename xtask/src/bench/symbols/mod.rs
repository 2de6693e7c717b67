//! `cargo xtask bench symbols`: from the interrupt that ends a recording to all outputs on the disk.
//!
//! 5 s at 999 Hz of a busy process, then SIGINT; the time until the recorder has ended, for perf until a flame graph is
//! drawn. The recorded process is stopped at that moment, for all recorders alike, so that the CPUs are theirs. Every
//! recording gets a new process, so that all see the same phase of it. perfprof's cache of symbols is empty, but for the
//! line that says `warm`; the page cache is warm for everybody, and everybody writes to memory. What cannot be measured is
//! said, and the run goes on.

use std::time::Instant;

use anyhow::bail;

use self::recorders::{Took, Tool};
use self::subjects::{Busy, SUBJECTS, Subject};
use super::book::{Book, Target};
use super::peers::Peers;

mod debug_builds;
mod flame_graph;
mod recorders;
mod subjects;
mod symbol_server;

/// perf takes half a minute and more for a recording with inlined frames.
const ROUNDS_OF_PERF_INLINED: usize = 2;

pub(super) fn run(rounds: usize, only: &[String]) -> anyhow::Result<()> {
    let begin = Instant::now();
    let subjects = subjects_of(only)?;
    super::build_perfprof()?;
    let peers = Peers::find_for_symbols();
    let mut book = Book::default();
    for absent in &peers.absent {
        book.gap(absent.clone());
    }
    for subject in &subjects {
        if let Err(error) = subject.prepare() {
            book.gap(format!("{}: {error:#}", subject.name()));
            continue;
        }
        for round in 1..=rounds {
            println!("bench: {}, round {round} of {rounds}", subject.name());
            measure(*subject, round, &peers, &mut book);
        }
        report(*subject, &mut book);
    }
    recorders::clean_up();
    println!(
        "\nMedian [least … most] of {rounds} rounds ({ROUNDS_OF_PERF_INLINED} at most for perf with inlining); ratios \
         are taken round by round."
    );
    book.print_table();
    println!("not measured: memory of what draws perf's flame graph; waiting for a disk");
    println!("{:.0} s in all", begin.elapsed().as_secs_f64());
    Ok(())
}

fn subjects_of(only: &[String]) -> anyhow::Result<Vec<Subject>> {
    let names = SUBJECTS.map(Subject::name);
    if let Some(word) = only.iter().find(|word| !names.contains(&word.as_str())) {
        bail!("`{word}` is none of {}", names.join(", "));
    }
    let is_asked =
        |subject: &Subject| only.is_empty() || only.iter().any(|word| word == subject.name());
    Ok(SUBJECTS.into_iter().filter(is_asked).collect())
}

/// One recording by every tool.
fn measure(subject: Subject, round: usize, peers: &Peers, book: &mut Book) {
    for tool in Tool::ALL {
        let is_worth_it = match tool {
            // It does not end within minutes on rustc.
            Tool::PerfInlined => round <= ROUNDS_OF_PERF_INLINED && subject != Subject::Rustc,
            _ => true,
        };
        if !is_worth_it || !tool.is_there(peers) {
            continue;
        }
        let took = Busy::start(subject).and_then(|busy| recorders::record(tool, peers, busy));
        let took = took.unwrap_or_else(|error| {
            book.gap(format!("{}, {}: {error:#}", subject.name(), tool.name()));
            Took::NOTHING
        });
        book.note(&seconds(subject), tool.name(), took.seconds);
        book.note(&megabytes(subject), tool.name(), took.rss_bytes / 1e6);
    }
}

fn seconds(subject: Subject) -> String {
    format!("{}: to outputs, s", subject.name())
}

fn megabytes(subject: Subject) -> String {
    format!("{}: peak RSS, MB", subject.name())
}

/// The rows of the last table, with the targets of the project's issue 4.
fn report(subject: Subject, book: &mut Book) {
    let (time, memory) = (seconds(subject), megabytes(subject));
    book.print(&time);
    book.print(&memory);
    let warm = book.series(&time, Tool::PerfprofWarm.name()).to_vec();
    let samply = book.series(&time, Tool::Samply.name()).to_vec();
    against_lightswitch(&time, 0.5, subject.lightswitch_once().0, book);
    if subject != Subject::Rustc {
        book.row(&time, Tool::PerfInlined.name(), Target::Times(0.1));
    }
    book.row(&time, Tool::PerfPlain.name(), Target::None);
    // The stretch.
    book.row(&time, Tool::Samply.name(), Target::Times(1.0));
    book.row_of(
        &format!("{time}, warm"),
        &warm,
        Tool::Samply.name(),
        &samply,
        Target::None,
    );
    let most = if subject == Subject::Samply {
        0.8
    } else {
        f64::INFINITY
    };
    against_lightswitch(&memory, most, subject.lightswitch_once().1, book);
    book.row(&memory, Tool::Samply.name(), Target::None);
}

/// Beside lightswitch, or where it gave nothing, beside what was measured some other day.
fn against_lightswitch(figure: &str, most: f64, once: Option<f64>, book: &mut Book) {
    let name = Tool::Lightswitch.name();
    let has_figures = book
        .series(figure, name)
        .iter()
        .any(|value| value.is_finite());
    match (has_figures, once) {
        (true, _) if most.is_finite() => book.row(figure, name, Target::Times(most)),
        (true, _) => book.row(figure, name, Target::None),
        (false, Some(once)) => {
            let target = match most.is_finite() {
                true => format!("≤ {most}x"),
                false => "–".into(),
            };
            book.row_of_old(figure, name, &once.to_string(), &target);
        }
        // Its own gap has been said.
        (false, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_subjects() {
        let of = |words: &[&str]| {
            subjects_of(
                &words
                    .iter()
                    .map(|word| word.to_string())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(&[]).expect("valid"), SUBJECTS);
        assert_eq!(of(&["rustc"]).expect("valid"), [Subject::Rustc]);
        assert!(of(&["cargo"]).is_err());
    }
}
