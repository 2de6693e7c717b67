//! What the agent answers over HTTP, to whom, and that nobody keeps it from answering others.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{assert_whole, busy, folder};
use crate::support::agent::{Agent, AgentCommand, LIMIT};
use crate::support::proc::wait_until;
use crate::support::{Need, missing};

#[test]
fn recordings_are_for_who_has_the_token_and_the_newest_window_is_for_all() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name, "--max-recording", "20s"])
        .start();
    agent.wait_for_windows(1);
    what_is_asked_badly_is_refused(&agent);
    the_newest_window_can_be_read(&agent);
    thread::scope(|threads| {
        let long =
            threads.spawn(|| agent.ask_with_token("POST", "/recordings?seconds=3&frequency=99"));
        wait_until("the recording is being made", LIMIT, || {
            unfinished(&agent) > 0
        });
        let second = agent.ask_with_token("GET", "/debug/pprof/profile?seconds=1");
        assert_eq!(second.status, 429, "{second:?}");
        assert!(second.head.contains("retry-after:"), "{second:?}");
        assert_eq!(agent.get("/healthz").status, 200);
        let long = long.join().expect("answered");
        assert_eq!(long.status, 200, "{}", long.text());
        let answer: Value = serde_json::from_slice(&long.body).expect("JSON");
        let directory = answer["directory"].as_str().expect("a directory");
        assert!(directory.contains("-deep"), "{directory}");
        let report = fs::read_to_string(format!("{directory}/profiling-report.md")).expect("whole");
        assert!(report.contains("hot_seventy"), "{report}");
    });
    whoever_goes_takes_the_recording_along(&mut agent);
    go_fetches_a_profile(&agent);
    let metrics = agent.metrics();
    assert_eq!(
        metrics.value("perfprof_recordings_total{outcome=\"refused\"}"),
        1.0
    );
    assert!(metrics.sum("perfprof_recordings_total") >= 2.0);
    // A recording that is asked for is never the latest window.
    let latest = fs::read_link(agent.data().join("latest")).expect("a link");
    assert!(!latest.to_string_lossy().contains("-deep"), "{latest:?}");
    agent
        .windows()
        .iter()
        .for_each(|window| assert_whole(window));
    agent.end();
}

fn whoever_goes_takes_the_recording_along(agent: &mut Agent) {
    let token = agent.token();
    for request in [
        "POST /recordings?seconds=20",
        "GET /debug/pprof/profile?seconds=20",
    ] {
        let mut stream = agent.connect();
        let head =
            format!("{request} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("taken");
        wait_until("the recording is being made", LIMIT, || {
            unfinished(agent) > 0
        });
        let abandoned = "perfprof_recordings_total{outcome=\"abandoned\"}";
        let before = agent.metrics().value(abandoned);
        drop(stream);
        agent.wait_for_metric("it is given up", |m| m.value(abandoned) > before);
        assert_eq!(unfinished(agent), 0);
    }
}

/// Recordings that are being made.
fn unfinished(agent: &Agent) -> usize {
    let entries = fs::read_dir(agent.data().join("windows"))
        .expect("there")
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with(".unfinished-") && name.ends_with("-deep"))
        .count()
}

fn what_is_asked_badly_is_refused(agent: &Agent) {
    let token = agent.token();
    let profile = "/debug/pprof/profile?seconds=1";
    for headers in [
        vec![],
        vec!["Authorization: Bearer wrong-wrong-wrong-wrong"],
        vec!["Authorization: Basic Og=="],
        vec!["Authorization:"],
    ] {
        for (method, path) in [("GET", profile), ("POST", "/recordings?seconds=1")] {
            let answer = agent.ask(method, path, &headers);
            assert_eq!(answer.status, 401, "{method} {headers:?}");
            assert!(
                answer.head.contains("www-authenticate: basic"),
                "{}",
                answer.head
            );
            assert!(!answer.text().contains(&token));
        }
    }
    for path in [
        "/debug/pprof/profile?seconds=0",
        "/debug/pprof/profile?seconds=21",
        "/debug/pprof/profile?seconds=1e9",
        "/debug/pprof/profile?seconds=-1",
        "/debug/pprof/profile?seconds=abc",
        "/debug/pprof/profile?hz=1000000",
    ] {
        assert_eq!(agent.ask_with_token("GET", path).status, 400, "{path}");
    }
    for query in [
        "second=1",
        "mode=evil",
        "seconds=1;reboot",
        "frequency=0",
        "seconds=1&x",
    ] {
        let answer = agent.ask_with_token("POST", &format!("/recordings?{query}"));
        assert_eq!(answer.status, 400, "{query}");
    }
    assert_eq!(agent.ask_with_token("GET", "/recordings").status, 405);
    assert_eq!(agent.ask("DELETE", "/metrics", &[]).status, 405);
    assert_eq!(agent.get("/nothing").status, 404);
    assert_eq!(agent.metrics().sum("perfprof_recordings_total"), 0.0);
}

