//! What to do about a load scenario that is missing or says too little.
//!
//! In: the scenario and where its results are looked for. Out: a sentence with a command that works when it is pasted,
//! but for what only the user knows: the file, and the service where there are several.

use super::Setting;
use super::command;
use super::config::Scenario;
use crate::artifacts::LOAD_TESTS;

/// What brings a scenario into the results.
pub(super) fn rerun(setting: &Setting, scenario: Option<&Scenario>) -> String {
    let asked = scenario.and_then(|s| s.concurrency);
    let at_once = asked.map(|n| format!(" with at least {n} at once"));
    format!(
        "run the load test{} (k6, Locust, JMeter, Artillery, hey, oha, wrk --latency), then: {}",
        at_once.unwrap_or_default(),
        bring(setting, scenario, false)
    )
}

/// The command that puts a tool's result where the gate looks.
pub(super) fn bring(
    setting: &Setting,
    scenario: Option<&Scenario>,
    state_concurrency: bool,
) -> String {
    let own = &setting.config.own;
    let root = command::path(setting.documents.root());
    // The command writes to one place; a config may have the gate look at another.
    if own.diagnostics.load_results != LOAD_TESTS && setting.given.report.is_none() {
        let file = scenario.and_then(|s| s.results.as_deref());
        let file = file.unwrap_or(&own.diagnostics.load_results);
        return format!("save its result as {root}/{}", command::word(file));
    }
    let name = scenario.map_or("NAME", |s| s.name.value.0.as_str());
    let service = match own.services.as_slice() {
        [only] => only.name.value.0.as_str(),
        _ => "SERVICE",
    };
    let asked = scenario.and_then(|s| s.concurrency);
    let concurrency = match (state_concurrency, asked) {
        (true, Some(asked)) => format!(" --concurrency {asked}"),
        _ => String::new(),
    };
    let command = format!(
        "perfprof load-test FILE --scenario {}{concurrency} --service {} --artifacts {root}",
        command::word(name),
        command::word(service),
    );
    match (state_concurrency, asked) {
        (false, Some(_)) => {
            format!("{command} (with --concurrency N where the tool does not say it)")
        }
        _ => command,
    }
}
