//! Selections of real processes that do not descend from the test.

use super::selector::{cut_comm, only};
use super::*;
use crate::target::container::ContainerIdentity;
use crate::target::container_names::{Named, Names};
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A sleeping process with a command name of its own that was handed over to init; killed when dropped.
struct Orphan {
    pid: u32,
    comm: String,
    _folder: TempDir,
}

impl Orphan {
    fn start(comm: &str) -> Orphan {
        let folder = tempfile::tempdir().expect("temporary folder");
        let program = folder.path().join(comm);
        fs::copy("/bin/sleep", &program).expect("copied");
        let script = format!("{} 1000 >/dev/null 2>&1 & echo $!", program.display());
        let mut command = Command::new("sh");
        let command = command.args(["-c", &script]).stdin(Stdio::null());
        let output = command.output().expect("`sh` can be run");
        let pid = String::from_utf8_lossy(&output.stdout).trim().parse();
        let orphan = Orphan {
            pid: pid.expect("a PID"),
            comm: cut_comm(comm).into_owned(),
            _folder: folder,
        };
        eventually("it runs its program", || {
            let now = fs::read_to_string(format!("/proc/{}/comm", orphan.pid));
            now.is_ok_and(|now| now.trim() == orphan.comm)
        });
        orphan
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // It is gone already, or goes now.
        let _ = kill(Pid::from_raw(self.pid as i32), Signal::SIGKILL);
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn select(selection: Selection) -> Selector {
    Selector::new(selection, Vec::new(), OwnPod::default()).expect("a selection")
}

fn pids(selector: &Selector) -> BTreeSet<u32> {
    selector.pids_now().expect("an answer")
}

#[test]
fn a_name_selects_whoever_has_it_now() {
    let comm = format!("pfsel{}xyzw", std::process::id() % 100_000);
    let selector = select(Selection::Comm(comm.clone()));
    assert!(pids(&selector).is_empty());
    let first = Orphan::start(&comm);
    assert_eq!(pids(&selector), [first.pid].into());
    let second = Orphan::start(&comm);
    assert_eq!(pids(&selector), [first.pid, second.pid].into());
    let gone = first.pid;
    drop(first);
    eventually("the first vanishes", || !pids(&selector).contains(&gone));
    assert_eq!(pids(&selector), [second.pid].into());
}

#[test]
fn all_leaves_out_this_process_and_its_children_only() {
    let orphan = Orphan::start("pfsel-all");
    let mut child = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .expect("`sleep` can be started");
    let all = pids(&select(Selection::All));
    assert!(all.contains(&orphan.pid));
    assert!(!all.contains(&std::process::id()) && !all.contains(&child.id()));
    let named = Selection::Pids {
        pids: vec![std::process::id(), child.id(), u32::MAX],
        and_descendants: false,
    };
    assert_eq!(
        pids(&select(named)),
        [std::process::id(), child.id()].into()
    );
    child.kill().expect("killed");
    child.wait().expect("ended");
}

#[test]
fn a_family_keeps_those_whose_parents_have_gone() {
    // The shell starts another one, which starts `sleep` and waits to be told to go.
    let script = "sh -c 'sleep 1000 & read x' & wait";
    let mut outer = Command::new("sh")
        .args([
            "-c",
            &format!("exec 3<&0; {}", script.replace("read x", "read x <&3")),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("`sh` can be run");
    let selector = select(Selection::Pids {
        pids: vec![outer.id()],
        and_descendants: true,
    });
    eventually("three generations", || pids(&selector).len() == 3);
    let family = pids(&selector);
    drop(outer.stdin.take());
    outer.wait().expect("ended");
    eventually("only the orphan is left", || pids(&selector).len() == 1);
    let orphan = *pids(&selector).first().expect("one is left");
    assert!(family.contains(&orphan) && orphan != outer.id());
    kill(Pid::from_raw(orphan as i32), Signal::SIGKILL).expect("killed");
    eventually("nobody is left", || pids(&selector).is_empty());
}

#[derive(Debug)]
struct Fixed(Vec<Named>);

impl Names for Fixed {
    fn containers_named(&self, _name: &str) -> Vec<Named> {
        self.0.clone()
    }
    fn pods_named(&self, _name: &str) -> Vec<Named> {
        self.0.clone()
    }
    fn pod_of(&self, _identity: &ContainerIdentity) -> Option<String> {
        None
    }
}

#[test]
fn a_name_that_could_mean_several_is_an_error_that_lists_them() {
    let uids = [
        "11111111-b29f-11e7-9350-020968147796",
        "22222222-b29f-11e7-9350-020968147796",
    ];
    let named = uids.map(|uid| Named {
        id: uid.to_owned(),
        called: format!("ns-{}/api", &uid[..1]),
    });
    let names: Vec<Arc<dyn Names>> = vec![Arc::new(Fixed(named.to_vec()))];
    let selection = Selection::Pod(Some("api".into()));
    let selector = Selector::new(selection, names, OwnPod::default()).expect("a selection");
    let error = selector.pids_now().expect_err("two pods");
    assert_eq!(
        error.to_string(),
        "pod `api` could be `ns-1/api` (11111111-b29), `ns-2/api` (22222222-b29)"
    );
    let many: Vec<Named> = (0..20)
        .map(|n| Named::unnamed(&format!("{n:064}")))
        .collect();
    let error = only("container", "0000", many).expect_err("many");
    assert!(error.to_string().ends_with(" and 12 more"));
    assert_eq!(only("container", "x", Vec::new()).expect("none"), None);
}

#[test]
fn what_does_not_exist_yet_is_empty_and_no_error() {
    let selections = [
        Selection::Container("0123456789abcdef".into()),
        Selection::Container("no-such-container".into()),
        Selection::Pod(Some("no-such-pod".into())),
        Selection::Pod(Some("11111111-b29f-11e7-9350-020968147796".into())),
        Selection::Cgroup("/no/such/cgroup".into()),
        Selection::Cgroup("relative".into()),
        Selection::Cgroup("/sys/fs/cgroup/cpu/../../..".into()),
        Selection::Cgroup("/etc".into()),
        Selection::Comm(String::new()),
    ];
    for selection in selections {
        assert!(pids(&select(selection.clone())).is_empty(), "{selection:?}");
    }
}

#[test]
fn a_selection_is_described_in_words() {
    let pids = |pids: &[u32], and_descendants| Selection::Pids {
        pids: pids.to_vec(),
        and_descendants,
    };
    assert_eq!(pids(&[7], false).describe(), "process 7");
    assert_eq!(
        pids(&[7, 8], true).describe(),
        "processes 7, 8 and what they start"
    );
    assert_eq!(Selection::Pod(None).describe(), "all processes of this pod");
    let container = Selection::Container("web".into());
    assert_eq!(container.describe(), "all processes of container `web`");
}
