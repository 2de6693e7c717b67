//! Packages of any Debian suite, by apt with lists of its own: the machine's sources are neither used nor changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::must_succeed;

/// Where Debian is when the machine's own sources name no mirror of it.
const DEBIAN: &str = "http://deb.debian.org/debian/";
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt that knows only the given suites.
#[derive(Debug)]
pub(crate) struct PrivateApt {
    options: Vec<String>,
}

impl PrivateApt {
    /// Fetches the suites' lists into `folder`.
    pub(crate) fn of(suites: &[&str], folder: &Path) -> anyhow::Result<PrivateApt> {
        let place = |name: &str| -> anyhow::Result<PathBuf> {
            let place = folder.join(name);
            fs::create_dir_all(&place)
                .with_context(|| format!("failed to create `{}`", place.display()))?;
            Ok(place)
        };
        place("lists/partial")?;
        place("cache/archives/partial")?;
        let sources = place("sources")?;
        fs::write(sources.join("debian.sources"), source(suites))
            .with_context(|| format!("failed to write into `{}`", sources.display()))?;
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        let apt = PrivateApt {
            options: vec![
                "Dir::Etc::SourceList=/dev/null".into(),
                option("Dir::Etc::SourceParts", &sources),
                option("Dir::State::Lists", &place("lists")?),
                option("Dir::Cache", &place("cache")?),
                // Its unprivileged user cannot write into our folder.
                "APT::Sandbox::User=root".into(),
            ],
        };
        must_succeed(apt.command("apt-get").args(["-qq", "update"]))
            .with_context(|| format!("failed to fetch the lists of {}", suites.join(", ")))?;
        Ok(apt)
    }

    /// `apt-get` or another of its programs, with these suites.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// What a package depends on, by name, in the newest version there is.
    pub(crate) fn dependencies(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let output = self
            .command("apt-cache")
            .args(["show", "--no-all-versions", package])
            .output()
            .context("failed to run `apt-cache`")?;
        if !output.status.success() {
            bail!("there is no package `{package}`");
        }
        Ok(names_in_depends(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Fetches and unpacks packages into `root`, without installing them.
    pub(crate) fn unpack(&self, packages: &[String], root: &Path) -> anyhow::Result<()> {
        let debs = root.with_extension("debs");
        fs::create_dir_all(&debs)
            .with_context(|| format!("failed to create `{}`", debs.display()))?;
        let mut download = self.command("apt-get");
        download.args(["-qq", "download"]).args(packages);
        must_succeed(download.current_dir(&debs))?;
        let entries =
            fs::read_dir(&debs).with_context(|| format!("failed to list `{}`", debs.display()))?;
        for deb in entries {
            let deb = deb.context("failed to list what was fetched")?.path();
            must_succeed(Command::new("dpkg").arg("--extract").arg(&deb).arg(root))?;
        }
        fs::remove_dir_all(&debs).with_context(|| format!("failed to remove `{}`", debs.display()))
    }
}

/// The text of a sources file, deb822 format of `sources.list(5)`.
fn source(suites: &[&str]) -> String {
    format!(
        "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {KEYRING}\n",
        mirror(),
        suites.join(" ")
    )
}

/// The mirror that this machine uses for Debian itself.
fn mirror() -> String {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)"])
        .args(["Created-By: Packages", "Label: Debian"])
        .output();
    let uris = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    uris.ok()
        .and_then(|uris| Some(uris.lines().next()?.to_string()))
        .unwrap_or_else(|| DEBIAN.to_string())
}

/// Names in the `Depends:` field of a package's description, without versions and alternatives.
fn names_in_depends(description: &str) -> Vec<String> {
    description
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: "))
        .flat_map(|list| list.split(", "))
        .filter_map(|one| one.split_whitespace().next())
        .map(str::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_names_without_versions() {
        let description =
            "Package: a\nPre-Depends: dpkg\nDepends: linux-image-7.3.4 (= 7.3.4-1), kmod, x | y\n";
        assert_eq!(
            names_in_depends(description),
            ["linux-image-7.3.4", "kmod", "x"]
        );
        assert!(names_in_depends("Package: a\n").is_empty());
    }

    #[test]
    fn a_source_names_its_suites_and_its_key() {
        let text = source(&["bookworm", "bookworm-backports"]);
        assert!(
            text.contains("\nSuites: bookworm bookworm-backports\n"),
            "{text}"
        );
        assert!(text.contains("\nSigned-By: /usr/share/keyrings/"), "{text}");
    }
}
