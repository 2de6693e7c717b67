//! Arming a sampler: the one that was chosen, or where it is not permitted and nobody insisted, the next best.

use super::choose::{Chosen, SamplerKind};
use super::plan::RecordPlan;
use super::status::Log;
use super::stop::Failure;
use super::words;
use crate::sampling::{
    BpfSampler, PerfSampler, Sampler, SamplingError, SamplingPlan, Scope, load_filter,
};
use crate::sys::bpf::{shows_user_registers, take_messages};
use crate::sys::perf::StackSource;
use crate::target::host::Host;

/// Arms the sampler of the plan. What was used instead is put into the plans, with the reason.
pub(super) fn arm(
    plan: &mut RecordPlan,
    sampling: &mut SamplingPlan,
    host: &Host,
    log: &Log,
) -> Result<Box<dyn Sampler>, Failure> {
    if plan.sampler.what == SamplerKind::Bpf {
        let problem = match arm_bpf_with_waits_if_possible(plan, sampling) {
            Ok(sampler) => return Ok(Box::new(sampler)),
            Err(error) if plan.sampler_insisted || plan.mode.insisted => {
                return Err(words::sampling_failed(error, host));
            }
            Err(error) => error,
        };
        log.detail(format!("the bpf sampler cannot be used: {problem}"));
        log.detail(take_messages());
        let why = format!("the bpf sampler cannot be used: {problem}");
        if plan.mode.waits {
            plan.mode.waits = false;
            sampling.waits = false;
            plan.mode.why.clone_from(&why);
            plan.warnings
                .push(format!("What threads wait for was not recorded: {why}."));
        }
        plan.sampler = Chosen::new(SamplerKind::Perf, why);
        if let StackSource::Tables { .. } = sampling.stack {
            sampling.stack = plan.second_best;
            plan.stack = Chosen::new(plan.second_best, "dwarf needs the bpf sampler");
        }
    }
    match arm_perf(sampling, log) {
        Ok((sampler, filtered)) => {
            plan.sampler
                .why
                .push_str(match (filtered, &sampling.scope) {
                    (true, _) => "; one event per CPU, filtered by BPF",
                    (false, Scope::Pids { .. }) => {
                        "; one event per thread, because a BPF filter cannot be used"
                    }
                    (false, _) => "; one event per CPU",
                });
            Ok(Box::new(sampler))
        }
        Err(error) => Err(words::sampling_failed(error, host)),
    }
}

/// A kernel that hides the user's registers from a tick in kernel code gives no user stack there: stack copies then know
/// more, and are taken unless somebody insists.
fn arm_bpf(plan: &RecordPlan, sampling: &SamplingPlan) -> Result<BpfSampler, SamplingError> {
    let by_tables = matches!(sampling.stack, StackSource::Tables { .. });
    if by_tables && !plan.sampler_insisted && shows_user_registers() == Some(false) {
        return Err(SamplingError::NoUserRegisters);
    }
    BpfSampler::arm(sampling)
}

/// Without waits where the kernel cannot tell of them (before 5.11) and nobody insists.
fn arm_bpf_with_waits_if_possible(
    plan: &mut RecordPlan,
    sampling: &mut SamplingPlan,
) -> Result<BpfSampler, SamplingError> {
    match arm_bpf(plan, sampling) {
        Err(SamplingError::Bpf { doing, source }) if sampling.waits && !plan.mode.insisted => {
            let without = SamplingPlan {
                waits: false,
                ..sampling.clone()
            };
            let sampler = arm_bpf(plan, &without)?;
            *sampling = without;
            plan.mode.waits = false;
            plan.mode.why = format!("this kernel does not let perfprof {doing}: {source}");
            plan.warnings.push(format!(
                "What threads wait for was not recorded: {}.",
                plan.mode.why
            ));
            Ok(sampler)
        }
        other => other,
    }
}

/// With a filter where both BPF and events of whole CPUs are permitted.
fn arm_perf(sampling: &SamplingPlan, log: &Log) -> Result<(PerfSampler, bool), SamplingError> {
    let filter = load_filter(sampling);
    if let Err(error) = &filter {
        log.detail(format!("no filtering in the kernel: {error}"));
        log.detail(take_messages());
    }
    if let Ok(filter) = filter {
        match PerfSampler::arm(sampling, Some(filter)) {
            Ok(sampler) => return Ok((sampler, true)),
            Err(error) if error.is_permission() => {
                log.detail(format!("no events of whole CPUs: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    PerfSampler::arm(sampling, None).map(|sampler| (sampler, false))
}
