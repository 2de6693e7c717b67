//! The words with which `perfprof record` is to record the same as the agent does: target, service, and how.
//!
//! In: the agent's own arguments, and the list of processes it records. Out: words, made anew for each recording: a container or a
//! pod whose name only the Kubernetes API knows is told to `record` by its processes.

use std::ffi::OsString;

use clap::ValueEnum;

use crate::cli::args::{AgentArgs, RunningArgs};
use crate::sampling::Scope;

/// More processes than this are not named one by one.
const MAX_PIDS: usize = 2048;

/// Makes the words, at any time.
pub(super) fn words(
    args: &AgentArgs,
    scope: &Scope,
    service: Option<&str>,
) -> impl Fn() -> Vec<OsString> + Send + Sync + use<> {
    let how = how(args, service);
    let target = target(&args.target);
    let is_named = args.target.container.is_some() || args.target.pod.is_some();
    let known_to_api = (is_named && args.labels.kubernetes_api != "off").then(|| scope.clone());
    move || {
        let pids = known_to_api.as_ref().map(Scope::current_pids);
        let pids = pids.filter(|pids| (1..=MAX_PIDS).contains(&pids.len()));
        let target = pids.map_or_else(|| target.clone(), |pids| processes(&pids));
        [target, how.clone()].concat()
    }
}

fn target(args: &RunningArgs) -> Vec<OsString> {
    let mut words = match args.pids.is_empty() {
        true => Vec::new(),
        false => processes(&args.pids),
    };
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

/// These and what they have started and start.
fn processes(pids: &[u32]) -> Vec<OsString> {
    let named = pids
        .iter()
        .flat_map(|pid| ["--pid".into(), pid.to_string().into()]);
    named.chain(["--tree".into()]).collect()
}

/// How is as for windows, but for what the request says.
fn how(args: &AgentArgs, service: Option<&str>) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    if let Some(service) = service {
        words.push(format!("--service={service}").into());
    }
    let choices = [
        ("event", name(args.event)),
        ("sampler", name(args.sampler)),
        ("unwind", name(args.unwind)),
    ];
    words.extend(choices.map(|(flag, choice)| format!("--{flag}={choice}").into()));
    if args.no_kernel {
        words.push("--no-kernel".into());
    }
    let symbols = &args.symbols;
    for dir in &symbols.debug_dir {
        words.extend(["--debug-dir".into(), dir.into()]);
    }
    let servers = symbols.debuginfod.iter();
    words.extend(servers.map(|url| format!("--debuginfod={url}").into()));
    words.extend([
        format!("--debuginfod-timeout={}", symbols.debuginfod_timeout).into(),
        format!("--symbol-timeout={}", symbols.symbol_timeout).into(),
        format!("--symbol-memory={}", symbols.symbol_memory).into(),
    ]);
    if symbols.no_symbol_cache {
        words.push("--no-symbol-cache".into());
    }
    words
}

fn name(choice: impl ValueEnum) -> String {
    let value = choice.to_possible_value();
    value.expect("no choice is hidden").get_name().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::sampling::PidList;

    fn agent(words: &[&str]) -> AgentArgs {
        let all = ["perfprof", "agent"].iter().chain(words);
        match Cli::try_parse_from(all).expect("good words").command {
            Command::Agent(args) => *args,
            _ => panic!("the agent was asked for"),
        }
    }

    #[test]
    fn a_recording_understands_what_the_agent_was_told() {
        let scope = Scope::Selected(PidList::new("two", || vec![3, 4]));
        for (typed, expected) in [
            (&["--comm", "a b", "--no-kernel"][..], "--comm"),
            (
                &["--pid", "1", "--pid", "2", "--unwind", "dwarf-copy"],
                "--tree",
            ),
            (
                &["--cgroup", "/x", "--debuginfod", "--debug-dir", "/d"],
                "--cgroup",
            ),
            (&["--container", "x", "--no-symbol-cache"], "--container"),
            (&["--container", "x", "--kubernetes-api", "in-cluster"], "4"),
            (&["--pod"], "--pod"),
            (
                &["--all", "--sampler", "perf", "--event", "cpu-clock"],
                "--all",
            ),
        ] {
            let made = words(&agent(typed), &scope, Some("-x y"))();
            assert!(made.contains(&expected.into()), "{made:?}");
            let all: Vec<OsString> = ["perfprof", "record"].map(OsString::from).into();
            let parsed = Cli::try_parse_from([all, made.clone()].concat());
            let Ok(Command::Record(record)) = parsed.map(|cli| cli.command) else {
                panic!("{made:?}");
            };
            assert_eq!(record.service.as_deref(), Some("-x y"));
        }
    }
}
