//! What a test needs from the machine, looked up without asking perfprof itself: a profiler that wrongly reports a
//! missing privilege must fail its test, not skip it.
//!
//! A test begins with `if missing(&[Need::Perf]) { return; }`. That prints `SKIP <need>: <reason>`, also appends it to
//! the file named by `PERFPROF_SKIP_LOG` for `cargo xtask test` to repeat at its end, and panics instead when
//! `PERFPROF_REQUIRE` (a list such as `perf,bpf`, or `all`) names the need.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::{env, thread};

use super::compile::on_path;
use super::{pod, postgres};

/// Bit numbers of `CapEff` in `/proc/self/status`; source: `linux/capability.h`.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// Sampling other processes, kernel stacks included.
    Perf,
    /// Loading BPF programs that see other processes.
    Bpf,
    /// Becoming another user.
    Root,
    /// A server and its load generator.
    Postgres,
    /// Python that reads YAML.
    PyYaml,
    /// Python with gRPC and protobuf, which is what a backend for profiles is built of; and protoc.
    PyGrpc,
    /// Pods, by podman and runc.
    Podman,
    /// A program on the search path: compilers, `unshare`.
    Program(&'static str),
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Need::Perf => "perf",
            Need::Bpf => "bpf",
            Need::Root => "root",
            Need::Postgres => "postgres",
            Need::PyYaml => "python3-yaml",
            Need::PyGrpc => "python3-grpcio",
            Need::Podman => "podman",
            Need::Program(name) => name,
        }
    }

    /// Why the need is not met; `None` when it is.
    fn unmet(self) -> Option<String> {
        // CAP_SYS_ADMIN stands for both finer capabilities; BPF programs on perf events need both of them.
        let capability = |finer: &[u32], message: &str| {
            let met = has_capability(CAP_SYS_ADMIN) || finer.iter().all(|bit| has_capability(*bit));
            (!met).then(|| message.to_string())
        };
        match self {
            Need::Perf => capability(&[CAP_PERFMON], "no CAP_PERFMON"),
            Need::Bpf => capability(&[CAP_PERFMON, CAP_BPF], "no CAP_BPF with CAP_PERFMON"),
            Need::Root => (!is_root()).then(|| "not run as root".to_string()),
            Need::Postgres => postgres::Binaries::find().err(),
            Need::PyYaml => python_with_yaml()
                .is_none()
                .then(|| "no Python with PyYAML".to_string()),
            Need::PyGrpc => (python_with_grpc().is_none() || !on_path("protoc"))
                .then(|| "no Python with gRPC and protobuf, or no protoc".to_string()),
            Need::Podman => no_podman().or_else(pod::unusable),
            Need::Program(name) => (!on_path(name)).then(|| format!("`{name}` is not installed")),
        }
    }
}

/// Whether the calling test must end here, because something it needs is not there; says so.
pub(crate) fn missing(needs: &[Need]) -> bool {
    let mut unmet = false;
    for need in needs {
        if let Some(reason) = need.unmet() {
            skip(need.name(), &reason);
            unmet = true;
        }
    }
    unmet
}

/// Reports that the calling test is skipped; panics when the need is required.
pub(crate) fn skip(need: &str, reason: &str) {
    let required = env::var("PERFPROF_REQUIRE").unwrap_or_default();
    assert!(
        !required
            .split(',')
            .any(|name| name == need || name == "all"),
        "`{need}` is required and missing: {reason}"
    );
    let test = thread::current().name().unwrap_or("?").to_string();
    let line = format!("SKIP {need}: {reason} ({test})\n");
    eprint!("{line}");
    if let Some(log) = env::var_os("PERFPROF_SKIP_LOG") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("the skip log can be opened");
        file.write_all(line.as_bytes())
            .expect("the skip log can be written");
    }
}

/// A Python that has PyYAML.
pub(crate) fn python_with_yaml() -> Option<&'static str> {
    python_that("import yaml")
}

/// A Python that has gRPC and protobuf.
pub(crate) fn python_with_grpc() -> Option<&'static str> {
    python_that("import grpc, google.protobuf.message_factory")
}

/// The Python on the search path, or the system's own, if one of them can do that.
fn python_that(statement: &str) -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let mut command = Command::new(python);
        let output = command.args(["-c", statement]).output();
        output.is_ok_and(|output| output.status.success())
    })
}

/// What a Pod needs and is not installed; `catatonit` stands aside in some distributions.
fn no_podman() -> Option<String> {
    let aside = Path::new("/usr/libexec/podman/catatonit").exists();
    let programs = ["podman", "runc", "conmon", "catatonit"];
    let there = |program: &str| on_path(program) || program == "catatonit" && aside;
    let lacking = programs.into_iter().find(|program| !there(program));
    let no_root = (!is_root()).then(|| "not run as root".to_string());
    lacking
        .map(|program| format!("`{program}` is not installed"))
        .or(no_root)
}

pub(crate) fn is_root() -> bool {
    status_field("Uid:")
        .and_then(|ids| {
            ids.split_whitespace()
                .nth(1)
                .map(|effective| effective == "0")
        })
        .unwrap_or(false)
}

fn has_capability(bit: u32) -> bool {
    status_field("CapEff:")
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> bit & 1 == 1)
}

fn status_field(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.to_string())
}
