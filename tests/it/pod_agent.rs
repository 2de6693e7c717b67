//! The agent beside an application in one Pod, as the manifests of `deploy/kubernetes` run it: windows with names and labels,
//! figures, and profiles on demand; with single capabilities and as a privileged container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::pod::{Changes, Pod, TOKEN};
use crate::support::proc::wait_until;
use crate::support::recording::perfprof;
use crate::support::workload::repository;
use crate::support::{Folded, Need, missing};

const DEPLOYMENT: &str = "deploy/kubernetes/sidecar/capabilities/deployment.yaml";
const PRIVILEGED: &str = "deploy/kubernetes/sidecar/privileged/security-context.yaml";
const SITE: &str = "127.0.0.1:9871";

/// Many short windows instead of one in a minute; and what they cost in a debug build is no matter here.
const SHORT: &[&str] = &["--window=3s", "--frequency=999", "--max-cpu=1000m"];

/// Ticks for a share to be judged by.
const ENOUGH: u64 = 60;

fn play(patch: Option<&Path>) -> Pod {
    let changes = Changes {
        more: SHORT,
        // Longer than any wait of a test; the application ends by itself even when nobody takes the Pod down.
        env: &[("app", "WORKLOAD_SECONDS", "600")],
        patch,
        ..Changes::default()
    };
    Pod::play(&repository().join(DEPLOYMENT), &changes)
}

/// What a program of this machine says in the Pod's network.
fn asked(pod: &Pod, program: &str, words: &[&str]) -> (bool, String) {
    let output = pod
        .in_network(program)
        .args(words)
        .output()
        .expect("it can be run");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// The newest window's service of the application, and where it is.
fn newest(pod: &Pod) -> Option<(Value, PathBuf)> {
    let windows = pod.path("perfprof", "/var/lib/perfprof/windows");
    let mut names: Vec<_> = fs::read_dir(&windows)
        .ok()?
        .flatten()
        .map(|e| e.file_name())
        .collect();
    names.retain(|name| name.to_string_lossy().starts_with("20"));
    names.sort();
    let folder = windows.join(names.pop()?);
    let window: Value = serde_json::from_slice(&fs::read(folder.join("window.json")).ok()?).ok()?;
    let services = window["services"].as_array()?;
    let busiest = services.first()?.clone();
    Some((busiest, folder))
}

fn assert_the_application_is_profiled(pod: &Pod) {
    let mut seen = None;
    let is_enough = |seen: &Option<(Value, PathBuf)>| {
        let service = seen.as_ref().map(|(service, _)| service);
        service.is_some_and(|service| service["ticks"].as_u64() >= Some(ENOUGH))
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_enough(&seen) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        seen = newest(pod);
    }
    let page = || asked(pod, "curl", &["-sS", &format!("http://{SITE}/metrics")]).1;
    assert!(
        is_enough(&seen),
        "{seen:?}: {} {}",
        pod.logs("perfprof"),
        page()
    );
    let (service, folder) = seen.expect("just looked at");

    // Labels are those of the manifest.
    assert_eq!(service["service"], "test/app/app", "{service}");
    for (label, value) in [
        ("namespace", "test"),
        ("pod", "app"),
        ("container", "app"),
        ("node", "node-1"),
        ("app_kubernetes_io_name", "app"),
    ] {
        assert_eq!(service["labels"][label], value, "{service}");
    }

    // Names are those of the program.
    let exports = fs::read_dir(folder.join("diagnostics"))
        .expect("there")
        .flatten();
    let mut profiles = exports
        .map(|e| e.path())
        .filter(|path| path.to_string_lossy().ends_with(".pb.gz"));
    let profile = profiles.next().expect("a profile of the only service");
    let out = tempfile::tempdir().expect("a temporary folder can be made");
    let folded = out.path().join("out.folded");
    let report = Command::new(perfprof())
        .args(["report", "--artifacts"])
        .arg(out.path())
        .arg("-o")
        .args([&folded, &profile])
        .output()
        .expect("perfprof can be run");
    assert!(
        folded.exists(),
        "{}",
        String::from_utf8_lossy(&report.stderr)
    );
    let stacks = Folded::read(&folded);
    let (all, named) = (stacks.total(), stacks.with_below("descend", "unit_of_work"));
    assert!(named * 10 >= all * 9, "{named} of {all} ticks are named");
    let coverage: Value =
        serde_json::from_slice(&fs::read(folder.join("coverage.json")).expect("there"))
            .expect("JSON");
    let stacks = coverage
        .pointer("/services/0/metrics/stacks/value")
        .and_then(Value::as_f64);
    assert!(stacks >= Some(0.95), "{coverage:#}");
}

fn assert_the_site_answers(pod: &Pod) {
    let (_, page) = asked(pod, "curl", &["-sS", &format!("http://{SITE}/metrics")]);
    for name in [
        "perfprof_samples_total",
        "perfprof_coverage_ratio{metric=\"stacks\",service=\"test/app/app\",namespace=\"test\",pod=\"app\",container=\"app\"}",
        "perfprof_target_cpu_seconds_total{",
        // The manifest gives the application half a CPU, and it wants a whole one.
        "perfprof_target_throttled_seconds_total{",
    ] {
        assert!(page.contains(name), "no `{name}` in {page}");
    }
    let (accepted, said) = linted(&page);
    assert!(accepted, "{said}");

    let profile = format!("http://{SITE}/debug/pprof/profile?seconds=2");
    let status = ["-s", "-o", "/dev/null", "-w", "%{http_code}"];
    let (_, refused) = asked(pod, "curl", &[&status[..], &[&profile]].concat());
    assert_eq!(refused, "401");
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    let with_token = profile.replace("http://", &format!("http://:{TOKEN}@"));
    let output = pod
        .in_network("go")
        .args(["tool", "pprof", "-top", &with_token])
        .env("HOME", home.path())
        .env("PPROF_TMPDIR", home.path())
        .output()
        .expect("go can be run");
    let top = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && top.contains("unit_of_work"),
        "{top}"
    );
}

