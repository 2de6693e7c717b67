//! `perfprof ci run`: two commands recorded in turns, in one job on one machine, and compared.
//!
//! Runs alternate as A B, B A, A B, …: what drifts (a neighbour, the clock's frequency) meets both alike. Each run is a
//! `perfprof record` of its own, so a crash of one loses no other.

use std::path::Path;
use std::process::Command;

use super::args::CiRunArgs;
use super::compare::{Side, conclude, refuse};
use super::report::read;
use super::status::Log;
use super::stop::{Exit, Failure};
use super::words;
use crate::artifacts::{ArtifactRoot, slug};
use crate::compare::{LoadSide, Run};

pub(super) fn run(args: &CiRunArgs, log: &Log) -> Result<Exit, Failure> {
    let root = ArtifactRoot::open(&args.judging.artifacts).map_err(words::not_written)?;
    root.check_writable().map_err(words::not_written)?;
    let service = args
        .judging
        .service
        .clone()
        .unwrap_or_else(|| "benchmark".into());
    let folder = root.diagnostics().join(format!("{}-runs", slug(&service)));
    std::fs::create_dir_all(&folder).map_err(|error| Failure::new(Exit::NotWritten, error))?;
    let mut sides = [Vec::new(), Vec::new()];
    for round in 0..args.runs {
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            let name = ["before", "after"][side];
            let command = [&args.before, &args.after][side];
            log.info(format!(
                "run {} of {}, {name}: {command}",
                round + 1,
                args.runs
            ));
            let file = folder.join(format!("{name}-{:03}.pb.gz", round + 1));
            record(args, &service, command, &file, &folder)?;
            let mut run = Run::new(file.display().to_string(), read(&file, Some(&service))?);
            if !args.fixed_time {
                run.work = Some(args.work.unwrap_or(1.0));
                run.work_source = Some("one run of the command".to_owned());
            }
            sides[side].push(run);
        }
    }
    let [before, after] = sides.map(|runs| Side {
        runs,
        loads: LoadSide::default(),
    });
    refuse(&before.runs, &after.runs, false)?;
    let commands = vec![words::command_line(std::env::args_os())];
    conclude(
        [before, after],
        &args.judging,
        (&commands, Vec::new()),
        args.json,
        log,
    )
}

/// Records one run. The command's own failure fails everything: half a benchmark is no benchmark.
fn record(
    args: &CiRunArgs,
    service: &str,
    command: &str,
    file: &Path,
    folder: &Path,
) -> Result<(), Failure> {
    let status = folder.join("status");
    // An earlier job's files must not pass for this one's.
    for old in [status.as_path(), file] {
        match std::fs::remove_file(old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::new(Exit::NotWritten, error));
            }
            _ => {}
        }
    }
    // The shell's last act tells how the command ended; `record` itself ends by what it saw.
    let script = format!("({command}\n); s=$?; echo $s > \"$0\"; exit $s");
    let myself = std::env::current_exe().map_err(|error| Failure::new(Exit::Failed, error))?;
    let recorded = Command::new(myself)
        .args([
            "--quiet",
            "record",
            "--service",
            service,
            "--mode",
            "on-cpu",
            "-F",
        ])
        .arg(args.frequency.to_string())
        .arg("--artifacts")
        .arg(folder.join("reports"))
        .arg("-o")
        .arg(file)
        .args(["--", "/bin/sh", "-c", &script])
        .arg(&status)
        // Standard output is the document's.
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let ended = std::fs::read_to_string(&status).unwrap_or_default();
    match ended.trim() {
        "0" => {}
        "" => {
            let message = format!("`{command}` was not run to its end");
            return Err(Failure::message(exit_of(recorded.code()), message));
        }
        code => {
            let message = format!("`{command}` ended with exit status {code}");
            return Err(Failure::message(Exit::NoTarget, message)
                .hint("both commands must succeed to be compared"));
        }
    }
    match recorded.code() {
        // An inconclusive run is judged with the others.
        Some(0 | 5) if file.exists() => Ok(()),
        Some(0 | 5) => {
            let message = format!("`{command}` used too little CPU to be sampled");
            Err(Failure::message(Exit::NoTarget, message))
        }
        code => Err(Failure::message(
            exit_of(code),
            format!("recording `{command}` failed"),
        )),
    }
}

fn exit_of(code: Option<i32>) -> Exit {
    let known = [
        Exit::Usage,
        Exit::NotPermitted,
        Exit::NoTarget,
        Exit::NotWritten,
    ];
    let same = known.into_iter().find(|exit| Some(*exit as i32) == code);
    same.unwrap_or(Exit::NoTarget)
}
