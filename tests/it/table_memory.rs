//! Where unwind tables are not (yet) in the kernel, stacks are walked all the same, over copies; and the report says so.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::proc::wait_until;
use crate::support::{Need, Record, build, missing};

/// Programs of 0.26 MB of rows each: all together they exceed the smallest budget, 2 MiB.
const PROGRAMS: usize = 12;

/// Uses CPU in the interpreter for ever.
const BUSY: &str = "while True: sum(x * x for x in range(1000))";

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the copy. As long as a child that another test has just forked holds it open for writing, it cannot be run.
fn started(program: &Path) -> Child {
    let mut child = None;
    wait_until("the copy can be run", Duration::from_secs(20), || {
        let started = Command::new(program)
            .args(["-c", BUSY])
            .stdin(Stdio::null())
            .spawn();
        let is_busy = |error: &std::io::Error| error.kind() == ErrorKind::ExecutableFileBusy;
        match started {
            Err(error) if is_busy(&error) => return false,
            started => child = Some(started.expect("the copy runs")),
        }
        true
    });
    child.expect("started")
}

#[test]
fn a_budget_that_is_too_small_is_reported_and_costs_no_stacks() {
    if missing(&[Need::Bpf, Need::Program("python3")]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let python = std::fs::canonicalize("/usr/bin/python3").expect("python3 is a program");
    let running: Vec<Killed> = (0..PROGRAMS)
        .map(|n| {
            let copy = folder.path().join(format!("python-{n}"));
            std::fs::copy(&python, &copy).expect("a program can be copied");
            Killed(started(&copy))
        })
        .collect();
    // Without waits: in a debug build on a busy machine their stacks would take the CPU time that copies need.
    let mut record = Record::new()
        .args(["-F", "499", "--unwind", "dwarf", "--unwind-memory", "2"])
        .args(["--mode", "on-cpu"]);
    for program in &running {
        record = record.args(["--pid", &program.0.id().to_string()]);
    }
    let finished = record.run_for_cpu(running[0].0.id(), 300);
    finished.assert_recorded();
    let folded = finished.folded();
    assert!(folded.total() > 1000, "only {} samples", folded.total());
    assert!(
        finished.coverage("stacks") >= 0.99,
        "{}\n{}",
        finished.coverage("stacks"),
        finished.report()
    );
    let report = finished.report();
    assert!(
        report.contains("had no room within --unwind-memory"),
        "{report}"
    );
}

#[test]
fn processes_that_live_some_milliseconds_have_whole_stacks() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let program = build("short_lived.c");
    let script = format!(
        "i=0; while [ $i -lt 150 ]; do {} 5; i=$((i+1)); done",
        program.display()
    );
    let finished = Record::new()
        .args(["-F", "999", "--unwind", "dwarf"])
        .launching("/bin/sh".as_ref(), &["-c", &script])
        .run();
    finished.assert_recorded();
    let folded = finished.folded();
    let burning = folded.with("short_burn");
    assert!(burning > 400, "only {burning} samples");
    let whole = folded.count_where(|frames| {
        let has = |name: &str| frames.iter().any(|frame| *frame == name);
        has("short_burn") && has("main") && !frames.iter().any(|f| f.contains("[truncated: "))
    });
    assert!(
        whole as f64 >= 0.95 * burning as f64,
        "{whole} of {burning} stacks are whole"
    );
}
