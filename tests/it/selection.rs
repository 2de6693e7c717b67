//! A container, a pod or a cgroup selects the processes that are in it now: in real cgroups, real containers of podman,
//! and a PID namespace as the containers of a pod share it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use perfprof::target::container_names::{Names, StateFiles};
use perfprof::target::selection::{OwnPod, Selection, Selector};

use crate::support::need::skip;
use crate::support::proc::wait_until;
use crate::support::{Need, Orphan, missing};

pub(crate) mod podman;

/// Only bounds a failure.
const LIMIT: Duration = Duration::from_secs(120);
const UID: &str = "73dc8baf-43a0-413e-aac2-5eb0868f6c1a";

fn select(selection: Selection) -> Selector {
    Selector::new(selection, Vec::new(), OwnPod::default()).expect("a selection")
}

fn pids(selector: &Selector) -> BTreeSet<u32> {
    selector.pids_now().expect("an answer")
}

fn container(name: &str) -> Selector {
    select(Selection::Container(name.to_owned()))
}

/// A cgroup of the test's own in one hierarchy, and those below it; removed when dropped, with nobody in it any more.
struct Cgroups {
    mount: PathBuf,
    name: String,
}

impl Cgroups {
    /// In the first hierarchy that one may make them in.
    fn new() -> Result<Cgroups, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("perfprof-selection-{}-{number}", std::process::id());
        let mut why = "no hierarchy".to_owned();
        for hierarchy in ["cpuacct", "cpu,cpuacct", "unified", "."] {
            let mount = Path::new("/sys/fs/cgroup").join(hierarchy);
            if !mount.join("cgroup.procs").exists() {
                continue;
            }
            match fs::create_dir(mount.join(&name)) {
                Ok(()) => return Ok(Cgroups { mount, name }),
                Err(error) => why = format!("`{}`: {error}", mount.display()),
            }
        }
        Err(why)
    }

    fn dir(&self, below: &str) -> PathBuf {
        self.mount.join(&self.name).join(below)
    }

    /// As in `/proc/PID/cgroup`.
    fn path(&self, below: &str) -> PathBuf {
        Path::new("/").join(&self.name).join(below)
    }

    fn make(&self, below: &str) {
        fs::create_dir_all(self.dir(below)).expect("a cgroup can be made");
    }

    fn take_in(&self, below: &str, pid: u32) {
        fs::write(self.dir(below).join("cgroup.procs"), pid.to_string())
            .expect("a process can be moved");
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        remove_cgroups(&self.dir(""));
    }
}

/// Those below first.
fn remove_cgroups(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    wait_until("a cgroup can be removed", LIMIT, || {
        fs::remove_dir(dir).is_ok() || !dir.exists()
    });
}

#[test]
fn a_cgroup_selects_all_in_it_and_below_from_when_it_exists() {
    let cgroups = match Cgroups::new() {
        Ok(cgroups) => cgroups,
        Err(reason) => return skip("cgroup", &reason),
    };
    let (first, second) = (Orphan::start("pf-first"), Orphan::start("pf-second"));
    let by_path = select(Selection::Cgroup(cgroups.path("a")));
    let by_dir = select(Selection::Cgroup(cgroups.dir("a")));
    let below = select(Selection::Cgroup(cgroups.dir("a/b")));
    assert!(pids(&by_path).is_empty() && pids(&by_dir).is_empty() && pids(&below).is_empty());
    cgroups.make("a/b");
    cgroups.take_in("a", first.pid());
    cgroups.take_in("a/b", second.pid());
    let both = BTreeSet::from([first.pid(), second.pid()]);
    assert_eq!(pids(&by_path), both);
    assert_eq!(pids(&by_dir), both);
    assert_eq!(pids(&below), BTreeSet::from([second.pid()]));
    // The cgroups tell at once who has left.
    cgroups.take_in("", first.pid());
    assert_eq!(pids(&by_path), BTreeSet::from([second.pid()]));
    drop(second);
    wait_until("the ended one vanishes", LIMIT, || pids(&by_dir).is_empty());
    drop(first);
}

