//! How a binary's frames get names, as a command: which package to install, or whom to ask by build ID.
//!
//! In: where a binary came from ([`PackageFact`]), and its build ID. Out: sentences with commands in backticks. A profile
//! may come from anybody: only words that mean nothing to a shell become part of a command.
//!
//! Sources: Debian wiki, "HowToGetABacktrace"; Ubuntu wiki, "Debug Symbol Packages"; dnf(8), "Specifying provides";
//! openSUSE's gdb; the list of servers at <https://sourceware.org/elfutils/Debuginfod.html>.

use crate::profile::{BuildId, PackageFact, Profile};

/// Federates those of the distributions.
const ANY_SERVER: &str = "https://debuginfod.elfutils.org";

/// A recording keeps a hundred; a profile from elsewhere may claim any number.
const MAX_FACTS: usize = 1000;

/// Who packages programs in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Debian,
    Ubuntu,
    Alpine,
    Fedora,
    Suse,
    /// Has no debug packages, or is not known here.
    Other,
}

impl Family {
    fn of(fact: &PackageFact) -> Family {
        let ids = [&fact.distribution].into_iter().chain(&fact.like);
        ids.map(|id| Family::named(id))
            .find(|family| *family != Family::Other)
            .unwrap_or(Family::Other)
    }

    fn named(id: &str) -> Family {
        match id {
            "debian" => Family::Debian,
            "ubuntu" => Family::Ubuntu,
            "alpine" => Family::Alpine,
            "fedora" | "rhel" | "centos" => Family::Fedora,
            _ if id.contains("suse") || id.starts_with("sle") => Family::Suse,
            _ => Family::Other,
        }
    }
}

/// Where a binary of the profile came from, if that is known.
pub fn origin<'a>(
    profile: &'a Profile,
    module: &str,
    build_id: Option<BuildId>,
) -> Option<&'a PackageFact> {
    let build_id = build_id.map_or_else(String::new, |id| id.to_string());
    let mut facts = profile.recording.packages.iter().take(MAX_FACTS);
    facts.find(|fact| fact.path == module && fact.build_id == build_id)
}

/// What to do for a binary without symbols or lines.
pub(super) fn remedy(profile: &Profile, module: &str, build_id: Option<BuildId>) -> String {
    let origin = origin(profile, module, build_id);
    if let Some(command) = origin.and_then(|fact| command(fact, build_id)) {
        return format!("`{command}`");
    }
    let name = module.rsplit('/').next().unwrap_or(module);
    match build_id {
        Some(_) => format!(
            "find the debug file of `{name}` by `--debug-dir DIR` or `--debuginfod`, or build it with `-g`"
        ),
        None => format!(
            "build `{name}` with `-g -Wl,--build-id`; it has no build ID to find a debug file by"
        ),
    }
}

/// Installs the debug symbols of exactly this build.
fn command(fact: &PackageFact, build_id: Option<BuildId>) -> Option<String> {
    let (package, version) = (&fact.package, &fact.version);
    let is_plain = PackageFact::is_word(package) && PackageFact::is_word(version);
    let packaged = is_plain.then_some(package);
    match Family::of(fact) {
        Family::Debian | Family::Ubuntu => packaged
            .map(|package| format!("apt install {}={version}", debian_debug_package(package))),
        Family::Alpine => packaged.map(|package| format!("apk add {package}-dbg={version}")),
        Family::Fedora => build_id
            .map(|id| format!("dnf install --enablerepo='*debug*' 'debuginfo(build-id) = {id}'")),
        Family::Suse => build_id.map(|id| {
            format!("zypper --plus-content debug install --capability 'debuginfo(build-id) = {id}'")
        }),
        Family::Other => None,
    }
}

/// The C library and Python have packages made by hand, in the archive proper; all others are made by debhelper.
fn debian_debug_package(package: &str) -> String {
    let python = package.strip_prefix("lib").unwrap_or(package);
    let python = python.split('-').next().unwrap_or(python);
    let is_python = python
        .strip_prefix("python")
        .is_some_and(|version| version.contains('.'));
    match (package, is_python) {
        ("libc6", _) => "libc6-dbg".to_owned(),
        (_, true) => format!("{python}-dbg"),
        _ => format!("{package}-dbgsym"),
    }
}

/// Where apt finds debug packages of this distribution, as a sentence; only where its command needs that.
pub fn archive(fact: &PackageFact) -> Option<String> {
    let release = Some(&fact.release).filter(|word| PackageFact::is_word(word))?;
    let made_by_hand = !debian_debug_package(&fact.package).ends_with("-dbgsym");
    if made_by_hand || fact.package.is_empty() {
        return None;
    }
    let line = match (Family::of(fact), &*fact.distribution) {
        (Family::Debian, "debian") => {
            format!("deb http://deb.debian.org/debian-debug {release}-debug main")
        }
        (Family::Ubuntu, "ubuntu") => {
            format!("deb http://ddebs.ubuntu.com {release} main restricted universe multiverse")
        }
        _ => return None,
    };
    Some(format!(
        "The `-dbgsym` packages have an archive of their own: `{line}`."
    ))
}

