//! Whenever an agent is killed, the next one finds whole windows only, and nobody of the former is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use libbpf_rs::query::ProgInfoIter;
use nix::sys::signal::Signal;

use super::{assert_whole, busy, folder};
use crate::support::agent::{Agent, AgentCommand, LIMIT, windows_in};
use crate::support::proc::{state, wait_until};
use crate::support::recording::exit;
use crate::support::{Need, missing};

const ROUNDS: u64 = 6;

/// A process and all below it.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next) {
        let tasks = fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .flatten();
        let children =
            tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<u32> = children
            .flat_map(|list| {
                list.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .filter_map(|pid| pid.parse().ok())
            .collect();
        family.extend(children);
        next += 1;
    }
    family
}

/// BPF programs that these processes hold.
fn programs_of(pids: &[u32]) -> BTreeSet<u32> {
    let files = pids.iter().flat_map(|pid| {
        fs::read_dir(format!("/proc/{pid}/fdinfo"))
            .into_iter()
            .flatten()
            .flatten()
    });
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let ids = texts.filter_map(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("prog_id:"))?;
        line.trim().parse().ok()
    });
    ids.collect()
}

/// Whether any of these is still loaded.
fn are_loaded(programs: &BTreeSet<u32>) -> bool {
    ProgInfoIter::default().any(|program| programs.contains(&program.id))
}

/// Names in the directory of windows.
fn names(data: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(data.join("windows"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Whether a window is being written now.
fn is_writing(data: &Path) -> bool {
    let names = names(data);
    names
        .iter()
        .any(|name| name.starts_with(".unfinished-") && !name.contains("-deep"))
}

fn killed_at_a_random_moment(agent: &mut Agent, round: u64) {
    let recording = round % 2 == 1;
    thread::scope(|threads| {
        if recording {
            agent.wait_until_it_records();
            let agent = &*agent;
            threads.spawn(move || agent.ask_with_token("POST", "/recordings?seconds=30"));
            wait_until("the recording is being made", LIMIT, || {
                names(agent.data())
                    .iter()
                    .any(|name| name.contains("-deep"))
            });
        }
        if round % 3 == 2 {
            wait_until("a window is being written", LIMIT, || {
                is_writing(agent.data())
            });
        } else {
            // Not a wait for anything: the moment is what is tried.
            let random = fs::read("/proc/sys/kernel/random/uuid").expect("there");
            let random = u64::from(random[0]) * 256 + u64::from(random[1]);
            thread::sleep(Duration::from_millis(random % 97 * 25));
        }
        let family = family(agent.pid());
        let programs = programs_of(&family);
        agent.signal(Signal::SIGKILL);
        for pid in family {
            wait_until("nobody is left", LIMIT, || {
                matches!(state(pid), None | Some('Z'))
            });
        }
        wait_until("no program is left in the kernel", LIMIT, || {
            !are_loaded(&programs)
        });
    });
    agent.wait();
}

#[test]
fn an_agent_that_is_killed_leaves_whole_windows_and_nobody_behind() {
    if missing(&[Need::Bpf, Need::Root, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let command = || AgentCommand::new(folder.path()).args(["--comm", &name]);
    let data = folder.path().join("data");
    let mut seen = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut agent = command().spawn();
        if round == ROUNDS - 1 {
            agent.wait_for_windows(seen.len() + 2);
        }
        killed_at_a_random_moment(&mut agent, round);
        seen = windows_in(&data).into_iter().collect();
        seen.iter().for_each(|window| assert_whole(window));
    }
    assert!(seen.len() >= 2, "{seen:?}");
    assert!(
        data.join("http-address").exists(),
        "it had no time to take it back"
    );
    // Also who cannot begin tells nobody where the other was.
    let mut refused = command().args(["--labels-dir", "/nowhere"]).spawn();
    refused.assert_refused(exit::BAD_INPUT, "/nowhere");
    assert!(!data.join("http-address").exists());
    let mut agent = command().start();
    let unfinished: Vec<_> = names(&data)
        .into_iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(
        unfinished.len() <= 1,
        "only that of the present window: {unfinished:?}"
    );
    let now: BTreeSet<_> = agent.windows().into_iter().collect();
    assert!(now.is_superset(&seen), "{seen:?} {now:?}");
    let latest = fs::canonicalize(data.join("latest")).expect("leads somewhere");
    assert_whole(&latest);
    assert_eq!(agent.get("/report").status, 200);

    a_second_agent_is_refused(folder.path(), &name);
    agent.wait_for_windows(now.len() + 1);
    assert_eq!(agent.get("/healthz").status, 200);
    let (family, programs) = (family(agent.pid()), programs_of(&[agent.pid()]));
    assert!(!programs.is_empty() && are_loaded(&programs));
    agent.end();
    for pid in family {
        wait_until("nobody is left", LIMIT, || {
            matches!(state(pid), None | Some('Z'))
        });
    }
    wait_until("no program is left", LIMIT, || !are_loaded(&programs));
    assert!(names(&data).iter().all(|name| !name.starts_with('.')));
}

fn a_second_agent_is_refused(folder: &Path, name: &str) {
    for more in [&[][..], &["--push-otlp-http", "http://127.0.0.1:9"]] {
        let mut second = AgentCommand::new(folder)
            .args(["--comm", name])
            .args(more)
            .spawn();
        second.assert_refused(exit::NOT_WRITTEN, "another agent uses");
        assert!(!folder.join("data/queue").exists());
        assert!(folder.join("data/http-address").exists());
    }
}
