//! The agent keeps no more privileges than it needs, and needs no more than a few.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{assert_whole, busy, folder, stacks, with};
use crate::support::agent::{Agent, AgentCommand};
use crate::support::need::skip;
use crate::support::recording::perfprof;
use crate::support::{Need, missing};

/// `linux/capability.h`.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_MODULE: u32 = 16;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Somebody without any rights of his own.
const STRANGER: &str = "4321";

/// Of every thread: a field of its status, as a set of bits.
fn sets(agent: &Agent, field: &str) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid()))
        .expect("it lives")
        .flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let set = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    texts.filter_map(set).collect()
}

fn paranoid() -> i64 {
    let text = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("there");
    text.trim().parse().expect("a number")
}

#[test]
fn what_is_not_needed_is_given_up() {
    if missing(&[Need::Bpf, Need::Root, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name])
        .start();
    agent.wait_for_windows(1);
    for field in ["CapEff:", "CapPrm:", "CapInh:", "CapBnd:", "CapAmb:"] {
        let sets = sets(&agent, field);
        assert!(sets.len() > 2, "it has threads");
        for set in sets {
            let has = |bit: u32| set >> bit & 1 == 1;
            assert!(
                !has(CAP_NET_ADMIN) && !has(CAP_SYS_MODULE),
                "{field} {set:x}"
            );
            assert!(
                has(CAP_PERFMON) && has(CAP_BPF) && has(CAP_SYS_PTRACE),
                "{field} {set:x}"
            );
            assert_eq!(has(CAP_SYS_ADMIN), paranoid() > 2, "{field} {set:x}");
        }
    }
    assert!(sets(&agent, "NoNewPrivs:").iter().all(|set| *set == 1));
    let token = agent.data().join("http-token");
    let mode = fs::metadata(token).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    agent.end();
}

#[test]
fn a_stranger_with_five_capabilities_records_and_names_everything() {
    if missing(&[
        Need::Bpf,
        Need::Root,
        Need::Program("g++"),
        Need::Program("setpriv"),
    ]) {
        return;
    }
    if paranoid() > 2 {
        return skip("paranoid", "kernel.perf_event_paranoid is above 2");
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    // The program and the data must be within his reach.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    let program = folder.path().join("perfprof");
    fs::copy(perfprof(), &program).expect("a program can be copied");
    let caps = "+perfmon,+bpf,+sys_ptrace,+syslog,+checkpoint_restore";
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups"])
        .args([
            "--inh-caps",
            caps,
            "--ambient-caps",
            caps,
            "--bounding-set",
            &format!("-all,{caps}"),
        ])
        .arg(&program);
    let mut agent = AgentCommand::bare(command, folder.path())
        .args([
            "--window",
            "1s",
            "--frequency",
            "199",
            "--max-cpu",
            "8",
            "--comm",
            &name,
        ])
        .start();
    let windows = agent.wait_for_windows(2);
    let newest = &windows[1];
    assert_whole(newest);
    let stacks = stacks(newest);
    let all: u64 = stacks.iter().map(|stack| stack.samples).sum();
    let known = with(&stacks, "hot_seventy") + with(&stacks, "hot_thirty");
    assert!(
        known as f64 > 0.8 * all as f64,
        "{known} of {all}\n{}",
        agent.log()
    );
    let is_root = |stack: &&crate::support::pprof::Stack| {
        let outermost = stack.frames.last().map(|frame| frame.functions.clone());
        outermost.is_some_and(|places| places.iter().any(|place| place.name.contains("clone")))
    };
    assert!(
        stacks.iter().any(|stack| is_root(&stack)),
        "stacks are complete"
    );
    let asked = agent.ask_with_token("GET", "/debug/pprof/profile?seconds=1");
    assert_eq!(asked.status, 200, "{}\n{}", asked.text(), agent.log());
    for set in sets(&agent, "CapEff:") {
        assert_eq!(set.count_ones(), 5, "{set:x}");
    }
    agent.end();
}
