//! What building and testing need beyond Rust and a C compiler, installed by apt where it is missing.
//!
//! A need is met by what is used (a program that runs, a header that compiles), not by a package's name, so that
//! other ways of installing it count. Nothing is done when nothing is missing.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, bail};

use crate::compile::on_path;
use crate::kernels::{self, PrivateApt};
use crate::{linters, must_succeed, target_dir};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Build,
    Tests,
    Bench,
    Kernels,
}

struct Need {
    purposes: &'static [Purpose],
    /// What is looked for, for people.
    what: &'static str,
    why: &'static str,
    /// Debian packages that bring it.
    packages: &'static [&'static str],
    is_met: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        purposes: &[Purpose::Build],
        what: "cc",
        why: "links Rust programs and builds libbpf",
        packages: &["gcc", "libc6-dev"],
        is_met: || on_path("cc"),
    },
    Need {
        purposes: &[Purpose::Build],
        what: "clang with the BPF target",
        why: "compiles the programs that run inside the kernel",
        packages: &["clang"],
        is_met: || compiles("clang", &["--target=bpf", "-S", "-o", "-"], "int x;"),
    },
    Need {
        purposes: &[Purpose::Build],
        what: "libelf and zlib with headers",
        why: "libbpf reads its object files with them",
        packages: &["libelf-dev", "zlib1g-dev"],
        is_met: links_with_libelf,
    },
    Need {
        purposes: &[Purpose::Build],
        what: "pkg-config",
        why: "finds those libraries",
        packages: &["pkg-config"],
        is_met: || on_path("pkg-config"),
    },
    Need {
        purposes: &[Purpose::Build],
        what: "make",
        why: "builds libbpf",
        packages: &["make"],
        is_met: || on_path("make"),
    },
    Need {
        purposes: &[Purpose::Build],
        what: "g++",
        why: "compiles the demo's workload",
        packages: &["g++"],
        is_met: || compiles("g++", &["-fsyntax-only"], "#include <string>\n"),
    },
    Need {
        purposes: &[Purpose::Tests, Purpose::Bench],
        what: "PostgreSQL server and pgbench",
        why: "a real server under load is recorded (Debian's package also starts a server of its own; that one is not \
              used)",
        packages: &["postgresql", "postgresql-contrib"],
        is_met: has_postgres,
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "go",
        why: "`go tool pprof` must read what perfprof writes, and goroutines have stacks of their own",
        packages: &["golang-go"],
        is_met: || on_path("go"),
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "lld and mold",
        why: "the tests record programs of linkers that lay out segments in other ways",
        packages: &["lld", "mold"],
        is_met: || on_path("ld.lld") && on_path("ld.mold"),
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "musl-gcc",
        why: "the tests record a program with another C library",
        packages: &["musl-tools"],
        is_met: || on_path("musl-gcc"),
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "debuginfod and debuginfod-find",
        why: "the tests fetch debug files from a real server (the package is small and starts none)",
        packages: &["debuginfod"],
        is_met: || on_path("debuginfod") && on_path("debuginfod-find"),
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "dwz, llvm-dwp and xz",
        why: "the tests record programs whose debug information is shared, joined, or packed",
        packages: &["dwz", "llvm", "xz-utils"],
        is_met: || ["dwz", "llvm-dwp", "xz"].into_iter().all(on_path),
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "node",
        why: "the tests record code that it generates",
        packages: &["nodejs"],
        is_met: || on_path("node"),
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "java and javac",
        why: "the tests have a Java virtual machine name its code",
        packages: &["default-jdk-headless"],
        is_met: || on_path("java") && on_path("javac"),
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "nginx and wrk",
        why: "the tests record a web server under load (Debian's package also starts one of its own; that one is not used)",
        packages: &["nginx-light", "wrk"],
        is_met: || on_path("nginx") && on_path("wrk"),
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "Python with PyYAML",
        why: "the tests read a gate config as the workflow's own runner does",
        packages: &["python3-yaml"],
        is_met: || {
            ["python3", "/usr/bin/python3"]
                .into_iter()
                .any(|python| imports(python, "yaml"))
        },
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "Python with gRPC and protobuf, and protoc",
        why: "the tests push profiles to a backend that is built from the official protocol definitions",
        packages: &["python3-grpcio", "python3-protobuf", "protobuf-compiler"],
        is_met: || {
            let modules = "grpc, google.protobuf.message_factory";
            let python = ["python3", "/usr/bin/python3"]
                .into_iter()
                .any(|python| imports(python, modules));
            python && on_path("protoc")
        },
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "podman, runc, conmon and catatonit",
        why: "the tests run perfprof beside an application in a Pod (22 MB to fetch)",
        packages: &["podman", "runc", "conmon", "catatonit"],
        is_met: has_podman,
    },
    Need {
        purposes: &[Purpose::Tests],
        what: "promtool",
        why: "checks the alerts (Debian's package brings the server, too, which is not used; 23 MB to fetch)",
        packages: &["prometheus"],
        is_met: || on_path("promtool"),
    },
    Need {
        purposes: &[Purpose::Bench],
        what: "perf",
        why: "a peer",
        packages: &["linux-perf"],
        is_met: || on_path("perf"),
    },
    Need {
        purposes: &[Purpose::Bench],
        what: "bpftrace",
        why: "a peer",
        packages: &["bpftrace"],
        is_met: || on_path("bpftrace"),
    },
    Need {
        purposes: &[Purpose::Bench],
        what: "bpftool",
        why: "reads the counters of BPF programs that run",
        packages: &["bpftool"],
        is_met: || on_path("bpftool"),
    },
    Need {
        purposes: &[Purpose::Bench],
        what: "libbpf with headers",
        why: "runs the program that walks frame pointers, for comparison",
        packages: &["libbpf-dev"],
        is_met: || compiles("cc", &["-fsyntax-only"], "#include <bpf/libbpf.h>\n"),
    },
    Need {
        purposes: &[Purpose::Bench],
        what: "redis-server and redis-benchmark",
        why: "a workload",
        packages: &["redis"],
        is_met: || on_path("redis-server") && on_path("redis-benchmark"),
    },
    Need {
        purposes: &[Purpose::Tests, Purpose::Bench],
        what: "openssl",
        why: "a workload, and the https server of a test",
        packages: &["openssl"],
        is_met: || on_path("openssl"),
    },
    Need {
        purposes: &[Purpose::Bench],
        what: "python3.11",
        why: "a workload",
        packages: &["python3.11"],
        is_met: || on_path("python3.11"),
    },
    Need {
        purposes: &[Purpose::Kernels],
        what: kernels::QEMU,
        why: "runs other kernels",
        packages: &["qemu-system-x86"],
        is_met: || on_path(kernels::QEMU),
    },
    Need {
        purposes: &[Purpose::Kernels],
        what: "busybox without libraries",
        why: "a guest begins with it",
        packages: &["busybox-static"],
        is_met: || kernels::busybox().is_some(),
    },
    Need {
        purposes: &[Purpose::Kernels],
        what: "depmod",
        why: "finds the modules that a guest needs",
        packages: &["kmod"],
        is_met: || on_path("depmod"),
    },
    Need {
        purposes: &[Purpose::Kernels],
        what: "xz and zstd",
        why: "modules are packed with them",
        packages: &["xz-utils", "zstd"],
        is_met: || on_path("xz") && on_path("zstd"),
    },
    Need {
        purposes: &[Purpose::Kernels],
        what: "Debian's keys",
        why: "kernels are fetched from Debian's archive",
        packages: &["debian-archive-keyring"],
        is_met: || Path::new(kernels::KEYRING).is_file(),
    },
];

