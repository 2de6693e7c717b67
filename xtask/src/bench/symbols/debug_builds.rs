//! Programs from crates.io with all the debug information that a compiler gives (`debug=2`).

use std::path::{Path, PathBuf};

use crate::bench::peers;
use crate::must_succeed;

use super::subjects::folder;

const RIPGREP: &str = "14.1.1";

pub(super) fn ripgrep() -> anyhow::Result<PathBuf> {
    built("ripgrep", "rg", RIPGREP)
}

pub(super) fn samply() -> anyhow::Result<PathBuf> {
    built("samply", "samply", peers::SAMPLY)
}

/// The path of the program, built at need, which takes minutes.
fn built(crate_name: &str, program: &str, version: &str) -> anyhow::Result<PathBuf> {
    let root = folder().join("debug2");
    let path = root.join("bin").join(program);
    if !path.is_file() {
        println!(
            "bench: building {crate_name} {version} with debug=2 into {}",
            root.display()
        );
        install(crate_name, version, &root)?;
    }
    Ok(path)
}

fn install(crate_name: &str, version: &str, root: &Path) -> anyhow::Result<()> {
    let mut command = crate::cargo(&["install", "--quiet", "--locked", "-j2", "--root"]);
    command.arg(root).args(["--version", version, crate_name]);
    command
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_TARGET_DIR", folder().join("build"));
    must_succeed(&mut command)
}