#[test]
fn containers_and_pods_are_told_by_their_cgroups_names() {
    let cgroups = match Cgroups::new() {
        Ok(cgroups) => cgroups,
        Err(reason) => return skip("cgroup", &reason),
    };
    // Two IDs of which nobody else's begins alike, and which differ in the 14th digit.
    let begin = format!(
        "{:012x}",
        0xfeed_0000_0000u64 + u64::from(std::process::id())
    );
    let [one, two] = ["a1", "a2"].map(|end| format!("{begin}{end}{}", "0".repeat(50)));
    let pod = format!("kubepods/burstable/pod{UID}");
    let (first, second, inner, pod_only) = (
        Orphan::start("pf-one"),
        Orphan::start("pf-two"),
        Orphan::start("pf-inner"),
        Orphan::start("pf-pod"),
    );
    let by_id = container(&one);
    assert!(pids(&by_id).is_empty());
    let by_pod = select(Selection::Pod(Some(UID.to_owned())));
    for (below, process) in [
        (format!("{pod}/{one}"), &first),
        (format!("system.slice/docker-{two}.scope"), &second),
        (format!("{pod}/{one}/docker/{}", "f".repeat(64)), &inner),
        (pod.clone(), &pod_only),
    ] {
        cgroups.make(&below);
        cgroups.take_in(&below, process.pid());
    }
    let within = BTreeSet::from([first.pid(), inner.pid()]);
    wait_until("the container is found", LIMIT, || pids(&by_id) == within);
    wait_until("the pod is found", LIMIT, || pids(&by_pod) == within);
    // A new selector sees what is there at once.
    assert_eq!(pids(&container(&one[..14])), within);
    assert_eq!(pids(&container(&two[..14])), BTreeSet::from([second.pid()]));
    let error = container(&begin)
        .pids_now()
        .expect_err("two begin like this");
    assert_eq!(
        error.to_string(),
        format!("container `{begin}` could be `{one}`, `{two}`")
    );
    let identity = by_id.processes_now().expect("an answer")[&inner.pid()].clone();
    let identity = identity.expect("it is in a container");
    assert_eq!(
        (identity.pod_uid.as_deref(), &identity.enclosing[..]),
        (Some(UID), &[one.clone()][..])
    );
    // Moved to another container, it is found there within a minute.
    let by_other = container(&two);
    assert_eq!(pids(&by_other), BTreeSet::from([second.pid()]));
    cgroups.take_in(&format!("system.slice/docker-{two}.scope"), inner.pid());
    let moved = BTreeSet::from([second.pid(), inner.pid()]);
    let [mut now, end] = [0, 60].map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut found = BTreeSet::new();
    while found != moved && now < end {
        now += Duration::from_secs(1);
        found = by_other
            .processes_at(now)
            .expect("an answer")
            .into_keys()
            .collect();
    }
    assert_eq!(found, moved);
    drop((first, second, inner, pod_only));
}

/// What a call costs is counted in files, not in time: hundreds of sleepers, and hardly a file is read.
#[test]
fn hundreds_of_processes_cost_hardly_a_file_at_each_call() {
    const MANY: usize = 300;
    let script = format!("for i in $(seq {MANY}); do sleep 100000 & done; echo; wait");
    let mut shell = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("`sh` can be run");
    let pid = shell.id();
    let children = || {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        list.unwrap_or_default().split_whitespace().count()
    };
    wait_until("all sleep", LIMIT, || children() == MANY);
    let selector = select(Selection::Pids {
        pids: vec![pid],
        and_descendants: true,
    });
    assert_eq!(pids(&selector).len(), MANY + 1);
    let first = selector.files_read();
    assert!(first >= 2 * MANY as u64);
    wait_until("they are no longer young", LIMIT, || {
        let before = selector.files_read();
        assert_eq!(pids(&selector).len(), MANY + 1);
        selector.files_read() - before < MANY as u64 / 4
    });
    for child in fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
    {
        let pid = nix::unistd::Pid::from_raw(child.parse().expect("a PID"));
        // It cannot be gone: its parent has not waited for it yet.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
    }
    shell.wait().expect("it ends with its last child");
}

/// Names the folder of the test below when it runs inside.
const INSIDE: &str = "PERFPROF_TEST_SELECTION_INSIDE";