/// Nothing that is installed may go: apt would rather take qemu-utils of backports away than refuse.
const INSTALL: &[&str] = &["install", "-y", "--no-install-recommends", "--no-remove"];

/// How apt can be run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Apt {
    Direct,
    Sudo,
    NotPermitted,
    Absent,
}

/// Installs what is missing for these purposes; an error that says what to do when that is not possible.
pub(crate) fn run(purposes: &[Purpose]) -> anyhow::Result<()> {
    let unmet = unmet(purposes);
    if unmet.is_empty() {
        println!("setup: everything is there");
        return Ok(());
    }
    for need in &unmet {
        let packages = need.packages.join(" ");
        println!(
            "setup: {} is missing: {} (package {packages})",
            need.what, need.why
        );
    }
    let packages: Vec<&str> = unmet
        .iter()
        .flat_map(|need| need.packages)
        .copied()
        .collect();
    install(&packages, apt_here())?;
    let still: Vec<&str> = self::unmet(purposes).iter().map(|need| need.what).collect();
    if !still.is_empty() {
        bail!(
            "installed {}, and still missing: {}",
            packages.join(" "),
            still.join(", ")
        );
    }
    Ok(())
}

fn unmet(purposes: &[Purpose]) -> Vec<&'static Need> {
    let asked = NEEDS
        .iter()
        .filter(|need| need.purposes.iter().any(|one| purposes.contains(one)));
    asked.filter(|need| !(need.is_met)()).collect()
}

