//! What the target does off the CPU, while a recording goes on: books, waits, and quotas used up.
//!
//! In: the events that concern them, in order of time, with stacks already interned. Out: a [`WaitTally`] and the facts
//! that go with it. Without books nothing is done.

use crate::profile::{
    QuotaTicks, StackEnd, StackIx, Thread, ThreadIx, WaitFacts, WaitSample, Waits, Waker,
};
use crate::sampling::{ThrottleSource, WaitFigures, Waited};
use crate::sys::books::BookMaps;

use super::books::Books;
use super::quota::QuotaPeriods;
use super::tally::Tally;
use super::waits::{TakenStack, WaitLedger, WaitTally};

/// What a recording brought of the time off the CPU; stacks and threads by the [`Tally`]'s numbers.
#[derive(Debug)]
pub(super) struct OffCpuTally {
    pub waits: WaitTally,
    /// Ticks, and CPU time, of stacks in periods of the quota that ended with the target stopped.
    pub quota: Vec<(TakenStack, u64, u64)>,
    pub facts: WaitFacts,
}

#[derive(Debug)]
pub(super) struct OffCpu {
    books: Books,
    ledger: WaitLedger,
    quota: QuotaPeriods,
    ended_ns: Option<u64>,
}

impl OffCpu {
    pub fn begin(maps: BookMaps, begun_ns: u64, slice_ns: u64, period_ns: u64) -> OffCpu {
        OffCpu {
            books: Books::begin(maps, begun_ns),
            ledger: WaitLedger::new(begun_ns, slice_ns),
            quota: QuotaPeriods::of_length(period_ns),
            ended_ns: None,
        }
    }

    /// The recording ends; what comes in later is of a time after it, and left out.
    pub fn end(&mut self, ended_ns: u64) {
        self.books.end();
        self.ended_ns = Some(ended_ns);
    }

    fn is_over(&self, at_ns: u64) -> bool {
        self.ended_ns.is_some_and(|ended_ns| at_ns > ended_ns)
    }

    pub fn tick(&mut self, at_ns: u64, taken: TakenStack, cpu_ns: u64) {
        self.quota.tick(at_ns, taken, cpu_ns);
    }

    pub fn throttled(&mut self, at_ns: u64) {
        if !self.is_over(at_ns) {
            self.quota.throttled(at_ns);
        }
    }

    pub fn began(&mut self, at_ns: u64, wait: u64, owner: (u32, u32), scale: f64, t: TakenStack) {
        if !self.is_over(at_ns) {
            self.ledger.began(wait, owner, Some(scale), t, at_ns);
        }
    }

    /// A thread waits, and did so before the recording.
    pub fn waits_already(&mut self, at_ns: u64, wait: u64, owner: (u32, u32), t: TakenStack) {
        self.ledger.began(wait, owner, None, t, at_ns);
    }

    /// Whether a thread is still in this wait.
    pub fn is_waiting(&self, wait: u64) -> bool {
        self.ended_ns.is_none() && self.books.is_waiting(wait)
    }

    pub fn wants_waker_of(&self, wait: u64) -> bool {
        self.ledger.is_open(wait)
    }

    pub fn woken(&mut self, wait: u64, waker: TakenStack) {
        self.ledger.woken(wait, waker);
    }

    pub fn ended(&mut self, at_ns: u64, wait: u64, waited: Waited) {
        if !self.is_over(at_ns) {
            self.ledger.ended(wait, waited, at_ns);
        }
    }

    /// A thread is gone. One that goes after the end has been counted with those that were there.
    pub fn thread_gone(&mut self, place: u32, name_of: impl Fn(u32, u32) -> String) {
        if self.ended_ns.is_none() {
            self.books.close(place, name_of);
        }
    }

    pub fn finish(
        mut self,
        tally: &mut Tally,
        figures: WaitFigures,
        thread_of: impl Fn(u32, u32) -> Thread,
    ) -> OffCpuTally {
        let ended_ns = self.ended_ns.unwrap_or_default();
        let times = self
            .books
            .times(ended_ns, |pid, tid| thread_of(pid, tid).name);
        let books = &self.books;
        self.ledger.close(ended_ns, |wait| books.cause_of(wait));
        let tids: Vec<(u32, u32)> = tally.threads().iter().map(|t| (t.pid, t.tid)).collect();
        let waits = self.ledger.settle(
            &times,
            |time| tally.thread(thread_of(time.pid, time.tid)),
            |ix: ThreadIx| tids.get(ix.0 as usize).copied().unwrap_or_default(),
        );
        let quota = self.quota.used_up.into_iter();
        OffCpuTally {
            waits,
            quota: quota.map(|(taken, (n, ns))| (taken, n, ns)).collect(),
            facts: WaitFacts {
                throttled_by: match figures.throttle_source {
                    ThrottleSource::Task => "task",
                    ThrottleSource::Queue => "queue",
                    ThrottleSource::Nothing => "nothing",
                }
                .into(),
                threads: times.into_iter().map(|(time, _)| time).collect(),
                stacks_taken: figures.wait_stacks,
                wakers_taken: figures.waker_stacks,
                lost: figures.lost,
                without_book: figures.without_book,
            },
        }
    }
}

impl OffCpuTally {
    /// The same with names: `threads` of the profile by the tally's numbers, `stack_of` its stacks.
    pub fn named(
        self,
        threads: &[ThreadIx],
        mut stack_of: impl FnMut(StackIx, StackEnd) -> (StackIx, StackEnd),
    ) -> Waits {
        let thread_of = |ix: ThreadIx| threads.get(ix.0 as usize).copied().unwrap_or(ix);
        let mut waits = Waits {
            facts: self.facts,
            ..Waits::default()
        };
        for (key, weight) in self.waits.samples {
            let (stack, end) = stack_of(key.stack, key.end);
            waits.samples.push(WaitSample {
                slice: key.slice,
                thread: thread_of(key.thread),
                stack,
                end,
                cause: key.cause,
                stacks: weight.stacks,
                count: weight.count.round() as u64,
                wait_ns: weight.wait_ns.round() as u64,
            });
        }
        for (key, (count, wait_ns)) in self.waits.wakers {
            let (stack, end) = stack_of(key.stack, key.end);
            waits.wakers.push(Waker {
                waiter: stack_of(key.waiter, key.waiter_end).0,
                cause: key.cause,
                thread: thread_of(key.thread),
                stack,
                end,
                count: count.round() as u64,
                wait_ns: wait_ns.round() as u64,
            });
        }
        for (taken, count, cpu_ns) in self.quota {
            let (stack, end) = stack_of(taken.stack, taken.end);
            waits.quota.push(QuotaTicks {
                thread: thread_of(taken.thread),
                stack,
                end,
                count,
                cpu_ns,
            });
        }
        waits
    }
}