#[test]
fn this_pod_is_whoever_shares_its_pid_namespace_but_perfprof_and_pause() {
    if missing(&[Need::Root, Need::Program("unshare")]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for name in ["pause", "app"] {
        fs::copy("/bin/sleep", folder.path().join(name)).expect("`sleep` can be copied");
    }
    let test = std::env::current_exe().expect("known");
    // Process 1 becomes the one that does nothing, as in a pod with `shareProcessNamespace`.
    let script = format!(
        "mount -t proc proc /proc || exit 99; cd {folder}; ./app 100000 & \
         {test} --exact selection::seen_from_inside --ignored >log 2>&1 & exec ./pause 100000",
        folder = folder.path().display(),
        test = test.display()
    );
    let mut outer = Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "sh",
            "-c",
            &script,
        ])
        .env(INSIDE, folder.path())
        .stdin(Stdio::null())
        .spawn()
        .expect("`unshare` can be run");
    let seen = folder.path().join("seen");
    wait_until("it has looked", LIMIT, || {
        seen.exists()
            || outer
                .try_wait()
                .expect("a child can be waited for")
                .is_some()
    });
    // Both fail only when it is gone already.
    let _ = outer.kill();
    let _ = outer.wait();
    let Ok(seen) = fs::read_to_string(&seen) else {
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        return match log.is_empty() {
            true => skip(
                "namespaces",
                "no PID namespace with a /proc of its own may be made",
            ),
            false => panic!("{log}"),
        };
    };
    assert_eq!(seen, "this pod: app\nall: app pause\n");
}

/// The inner half of the test above, which starts it; on its own there is nothing to see.
#[test]
#[ignore = "run by another test, in a PID namespace"]
fn seen_from_inside() {
    let folder = std::env::var(INSIDE).expect("run by the other test");
    let mut child = Command::new("sleep")
        .arg("100000")
        .spawn()
        .expect("`sleep` can be started");
    let names = |selection: Selection| {
        let pids = pids(&select(selection));
        let comm = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let mut names: Vec<String> = pids.iter().map(comm).map(|c| c.trim().to_owned()).collect();
        names.sort();
        names.join(" ")
    };
    let is_ready = || fs::read_to_string("/proc/1/comm").is_ok_and(|comm| comm.trim() == "pause");
    wait_until("process 1 is `pause`", LIMIT, is_ready);
    wait_until("`app` runs", LIMIT, || {
        names(Selection::Comm("app".to_owned())) == "app"
    });
    let seen = format!(
        "this pod: {}\nall: {}\n",
        names(Selection::Pod(None)),
        names(Selection::All)
    );
    child.kill().expect("killed");
    child.wait().expect("ended");
    let folder = Path::new(&folder);
    fs::write(folder.join("writing"), seen).expect("writable");
    fs::rename(folder.join("writing"), folder.join("seen")).expect("renamed");
}

#[test]
fn a_container_of_podman_is_selected_by_name_and_by_id() {
    if missing(&[
        Need::Root,
        Need::Program("podman"),
        Need::Program("buildah"),
    ]) {
        return;
    }
    let machine = match podman::Podman::new() {
        Ok(machine) => machine,
        Err(reason) => return skip("podman", &reason),
    };
    let files = StateFiles::below(machine.root()).expect("its root can be opened");
    let names: Vec<Arc<dyn Names>> = vec![Arc::new(files)];
    let named = |name: &str| {
        let selection = Selection::Container(name.to_owned());
        Selector::new(selection, names.clone(), OwnPod::default()).expect("a selection")
    };
    let by_name = named("pf-app");
    assert!(pids(&by_name).is_empty());
    let id = match machine.run("pf-app") {
        Ok(id) => id,
        Err(reason) => return skip("podman", &reason),
    };
    let pid = machine.pid_of(&id);
    let only = BTreeSet::from([pid]);
    wait_until("the name is known", LIMIT, || pids(&by_name) == only);
    assert_eq!(pids(&named(&id)), only);
    assert_eq!(pids(&named(&id[..12])), only);
    let processes = by_name.processes_now().expect("an answer");
    let identity = processes[&pid].clone().expect("it is in a container");
    assert_eq!(
        (identity.runtime.name(), &identity.container_id),
        ("podman", &id)
    );
    // Its conmon is not in it, and a new container under the old name is.
    machine.remove("pf-app");
    wait_until("it is gone", LIMIT, || pids(&by_name).is_empty());
    let again = machine.run("pf-app").expect("it ran before");
    assert_ne!(again, id);
    let only = BTreeSet::from([machine.pid_of(&again)]);
    wait_until("the new one is found", LIMIT, || pids(&by_name) == only);
}
