//! Every dependency's licence against the list in `xtask/licences.txt`, without the network.
//!
//! In: `cargo metadata --offline` and the list. A dependency passes when its licence expression can be satisfied by
//! allowed licences alone, or when it has an exception of its own, with a reason.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use spdx::{Expression, ParseMode};

use crate::{cargo, repository};

/// What the list says.
#[derive(Debug, Default, PartialEq)]
struct Policy {
    allowed: BTreeSet<String>,
    exceptions: Vec<Exception>,
}

/// One package that may have a licence others may not.
#[derive(Debug, PartialEq)]
struct Exception {
    package: String,
    licence: String,
}

/// A package as cargo describes it.
#[derive(Debug, PartialEq)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let list = repository().join("xtask/licences.txt");
    let text = fs::read_to_string(&list)
        .with_context(|| format!("failed to read `{}`", list.display()))?;
    let policy = Policy::parse(&text).with_context(|| format!("in `{}`", list.display()))?;
    let packages = dependencies()?;
    let complaints = policy.complaints(&packages);
    if !complaints.is_empty() {
        bail!("licences:\n  {}", complaints.join("\n  "));
    }
    println!("licences: {} dependencies, all allowed", packages.len());
    Ok(())
}

/// What is built for this machine, workspace members left out.
fn dependencies() -> anyhow::Result<Vec<Package>> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let args = [
        "metadata",
        "--format-version=1",
        "--offline",
        "--locked",
        "--filter-platform",
        &platform,
    ];
    let output = cargo(&args)
        .output()
        .context("failed to run `cargo metadata`")?;
    ensure!(
        output.status.success(),
        "`cargo metadata` failed; build once, so that all dependencies are here\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("in what `cargo metadata` says")?;
    let packages = metadata["packages"]
        .as_array()
        .context("metadata has packages")?;
    let foreign = packages
        .iter()
        .filter(|package| !package["source"].is_null());
    Ok(foreign.map(Package::of).collect())
}

impl Package {
    fn of(package: &Value) -> Package {
        let text = |key: &str| package[key].as_str().map(str::to_string);
        Package {
            name: text("name").unwrap_or_default(),
            version: text("version").unwrap_or_default(),
            licence: text("license"),
        }
    }
}

impl Policy {
    /// Lines are `allow LICENCE` and `except PACKAGE LICENCE: REASON`; `#` begins a comment.
    fn parse(text: &str) -> anyhow::Result<Policy> {
        let mut policy = Policy::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            policy
                .add(line)
                .with_context(|| format!("line {}: `{line}`", number + 1))?;
        }
        Ok(policy)
    }

    fn add(&mut self, line: &str) -> anyhow::Result<()> {
        if let Some(licence) = line.strip_prefix("allow ") {
            let licence = licence.trim();
            Expression::parse(licence)
                .with_context(|| format!("`{licence}` is no SPDX licence"))?;
            self.allowed.insert(licence.to_string());
            return Ok(());
        }
        let Some(rest) = line.strip_prefix("except ") else {
            bail!("a line begins with `allow` or `except`");
        };
        let (subject, reason) = rest
            .split_once(':')
            .context("an exception needs `: REASON`")?;
        ensure!(!reason.trim().is_empty(), "an exception needs a reason");
        let (package, licence) = subject
            .split_once(' ')
            .context("an exception names PACKAGE LICENCE")?;
        self.exceptions.push(Exception {
            package: package.to_string(),
            licence: licence.trim().to_string(),
        });
        Ok(())
    }

    /// One line for each package that must not be used, and for each exception that nothing needs any more.
    fn complaints(&self, packages: &[Package]) -> Vec<String> {
        let mut complaints: Vec<String> = packages
            .iter()
            .filter_map(|package| self.complaint(package))
            .collect();
        let stale = self
            .exceptions
            .iter()
            .filter(|exception| !packages.iter().any(|package| exception.covers(package)));
        complaints.extend(
            stale.map(|e| format!("the exception for `{}` is not needed any more", e.package)),
        );
        complaints
    }

    fn complaint(&self, package: &Package) -> Option<String> {
        let Package {
            name,
            version,
            licence,
        } = package;
        if self
            .exceptions
            .iter()
            .any(|exception| exception.covers(package))
        {
            return None;
        }
        let Some(licence) = licence else {
            return Some(format!("`{name}` {version} states no licence"));
        };
        // Lax: older packages write `MIT/Apache-2.0`.
        let Ok(expression) = Expression::parse_mode(licence, ParseMode::LAX) else {
            return Some(format!(
                "`{name}` {version}: `{licence}` is no licence expression"
            ));
        };
        let allowed = expression.evaluate(|one| self.allowed.contains(&one.to_string()));
        (!allowed).then(|| format!("`{name}` {version}: `{licence}` is not allowed"))
    }
}

impl Exception {
    fn covers(&self, package: &Package) -> bool {
        self.package == package.name && Some(&self.licence) == package.licence.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
        allow MIT # the usual\n\
        allow Apache-2.0\n\
        except odd CDDL-1.0: used unmodified\n";

    fn package(name: &str, licence: Option<&str>) -> Package {
        Package {
            name: name.into(),
            version: "1.0.0".into(),
            licence: licence.map(str::to_string),
        }
    }

    fn complaints(packages: &[Package]) -> Vec<String> {
        let policy = Policy::parse(POLICY).expect("a good list");
        policy.complaints(packages)
    }

    #[test]
    fn allowed_licences_pass_in_every_spelling() {
        let packages: Vec<Package> = [
            "MIT",
            "MIT OR GPL-3.0-only",
            "MIT/Apache-2.0",
            "MIT AND Apache-2.0",
        ]
        .iter()
        .map(|licence| package("fine", Some(licence)))
        .chain([package("odd", Some("CDDL-1.0"))])
        .collect();
        assert_eq!(complaints(&packages), Vec::<String>::new());
    }

    #[test]
    fn anything_else_fails() {
        for licence in [
            Some("GPL-3.0-only"),
            Some("MIT AND GPL-3.0-only"),
            Some("Apache-2.0 WITH LLVM-exception"),
            Some("CDDL-1.0"),
            Some("my own"),
            Some(""),
            None,
        ] {
            let found = complaints(&[package("bad", licence), package("odd", Some("CDDL-1.0"))]);
            assert_eq!(found.len(), 1, "{licence:?}: {found:?}");
            assert!(found[0].contains("`bad`"), "{found:?}");
        }
    }

    #[test]
    fn an_exception_holds_for_its_licence_only_and_must_be_used() {
        let relicensed = complaints(&[package("odd", Some("GPL-3.0-only"))]);
        assert_eq!(relicensed.len(), 2, "{relicensed:?}");
        assert!(relicensed[1].contains("not needed"), "{relicensed:?}");
    }

    #[test]
    fn a_bad_list_is_refused() {
        for line in [
            "allow NotALicence",
            "except odd CDDL-1.0",
            "except odd CDDL-1.0: ",
            "permit MIT",
        ] {
            assert!(Policy::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_committed_list_is_good_and_all_dependencies_pass() {
        run().expect("every dependency is allowed");
    }
}
