//! The waits of a profile as a profile of their own, for whatever draws or writes stacks.
//!
//! A sample's count is microseconds waited, and its CPU time is the same in nanoseconds; so each format shows waits with
//! nothing changed but the unit. What was waited for is the leaf frame: `[futex]`, `[runnable]`, `[poll, idle]`.

use std::collections::HashMap;

use super::{
    Cause, ElfAddr, Frame, FrameIx, FrameKind, Function, FunctionIx, Line, Profile, Sample,
};

impl Profile {
    /// `None` where no waits were recorded. `is_idle` tells, by place in [`super::Waits::samples`], which waits are for
    /// work to come.
    pub fn off_cpu_view(&self, is_idle: impl Fn(usize) -> bool) -> Option<Profile> {
        let waits = self.waits.as_ref()?;
        let mut view = Profile {
            samples: Vec::with_capacity(waits.samples.len()),
            waits: None,
            ..self.clone()
        };
        let mut causes = HashMap::new();
        for (ix, sample) in waits.samples.iter().enumerate() {
            let idle = is_idle(ix);
            let leaf = *causes
                .entry((sample.cause, idle))
                .or_insert_with(|| view.cause_frame(sample.cause, idle));
            let stack = view.stacks.push(sample.stack, leaf);
            view.samples.push(Sample {
                slice: sample.slice,
                thread: sample.thread,
                stack,
                end: sample.end,
                count: sample.wait_ns.div_ceil(1000),
                cpu_ns: sample.wait_ns,
            });
        }
        let order = |s: &Sample| (s.slice, s.thread, s.stack, s.end);
        view.samples.sort_by_key(order);
        Some(view)
    }

    fn cause_frame(&mut self, cause: Cause, idle: bool) -> FrameIx {
        let name = match idle {
            true => format!("[{}, idle]", cause.id()),
            false => format!("[{}]", cause.id()),
        };
        let function = FunctionIx(self.functions.len() as u32);
        self.functions.push(Function {
            name,
            linkage_name: String::new(),
            file: String::new(),
        });
        self.frames.push(Frame {
            kind: FrameKind::Wait,
            mapping: None,
            addr: ElfAddr(0),
            lines: vec![Line { function, line: 0 }],
            unresolved: None,
        });
        FrameIx(self.frames.len() as u32 - 1)
    }
}
