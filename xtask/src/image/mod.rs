//! `cargo xtask image`: perfprof as a container image of one static program, FROM scratch, made without a registry and
//! without podman, buildah or docker.
//!
//! In: the sources. Out, in the folder asked for: `perfprof` (the static program, for those who build images themselves:
//! `deploy/container/Containerfile`), `oci/` (an OCI image layout) and `perfprof-image.tar` (the same as one file). The
//! image has no shell, no libc, nothing of this machine, and no TLS roots: who pushes over https mounts a folder of
//! certificates at `/etc/ssl/certs`, or names a file in `SSL_CERT_FILE`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;

use crate::{cargo, repository, setup, target_dir};

pub(crate) mod contents;
#[allow(unreachable_pub)]
pub(crate) mod oci;
pub(crate) mod static_link;

const BEST_COMPRESSION: u32 = 9;

#[derive(Debug, PartialEq)]
struct Options {
    profile: String,
    out: PathBuf,
}

impl Options {
    fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options {
            profile: "release".into(),
            out: target_dir().join("image"),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("`{word}` needs a value"))?;
            match *word {
                "--profile" if ["release", "dev"].contains(value) => {
                    options.profile = value.to_string();
                }
                "--profile" => bail!("`--profile` is `release` or `dev`, not `{value}`"),
                "--out" => options.out = std::path::absolute(value)?,
                _ => bail!("`image` has no option `{word}`"),
            }
        }
        Ok(options)
    }
}

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(words)?;
    setup::run(&[setup::Purpose::Build])?;
    let library = build(&options.profile)?;
    let folder = library.parent().context("the library is in a folder")?;
    let out = &options.out;
    fs::create_dir_all(out).with_context(|| format!("failed to create `{}`", out.display()))?;
    let program = out.join("perfprof");
    let compiled = static_link::Compiled {
        repository: repository(),
        rlib: &library,
        dependencies: &folder.join("deps"),
    };
    static_link::link(&compiled, &target_dir().join("static"), &program).map_err(|e| anyhow!(e))?;

    let bytes =
        fs::read(&program).with_context(|| format!("failed to read `{}`", program.display()))?;
    let size_bytes = bytes.len();
    let image = oci::Image {
        name: format!("localhost/perfprof:{}", env!("CARGO_PKG_VERSION")),
        layer: contents::layer(bytes),
        entrypoint: contents::entrypoint(),
        labels: labels(),
        created: git(&["show", "-s", "--format=%cI", "HEAD"]),
        compression: BEST_COMPRESSION,
    };
    let name = image.name.clone();
    let layout = image.layout().map_err(|e| anyhow!(e))?;
    let digest = layout.digest.clone();
    let (folder, archive) = (out.join("oci"), out.join("perfprof-image.tar"));
    clear(&folder)?;
    layout.write_folder(&folder).map_err(|e| anyhow!(e))?;
    layout.write_archive(&archive).map_err(|e| anyhow!(e))?;
    println!("image: {name} {digest}");
    println!("image: {} ({size_bytes} bytes, static)", program.display());
    println!("image: {}", folder.display());
    println!("image: {}", archive.display());
    println!("hint:  podman load -i {}", archive.display());
    Ok(())
}

/// Builds the library by cargo; the path of its `rlib`, as cargo tells it.
fn build(profile: &str) -> anyhow::Result<PathBuf> {
    let mut command = cargo(&["build", "--locked", "--package", "perfprof", "--lib"]);
    command.args(["--profile", profile]);
    command.arg("--message-format=json-render-diagnostics");
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("failed to run `cargo build`")?;
    ensure!(
        output.status.success(),
        "`cargo build` ended with {}",
        output.status
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let library = messages.lines().filter_map(library_in).next_back();
    library.context("`cargo build` has named no library of perfprof")
}

/// The `rlib` of perfprof in one of cargo's messages.
fn library_in(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let ours = message["target"]["name"] == "perfprof" && message["target"]["kind"][0] == "lib";
    let files = message["filenames"].as_array().filter(|_| ours)?;
    let mut paths = files.iter().filter_map(Value::as_str);
    paths
        .find(|path| path.ends_with(".rlib"))
        .map(PathBuf::from)
}

fn labels() -> BTreeMap<String, String> {
    let mut labels = contents::labels(env!("CARGO_PKG_VERSION"));
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        labels.insert("org.opencontainers.image.revision".into(), commit);
    }
    labels
}

/// What git says in one line; `None` where there is no git or no history.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(args)
        .current_dir(repository())
        .output();
    let output = output.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_string())
}

/// Takes an older image away, and nothing that is not one.
fn clear(folder: &Path) -> anyhow::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    ensure!(
        folder.join("oci-layout").is_file(),
        "`{}` is there and is no OCI image layout",
        folder.display()
    );
    fs::remove_dir_all(folder).with_context(|| format!("failed to remove `{}`", folder.display()))
}

#[cfg(test)]
mod tests;
