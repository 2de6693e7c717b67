//! How the agent records here: the same choices as `perfprof record`, planned anew for each session.

use std::ffi::OsString;

use crate::agent::{Effort, Recorder};
use crate::capacity::TARGET_UTILIZATION;
use crate::cli::args::{
    AgentArgs, EventArg, ModeArg, OutputArgs, PlanningArgs, RecordArgs, SamplerArg, SamplingArgs,
    SymbolArgs, TargetArgs, UnwindArg,
};
use crate::cli::arm::arm;
use crate::cli::plan::{RecordPlan, Target};
use crate::cli::record::{describe, sampling_plan};
use crate::cli::status::Log;
use crate::cli::stop::Failure;
use crate::cli::{symbols, words};
use crate::profile::Recording;
use crate::recorder::Recorded;
use crate::sampling::{Sampler, SamplingPlan, Scope};
use crate::symbolize::options::SymbolOptions;
use crate::target::host::Host;

/// Bytes of a stack that are copied where nothing else is possible; a fraction of what a recording of seconds takes.
const STACK_BYTES: u32 = 16_384;

pub(super) struct AgentRecorder {
    scope: Scope,
    host: Host,
    event: EventArg,
    sampler: SamplerArg,
    unwind: UnwindArg,
    no_kernel: bool,
    symbols: SymbolArgs,
    /// How the present session is recorded.
    plan: Option<RecordPlan>,
    failure: Option<Failure>,
    log: Log,
}

impl AgentRecorder {
    pub fn new(args: &AgentArgs, scope: Scope) -> Result<AgentRecorder, Failure> {
        Ok(AgentRecorder {
            scope,
            host: Host::inspect(),
            event: args.event,
            sampler: args.sampler,
            unwind: args.unwind,
            no_kernel: args.no_kernel,
            symbols: args.symbols.clone(),
            plan: None,
            failure: None,
            log: Log::silent(),
        })
    }

    /// What is recorded, in words.
    pub fn what(&self) -> String {
        words::scope(&self.scope)
    }

    /// Why arming failed last.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// How names are found, within the memory of an effort.
    pub fn symbol_source(&self) -> Result<Box<dyn Fn(Effort) -> SymbolOptions + Sync>, Failure> {
        let (options, _) = symbols::options(&self.symbols)?;
        Ok(Box::new(move |effort| SymbolOptions {
            memory_bytes: effort.symbol_bytes.min(options.memory_bytes),
            ..options.clone()
        }))
    }

    fn planned(&self, effort: Effort) -> Result<RecordPlan, Failure> {
        let args = RecordArgs {
            target: TargetArgs {
                running: Default::default(),
                command: Vec::new(),
            },
            sampling: SamplingArgs {
                frequency: effort.frequency_hz,
                mode: Some(ModeArg::OnCpu),
                duration: None,
                event: self.event,
                sampler: self.sampler,
                unwind: self.unwind,
                stack_bytes: STACK_BYTES,
                unwind_memory: (effort.unwind_bytes >> 20) as u32,
                jvm_perfmap: false,
                no_kernel: self.no_kernel,
            },
            symbols: self.symbols.clone(),
            output: OutputArgs {
                artifacts: ".".into(),
                output: Vec::new(),
                per_thread: false,
                short_names: false,
            },
            planning: PlanningArgs {
                target_utilization: TARGET_UTILIZATION,
                replicas: None,
                load_test: None,
            },
            service: None,
            precision: None,
        };
        RecordPlan::for_target(args, Target::Running(self.scope.clone()))
    }

    fn try_arm(&mut self, effort: Effort) -> Result<(Box<dyn Sampler>, SamplingPlan), Failure> {
        let mut plan = self.planned(effort)?;
        let mut sampling = SamplingPlan {
            eager: false,
            ..sampling_plan(&plan, &self.host, None)
        };
        let sampler = arm(&mut plan, &mut sampling, &self.host, &self.log)?;
        self.plan = Some(plan);
        Ok((sampler, sampling))
    }
}

impl Recorder for AgentRecorder {
    fn arm(&mut self, effort: Effort) -> Result<(Box<dyn Sampler>, SamplingPlan), String> {
        self.try_arm(effort).map_err(|failure| {
            let why = format!("{:#}", failure.error);
            self.failure = Some(failure);
            why
        })
    }

    fn describe(&self, sampling: &SamplingPlan, recorded: &Recorded) -> Recording {
        let plan = self
            .plan
            .as_ref()
            .expect("armed before anything is recorded");
        Recording {
            command: words::command_line(without_secrets(std::env::args_os())),
            ..describe(plan, sampling, recorded, &self.host)
        }
    }
}

/// The flag whose value may be a password.
const SECRET: &str = "--push-header";

/// The command line as it may be told to whoever reads a report: of a header only its name.
fn without_secrets(words: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut is_value = false;
    words.map(move |word| {
        let text = word.to_string_lossy();
        let (flag, value) = match text.split_once('=') {
            Some((flag, value)) if flag == SECRET => (Some(flag), value),
            _ if is_value => (None, text.as_ref()),
            _ => {
                is_value = text == SECRET;
                return word;
            }
        };
        is_value = false;
        let name = value.split('=').next().unwrap_or("");
        let told = format!("{name}=…");
        flag.map_or(told.clone(), |flag| format!("{flag}={told}"))
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_told() {
        let typed = [
            "agent",
            "--push-header",
            "Authorization=Bearer s3cret",
            "--push-header=X-Key=s3cret",
            "--all",
        ];
        let told: Vec<OsString> = without_secrets(typed.map(OsString::from).into_iter()).collect();
        let expected = [
            "agent",
            "--push-header",
            "Authorization=…",
            "--push-header=X-Key=…",
            "--all",
        ];
        assert_eq!(told, expected.map(OsString::from));
    }
}
