//! Chores of the repository: `cargo xtask <task>`. Each task is a module; this file chooses one.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

mod bench;
// How a workload is built is known in one place, shared with the tests.
#[path = "../../tests/it/support/compile.rs"]
#[allow(unreachable_pub)]
mod compile;
mod demo;
mod image;
mod kernels;
mod licences;
mod linters;
mod rust_code;
mod setup;
mod test;
mod tidy;
// How the file is written is known in one place, shared with the tests.
#[path = "../../tests/it/support/verifier_counts.rs"]
#[allow(unreachable_pub)]
mod verifier_counts;
mod workload;

const HELP: &str = "\
Usage: cargo xtask <task>

  setup      install what building needs, by apt; says what and why, does nothing when all is there
             --tests: also what the tests need
  demo       set up, build for release, record a built-in workload, print the path of the report
  test       set up, check format, lints, tidiness and licences, run all tests; lists what was skipped
  ci         test, and the documentation without warnings
  bench [record] [ROUNDS]
             what recording costs the target and the recorder, beside `perf record` where that is installed
  bench unwind [--rounds N] [PART…]
             the unwinder inside the kernel beside perf, samply, lightswitch and bpftrace, which it installs into
             target/bench/peers; PART is a workload or a figure, see its first lines
  bench symbols [--rounds N] [ripgrep] [samply] [rustc]
             from the end of a recording to named outputs, beside samply, lightswitch and perf; builds ripgrep and samply
             with full debug information in target/bench/symbols, once
  bench waits [--rounds N]
             what accounting for waits costs the target, at 10 thousand, 100 thousand and as many switches a second as the
             machine makes, beside perf sched, perf trace and bpftrace
  bench compare [--rounds N] [--pool N] [--reuse] [alarms] [power] [speed]
             how often `perfprof compare` tells a program from itself (--pool: recordings taken for that; --reuse: those of
             the last run), whether it finds known changes, and what two large profiles cost it
  bless      run the tests and rewrite the golden files; review the diff like code
  kernels [--bless] [5.10|6.1|6.12|7.3]...
             run the ground-truth tests on other kernels in virtual machines, with cgroup v1 and v2; fetches the kernels
             once, takes most of an hour; --bless: write the verifier's counts into bpf/verifier-counts.txt
  image [--profile release|dev] [--out DIR]
             an OCI image FROM scratch with one static program, as a folder and as a file for `podman load`, in
             target/image; needs no registry and no docker
  tidy       the rules of the house that no other tool checks
  licences   every dependency's licence against xtask/licences.txt, offline

Environment: PERFPROF_REQUIRE=perf,bpf,postgres,… (or `all`) makes a test fail instead of being skipped for such a need.
PERFPROF_KERNEL_CACHE=DIR keeps the kernels elsewhere than in target/kernels.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> anyhow::Result<ExitCode> {
    match args {
        [] | ["help" | "-h" | "--help", ..] | [_, "-h" | "--help"] => println!("{HELP}"),
        ["setup"] => setup::run(&[setup::Purpose::Build])?,
        ["setup", "--tests"] => {
            setup::run(&[setup::Purpose::Build, setup::Purpose::Tests])?;
            linters::install();
        }
        ["demo"] => return demo::run(),
        ["test"] => test::run(test::Extent::Test)?,
        ["ci"] => test::run(test::Extent::Ci)?,
        ["bless"] => test::bless()?,
        ["kernels", words @ ..] => kernels::run(&kernels::Options::parse(words)?)?,
        ["image", words @ ..] => image::run(words)?,
        ["tidy"] => tidy::run()?,
        ["licences"] => licences::run()?,
        ["bench", words @ ..] => bench::run(words)?,
        _ => bail!("no task is called `{}`\n\n{HELP}", args.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the repository stands.
fn repository() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), |dir| repository().join(dir))
}

/// `cargo` with these arguments, in the repository.
fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(repository());
    command
}

/// Runs a command to its end; an error when it cannot be run or says no.
fn must_succeed(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("failed to run `{program}`"))?;
    if !status.success() {
        let args: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_string_lossy())
            .collect();
        bail!("`{program} {}` ended with {status}", args.join(" "));
    }
    Ok(())
}
