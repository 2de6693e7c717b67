//! `perf script`, read line by line: it can be hundreds of megabytes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Hands every line of a recording's script to `each`. A stack is a paragraph with a frame a line, innermost first.
pub(super) fn lines(folder: &Path, fields: &str, mut each: impl FnMut(&str)) -> anyhow::Result<()> {
    let mut child = Command::new("perf")
        .args(["script", "--no-inline", "-F", fields, "-i"])
        .arg(folder.join("perf.data"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to run `perf script`")?;
    let output = child.stdout.take().context("standard output is a pipe")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("failed to read what perf says")?;
        each(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().context("failed to wait for perf")?;
    ensure!(status.success(), "`perf script` ended with {status}");
    Ok(())
}