fn the_newest_window_can_be_read(agent: &Agent) {
    assert_eq!(agent.get("/healthz").text(), "ok\n");
    assert_eq!(agent.get("/readyz").text(), "ok\n");
    let head = agent.ask("HEAD", "/report", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    let window: Value = serde_json::from_slice(&agent.get("/window").body).expect("JSON");
    assert_eq!(window["schema"], "perfprof.window");
    // Windows go on meanwhile: the report and what it links to are taken from one.
    let mut linked = None;
    wait_until("a report's link can be followed", LIMIT, || {
        let report = agent.get("/report").text();
        let link = report.split(['(', ')']).find(|word| word.ends_with(".svg"));
        let answer = agent.get(&format!("/{}", link.expect("a flame graph")));
        let found = answer.status == 200;
        linked = Some(answer);
        found
    });
    let svg = linked.expect("followed");
    assert!(
        svg.head.contains("content-type: image/svg+xml"),
        "{}",
        svg.head
    );
    assert!(
        svg.head.contains("content-security-policy: sandbox"),
        "{}",
        svg.head
    );
    assert!(svg.text().contains("<svg"));
    nothing_else_can_be_read(agent);
}

fn nothing_else_can_be_read(agent: &Agent) {
    let secret = agent.data().join("secret");
    fs::write(&secret, "the-secret").expect("writable");
    for path in [
        "/diagnostics/../../../secret",
        "/diagnostics/../../../http-token",
        "/diagnostics/%2e%2e/%2e%2e/secret",
        "/diagnostics/..%2f..%2f..%2fsecret",
        "/diagnostics//etc/passwd",
        "/diagnostics/",
        "/diagnostics/.",
        "/diagnostics/..",
        "/diagnostics/../window.json",
        "/diagnostics/%00",
        "//etc/passwd",
        "/../secret",
        "/http-token",
    ] {
        let answer = agent.get(path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert!(
            !answer.text().contains("the-secret") && !answer.text().contains("root:"),
            "{path}"
        );
    }
    // A link in a window leads nowhere.
    let mut answer = None;
    wait_until("the window is still the newest", LIMIT, || {
        let latest = agent.data().join("latest/diagnostics");
        let Ok(diagnostics) = fs::canonicalize(&latest) else {
            return false;
        };
        let _ = symlink(&secret, diagnostics.join("link.svg"));
        answer = Some(agent.get("/diagnostics/link.svg"));
        fs::canonicalize(&latest).is_ok_and(|now| now == diagnostics)
    });
    let answer = answer.expect("asked");
    assert_eq!(answer.status, 404, "{answer:?}");
}

fn go_fetches_a_profile(agent: &Agent) {
    let address = agent.address().expect("known");
    if missing(&[Need::Program("go")]) {
        let basic = agent.ask_with_token("GET", "/debug/pprof/profile?seconds=1");
        assert_eq!(basic.status, 200);
        return;
    }
    let url = format!(
        "http://:{}@{address}/debug/pprof/profile?seconds=2",
        agent.token()
    );
    let folder = folder();
    let output = Command::new("go")
        .args(["tool", "pprof", "-top", &url])
        .env("HOME", folder.path())
        .env("PPROF_TMPDIR", folder.path())
        .env("GOFLAGS", "")
        .output()
        .expect("`go` can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(
        said.contains("hot_seventy") && said.contains("hot_thirty"),
        "{said}"
    );
}

#[test]
fn slow_idle_and_noisy_clients_keep_nobody_from_an_answer() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name])
        .start();
    agent.wait_for_windows(1);
    let mut held: Vec<TcpStream> = Vec::new();
    for number in 0..200 {
        let mut stream = agent.connect();
        match number % 3 {
            0 => {}
            1 => drop(stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ")),
            // Never takes its answer.
            _ => drop(stream.write_all(b"GET /report HTTP/1.1\r\nHost: x\r\n\r\n")),
        }
        held.push(stream);
        if number % 50 == 0 {
            assert_eq!(agent.get("/healthz").status, 200, "{number}");
        }
    }
    assert_eq!(agent.get("/metrics").status, 200);
    let limit = format!("/proc/{}/fd", agent.pid());
    let open = fs::read_dir(limit).expect("alive").count();
    assert!(open < 250, "{open} files are open");
    let long = "x".repeat(64 << 10);
    for bad in [
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(),
        format!("GET /metrics HTTP/1.1\r\nX: {long}\r\n\r\n").into_bytes(),
        format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(20_000)).into_bytes(),
        format!(
            "POST /recordings HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{long}"
        )
        .into_bytes(),
        b"\0\x01\x02\xff\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ] {
        if bad.ends_with(b"\x03\x03") {
            // The start of a TLS connection, which waits for more.
            held.push(agent.connect());
            let _ = held.last_mut().expect("just made").write_all(&bad);
            continue;
        }
        let answer = agent.say(&bad);
        assert!(matches!(answer.status, 0 | 400..=499), "{answer:?}");
    }
    assert_eq!(agent.get("/metrics").status, 200);
    drop(held);
    // A deep recording ends with the settings and with the agent, and does not hold it up.
    for signal in [Signal::SIGHUP, Signal::SIGTERM] {
        thread::scope(|threads| {
            let asked = threads.spawn(|| agent.ask_with_token("POST", "/recordings?seconds=60"));
            wait_until("the recording is being made", LIMIT, || {
                unfinished(&agent) > 0
            });
            agent.signal(signal);
            let answer = asked.join().expect("ended");
            assert_eq!(answer.status, 503, "{signal}: {answer:?}");
        });
    }
    agent.wait();
    assert_eq!(unfinished(&agent), 0);
}
