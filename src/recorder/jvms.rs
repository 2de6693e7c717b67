//! Java virtual machines of the target: asked to write their perf maps, since they do not by themselves.
//!
//! In: the processes. Out: the machines, and which did not. Asked before the first tick, for the code that will be gone
//! at the end, and after the last.

use crate::target::jit::jvm::{JvmError, is_jvm, write_perf_map};
use crate::target::processes::Processes;

/// A machine that was asked.
#[derive(Clone, Debug)]
pub struct JvmAsked {
    pub pid: u32,
    /// Why there is no map.
    pub failure: Option<String>,
    /// It need not be asked again.
    is_final: bool,
}

/// Asks those that are known, in order, but for those that kept us waiting `before`. One that has ended may have written
/// a map as it did.
pub(super) fn ask(processes: &Processes, before: &[JvmAsked]) -> Vec<JvmAsked> {
    let known = |pid: &u32| processes.get(*pid);
    let is_machine = |pid: &u32| known(pid).is_some_and(|process| is_jvm(&process.mappings));
    let has_map = |pid: &u32| {
        let space = known(pid).and_then(|process| process.jit);
        space.is_some_and(|space| processes.generated.has_map(space))
    };
    let asked = |pid: u32| {
        let kept_waiting = |asked: &&JvmAsked| asked.pid == pid && asked.is_final;
        if let Some(asked) = before.iter().find(kept_waiting) {
            return asked.clone();
        }
        let (failure, is_final) = match write_perf_map(pid) {
            Ok(()) => (None, false),
            Err(JvmError::Ended) if has_map(&pid) => (None, false),
            Err(error) => (Some(error.to_string()), error.is_final()),
        };
        JvmAsked {
            pid,
            failure,
            is_final,
        }
    };
    let mut machines: Vec<u32> = processes.pids().filter(is_machine).collect();
    machines.sort_unstable();
    machines.into_iter().map(asked).collect()
}