/// `promtool check metrics`, which reads standard input.
fn linted(page: &str) -> (bool, String) {
    use std::io::Write;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("promtool can be run");
    let mut input = promtool.stdin.take().expect("piped");
    input.write_all(page.as_bytes()).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success() && said.trim().is_empty(), said)
}

fn lacks_something() -> bool {
    missing(&[
        Need::Bpf,
        Need::Podman,
        Need::Program("curl"),
        Need::Program("go"),
        Need::Program("promtool"),
    ])
}

#[test]
fn an_agent_with_single_capabilities_profiles_the_application_beside_it() {
    if lacks_something() {
        return;
    }
    let pod = play(None);
    assert_the_application_is_profiled(&pod);
    assert_the_site_answers(&pod);
    // Asked to end, it does, and finds nothing wrong.
    let before = pod.logs("perfprof");
    // The Pod may start it anew.
    let process = format!("/proc/{}", pod.pid("perfprof"));
    pod.signal("perfprof", "SIGTERM");
    wait_until("the agent has ended", Duration::from_secs(300), || {
        !Path::new(&process).exists()
    });
    let said = pod.logs("perfprof");
    assert!(!said[before.len()..].contains("error"), "{said}");
}

#[test]
fn a_privileged_agent_profiles_the_application_beside_it() {
    if lacks_something() {
        return;
    }
    let pod = play(Some(&repository().join(PRIVILEGED)));
    assert_the_application_is_profiled(&pod);
    // It has given up what it does not need.
    let pid = pod.pid("perfprof");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.expect("there").trim(), 16).expect("hexadecimal");
    let (net_admin, sys_module, dac_override) = (12, 16, 1);
    for capability in [net_admin, sys_module, dac_override] {
        assert_eq!(effective >> capability & 1, 0, "{status}");
    }
}
