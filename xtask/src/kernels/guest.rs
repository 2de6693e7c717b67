//! One virtual machine, from start to end: boots a kernel, runs a script in it, gives its exit status.
//!
//! The guest is emulated (TCG), so that it runs wherever QEMU does. Its clock counts instructions, not the host's time:
//! a busy host makes a run longer and changes nothing else, where a guest by the host's clock sees its processes use CPU
//! time in which they were not run, and loses ticks. It sees the host's files as they are and cannot change them; what it
//! is to leave behind it writes into `/out`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// Only bounds a failure: a guest that hangs.
const LIMIT: Duration = Duration::from_secs(45 * 60);
const POLL: Duration = Duration::from_millis(100);

/// How much of the console an error repeats.
const LAST_LINES: usize = 15;

/// An instruction takes 2² ns, so a CPU of the guest is about a tenth of a real one; idle time passes at once.
const CLOCK: &str = "shift=2,sleep=off";

/// Two CPUs, so that the recorder and its target run side by side.
const CPUS: &str = "2";
const MEMORY: &str = "2G";

/// Quiet and quick to fail; `psi=1` because Debian's kernels have pressure figures and leave them off.
const KERNEL_ARGS: &str = "console=ttyS0 quiet panic=-1 psi=1 no_timer_check tsc=reliable audit=0";

/// Which control groups the guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cgroups {
    /// A hierarchy per controller, and no v2.
    V1,
    /// Nothing else.
    V2,
}

impl Cgroups {
    pub(crate) fn version(self) -> u32 {
        match self {
            Cgroups::V1 => 1,
            Cgroups::V2 => 2,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Guest<'a> {
    pub(crate) vmlinuz: &'a Path,
    pub(crate) initrd: &'a Path,
    pub(crate) cgroups: Cgroups,
    /// The guest's `/out`.
    pub(crate) out: &'a Path,
}

impl Guest<'_> {
    /// Runs a shell script as root; its exit status. What it prints goes to `run.log` in the folder, the kernel's
    /// messages to `console.log`.
    pub(crate) fn run(&self, script: &str) -> anyhow::Result<i32> {
        fs::write(self.out.join("run.sh"), script).context("failed to write the guest's script")?;
        let mut qemu = Qemu(
            self.command()
                .spawn()
                .with_context(|| format!("failed to run `{QEMU}`"))?,
        );
        let begin = Instant::now();
        loop {
            if let Some(status) = qemu.0.try_wait().context("failed to wait for the guest")? {
                return self
                    .status()
                    .with_context(|| format!("the guest ended with {status}\n{}", self.console()));
            }
            if begin.elapsed() > LIMIT {
                bail!(
                    "the guest has not ended after {LIMIT:?}\n{}",
                    self.console()
                );
            }
            thread::sleep(POLL);
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(QEMU);
        command
            .args(["-accel", "tcg", "-cpu", "max", "-smp", CPUS, "-m", MEMORY])
            .args(["-icount", CLOCK])
            .args(["-display", "none", "-no-reboot", "-nodefaults"])
            .arg("-serial")
            .arg(with_path("file:", &self.console_log()))
            .arg("-kernel")
            .arg(self.vmlinuz)
            .arg("-initrd")
            .arg(self.initrd)
            .arg("-append")
            .arg(format!(
                "{KERNEL_ARGS} guest.cgroups={}",
                self.cgroups.version()
            ))
            .args(["-device", "virtio-rng-pci"])
            .stdin(Stdio::null());
        share(&mut command, "host", Path::new("/"), ",readonly=on");
        share(&mut command, "out", self.out, "");
        command
    }

    /// What the script ended with.
    fn status(&self) -> anyhow::Result<i32> {
        let text = fs::read_to_string(self.out.join("status"))
            .context("the guest's script did not come to its end")?;
        text.trim()
            .parse()
            .with_context(|| format!("`{}` is no exit status", text.trim()))
    }

    fn console_log(&self) -> PathBuf {
        self.out.join("console.log")
    }

    /// The last lines of the kernel's messages.
    fn console(&self) -> String {
        let bytes = fs::read(self.console_log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

/// Adds a folder that the guest mounts by its tag.
fn share(command: &mut Command, tag: &str, folder: &Path, how: &str) {
    let device = with_path(&format!("local,id={tag},path="), folder);
    command
        .arg("-fsdev")
        .arg(format!("{device},security_model=none,multidevs=remap{how}"))
        .arg("-device")
        .arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
}

/// QEMU's options are lists: a comma in a path is written twice.
fn with_path(prefix: &str, path: &Path) -> String {
    format!("{prefix}{}", path.to_string_lossy().replace(',', ",,"))
}

/// A running machine; switched off when dropped.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
