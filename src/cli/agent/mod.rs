//! `perfprof agent`: settings from flags and a file, whoever it works with, and round again when they are to be reloaded.

mod config;
mod owners;
mod recording;
mod saying;

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::args::{AgentArgs, RunningArgs};
use super::status::Log;
use super::stop::{Exit, Failure};
use super::{plan, selecting};
use crate::agent::budget::Limits;
use crate::agent::{self, End, Settings, Signals, Staff, StartError};
use crate::sampling::{PidList, Scope};
use crate::sys::usage::raise_open_files;
use crate::target::selection::{OwnPod, Selection};
use owners::ByContainer;
use recording::AgentRecorder;
use saying::Saying;

pub(super) fn run(args: AgentArgs, log: &Log) -> Result<Exit, Failure> {
    let signals = install_signals()?;
    raise_open_files();
    let mut args = config::with_file(args)?;
    loop {
        let end = run_with(&args, &signals, log)?;
        match end {
            End::Terminated => return Ok(Exit::Success),
            End::Reload => match config::again() {
                Ok(new) => {
                    log.info("settings were read again");
                    args = new;
                }
                Err(failure) => {
                    log.warning("the settings stay as they were");
                    log.failure(&failure);
                }
            },
        }
    }
}

fn run_with(args: &AgentArgs, signals: &Signals, log: &Log) -> Result<End, Failure> {
    let scope = scope(&args.target)?;
    let name = args.service.clone().or_else(|| whole_name(&args.target));
    let labels: BTreeMap<String, String> = args.labels.label.iter().cloned().collect();
    let owners = ByContainer::new(name, labels.clone());
    let settings = Settings {
        data: args.data.clone(),
        disk_budget_bytes: args.disk_budget,
        window: args.window,
        limits: Limits {
            cpu_cores: args.max_cpu,
            memory_bytes: args.max_memory,
            frequency_hz: args.frequency,
        },
        grace: args.grace,
        listen: args.listen,
        token_file: args.token_file.clone(),
        max_recording: args.max_recording,
        target_words: words(&args.target),
        labels,
    };
    let saying = Saying::new(log);
    let mut recorder = AgentRecorder::new(args, scope)?;
    log.info(format!(
        "agent: windows of {:.0} s at {} Hz of {} in `{}`, http://{}/",
        args.window.as_secs_f64(),
        args.frequency,
        recorder.what(),
        args.data.display(),
        args.listen
    ));
    let symbols = recorder.symbol_source()?;
    let staff = Staff {
        recorder: &mut recorder,
        owners: Box::new(owners),
        outlet: Box::new(NoOutlet),
        sinks: Box::new(Vec::new),
        symbols: &*symbols,
        say: &saying,
    };
    let ended = agent::run(&settings, staff, signals);
    ended.map_err(|error| match (error, recorder.take_failure()) {
        (StartError::Arm(_), Some(failure)) => failure,
        (error @ StartError::Arm(_), None) => Failure::new(Exit::Failed, error),
        (error @ StartError::Data(_), _) => Failure::new(Exit::NotWritten, error),
        (error @ StartError::Token(_), _) => Failure::new(Exit::BadInput, error),
        (error @ StartError::Listen { .. }, _) => {
            Failure::new(Exit::Failed, error).hint("`--listen ADDR:PORT` chooses another address")
        }
    })
}

/// Nobody to push to.
struct NoOutlet;

impl agent::Outlet for NoOutlet {
    fn offer(&mut self, _: &agent::Offer<'_>) -> std::io::Result<()> {
        Ok(())
    }

    fn waiting_bytes(&self) -> u64 {
        0
    }
}

/// SIGTERM and SIGINT end the agent, the second one at once; SIGHUP has the settings read again.
fn install_signals() -> Result<Signals, Failure> {
    let signals = Signals::default();
    let register = || {
        for signal in [SIGINT, SIGTERM] {
            let terminate = signals.terminate.clone();
            signal_hook::flag::register_conditional_shutdown(
                signal,
                128 + signal,
                terminate.clone(),
            )?;
            signal_hook::flag::register(signal, terminate)?;
            signal_hook::flag::register(signal, signals.stop.interrupted.clone())?;
        }
        signal_hook::flag::register(SIGHUP, signals.reload.clone())?;
        signal_hook::flag::register(SIGHUP, signals.stop.interrupted.clone())
    };
    register()
        .context("failed to install a signal handler")
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    Ok(signals)
}

/// What is recorded. But for everything on the node, it is a list: it may be empty, and fill again.
fn scope(args: &RunningArgs) -> Result<Scope, Failure> {
    if args.all {
        return Ok(Scope::All);
    }
    for pid in &args.pids {
        plan::check_process(*pid)?;
    }
    let Some(selection) = selecting::any_selection(args) else {
        return Err(Failure::message(Exit::Usage, "nothing to record")
            .hint(format!("name a target: {}", selecting::FLAGS)));
    };
    let selector = selecting::selector(selection, OwnPod::default())?;
    let list: PidList = selecting::list(&selector);
    Ok(Scope::Selected(list))
}

/// The name of the service, where the target is one by itself.
fn whole_name(args: &RunningArgs) -> Option<String> {
    match selecting::any_selection(args)? {
        Selection::Comm(name) => Some(name),
        Selection::Cgroup(path) => path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned()),
        Selection::Pids { pids, .. } => {
            let stat = crate::target::process::Stat::of(*pids.first()?);
            stat.ok().map(|stat| stat.comm)
        }
        Selection::Container(_) | Selection::Pod(_) | Selection::All => None,
    }
}

/// The words that name the same target to `perfprof record`.
fn words(args: &RunningArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    for pid in &args.pids {
        words.extend(["--pid".into(), pid.to_string().into()]);
    }
    if !args.pids.is_empty() {
        words.push("--tree".into());
    }
    if let Some(name) = &args.comm {
        words.extend(["--comm".into(), name.into()]);
    }
    if let Some(path) = &args.cgroup {
        words.extend(["--cgroup".into(), path.into()]);
    }
    if let Some(container) = &args.container {
        words.extend(["--container".into(), container.into()]);
    }
    if let Some(pod) = &args.pod {
        words.push(match pod.as_str() {
            "" => "--pod".into(),
            pod => format!("--pod={pod}").into(),
        });
    }
    if args.all {
        words.push("--all".into());
    }
    words
}
