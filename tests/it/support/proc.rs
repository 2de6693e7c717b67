//! What the kernel itself says about a process, read from `/proc` without perfprof's help.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How often conditions are looked at.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds; panics with `what` after `limit`. The limit only bounds a failure.
pub(crate) fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < limit, "waited {limit:?} in vain: {what}");
        thread::sleep(POLL);
    }
}

/// CPU time of all threads of the process that live now, nanoseconds (`/proc/PID/task/*/schedstat`, first field).
pub(crate) fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Waits until the process has used `ns` more CPU time than now: progress that does not depend on the machine's load.
pub(crate) fn wait_for_cpu(pid: u32, ns: u64) {
    let begin = cpu_ns(pid);
    wait_until("the target uses CPU", Duration::from_secs(60), || {
        cpu_ns(pid) >= begin + ns
    });
}

/// CPU seconds the host has taken away from this machine since it started, all CPUs together. A thread's books leave
/// them out, a sampling timer does not. Source: `proc_stat(5)`, `steal`, in USER_HZ, which is 100 wherever Linux runs.
pub(crate) fn stolen_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat is readable");
    let steal = stat
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(8));
    let ticks: u64 = steal.and_then(|text| text.parse().ok()).unwrap_or(0);
    ticks as f64 / 100.0
}

/// The one-letter state of `/proc/PID/stat` (`Z` for a zombie); `None` when there is no such process.
pub(crate) fn state(pid: u32) -> Option<char> {
    stat_fields(pid)?.first()?.chars().next()
}

/// Some kernel thread visible here, by the `PF_KTHREAD` flag; `None` in a PID namespace of one's own.
pub(crate) fn any_kernel_thread() -> Option<u32> {
    const PF_KTHREAD: u64 = 0x0020_0000; // linux/sched.h
    const FLAGS: usize = 6; // field 9 of proc_pid_stat(5), counted from the state
    fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            stat_fields(*pid)
                .and_then(|fields| fields.get(FLAGS)?.parse::<u64>().ok())
                .is_some_and(|flags| flags & PF_KTHREAD != 0)
        })
}

/// How often a thread gave its CPU up to wait (`voluntary_ctxt_switches`).
pub(crate) fn voluntary_switches(pid: u32, tid: u64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status"));
    labelled(
        &status.expect("the thread lives"),
        "voluntary_ctxt_switches:",
    )
}

/// Bytes that the process had read from disks.
pub(crate) fn read_bytes(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io"));
    labelled(&io.expect("the process lives and is ours"), "read_bytes:")
}

/// Page faults of the process for which something had to be read.
pub(crate) fn major_faults(pid: u32) -> u64 {
    const MAJOR_FAULTS: usize = 9; // field 12 of proc_pid_stat(5), counted from the state
    let fields = stat_fields(pid).expect("the process lives");
    fields[MAJOR_FAULTS].parse().expect("a number")
}

/// The number behind `label` in a file of lines with labels.
fn labelled(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let number = line.and_then(|line| line.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no `{label}` in {text}"))
}

/// A PID that no process has: above the kernel's limit.
pub(crate) fn unused_pid() -> u32 {
    let limit = fs::read_to_string("/proc/sys/kernel/pid_max").expect("pid_max is readable");
    limit.trim().parse::<u32>().expect("pid_max is a number") + 1
}

/// The fields of `/proc/PID/stat` from the state on; the command name before them may hold anything.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_string).collect())
}
