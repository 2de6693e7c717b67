//! A kernel of Debian's, unpacked: its image, its modules, its name. Fetched once and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::apt::PrivateApt;
use crate::must_succeed;

/// The generic flavour: the one for clouds has no 9p, by which guests see the host's files.
const NEWEST: &str = "linux-image-amd64";

/// A kernel that perfprof is tested on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    /// As it is spoken of: the first two numbers of its version.
    pub(crate) series: &'static str,
    /// Debian's suite that has it.
    pub(crate) suite: &'static str,
}

#[derive(Debug)]
pub(crate) struct Image {
    /// What `uname -r` says.
    pub(crate) release: String,
    pub(crate) vmlinuz: PathBuf,
    /// Folder with `modules.dep`.
    pub(crate) modules: PathBuf,
}

impl Image {
    /// The kernel in `cache`, fetched when it is not there.
    pub(crate) fn of(kernel: &Kernel, cache: &Path) -> anyhow::Result<Image> {
        let root = cache.join(kernel.series);
        if !root.is_dir() {
            println!("kernels: fetching {} from {}", kernel.series, kernel.suite);
            fetch(kernel, cache, &root)
                .with_context(|| format!("failed to fetch kernel {}", kernel.series))?;
        }
        Image::in_root(&root).with_context(|| {
            format!(
                "`{}` is no unpacked kernel; remove it to have it fetched again",
                root.display()
            )
        })
    }

    fn in_root(root: &Path) -> anyhow::Result<Image> {
        // Since 7.0 packages are unpacked below /usr only.
        let modules = ["lib/modules", "usr/lib/modules"]
            .iter()
            .find_map(|folder| only_folder(&root.join(folder)))
            .context("no modules")?;
        let release = modules.file_name().context("modules without a release")?;
        let release = release.to_string_lossy().into_owned();
        let vmlinuz = [
            root.join("boot").join(format!("vmlinuz-{release}")),
            modules.join("vmlinuz"),
        ];
        let vmlinuz = vmlinuz
            .into_iter()
            .find(|path| path.is_file())
            .context("no `vmlinuz`")?;
        let image = Image {
            release,
            vmlinuz,
            modules,
        };
        image.list_dependencies()?;
        Ok(image)
    }

    /// Makes `modules.dep`, which installing the package would make.
    fn list_dependencies(&self) -> anyhow::Result<()> {
        if self.modules.join("modules.dep").is_file() {
            return Ok(());
        }
        let base = self.modules.ancestors().nth(3).context("no base folder")?;
        must_succeed(
            Command::new("depmod")
                .arg("-b")
                .arg(base)
                .arg(&self.release),
        )
    }
}

/// Unpacks aside and renames, so that what is in the cache is whole.
fn fetch(kernel: &Kernel, cache: &Path, root: &Path) -> anyhow::Result<()> {
    let apt = PrivateApt::of(
        &[kernel.suite],
        &cache.join(format!("apt-{}", kernel.suite)),
    )?;
    let packages = packages(&apt)?;
    let aside = cache.join(format!("{}.part", kernel.series));
    if aside.exists() {
        fs::remove_dir_all(&aside).context("failed to remove what was left by another run")?;
    }
    apt.unpack(&packages, &aside)?;
    fs::rename(&aside, root).with_context(|| format!("failed to name `{}`", root.display()))
}

/// The packages that hold the newest kernel of a suite: one, or since 7.0 one each for the image and the modules.
fn packages(apt: &PrivateApt) -> anyhow::Result<Vec<String>> {
    let prefix = NEWEST.trim_end_matches("amd64");
    let image = apt
        .dependencies(NEWEST)?
        .into_iter()
        .find(|name| name.starts_with(prefix))
        .with_context(|| format!("`{NEWEST}` depends on no image"))?;
    let release = image.trim_start_matches(prefix);
    ensure!(!release.is_empty(), "`{image}` names no release");
    let mut packages = apt.dependencies(&image)?;
    packages.retain(|name| name.starts_with("linux-") && name.ends_with(release));
    packages.push(image.clone());
    Ok(packages)
}

/// The only folder in another; `None` when there is none.
fn only_folder(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries.map(|entry| entry.path()).find(|path| path.is_dir())
}
