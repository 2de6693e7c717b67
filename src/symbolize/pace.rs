//! Whose CPU time naming takes: nobody's while recording, its own share afterwards.

use std::sync::Mutex;

use crate::sys::confined::run_when_idle;
use crate::target::capabilities::{CapSet, Capability};

/// Whether workers run like others or only on CPUs that would be idle.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<PaceNow>);

#[derive(Debug, Default)]
struct PaceNow {
    idle: bool,
    /// Processes that run.
    pids: Vec<u32>,
}

impl Pace {
    pub fn set_idle(&self, idle: bool) {
        // Whoever may not take it back must not begin with it.
        let idle = idle && may_set_priorities();
        let Ok(mut now) = self.0.lock() else { return };
        now.idle = idle;
        for pid in &now.pids {
            run_when_idle(*pid, idle);
        }
    }

    pub fn is_idle(&self) -> bool {
        self.0.lock().is_ok_and(|now| now.idle)
    }

    pub fn begins(&self, pid: u32) {
        let Ok(mut now) = self.0.lock() else { return };
        now.pids.push(pid);
        if now.idle {
            run_when_idle(pid, true);
        }
    }

    pub fn ends(&self, pid: u32) {
        let Ok(mut now) = self.0.lock() else { return };
        now.pids.retain(|other| *other != pid);
    }
}

fn may_set_priorities() -> bool {
    CapSet::own().has(Capability::SysNice)
}