/// Installs from the machine's own suites, or where these do not go together with what is installed, from backports.
fn install(packages: &[&str], apt: Apt) -> anyhow::Result<()> {
    let run = |words: Vec<&str>| {
        println!("setup: {}", words.join(" "));
        must_succeed(Command::new(words[0]).args(&words[1..]))
    };
    let [update, install] = install_commands(packages, apt)?;
    run(update)?;
    match run(install) {
        Err(error) if apt == Apt::Direct => {
            println!("setup: {error:#}; trying backports");
            install_from_backports(packages)
        }
        other => other,
    }
}

/// The machine's sources stay as they are. Seen: qemu-utils of bookworm-backports goes with no qemu-system-x86 but its
/// own.
fn install_from_backports(packages: &[&str]) -> anyhow::Result<()> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no suite")?;
    let backports = format!("{suite}-backports");
    let folder = target_dir().join("setup");
    let apt = PrivateApt::of(&[suite, &format!("{suite}-updates"), &backports], &folder)?;
    let mut install = apt.command("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(INSTALL).args(["-t", &backports]);
    must_succeed(install.args(packages))
}

/// The commands that update apt's lists and install `packages`.
fn install_commands<'a>(packages: &[&'a str], apt: Apt) -> anyhow::Result<[Vec<&'a str>; 2]> {
    let list = packages.join(" ");
    let prefix: &[&str] = match apt {
        Apt::Direct => &["env"],
        Apt::Sudo => &["sudo", "env"],
        Apt::NotPermitted => {
            bail!("not permitted to install packages\nhint: run as root: apt-get install {list}")
        }
        Apt::Absent => {
            bail!("there is no apt-get here\nhint: install what these Debian packages hold: {list}")
        }
    };
    let quiet = "DEBIAN_FRONTEND=noninteractive";
    let command = |rest: &[&'a str]| [prefix, &[quiet, "apt-get"], rest].concat();
    let install = [INSTALL, packages].concat();
    Ok([command(&["update"]), command(&install)])
}

fn apt_here() -> Apt {
    match (on_path("apt-get"), is_root(), on_path("sudo")) {
        (false, _, _) => Apt::Absent,
        (true, true, _) => Apt::Direct,
        (true, false, true) => Apt::Sudo,
        (true, false, false) => Apt::NotPermitted,
    }
}

pub(crate) fn is_root() -> bool {
    // Fields of `Uid:` are real, effective, saved, file system; proc_pid_status(5).
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
    })
}

