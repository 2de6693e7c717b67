//! Databases as distributions write them, and as nobody should.

use std::collections::HashMap;

use super::*;

/// A root made of texts.
fn root<'a>(files: &'a [(&'a str, &'a str)]) -> impl FnMut(&Path) -> io::Result<File> + 'a {
    let files: HashMap<&Path, &str> = files
        .iter()
        .map(|(path, text)| (Path::new(*path), *text))
        .collect();
    move |path| {
        use std::io::{Seek, Write};
        let text = files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let mut file = tempfile::tempfile()?;
        file.write_all(text.as_bytes())?;
        file.rewind()?;
        Ok(file)
    }
}

fn package(name: &str, version: &str) -> Option<Package> {
    Some(Package {
        name: name.into(),
        version: version.into(),
    })
}

const STATUS: &str = "\
Package: libc6
Status: install ok installed
Multi-Arch: same
Architecture: amd64
Version: 2.36-9+deb12u14
Description: GNU C Library
 with a second line: and a colon

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b7
";

#[test]
fn dpkg_lists_name_the_owner_in_either_spelling() {
    let files = [
        ("/var/lib/dpkg/status", STATUS),
        (
            "/var/lib/dpkg/info/libc6:amd64.list",
            "/.\n/lib\n/lib/x86_64-linux-gnu/libc.so.6\n",
        ),
        ("/var/lib/dpkg/info/gone.list", "/usr/bin/gone\n"),
        ("/var/lib/dpkg/info/bash.list", "/.\n/bin/bash\n"),
    ];
    let paths = [
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/bin/gone",
        "/opt/app/server",
        "/bin/bash",
        "/home/me/a.out",
    ];
    let libc = package("libc6", "2.36-9+deb12u14");
    let bash = package("bash", "5.2.15-2+b7");
    assert_eq!(
        owners(&mut root(&files), &paths),
        [libc, None, None, bash, None]
    );
}

#[test]
fn apk_names_the_owner() {
    let installed = "C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\n\n\
                     P:busybox\nV:1.36.1-r15\nF:bin\nR:busybox\n\n";
    let files = [("/lib/apk/db/installed", installed)];
    let found = owners(
        &mut root(&files),
        &["/lib/ld-musl-x86_64.so.1", "/usr/bin/busybox"],
    );
    assert_eq!(
        found,
        [
            package("musl", "1.2.4-r2"),
            package("busybox", "1.36.1-r15")
        ]
    );
}

#[test]
fn os_release_tells_the_distribution() {
    let text = "NAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n";
    let files = [("/usr/lib/os-release", text)];
    let expected = Distribution {
        id: "ubuntu".into(),
        like: vec!["debian".into()],
        release: "noble".into(),
    };
    assert_eq!(distribution(&mut root(&files)), expected);
    let rocky = os_release("ID='rocky'\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"");
    assert_eq!((&*rocky.id, &*rocky.release), ("rocky", "9.4"));
    assert_eq!(rocky.like, ["rhel", "centos", "fedora"]);
    assert_eq!(distribution(&mut root(&[])), Distribution::default());
}

#[test]
fn words_that_would_be_more_than_words_in_a_command_are_not_kept() {
    let status = STATUS
        .replace("libc6", "libc6;reboot")
        .replace("5.2.15", "$(reboot)");
    let files = [
        ("/var/lib/dpkg/status", &*status),
        ("/var/lib/dpkg/info/libc6;reboot:amd64.list", "/bin/a\n"),
        ("/var/lib/dpkg/info/bash.list", "/bin/bash\n"),
        ("/lib/apk/db/installed", "P:--force\nV:1\nF:bin\nR:a\n"),
    ];
    assert_eq!(
        owners(&mut root(&files), &["/bin/a", "/bin/bash"]),
        [None, None]
    );
    let hostile = os_release("ID=\"a b\"\nID_LIKE=\"debian `x`\"\nVERSION_CODENAME=\u{1b}[31m\n");
    assert_eq!((&*hostile.id, &*hostile.release), ("", ""));
    assert_eq!(hostile.like, ["debian"]);
}

#[test]
fn a_database_without_end_is_read_only_so_far() {
    let opened = std::cell::Cell::new(0u64);
    let mut open = |path: &Path| {
        opened.set(opened.get() + 1);
        match path == Path::new("/var/lib/dpkg/status") {
            true => root(&[("/var/lib/dpkg/status", STATUS)])(path),
            false => File::open("/dev/zero"),
        }
    };
    let found = owners(&mut open, &["/usr/bin/a", "/usr/bin/b"]);
    assert_eq!(found, [None, None]);
    assert!(opened.get() < 10);
}
