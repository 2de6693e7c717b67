//! The page of metrics of a live agent: clean, complete, only growing where it says so, and read by a real Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use perfprof::agent::metrics::NAMES;
use serde_json::Value;

use super::{busy, folder};
use crate::support::agent::{AgentCommand, LIMIT, Metrics};
use crate::support::debuginfod::free_port;
use crate::support::proc::wait_until;
use crate::support::{Need, missing};

/// As bad as a name can be.
const HOSTILE: &str = "a\"b\\c\n{d=\"e\"} 1\u{1b}[31m\u{202e}é";

/// Counters of `after` that are less than in `before`, and those that have gone.
fn shrunk(before: &Metrics, after: &Metrics) -> Vec<String> {
    let is_counter = |sample: &&String| {
        let name = sample.split('{').next().expect("a name");
        before.kinds[name] == "counter"
    };
    let counters = before.samples.keys().filter(is_counter);
    let less = counters.filter(|sample| {
        after
            .samples
            .get(*sample)
            .is_none_or(|value| *value < before.samples[*sample])
    });
    less.cloned().collect()
}

#[test]
fn the_page_is_clean_and_counters_only_grow_also_over_a_reload() {
    if missing(&[Need::Bpf, Need::Program("g++"), Need::Program("promtool")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let label = format!("namespace={HOSTILE}");
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name, "--service", HOSTILE, "--label", &label])
        .args([
            "--push-otlp-http",
            &format!("http://127.0.0.1:{}", free_port()),
        ])
        .start();
    agent.wait_for_windows(1);
    let before = agent.wait_for_metric("it cannot push", |m| {
        m.sum("perfprof_push_failures_total") > 0.0
    });
    let page = agent.get("/metrics");
    assert!(
        page.head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        page.head
    );
    assert_clean(&page.body);
    let known: BTreeSet<&str> = NAMES.iter().map(|(name, ..)| *name).collect();
    let told = before
        .kinds
        .keys()
        .map(String::as_str)
        .collect::<BTreeSet<_>>();
    assert!(told.is_subset(&known), "{told:?}");
    // What has happened to nobody is not told.
    let untold: Vec<_> = known.difference(&told).collect();
    assert!(untold.len() < 10, "{untold:?}");

    agent.signal(Signal::SIGHUP);
    agent.wait_for_word("settings were read again");
    let ended = before.sum("perfprof_windows_total");
    let after = agent.wait_for_metric("windows go on", |m| {
        m.sum("perfprof_windows_total") > ended + 1.0
    });
    let push = |sample: &String| sample.starts_with("perfprof_push_");
    let shrunk: Vec<_> = shrunk(&before, &after)
        .into_iter()
        .filter(|s| !push(s))
        .collect();
    assert!(shrunk.is_empty(), "{shrunk:?}");
    assert!(after.value("perfprof_samples_total") > before.value("perfprof_samples_total"));
    agent.end();
}

fn assert_clean(page: &[u8]) {
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut check = check
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = check.stdin.take().expect("piped");
    stdin.write_all(page).expect("it reads");
    drop(stdin);
    let output = check.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}\n{}",
        String::from_utf8_lossy(&said),
        String::from_utf8_lossy(page)
    );
}

/// A real one; killed when dropped.
struct Prometheus(Child, u16);

impl Prometheus {
    fn start(folder: &Path, target: &str) -> Prometheus {
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: perfprof\n  static_configs:\n  - targets: ['{target}']\n"
        );
        fs::write(folder.join("prometheus.yml"), config).expect("writable");
        let port = free_port();
        let child = Command::new("prometheus")
            .current_dir(folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Prometheus(child.expect("it can be started"), port)
    }

    /// What it answers to a query; nothing before it runs.
    fn ask(&self, query: &str) -> Option<f64> {
        let url = format!("http://127.0.0.1:{}/api/v1/query?query={query}", self.1);
        let mut answer = ureq::get(&url).call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        let value = answer["data"]["result"][0]["value"][1].as_str()?;
        value.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_scrapes_the_agent() {
    if missing(&[Need::Bpf, Need::Program("g++"), Need::Program("prometheus")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name])
        .start();
    let address = agent.address().expect("it has one").to_string();
    let prometheus = Prometheus::start(folder.path(), &address);
    wait_until("the target is up", LIMIT, || {
        prometheus.ask("up") == Some(1.0)
    });
    wait_until("samples are counted", LIMIT, || {
        prometheus.ask("perfprof_samples_total") > Some(0.0)
    });
    wait_until("there is coverage", LIMIT, || {
        let query =
            format!("perfprof_coverage_ratio%7Bmetric=%22cpu_time%22,service=%22{name}%22%7D");
        prometheus.ask(&query) > Some(0.1)
    });
    assert_eq!(prometheus.ask("count(perfprof_build_info)"), Some(1.0));
    agent.end();
}
