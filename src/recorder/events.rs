//! What each event does to a running recording, in order of time: processes followed, stacks walked, ticks counted.
//!
//! In: events, sorted by [`super::order`]. Out: the state of the [`RecordingLoop`]. When to read and when to stop is
//! decided in `run`.

use crate::profile::{StackEnd, StackIx};
use crate::sampling::{Event, RawSample, Timed, UserStack};
use crate::sys::perf::Trigger;
use crate::target::memory;

use super::filter::TargetFilter;
use super::interpret::Interpreted;
use super::off_cpu::OffCpu;
use super::recent::Meaning;
use super::run::{RecordingLoop, SLICE_NS};
use super::tally::RawFrame;
use super::waits::TakenStack;

/// What is read of the stack of a thread that waits.
const MAX_WAITING_STACK_BYTES: usize = 256 << 10;

impl RecordingLoop<'_> {
    /// One event, in order of time.
    pub(super) fn take(&mut self, timed: Timed) {
        match timed.event {
            Event::Sample(sample) => self.take_sample(timed.time_ns, &sample),
            Event::Mapped { pid, region } if self.filter.contains(pid) => {
                self.interpreter.processes.mapped(pid, &region);
                self.tables.changed(pid);
            }
            Event::Named {
                pid,
                tid,
                name,
                exec,
            } => {
                if pid == tid {
                    self.filter.named(pid, &name);
                }
                if self.filter.contains(pid) {
                    let processes = &mut self.interpreter.processes;
                    processes.named(pid, tid, name, exec, timed.time_ns);
                    if exec {
                        self.tables.changed(pid);
                    }
                }
            }
            Event::Forked {
                pid,
                tid,
                parent_pid,
                parent_tid,
            } => {
                if self.filter.forked(pid, parent_pid) {
                    self.new_pids.push(pid);
                }
                if self.filter.contains(pid) {
                    if pid != parent_pid {
                        self.forks.push((pid, parent_pid));
                    }
                    self.interpreter.processes.forked(
                        pid,
                        tid,
                        parent_pid,
                        parent_tid,
                        timed.time_ns,
                    );
                    self.tables.changed(pid);
                }
            }
            Event::Exited { pid, tid } => {
                if self.interpreter.processes.exited(pid, tid) {
                    self.filter.ended(pid);
                    self.tables.ended(pid);
                }
            }
            Event::ThreadCpu {
                pid,
                tid,
                cpu_ns,
                gone,
                book,
            } if gone => {
                self.accountant.thread_gone(pid, tid, cpu_ns);
                if let Some(off_cpu) = &mut self.off_cpu {
                    let interpreter = &self.interpreter;
                    off_cpu.thread_gone(book, |pid, tid| interpreter.known_thread(pid, tid).name);
                }
            }
            Event::ThreadCpu {
                pid, tid, cpu_ns, ..
            } => {
                self.accountant.thread_ending(pid, tid, cpu_ns);
            }
            Event::Mapped { .. } => {}
            Event::WaitBegan { wait, scale, stack } => {
                let taken = self.taken(timed.time_ns, &stack);
                if let Some(off_cpu) = &mut self.off_cpu {
                    let owner = (stack.pid, stack.tid);
                    off_cpu.began(timed.time_ns, wait, owner, scale, taken);
                }
            }
            Event::Waiting { wait, stack } => self.take_waiting(timed.time_ns, wait, stack),
            Event::WaitEnded { wait, waited } => {
                if let Some(off_cpu) = &mut self.off_cpu {
                    off_cpu.ended(timed.time_ns, wait, waited);
                }
            }
            Event::Woken { wait, waker } => {
                let is_wanted = self
                    .off_cpu
                    .as_ref()
                    .is_some_and(|o| o.wants_waker_of(wait));
                if is_wanted {
                    let taken = self.taken(timed.time_ns, &waker);
                    if let Some(off_cpu) = &mut self.off_cpu {
                        off_cpu.woken(wait, taken);
                    }
                }
            }
            Event::Throttled => {
                if let Some(off_cpu) = &mut self.off_cpu {
                    off_cpu.throttled(timed.time_ns);
                }
            }
        }
    }

    /// A thread that waited already: its stack stands still as long as it waits, and can be read.
    fn take_waiting(&mut self, time_ns: u64, wait: u64, mut stack: RawSample) {
        let is_waiting = |off_cpu: &Option<OffCpu>| {
            let off_cpu = off_cpu.as_ref();
            off_cpu.is_some_and(|off_cpu| off_cpu.is_waiting(wait))
        };
        if !is_waiting(&self.off_cpu) {
            return;
        }
        if let UserStack::Copied(copy) = &mut stack.user {
            let sp = copy.registers.sp().unwrap_or(0);
            copy.bytes = memory::read_up(stack.pid, sp, MAX_WAITING_STACK_BYTES);
            copy.full = copy.bytes.len() == MAX_WAITING_STACK_BYTES;
        }
        // It was the same wait before and after, so nothing has changed in between.
        if !is_waiting(&self.off_cpu) {
            return;
        }
        let taken = self.taken(time_ns, &stack);
        if let Some(off_cpu) = &mut self.off_cpu {
            off_cpu.waits_already(time_ns, wait, (stack.pid, stack.tid), taken);
        }
    }

    /// A stack and its thread, known to the tally.
    fn taken(&mut self, time_ns: u64, sample: &RawSample) -> TakenStack {
        let (stack, end) = self.stack_of(sample, time_ns);
        let thread = self.interpreter.thread_of(sample);
        let thread = self.tally.thread(thread);
        TakenStack { thread, stack, end }
    }

    fn take_sample(&mut self, time_ns: u64, sample: &RawSample) {
        // Filtered in the kernel already, except by the perf sampler when it watches whole CPUs.
        let known = matches!(self.filter, TargetFilter::Pids(_));
        if !known && !self.filter.contains(sample.pid) {
            return;
        }
        let taken = self.taken(time_ns, sample);
        let cpu_ns = self.cpu_ns(sample);
        let slice = (time_ns.saturating_sub(self.begun_ns) / SLICE_NS) as u32;
        let TakenStack { thread, stack, end } = taken;
        self.tally.tick(slice, thread, stack, end, cpu_ns);
        if let Some(off_cpu) = &mut self.off_cpu {
            off_cpu.tick(time_ns, taken, cpu_ns);
        }
    }

    /// What the sample's stack is, and how it ended.
    fn stack_of(&mut self, sample: &RawSample, time_ns: u64) -> (StackIx, StackEnd) {
        let is_tick = sample.period > 0;
        let generation = self.interpreter.generation(sample.pid, time_ns);
        if let Some(meaning) = self.recent.find(sample, generation) {
            if is_tick {
                self.tables.seen(&meaning.binaries, None);
            }
            return (meaning.stack, meaning.end);
        }
        let Interpreted {
            frames,
            end,
            missing_table,
        } = self
            .interpreter
            .interpret(sample, time_ns, |space| self.tables.walked_by(space));
        if sample.user.is_warming() {
            self.tables.changed(sample.pid);
        }
        let mut binaries: Vec<u32> = frames.iter().filter_map(RawFrame::binary).collect();
        binaries.sort_unstable();
        binaries.dedup();
        // Ticks decide which tables are needed: of a wait's stack there may be less to see.
        if is_tick {
            self.tables.seen(&binaries, missing_table);
        }
        let stack = self.tally.stack(&frames);
        self.recent.remember(Meaning {
            stack,
            end,
            binaries,
        });
        (stack, end)
    }

    /// CPU time a tick stands for: the timer's period, or the nominal one where the event counts cycles.
    fn cpu_ns(&self, sample: &RawSample) -> u64 {
        match self.plan.trigger {
            Trigger::CpuClock => sample.period,
            _ => 1_000_000_000 / u64::from(self.plan.frequency_hz.max(1)),
        }
    }
}
