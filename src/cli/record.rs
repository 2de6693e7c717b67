//! `perfprof record`, from top to bottom: plan, arm, run, name, judge, write.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::args::RecordArgs;
use super::arm::arm;
use super::plan::{RecordPlan, Target};
use super::planning;
use super::publish::{open_root, publish};
use super::status::Log;
use super::stop::{Exit, Failure};
use super::waiting::with_progress;
use super::watch::Watch;
use super::words;
use crate::analysis::{Thresholds, unnamed};
use crate::profile::{PackageFact, Profile, ProfileBuilder, Recording, SelfCost};
use crate::recorder::{Recorded, RecordingLoop, SLICE_NS, StopSignals};
use crate::sampling::{SamplingPlan, Scope};
use crate::symbolize::{Aside, KernelNames, Places, name_into};
use crate::sys::child::{HeldChild, RunningChild, kill_all, terminate};
use crate::sys::usage::{OwnUsage, monotonic_ns, raise_open_files, unix_ns};
use crate::target::binary::Binary;
use crate::target::capabilities::Capability;
use crate::target::cgroup::Cgroup;
use crate::target::host::Host;
use crate::target::packages;
use crate::target::process;

/// What a `-- CMD` that is still running gets to end by itself.
const CHILD_GRACE_MS: u64 = 2000;

pub(super) fn run(args: RecordArgs, log: &Log) -> Result<Exit, Failure> {
    let mut plan = RecordPlan::of(args)?;
    let host = Host::inspect();
    let root = open_root(&plan.outputs)?;
    let stop = install_signals()?;
    let started_unix_ns = unix_ns();

    let held = hold_command(&plan.target)?;
    raise_open_files();
    let mut sampling = sampling_plan(&plan, &host, held.as_ref().map(HeldChild::pid));
    let mut sampler = arm(&mut plan, &mut sampling, &host, log)?;
    let mut watch = Watch::new(&sampling, log);
    let mut child = None;
    let mut aside = Aside::start(&plan.symbols);
    let recorded = RecordingLoop::new(&sampling, plan.duration, stop)
        .asking_jvms(plan.jvm_perfmap)
        .run(
            &mut *sampler,
            || {
                log.info(words::begins(&plan, &sampling));
                child = held.map(HeldChild::release).transpose()?;
                Ok(())
            },
            &mut |progress| {
                watch.observe(progress);
                aside.name(&progress.new_frames, &progress.binaries);
            },
        )
        .map_err(|error| words::run_failed(error, &host))?;
    let ended_ns = monotonic_ns();
    if let Some(walks) = &recorded.kernel_walks {
        log.detail(words::kernel_walks(walks));
    }
    end_command(child, &recorded.left_running, log);
    let maps = words::maps_of_generated_code(&recorded.map_problems);
    maps.iter().for_each(|warning| log.warning(warning));

    let (cgroup, capacity) = watch.finish(recorded.duration_ns);
    let mut recording = Recording {
        started_unix_ns,
        capacity: Some(capacity),
        ..describe(&plan, &sampling, &recorded, &host)
    };
    let Recorded {
        tally,
        binaries,
        generated,
        accountant,
        counts,
        bpf,
        ..
    } = recorded;
    let accounting = accountant.finish(counts, cgroup);
    if tally.ticks() == 0 && !tally.has_waits() {
        return Err(words::no_samples(&recording, &accounting));
    }
    let mut builder = ProfileBuilder::default();
    let places = Places {
        binaries: &binaries,
        generated: &generated,
        kernel: KernelNames::inspect(),
    };
    let naming = with_progress(log, &aside.progress(), || {
        name_into(&mut builder, tally, &places, aside, &plan.symbols)
    });
    naming.notes.iter().for_each(|note| log.warning(note));
    recording.warnings.extend(naming.notes);
    log.detail(format!(
        "naming used {:.3} s of CPU time and {:.1} MiB in workers",
        naming.cost.cpu_ns as f64 / 1e9,
        naming.cost.max_rss_bytes as f64 / f64::from(1 << 20)
    ));
    let mut profile: Profile = builder.build(recording, accounting);
    profile.recording.packages = origins(&profile, &binaries);
    let usage = OwnUsage::now();
    profile.recording.self_cost = SelfCost {
        cpu_ns: usage.cpu_ns + naming.cost.cpu_ns,
        max_rss_bytes: usage.max_rss_bytes + naming.cost.max_rss_bytes,
        bpf_run_ns: bpf.map(|b| b.run_ns),
        bpf_runs: bpf.map(|b| b.runs),
        finish_ns: monotonic_ns() - ended_ns,
    };
    let thresholds = Thresholds {
        confidence: plan.precision,
        ..Thresholds::default()
    };
    let bad_load = planning::take_load(&mut plan.outputs.planning, plan.load_test.as_deref());
    let exit = publish(&root, &profile, &thresholds, &plan.outputs, log)?;
    bad_load.map_or(Ok(exit), Err)
}

/// More binaries than this are not looked up: the lightest of them stand for next to nothing.
const MAX_ORIGINS: usize = 100;

/// Where the binaries came from whose frames lack names or lines.
fn origins(profile: &Profile, binaries: &[Arc<Binary>]) -> Vec<PackageFact> {
    let wanting = unnamed::wanting(profile);
    let found = wanting
        .iter()
        .take(MAX_ORIGINS)
        .filter_map(|(path, build_id)| {
            let mut binaries = binaries.iter();
            binaries.find(|binary| binary.path == *path && binary.build_id == *build_id)
        });
    packages::facts(&found.map(|binary| &**binary).collect::<Vec<_>>())
}

