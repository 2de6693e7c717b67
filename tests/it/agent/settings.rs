//! Settings from flags, from a file, and from a file that has changed; and how an agent ends.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{assert_whole, busy, folder, services};
use crate::support::agent::{AgentCommand, LIMIT, document};
use crate::support::proc::{wait_for_cpu, wait_until};
use crate::support::recording::{exit, perfprof};
use crate::support::{Need, missing};

#[test]
fn a_file_says_what_flags_say_and_is_read_again_when_asked_for() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let file = folder.path().join("agent.yaml");
    let settings = |frequency: &str, more: &str| {
        let text = format!(
            "comm: {name}\nwindow: 1s\nfrequency: {frequency}\nmax-cpu: 8\nservice: of the file\nlabel: [team=shop, tier=1]\n{more}"
        );
        fs::write(&file, text).expect("writable");
    };
    settings("199", "");
    let config = file.to_str().expect("text");
    let bare = Command::new(perfprof());
    let mut agent = AgentCommand::bare(bare, folder.path())
        .args(["--config", config])
        .start();
    let windows = agent.wait_for_windows(1);
    assert_eq!(services(&windows[0]), ["of the file"]);
    let document = document(&windows[0]);
    assert_eq!(document["services"][0]["labels"]["team"], "shop");
    assert_eq!(document["services"][0]["frequency_hz"], 199.0);
    let address = agent.address();

    settings("97", "");
    agent.signal(Signal::SIGHUP);
    agent.wait_for_metric("the new rate is taken", |metrics| {
        let rates = ["", "asked_"].map(|asked| format!("perfprof_sampling_frequency_{asked}hertz"));
        rates.iter().all(|rate| metrics.value(rate) == 97.0)
    });
    assert_eq!(agent.address(), address, "a reload keeps the port");

    // What cannot be read, is no setting, or cannot be done: the settings stay.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().expect("bound");
    for (frequency, more, word) in [
        ("[", "", "agent.yaml"),
        ("abc", "", "abc"),
        ("199", "frequenzy: 3\n", "frequenzy"),
        ("199", &format!("listen: {taken}\n"), "failed to listen"),
        (
            "199",
            "token-file: /nowhere/token\n",
            "failed to read the token",
        ),
        ("199", "pid: 4194305\n", "4194305"),
    ] {
        settings(frequency, more);
        let said = agent
            .log()
            .matches("the settings stay as they were")
            .count();
        agent.signal(Signal::SIGHUP);
        agent.wait_for_metric("it goes on", |_| true);
        wait_until("it is said", LIMIT, || {
            agent
                .log()
                .matches("the settings stay as they were")
                .count()
                > said
        });
        assert!(agent.log().contains(word), "{}", agent.log());
        agent.wait_until_it_records();
        assert_eq!(
            agent
                .metrics()
                .value("perfprof_sampling_frequency_asked_hertz"),
            97.0
        );
    }
    let ended = agent.windows().len();
    agent.wait_for_windows(ended + 1);
    agent.end();
}

#[test]
fn sigterm_finishes_the_window() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (workload, name) = busy(folder.path());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name, "--window", "1h", "--grace", "30s"])
        // Nobody takes what is queued; that waits for the next start.
        .args(["--push-otlp-http", "http://127.0.0.1:9"])
        .start();
    wait_for_cpu(workload.pid(), 500_000_000);
    assert!(agent.windows().is_empty());
    let begun = Instant::now();
    agent.signal(Signal::SIGTERM);
    // A supervisor and a shell may both say so.
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait().code(), Some(exit::SUCCESS), "{}", agent.log());
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "the grace is kept"
    );
    let windows = agent.windows();
    assert_eq!(windows.len(), 1, "{}", agent.log());
    assert_whole(&windows[0]);
    assert!(super::with(&super::stacks(&windows[0]), "hot_seventy") > 10);
    let queued = fs::read_dir(folder.path().join("data/queue/otlp-http"))
        .expect("a queue")
        .count();
    assert!(queued >= 1);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_recorded() {
    let folder = folder();
    let refused = |args: &[&str], code: i32, word: &str| {
        let mut agent = AgentCommand::new(folder.path()).args(args).spawn();
        agent.assert_refused(code, word);
        fs::remove_file(folder.path().join("log")).expect("it was written");
    };
    refused(&[], exit::USAGE, "nothing to record");
    refused(&["--comm", "x", "--window", "0.1s"], exit::USAGE, "window");
    refused(&["--comm", "x", "--max-cpu", "0%"], exit::USAGE, "max-cpu");
    refused(
        &["--comm", "x", "--push-parca", "ftp://x"],
        exit::USAGE,
        "ftp",
    );
    refused(
        &["--comm", "x", "--config", "/nowhere.yaml"],
        exit::BAD_INPUT,
        "/nowhere.yaml",
    );
    refused(
        &["--comm", "x", "--labels-dir", "/nowhere"],
        exit::BAD_INPUT,
        "/nowhere",
    );
    refused(&["--pid", "4194305"], exit::NO_TARGET, "4194305");
}