/// Whether `compiler` accepts `source` from standard input.
fn compiles(compiler: &str, args: &[&str], source: &str) -> bool {
    let language = if compiler == "g++" { "c++" } else { "c" };
    let child = Command::new(compiler)
        .args(["-x", language])
        .args(args)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // A compiler that does not even read has failed; its status says so.
        let _ = stdin.write_all(source.as_bytes());
    }
    child.wait().is_ok_and(|status| status.success())
}

fn links_with_libelf() -> bool {
    let program = env::temp_dir().join(format!("perfprof-setup-{}", std::process::id()));
    let source = "#include <libelf.h>\n#include <zlib.h>\n\
                  int main(void) { return elf_version(EV_CURRENT) == EV_NONE || !zlibVersion(); }\n";
    let libraries = ["-Wl,--no-as-needed", "-lelf", "-lz", "-o"];
    let output = program.to_string_lossy();
    let linked = compiles("cc", &[&libraries[..], &[&*output]].concat(), source);
    let _ = fs::remove_file(&program); // there only when it could be linked
    linked
}

fn imports(python: &str, modules: &str) -> bool {
    let statement = format!("import {modules}");
    let output = Command::new(python).args(["-c", &statement]).output();
    output.is_ok_and(|output| output.status.success())
}

fn has_postgres() -> bool {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    let has = |folder: &Path, program: &str| folder.join(program).is_file();
    let server = debian
        .into_iter()
        .any(|folder| has(&folder, "postgres") && has(&folder, "initdb"));
    (server || on_path("postgres") && on_path("initdb")) && on_path("pgbench")
}

fn has_podman() -> bool {
    let pause = on_path("catatonit") || Path::new("/usr/libexec/podman/catatonit").exists();
    pause && ["podman", "runc", "conmon"].into_iter().all(on_path)
}

/// Installs what the tests need where that is possible; where not, says so and goes on: they will be skipped by name.
pub(crate) fn run_for_tests() -> anyhow::Result<()> {
    run(&[Purpose::Build]).context("what building needs could not be set up")?;
    if let Err(error) = run(&[Purpose::Tests]) {
        eprintln!("warning: {error:#}\nwarning: tests that need it will be skipped");
    }
    linters::install();
    Ok(())
}

/// Installs what the benchmark of the unwinder can use where that is possible; without, it says what it lacks.
pub(crate) fn run_for_bench() {
    if let Err(error) = run(&[Purpose::Bench]) {
        eprintln!("warning: {error:#}\nwarning: what needs it will not be measured");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_installs_directly_and_others_by_sudo() {
        let direct = install_commands(&["clang", "make"], Apt::Direct).expect("possible");
        let words: Vec<String> = direct.iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            words,
            [
                "env DEBIAN_FRONTEND=noninteractive apt-get update",
                "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-remove clang make"
            ]
        );
        let sudo = install_commands(&["clang"], Apt::Sudo).expect("possible");
        assert!(sudo.iter().all(|words| words[..2] == ["sudo", "env"]));
    }

    #[test]
    fn without_apt_or_privileges_the_error_names_the_packages() {
        for apt in [Apt::NotPermitted, Apt::Absent] {
            let error = install_commands(&["clang", "libelf-dev"], apt).expect_err("not possible");
            assert!(error.to_string().contains("clang libelf-dev"), "{error}");
        }
    }

    #[test]
    fn a_compiler_is_judged_by_what_it_accepts() {
        assert!(compiles("cc", &["-fsyntax-only"], "int x;"));
        assert!(!compiles(
            "cc",
            &["-fsyntax-only"],
            "#include <no/such/header.h>\n"
        ));
        assert!(!compiles("no-such-compiler", &[], "int x;"));
    }

    #[test]
    fn every_need_names_a_package_and_a_reason() {
        for need in NEEDS {
            assert!(
                !need.packages.is_empty() && !need.why.is_empty(),
                "{}",
                need.what
            );
        }
    }
}
