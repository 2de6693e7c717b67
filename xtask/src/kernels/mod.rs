//! `cargo xtask kernels`: boots kernels in virtual machines and runs the ground-truth tests in each, so that "runs on
//! 5.10" is something that was seen.
//!
//! In: Debian's kernels, fetched by apt once, and the test program as the host has built it. Out: a table of tests
//! passed, skipped and failed by kernel and control groups, and what each kernel's verifier had to do, held against
//! `bpf/verifier-counts.txt`. Guests are slow: this takes most of an hour, and `cargo xtask test` leaves it out. A kernel
//! without BTF, which the BPF programs need, cannot be tested here: Debian builds none.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use self::guest::{Cgroups, Guest};
use self::image::{Image, Kernel};
use self::outcome::Outcome;
use self::programs::{DOCTOR, NO_CGROUPS, PROGRAMS, Programs, SKIPPED, TEST_LOG};
use crate::setup::{self, Purpose};
use crate::verifier_counts::{Comparison, Counts, KernelCounts};
use crate::{repository, target_dir};

mod apt;
mod guest;
mod image;
mod initrd;
mod outcome;
mod programs;

pub(crate) use apt::{KEYRING, PrivateApt};
pub(crate) use guest::QEMU;

const KERNELS: &[Kernel] = &[
    Kernel {
        series: "5.10",
        suite: "bullseye",
    },
    Kernel {
        series: "6.1",
        suite: "bookworm",
    },
    Kernel {
        series: "6.12",
        suite: "bookworm-backports",
    },
    Kernel {
        series: "7.3",
        suite: "trixie-backports",
    },
];

#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Write the verifier's counts instead of comparing them.
    pub(crate) bless: bool,
    /// Kernels by series; empty: all.
    pub(crate) series: Vec<String>,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options::default();
        for word in words {
            match *word {
                "--bless" => options.bless = true,
                series if KERNELS.iter().any(|kernel| kernel.series == series) => {
                    options.series.push(series.to_string());
                }
                other => {
                    let known: Vec<&str> = KERNELS.iter().map(|kernel| kernel.series).collect();
                    bail!("`{other}` is none of {}, --bless", known.join(", "));
                }
            }
        }
        Ok(options)
    }

    fn kernels(&self) -> impl Iterator<Item = &'static Kernel> {
        let asked = |kernel: &&Kernel| self.series.iter().any(|series| series == kernel.series);
        KERNELS
            .iter()
            .filter(move |kernel| self.series.is_empty() || asked(kernel))
    }
}

/// What a guest has shown.
#[derive(Debug)]
struct Run {
    release: String,
    cgroups: Cgroups,
    result: Result,
}

#[derive(Debug)]
enum Result {
    Tested {
        outcome: Outcome,
        counts: KernelCounts,
    },
    /// The kernel lacks what was to be tested; what.
    Absent(String),
    /// An error has been printed.
    Broken,
}

/// Goes on to the next guest when something fails, so that one run shows everything; an error when anything did.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    setup::run(&[Purpose::Build, Purpose::Kernels])?;
    let programs = Programs::build()?;
    let cache = cache();
    let mut runs = Vec::new();
    for kernel in options.kernels() {
        match prepare(kernel, &cache) {
            Ok((image, initrd)) => runs.extend(
                [Cgroups::V2, Cgroups::V1]
                    .map(|cgroups| run_guest(&image, &initrd, cgroups, &programs)),
            ),
            Err(error) => {
                println!("error: {error:#}");
                let release = kernel.series.to_string();
                runs.extend([Cgroups::V2, Cgroups::V1].map(|cgroups| Run {
                    release: release.clone(),
                    cgroups,
                    result: Result::Broken,
                }));
            }
        }
    }
    println!("\n== results");
    print_table(&runs);
    let counted = check_counts(&runs, options.bless)?;
    let failed = runs.iter().filter(|run| !run.is_good()).count();
    ensure!(failed == 0, "{failed} of {} guests failed", runs.len());
    ensure!(
        counted,
        "the verifier's counts are not those in `bpf/verifier-counts.txt`; `cargo xtask kernels --bless` writes them"
    );
    Ok(())
}

/// A kernel and what its guests begin with.
fn prepare(kernel: &Kernel, cache: &Path) -> anyhow::Result<(Image, PathBuf)> {
    let image = Image::of(kernel, cache)?;
    let initrd = cache.join(format!("{}.initrd", kernel.series));
    fs::write(&initrd, initrd::archive(&image)?)
        .with_context(|| format!("failed to write `{}`", initrd.display()))?;
    Ok((image, initrd))
}

/// Runs one guest and prints what has to be said beside the table.
fn run_guest(image: &Image, initrd: &Path, cgroups: Cgroups, programs: &Programs) -> Run {
    println!("\n== {}, cgroup v{}", image.release, cgroups.version());
    let begin = Instant::now();
    let result = test(image, initrd, cgroups, programs).unwrap_or_else(|error| {
        println!("error: {error:#}");
        Result::Broken
    });
    result.print();
    println!("took {} s", begin.elapsed().as_secs());
    Run {
        release: image.release.clone(),
        cgroups,
        result,
    }
}