/// The server of the distribution.
pub fn server(fact: Option<&PackageFact>) -> &'static str {
    let ids = fact
        .into_iter()
        .flat_map(|fact| [&fact.distribution].into_iter().chain(&fact.like));
    let mut servers = ids.filter_map(|id| match &**id {
        "debian" => Some("https://debuginfod.debian.net"),
        "ubuntu" => Some("https://debuginfod.ubuntu.com"),
        "fedora" => Some("https://debuginfod.fedoraproject.org"),
        "centos" => Some("https://debuginfod.centos.org"),
        "arch" => Some("https://debuginfod.archlinux.org"),
        _ if id.starts_with("opensuse") => Some("https://debuginfod.opensuse.org"),
        _ => None,
    });
    servers.next().unwrap_or(ANY_SERVER)
}

/// The request a debuginfod server answers with the debug file; debuginfod(8).
pub fn request_path(build_id: BuildId) -> String {
    format!("/buildid/{build_id}/debuginfo")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(distribution: &str, like: &[&str], package: &str, version: &str) -> PackageFact {
        PackageFact {
            distribution: distribution.into(),
            like: like.iter().map(|id| (*id).to_owned()).collect(),
            release: "bookworm".into(),
            package: package.into(),
            version: version.into(),
            ..PackageFact::default()
        }
    }

    fn id() -> Option<BuildId> {
        BuildId::from_hex("0badcafe")
    }

    #[test]
    fn every_family_has_its_command() {
        let cases = [
            (
                fact("debian", &[], "zlib1g", "1:1.2.13"),
                "apt install zlib1g-dbgsym=1:1.2.13",
            ),
            (
                fact("debian", &[], "libc6", "2.36-9"),
                "apt install libc6-dbg=2.36-9",
            ),
            (
                fact("debian", &[], "libpython3.11", "3.11.2-6"),
                "apt install python3.11-dbg=3.11.2-6",
            ),
            (
                fact("debian", &[], "python3.11-minimal", "3.11.2-6"),
                "apt install python3.11-dbg=3.11.2-6",
            ),
            (
                fact("debian", &[], "libpython3-stdlib", "3"),
                "apt install libpython3-stdlib-dbgsym=3",
            ),
            (
                fact("linuxmint", &["ubuntu", "debian"], "bash", "5"),
                "apt install bash-dbgsym=5",
            ),
            (
                fact("alpine", &[], "musl", "1.2.4-r2"),
                "apk add musl-dbg=1.2.4-r2",
            ),
            (
                fact("rocky", &["rhel", "centos", "fedora"], "", ""),
                "dnf install --enablerepo='*debug*' 'debuginfo(build-id) = 0badcafe'",
            ),
            (
                fact("opensuse-leap", &["suse", "opensuse"], "", ""),
                "zypper --plus-content debug install --capability 'debuginfo(build-id) = 0badcafe'",
            ),
        ];
        for (fact, expected) in cases {
            assert_eq!(command(&fact, id()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn without_package_build_id_or_plain_words_there_is_no_command() {
        for unknown in [
            fact("debian", &[], "", ""),
            fact("debian", &[], "a;reboot", "1"),
            fact("debian", &[], "a", "1 --allow-downgrades"),
            fact("debian", &[], "--purge", "1"),
            fact("arch", &[], "glibc", "2"),
            PackageFact::default(),
        ] {
            assert_eq!(command(&unknown, id()), None, "{unknown:?}");
        }
        assert_eq!(command(&fact("fedora", &[], "", ""), None), None);
        let mut hostile = fact("debian", &[], "bash", "5");
        hostile.release = "x`reboot`".into();
        assert_eq!(archive(&hostile), None);
    }

    #[test]
    fn the_archive_is_named_where_it_is_needed() {
        let line = archive(&fact("debian", &[], "bash", "5")).expect("needed");
        assert!(line.contains("debian-debug bookworm-debug main"), "{line}");
        assert_eq!(archive(&fact("debian", &[], "libc6", "2")), None);
        assert_eq!(archive(&fact("fedora", &[], "", "")), None);
        assert_eq!(
            server(Some(&fact("linuxmint", &["ubuntu"], "", ""))),
            "https://debuginfod.ubuntu.com"
        );
        assert_eq!(server(None), ANY_SERVER);
    }
}
