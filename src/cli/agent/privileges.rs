//! What the agent keeps of its privileges once it has begun.
//!
//! A privileged container has all capabilities there are. The agent needs a few, and reads what others wrote: the rest is given
//! up before anything is read, and no program it starts can get it back.

use anyhow::Context;

use crate::cli::status::Log;
use crate::cli::stop::{Exit, Failure};
use crate::sys::privileges;
use crate::target::capabilities::{CapSet, Capability};
use crate::target::host::Host;

/// What each is for stands in deploy/kubernetes/README.md.
const NEEDED: [Capability; 11] = [
    Capability::Perfmon,
    Capability::Bpf,
    Capability::SysPtrace,
    Capability::Syslog,
    Capability::CheckpointRestore,
    // Files of users that shut others out; locked rings; workers that become nobody, and are ended.
    Capability::DacReadSearch,
    Capability::IpcLock,
    Capability::SysNice,
    Capability::Setuid,
    Capability::Setgid,
    Capability::Kill,
];

/// Up to this level CAP_PERFMON is enough; Debian's kernels have a higher one.
const MOST_PARANOID: i64 = 2;

pub(super) fn drop_what_is_not_needed(log: &Log) -> Result<(), Failure> {
    let host = Host::inspect();
    let held = CapSet::own();
    let mut needed = CapSet::of(&NEEDED).bits();
    let paranoid = host.sysctls.perf_event_paranoid.unwrap_or(MOST_PARANOID);
    // Before 5.8 there were no PERFMON and BPF.
    let is_old = !held.has(Capability::Perfmon) || !held.has(Capability::Bpf);
    if paranoid > MOST_PARANOID || is_old {
        needed |= CapSet::of(&[Capability::SysAdmin]).bits();
    }
    privileges::keep_only(needed)
        .context("failed to give up capabilities that are not needed")
        .map_err(|error| {
            Failure::new(Exit::Failed, error).hint("`--keep-capabilities` keeps them")
        })?;
    let dropped = (held.bits() & !needed).count_ones();
    if dropped > 0 {
        log.info(format!(
            "gave up {dropped} capabilities that are not needed"
        ));
    }
    Ok(())
}
