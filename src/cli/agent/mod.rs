//! `perfprof agent`: settings from flags and a file, whoever it works with, and round again when they are to be reloaded.

mod config;
mod deep_words;
mod labelling;
mod owners;
mod privileges;
mod pushing;
mod recording;
mod saying;

use std::sync::Arc;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::args::{AgentArgs, RunningArgs};
use super::status::Log;
use super::stop::{Exit, Failure};
use super::{plan, selecting};
use crate::agent::budget::Limits;
use crate::agent::windows::Windows;
use crate::agent::{self, End, Lasting, Settings, Signals, Staff, StartError};
use crate::sampling::{PidList, Scope};
use crate::sys::usage::raise_open_files;
use crate::target::container_names::Names;
use crate::target::kubernetes::Index;
use crate::target::process;
use crate::target::selection::Selection;
use owners::{ByContainer, Whole};
use recording::AgentRecorder;
use saying::Saying;

pub(super) fn run(args: AgentArgs, log: &Log) -> Result<Exit, Failure> {
    let mut args = config::with_file(args)?;
    raise_open_files();
    // Before there are threads, each of which has privileges of its own.
    if !args.keep_capabilities {
        privileges::drop_what_is_not_needed(log)?;
    }
    let signals = install_signals()?;
    let mut lasting = Lasting::default();
    // What to go back to, until what was read instead has been seen to work.
    let mut former = None;
    loop {
        match run_with(&args, &signals, &mut lasting, log) {
            Ok(End::Terminated) => return Ok(Exit::Success),
            Ok(End::Reload) => match config::again() {
                Ok(new) => {
                    log.info("settings were read again");
                    former = Some(std::mem::replace(&mut args, new));
                }
                Err(failure) => {
                    former = None;
                    keep_settings(log, &failure);
                }
            },
            Err(failure) => {
                let Some(before) = former.take() else {
                    return Err(failure);
                };
                keep_settings(log, &failure);
                args = before;
            }
        }
    }
}

fn keep_settings(log: &Log, failure: &Failure) {
    log.warning("the settings stay as they were");
    log.failure(failure);
}

fn run_with(
    args: &AgentArgs,
    signals: &Signals,
    lasting: &mut Lasting,
    log: &Log,
) -> Result<End, Failure> {
    lasting.forget_killed(&args.data);
    let saying = Saying::new(log);
    let index = labelling::index(args, &saying)?;
    // Later, processes that were named may have ended: that is no reason to end, too.
    if lasting.is_new() {
        args.target
            .pids
            .iter()
            .try_for_each(|pid| plan::check_process(*pid))?;
    }
    let scope = scope(&args.target, &index)?;
    let whole = args.service.clone().map(Whole::Called);
    let whole = whole.or_else(|| whole_of(&args.target));
    let name = whole.as_ref().map(Whole::name);
    let deep_words = deep_words::words(args, &scope, name);
    let owners = ByContainer::new(whole, labelling::own(args), index);
    let settings = Settings {
        data: args.data.clone(),
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
    };
    let mut recorder = AgentRecorder::new(args, scope)?;
    log.info(format!(
        "agent: windows of {:.0} s at {} Hz of {} in `{}`",
        args.window.as_secs_f64(),
        args.frequency,
        recorder.what(),
        args.data.display()
    ));
    let symbols = recorder.symbol_source()?;
    // First of all that stands in the data directory: another agent may have it.
    let windows = Windows::open(&args.data, args.disk_budget)
        .map_err(|error| Failure::new(Exit::NotWritten, error))?;
    let pushing = pushing::start(args, &saying)?;
    let staff = Staff {
        windows,
        recorder: &mut recorder,
        owners: Box::new(owners),
        sinks: pushing.figures(),
        outlet: Box::new(pushing),
        deep_words: Box::new(deep_words),
        symbols: &*symbols,
        say: &saying,
    };
    let ended = agent::run(&settings, staff, signals, lasting);
    ended.map_err(|error| match (error, recorder.take_failure()) {
        (StartError::Arm(_), Some(failure)) => failure,
        (error @ StartError::Arm(_), None) => Failure::new(Exit::Failed, error),
        (error @ StartError::Token { .. }, _) => Failure::new(Exit::BadInput, error),
        (error @ StartError::Listen { .. }, _) => {
            Failure::new(Exit::Failed, error).hint("`--listen ADDR:PORT` chooses another address")
        }
    })
}

/// SIGTERM and SIGINT end the agent, a second SIGINT at once; SIGHUP has the settings read again.
fn install_signals() -> Result<Signals, Failure> {
    let signals = Signals::default();
    let register = || {
        // A supervisor and a shell may each send SIGTERM; who types Ctrl-C twice means it.
        let terminate = &signals.terminate;
        signal_hook::flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, terminate.clone())?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, terminate.clone())?;
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
fn scope(args: &RunningArgs, index: &Arc<Index>) -> Result<Scope, Failure> {
    if args.all {
        return Ok(Scope::All);
    }
    let Some(selection) = selecting::any_selection(args) else {
        return Err(Failure::message(Exit::Usage, "nothing to record")
            .hint(format!("name a target: {}", selecting::FLAGS)));
    };
    let names = vec![index.clone() as Arc<dyn Names>];
    let selector = selecting::selector(selection, names, index.own_pod())?;
    let list: PidList = selecting::list(&selector);
    Ok(Scope::Selected(list))
}

/// What the target is called, where it is one by itself.
fn whole_of(args: &RunningArgs) -> Option<Whole> {
    match selecting::any_selection(args)? {
        Selection::Comm(name) => Some(Whole::Called(name)),
        Selection::Cgroup(path) => {
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some(Whole::Called(name))
        }
        Selection::Pids { pids, .. } => {
            let first = *pids.first()?;
            let name = process::thread_name(first, first);
            Some(Whole::After(
                first,
                name.unwrap_or_else(|| format!("pid {first}")),
            ))
        }
        Selection::Container(_) | Selection::Pod(_) | Selection::All => None,
    }
}