/// The first Ctrl-C or SIGTERM ends the recording, the second one the program.
pub(super) fn install_signals() -> Result<StopSignals, Failure> {
    let stop = StopSignals::default();
    for signal in [SIGINT, SIGTERM] {
        let flag = &stop.interrupted;
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .context("failed to install a signal handler")
            .map_err(|error| Failure::new(Exit::Failed, error))?;
    }
    Ok(stop)
}

fn hold_command(target: &Target) -> Result<Option<HeldChild>, Failure> {
    let Target::Command(command) = target else {
        return Ok(None);
    };
    let name = command.first().map_or_else(OsString::new, Clone::clone);
    HeldChild::spawn(command)
        .with_context(|| format!("failed to start `{}`", name.display()))
        .map(Some)
        .map_err(|error| Failure::new(Exit::NoTarget, error))
}

/// A command that outlives the recording was started for it, and is ended with it and with all that it started.
fn end_command(child: Option<RunningChild>, left_running: &[u32], log: &Log) {
    let Some(mut child) = child else { return };
    if left_running.is_empty() {
        if let Ok(Some(status)) = child.poll()
            && !status.success()
        {
            log.warning(format!("the command ended with {status}"));
        }
        return;
    }
    log.info("the command is still running: ending it");
    terminate(left_running);
    let deadline_ns = monotonic_ns() + CHILD_GRACE_MS * 1_000_000;
    while monotonic_ns() < deadline_ns {
        let _ = child.poll();
        if !left_running.iter().any(|pid| process::is_alive(*pid)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_all(left_running);
    child.kill();
}

pub(super) fn sampling_plan(plan: &RecordPlan, host: &Host, child: Option<u32>) -> SamplingPlan {
    let scope = match (&plan.target, child) {
        (Target::Running(scope), _) => scope.clone(),
        (Target::Command(_), pid) => Scope::Pids {
            roots: pid.into_iter().collect(),
            tree: false,
        },
    };
    SamplingPlan {
        trigger: plan.event.what,
        frequency_hz: plan.frequency_hz,
        stack: plan.stack.what,
        kernel: plan.kernel,
        cpus: host.online_cpus.clone(),
        pid_namespace_inum: pid_namespace_inum(host),
        large_rings: host.capabilities.has(Capability::IpcLock)
            || host
                .sysctls
                .perf_event_paranoid
                .is_some_and(|level| level < 0),
        waits: plan.mode.waits,
        eager: true,
        quota_period_ns: quota_period_ns(&scope),
        scope,
    }
}

/// What the kernel takes where nobody says otherwise, and nearly everybody leaves it at.
const QUOTA_PERIOD_NS: u64 = 100_000_000;

/// The period of the quota that the target is under.
fn quota_period_ns(scope: &Scope) -> u64 {
    let Scope::Pids { roots, .. } = scope else {
        return QUOTA_PERIOD_NS;
    };
    let first = roots.first().and_then(|pid| Cgroup::of(*pid).ok());
    let limit = first.and_then(|cgroup| cgroup.cpu?.cpu_limit());
    limit.map_or(QUOTA_PERIOD_NS, |limit| limit.period_ns)
}

/// The BPF programs see the initial namespace's PIDs; in any other they must translate.
fn pid_namespace_inum(host: &Host) -> u32 {
    use std::os::unix::fs::MetadataExt;
    if host.initial_pid_namespace == Some(true) {
        return 0;
    }
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino() as u32)
}

pub(super) fn describe(
    plan: &RecordPlan,
    sampling: &SamplingPlan,
    recorded: &Recorded,
    host: &Host,
) -> Recording {
    let mut warnings = plan.warnings.clone();
    if recorded.counts.losses.side_band > 0 {
        warnings.push(format!(
            "{} records of mappings, names or exits were lost: some frames may lack their mapping.",
            recorded.counts.losses.side_band
        ));
    }
    if let Some(walks) = &recorded.kernel_walks {
        warnings.extend(words::without_table(walks, recorded.tally.ticks()));
    }
    warnings.extend(words::maps_of_generated_code(&recorded.map_problems));
    if recorded.not_followed > 0 {
        warnings.push(format!(
            "{} processes of the target began while recording and could not be followed: that needs the bpf sampler.",
            recorded.not_followed
        ));
    }
    if plan.jvm_perfmap {
        warnings.extend(words::maps_of_jvms(&recorded.jvms));
    }
    Recording {
        service: plan.service.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        command: words::command_line(std::env::args_os()),
        target: words::target(&plan.target, sampling, recorded),
        hostname: host.hostname.clone(),
        kernel: host.kernel_release.clone(),
        arch: host.arch.clone(),
        cpus: host.online_cpus.len() as u32,
        event: words::event(plan.event.what).into(),
        event_reason: plan.event.why.clone(),
        sampler: words::sampler(plan.sampler.what).into(),
        sampler_reason: plan.sampler.why.clone(),
        unwind: words::unwind(plan.stack.what),
        unwind_reason: plan.stack.why.clone(),
        waits_reason: plan.mode.why.clone(),
        frequency_hz: f64::from(plan.frequency_hz),
        kernel_stacks: plan.kernel,
        duration_ns: recorded.duration_ns,
        slice_ns: SLICE_NS,
        stopped_by: words::stopped_by(recorded.stopped_by).into(),
        processes_seen: recorded.processes_seen as u32,
        threads_seen: recorded.tally.threads_seen() as u32,
        precision: plan.precision.unwrap_or(super::plan::DEFAULT_PRECISION),
        warnings,
        ..Recording::default()
    }
}
