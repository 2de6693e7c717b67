//! Which package owns a file is told as the system's own tool tells it, and the report says what to install from it.

use std::path::{Path, PathBuf};
use std::process::Command;

use perfprof::target::packages::owners;
use perfprof::target::root::Root;

use crate::support::workload::build_as;
use crate::support::{Need, Record, Workload, missing};

/// Real libraries and programs that are compared.
const FILES: usize = 40;
const FOLDERS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/bin"];

/// `PACKAGE` and its version as dpkg has them, for either spelling of a merged path.
fn by_dpkg(path: &str) -> Option<(String, String)> {
    let short = path.strip_prefix("/usr").unwrap_or(path);
    let package = [path, short].iter().find_map(|spelling| {
        let output = Command::new("dpkg-query")
            .args(["-S", spelling])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let owner = text
            .lines()
            .find(|line| !line.starts_with("diversion"))?
            .split(": ")
            .next()?;
        output.status.success().then(|| owner.to_owned())
    })?;
    let show = ["-W", "-f", "${Package} ${Version}\n", &package];
    let output = Command::new("dpkg-query").args(show).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (name, version) = text.lines().next()?.split_once(' ')?;
    Some((name.to_owned(), version.to_owned()))
}

/// Regular files only: what is mapped is never a link.
fn files() -> Vec<String> {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in FOLDERS {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let regular = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let mut paths: Vec<PathBuf> = regular.map(|entry| entry.path()).collect();
        paths.sort();
        let step = (paths.len() * FOLDERS.len() / FILES).max(1);
        files.extend(paths.into_iter().step_by(step));
    }
    let libc = Path::new(FOLDERS[0]).join("libc.so.6");
    files.push(libc);
    files
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn owners_of_real_files_are_those_dpkg_names() {
    if missing(&[Need::Program("dpkg-query")]) {
        return;
    }
    let files = files();
    let paths: Vec<&str> = files.iter().map(String::as_str).collect();
    let root = Root::of(std::process::id()).expect("own root");
    let found = owners(&mut |path| root.open(path), &paths);
    let mut owned = 0;
    for (path, found) in paths.iter().zip(found) {
        let found = found.map(|package| (package.name, package.version));
        assert_eq!(found, by_dpkg(path), "{path}");
        owned += usize::from(found.is_some());
    }
    assert!(
        owned >= FILES / 2,
        "{owned} of {} files are owned",
        paths.len()
    );
}

/// A folder as a distribution's root: a stripped program, and the package that owns it.
fn ubuntu_with_an_app() -> tempfile::TempDir {
    let recipe = ["cc", "-O2", "-static", "-Wl,--build-id"];
    let program = build_as("steady.c", &recipe, "steady_packaged");
    let dir = tempfile::tempdir().expect("temporary folder");
    for folder in ["usr/bin", "etc", "var/lib/dpkg/info"] {
        std::fs::create_dir_all(dir.path().join(folder)).expect("made");
    }
    let stripped = dir.path().join("usr/bin/app");
    let strip = Command::new("strip")
        .arg("-o")
        .args([&stripped, &program])
        .status();
    assert!(strip.expect("strip runs").success());
    let write =
        |path: &str, text: &str| std::fs::write(dir.path().join(path), text).expect("written");
    write(
        "etc/os-release",
        "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n",
    );
    write(
        "var/lib/dpkg/status",
        "Package: the-app\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.2-3ubuntu4\n",
    );
    write("var/lib/dpkg/info/the-app.list", "/.\n/usr/bin/app\n");
    dir
}

/// A report of half a second of its CPU time, and the row of `/usr/bin/app` in the list of what stayed unnamed.
fn to_do_of(running: &Workload) -> (String, String) {
    let recorded = Record::pid(running.pid()).run_for_cpu(running.pid(), 500);
    let report = recorded.report();
    let mut lines = report.lines();
    let row = lines.find(|line| line.contains("/usr/bin/app` |") && line.contains("no-symbol"));
    let row = row.unwrap_or_else(|| panic!("it is not in the list: {report}"));
    (report.clone(), row.to_owned())
}

#[test]
fn the_report_says_which_package_of_the_targets_own_root_names_its_frames() {
    let needs = ["strip", "chroot"].map(Need::Program);
    if missing(&[&[Need::Perf, Need::Root], &needs[..]].concat()) {
        return;
    }
    let root = ubuntu_with_an_app();
    let path = root.path().to_string_lossy().into_owned();
    let running = Workload::start_program(Path::new("chroot"), &[&path, "/usr/bin/app"]);
    let (report, row) = to_do_of(&running);
    assert!(
        row.contains("`apt install the-app-dbgsym=1.2-3ubuntu4`"),
        "{row}"
    );
    assert!(
        report.contains("`deb http://ddebs.ubuntu.com noble main"),
        "{report}"
    );
    assert!(report.contains("https://debuginfod.ubuntu.com"), "{report}");

    // The package is upgraded, and the former build goes on running.
    let app = root.path().join("usr/bin/app");
    std::fs::remove_file(&app).expect("removed");
    std::fs::copy("/proc/self/exe", &app).expect("another build");
    let (_, row) = to_do_of(&running);
    assert!(!row.contains("apt install"), "{row}");
    assert!(row.contains("--debuginfod"), "{row}");
}