/// busybox that needs no libraries; `None` when there is none.
pub(crate) fn busybox() -> Option<PathBuf> {
    let program = PathBuf::from("/bin/busybox");
    // A program with libraries names the loader that brings them.
    let bytes = fs::read(&program).ok()?;
    let loader = b"/ld-linux";
    let with_libraries = bytes.windows(loader.len()).any(|window| window == loader);
    (!with_libraries).then_some(program)
}

/// Where kernels are kept: `PERFPROF_KERNEL_CACHE`, or a folder beside what cargo builds.
fn cache() -> PathBuf {
    let asked = env::var_os("PERFPROF_KERNEL_CACHE").map(PathBuf::from);
    asked.unwrap_or_else(|| target_dir().join("kernels"))
}

/// Runs one guest and reads what it has left.
fn test(
    image: &Image,
    initrd: &Path,
    cgroups: Cgroups,
    programs: &Programs,
) -> anyhow::Result<Result> {
    let name = format!("{}-v{}", image.release, cgroups.version());
    let out = target_dir().join("kernels-out").join(name);
    if out.exists() {
        fs::remove_dir_all(&out).context("failed to remove what the last run has left")?;
    }
    fs::create_dir_all(&out).with_context(|| format!("failed to create `{}`", out.display()))?;
    println!("logs in {}", out.display());
    let guest = Guest {
        vmlinuz: &image.vmlinuz,
        initrd,
        cgroups,
        out: &out,
    };
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
    match guest.run(&programs.script(cgroups))? {
        0 => {}
        NO_CGROUPS => {
            let what = format!("this kernel has no cgroup v{}", cgroups.version());
            return Ok(Result::Absent(what));
        }
        status => bail!(
            "the guest's script ended with {status}\n{}{}",
            read(DOCTOR),
            read("run.log")
        ),
    }
    Ok(Result::Tested {
        outcome: Outcome::of(&read(TEST_LOG), &read(SKIPPED))?,
        counts: KernelCounts::of_show_programs(&read(PROGRAMS)).map_err(anyhow::Error::msg)?,
    })
}

impl Run {
    fn is_good(&self) -> bool {
        match &self.result {
            Result::Tested { outcome, .. } => outcome.failed.is_empty(),
            Result::Absent(_) => true,
            Result::Broken => false,
        }
    }
}

impl Result {
    fn print(&self) {
        match self {
            Result::Tested { outcome, .. } => {
                let skipped = outcome.skip_lines.iter();
                skipped.for_each(|line| println!("{line}"));
                let failed = outcome.failed.iter();
                failed.for_each(|test| println!("FAILED {test}"));
            }
            Result::Absent(what) => println!("SKIP cgroup: {what}"),
            Result::Broken => {}
        }
    }
}

fn print_table(runs: &[Run]) {
    println!(
        "{:<24} {:>6} {:>7} {:>8} {:>7}",
        "kernel", "cgroup", "passed", "skipped", "failed"
    );
    for run in runs {
        let figures = match &run.result {
            Result::Tested { outcome, .. } => format!(
                "{:>7} {:>8} {:>7}",
                outcome.passed.len(),
                outcome.skipped.len(),
                outcome.failed.len()
            ),
            Result::Absent(what) => format!("not run: {what}"),
            Result::Broken => "broken, see above".to_string(),
        };
        let version = format!("v{}", run.cgroups.version());
        println!("{:<24} {version:>6} {figures}", run.release);
    }
    println!();
    for (release, counts) in counts(runs) {
        let programs = counts.programs.iter();
        let programs: Vec<String> = programs
            .map(|(name, instructions)| format!("{name} {instructions}"))
            .collect();
        println!("verified on {release}: {}", programs.join(", "));
    }
}

/// The verifier's counts by kernel; control groups make no difference to it.
fn counts(runs: &[Run]) -> BTreeMap<&str, &KernelCounts> {
    let tested = runs.iter().filter_map(|run| match &run.result {
        Result::Tested { counts, .. } => Some((run.release.as_str(), counts)),
        _ => None,
    });
    tested.collect()
}

/// Whether the counts are those in the file, or have been written into it.
fn check_counts(runs: &[Run], bless: bool) -> anyhow::Result<bool> {
    let file = repository().join("bpf/verifier-counts.txt");
    let text = fs::read_to_string(&file)
        .with_context(|| format!("failed to read `{}`", file.display()))?;
    let mut listed = Counts::parse(&text).map_err(anyhow::Error::msg)?;
    let mut same = true;
    for found in counts(runs).into_values() {
        match listed.compare(found) {
            _ if bless => listed.set(found.clone()),
            Comparison::Same => {}
            Comparison::NotListed(why) => println!("SKIP verifier-counts: {why}"),
            Comparison::Differs(differences) => {
                differences.iter().for_each(|line| println!("{line}"));
                same = false;
            }
        }
    }
    if bless {
        fs::write(&file, listed.to_text())
            .with_context(|| format!("failed to write `{}`", file.display()))?;
    }
    Ok(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_bless_and_known_kernels() {
        let options = Options::parse(&["6.1", "--bless"]).expect("both are known");
        assert!(options.bless);
        let kernels: Vec<&str> = options.kernels().map(|kernel| kernel.series).collect();
        assert_eq!(kernels, ["6.1"]);
        let all = Options::parse(&[]).expect("nothing is fine");
        assert_eq!(all.kernels().count(), KERNELS.len());
        let error = Options::parse(&["4.4"]).expect_err("not known");
        assert!(error.to_string().contains("5.10, 6.1"), "{error}");
    }
}
