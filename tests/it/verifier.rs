//! What the kernel's verifier has to do to accept the BPF programs is written down, and grows only where somebody sees it.

use std::path::PathBuf;
use std::process::Command;

use crate::support::need::skip;
use crate::support::recording::perfprof;
use crate::support::verifier_counts::{Comparison, Counts, KernelCounts};
use crate::support::workload::repository;
use crate::support::{Need, missing};

fn file() -> PathBuf {
    repository().join("bpf/verifier-counts.txt")
}

/// The counts as they are written down, which must be the form in which they would be written.
fn written_down(blessing: bool) -> Counts {
    let text = std::fs::read_to_string(file()).expect("the counts are in the repository");
    let counts = Counts::parse(&text).expect("the counts can be read");
    assert!(blessing || counts.to_text() == text, "{text}");
    counts
}

fn of_this_kernel() -> KernelCounts {
    let output = Command::new(perfprof())
        .args(["show", "programs"])
        .output()
        .expect("perfprof can be started");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let text = String::from_utf8_lossy(&output.stdout);
    KernelCounts::of_show_programs(&text).expect("it prints what we read")
}

#[test]
fn instructions_verified_are_those_written_down() {
    let blessing = std::env::var_os("PERFPROF_BLESS").is_some();
    let mut counts = written_down(blessing);
    if missing(&[Need::Bpf]) {
        return;
    }
    let found = of_this_kernel();
    if blessing {
        counts.set(found);
        std::fs::write(file(), counts.to_text()).expect("the repository is writable");
        return;
    }
    match counts.compare(&found) {
        Comparison::Same => {}
        Comparison::NotListed(why) => skip("verifier-counts", &why),
        Comparison::Differs(differences) => panic!(
            "{}\nPERFPROF_BLESS=1 writes them into `{}`; other kernels: `cargo xtask kernels --bless`",
            differences.join("\n"),
            file().display()
        ),
    }
}

fn sample() -> KernelCounts {
    KernelCounts::of_show_programs(
        "kernel    6.1.0-50-amd64\ncompiler  clang version 14.0.6\n\nprogram      instructions verified  stack bytes\n\
         on_tick                      56224  224+88\non_exec                         29  32\n",
    )
    .expect("as printed")
}

#[test]
fn a_count_that_differs_is_named_and_another_kernel_or_compiler_is_not_compared() {
    let mut counts = Counts::default();
    counts.set(sample());
    assert_eq!(counts.compare(&sample()), Comparison::Same);

    let mut grown = sample();
    grown.programs[0].1 += 1;
    grown.programs[1].0 = "on_fork".into();
    let Comparison::Differs(differences) = counts.compare(&grown) else {
        panic!("they differ");
    };
    let expected = [
        "on_exec on 6.1.0-50-amd64: 29 is now none",
        "on_fork on 6.1.0-50-amd64: none is now 29",
        "on_tick on 6.1.0-50-amd64: 56224 is now 56225",
    ];
    assert_eq!(differences, expected);

    for change in [
        |counts: &mut KernelCounts| counts.release = "6.1.0-51-amd64".into(),
        |counts: &mut KernelCounts| counts.compiler = "clang version 19".into(),
    ] {
        let mut other = sample();
        change(&mut other);
        let comparison = counts.compare(&other);
        assert!(
            matches!(comparison, Comparison::NotListed(_)),
            "{comparison:?}"
        );
    }
}

#[test]
fn a_newer_kernel_of_a_series_takes_the_place_of_the_older_and_series_stand_in_order() {
    let mut counts = Counts::default();
    for release in ["6.12.1", "6.1.0-50-amd64", "5.10.0-1", "6.1.0-51-amd64"] {
        let release = release.to_string();
        counts.set(KernelCounts {
            release,
            ..sample()
        });
    }
    let text = counts.to_text();
    let at = |release: &str| text.find(&format!("\n{release}, "));
    assert_eq!(at("6.1.0-50-amd64"), None);
    assert!(at("5.10.0-1") < at("6.1.0-51-amd64") && at("6.1.0-51-amd64") < at("6.12.1"));
    assert_eq!(Counts::parse(&text), Ok(counts));
    for wrong in [
        "    on_tick 5\n",
        "6.1 without compiler\n",
        "6.1, c\n    on_tick x\n",
    ] {
        assert!(Counts::parse(wrong).is_err(), "{wrong}");
    }
}
