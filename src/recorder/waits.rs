//! From records of waits to weights: which stacks waited, for what, how long, and who ended it.
//!
//! In: beginnings and ends of the waits whose stack was taken, in order of time, and the books of all threads. Out:
//! [`WaitTally`]: weights by stack that add up, thread by thread and cause by cause, to what the books say.
//!
//! A stack was taken with probability 1/scale, so it stands for `scale` waits. The sum of what they stand for misses the
//! books' figure by chance, and is brought to it (a ratio estimate), as long as that takes no more than [`MAX_CORRECTION`]:
//! thread by thread where a thread has [`ENOUGH_STACKS`], else for all the others together, so that ten thousand threads that
//! live a millisecond are told by the hundred of them that had a stack. Time for which no stack speaks (a wait that had begun before the recording, or such as were never
//! chosen) is kept without one, and says so.

use std::collections::{HashMap, HashSet};

use foldhash::quality::RandomState;

use crate::profile::{Cause, StackEnd, StackIx, ThreadIx, ThreadTime, Why};
use crate::sampling::Waited;

/// The most by which the weight of the stacks that were taken is raised for those that were not.
const MAX_CORRECTION: f64 = 2.0;

/// So many stacks of a thread speak for it alone.
const ENOUGH_STACKS: u64 = 30;

/// Where stacks and books differ by no more than this, every wait had a stack.
const NOTHING_MISSED: f64 = 0.05;

/// Waits that have begun and not ended; more than there are threads only where ends were lost.
const MAX_OPEN: usize = 65_536;

/// Equal waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WaitKey {
    pub slice: u32,
    pub thread: ThreadIx,
    pub stack: StackIx,
    pub end: StackEnd,
    pub cause: Cause,
}

/// What they weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct WaitWeight {
    /// Stacks taken, waits and nanoseconds that they stand for.
    pub stacks: u64,
    pub count: f64,
    pub wait_ns: f64,
}

/// Equal wakings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WakerKey {
    pub waiter: StackIx,
    pub waiter_end: StackEnd,
    pub cause: Cause,
    pub thread: ThreadIx,
    pub stack: StackIx,
    pub end: StackEnd,
}

/// Everything known of waits, without names.
#[derive(Debug, Default)]
pub(super) struct WaitTally {
    pub samples: HashMap<WaitKey, WaitWeight, RandomState>,
    pub wakers: HashMap<WakerKey, (f64, f64), RandomState>,
}

/// A stack as the tally knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TakenStack {
    pub thread: ThreadIx,
    pub stack: StackIx,
    pub end: StackEnd,
}

#[derive(Clone, Copy, Debug)]
struct OpenWait {
    taken: TakenStack,
    owner: (u32, u32),
    /// `None`: it had begun before its thread's book was opened, and stands for itself.
    scale: Option<f64>,
    began_ns: u64,
    waker: Option<TakenStack>,
}

/// What the stacks of a thread stand for.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    stacks: u64,
    ns: f64,
}

impl Told {
    /// Whether a thread's stacks speak for all of its waits, which take `known_ns`: there are many, or they miss nothing.
    fn suffices(self, known_ns: f64) -> bool {
        let correction = known_ns / self.ns;
        self.ns > 0.0
            && correction <= MAX_CORRECTION
            && (self.stacks >= ENOUGH_STACKS || (correction - 1.0).abs() <= NOTHING_MISSED)
    }
}

/// Threads whose stacks are too few to speak for each of them.
#[derive(Debug, Default)]
struct Pool<'a> {
    books: Vec<(&'a ThreadTime, f64)>,
    known_ns: f64,
    told_ns: f64,
}

impl<'a> Pool<'a> {
    fn add(&mut self, book: &'a ThreadTime, known_ns: f64, told_ns: f64) {
        self.books.push((book, known_ns));
        self.known_ns += known_ns;
        self.told_ns += told_ns;
    }

    fn correction(&self) -> f64 {
        match self.told_ns > 0.0 {
            true => (self.known_ns / self.told_ns).min(MAX_CORRECTION),
            false => 0.0,
        }
    }

    /// Of what is known, the share that no stack stands for.
    fn silent_share(&self) -> f64 {
        match self.known_ns > 0.0 {
            true => (1.0 - self.told_ns * self.correction() / self.known_ns).max(0.0),
            false => 0.0,
        }
    }
}

/// Follows waits from their beginning to their end.
#[derive(Debug, Default)]
pub(super) struct WaitLedger {
    open: HashMap<u64, OpenWait>,
    tally: WaitTally,
    /// What the stacks stand for, by thread and cause.
    estimated: HashMap<((u32, u32), Cause), Told>,
    /// Waits that had begun before.
    from_before: HashMap<WaitKey, WaitWeight>,
    told_from_before: HashSet<(u32, u32)>,
    begun_ns: u64,
    slice_ns: u64,
}

impl WaitLedger {
    pub fn new(begun_ns: u64, slice_ns: u64) -> WaitLedger {
        WaitLedger {
            begun_ns,
            slice_ns,
            ..WaitLedger::default()
        }
    }

    /// A thread (PID and TID of `owner`) began to wait; `None` for `scale`: it had begun before its book was opened.
    pub fn began(
        &mut self,
        wait: u64,
        owner: (u32, u32),
        scale: Option<f64>,
        taken: TakenStack,
        at_ns: u64,
    ) {
        if self.open.len() >= MAX_OPEN {
            return;
        }
        let open = OpenWait {
            taken,
            owner,
            scale,
            began_ns: at_ns,
            waker: None,
        };
        self.open.insert(wait, open);
    }

    /// Whether it is known to be waiting: else nobody need know who wakes it.
    pub fn is_open(&self, wait: u64) -> bool {
        self.open.contains_key(&wait)
    }

    pub fn woken(&mut self, wait: u64, waker: TakenStack) {
        if let Some(open) = self.open.get_mut(&wait) {
            open.waker = Some(waker);
        }
    }

    pub fn ended(&mut self, wait: u64, waited: Waited, at_ns: u64) {
        if let Some(open) = self.open.remove(&wait) {
            let waited = since(waited, self.begun_ns.saturating_sub(open.began_ns));
            self.add(&open, waited, at_ns);
        }
    }

    fn add(&mut self, open: &OpenWait, waited: Waited, at_ns: u64) {
        let slice = (at_ns.saturating_sub(self.begun_ns) / self.slice_ns.max(1)) as u32;
        let parts = [
            (waited.cause, waited.blocked_ns),
            (Cause::Runnable, waited.runnable_ns),
            (Cause::Throttled, waited.throttled_ns),
        ];
        let scale = open.scale.unwrap_or(1.0).max(1.0);
        for (cause, ns) in parts.into_iter().filter(|(_, ns)| *ns > 0) {
            let TakenStack { thread, stack, end } = open.taken;
            let key = WaitKey {
                slice,
                thread,
                stack,
                end,
                cause,
            };
            // Only the part that was waited before is exact; what comes after it is a wait like others.
            let is_from_before = open.scale.is_none() && cause == waited.cause;
            let weight = match is_from_before {
                true => self.from_before.entry(key).or_default(),
                false => self.tally.samples.entry(key).or_default(),
            };
            weight.stacks += 1;
            weight.count += scale;
            weight.wait_ns += scale * ns as f64;
            if is_from_before {
                self.told_from_before.insert(open.owner);
                continue;
            }
            let told = self.estimated.entry((open.owner, cause)).or_default();
            told.stacks += 1;
            told.ns += scale * ns as f64;
        }
        if let Some(waker) = open.waker.filter(|_| waited.blocked_ns > 0) {
            let key = WakerKey {
                waiter: open.taken.stack,
                waiter_end: open.taken.end,
                cause: waited.cause,
                thread: waker.thread,
                stack: waker.stack,
                end: waker.end,
            };
            let weight = self.tally.wakers.entry(key).or_default();
            weight.0 += scale;
            weight.1 += scale * waited.blocked_ns as f64;
        }
    }

    /// Waits that last longer than the recording; `cause_of` knows what they are for, by their number.
    pub fn close(&mut self, ended_ns: u64, cause_of: impl Fn(u64) -> Option<Cause>) {
        for (wait, open) in std::mem::take(&mut self.open) {
            let Some(cause) = cause_of(wait) else {
                continue;
            };
            let from_ns = open.began_ns.max(self.begun_ns);
            let ns = ended_ns.saturating_sub(from_ns);
            let waited = match cause {
                Cause::Runnable => Waited {
                    cause: Cause::Other,
                    blocked_ns: 0,
                    runnable_ns: ns,
                    throttled_ns: 0,
                },
                cause => Waited {
                    cause,
                    blocked_ns: ns,
                    runnable_ns: 0,
                    throttled_ns: 0,
                },
            };
            self.add(&open, waited, ended_ns);
        }
    }

    /// The weights, brought to what the books say. `from_before_ns` is what a thread's book has of a wait that had begun
    /// before it was opened; `thread_of` finds the thread that time without a stack is charged to.
    pub fn settle(
        self,
        books: &[(ThreadTime, FromBefore)],
        mut thread_of: impl FnMut(&ThreadTime) -> ThreadIx,
        tid_of: impl Fn(ThreadIx) -> (u32, u32),
    ) -> WaitTally {
        let WaitLedger {
            mut tally,
            estimated,
            from_before,
            told_from_before,
            begun_ns: _,
            slice_ns,
            open: _,
        } = self;
        let told: HashMap<_, Told> = estimated;
        let mut corrections = HashMap::new();
        let mut silent = Vec::new();
        // Threads of which too few stacks were taken: together they are many.
        let mut pools: HashMap<Cause, Pool> = HashMap::new();
        for (book, before) in books {
            for cause in Cause::ALL {
                let owner = (book.pid, book.tid);
                let all_ns = book.of(cause) as f64;
                let before_ns = match cause == before.cause {
                    true => (before.ns as f64).min(all_ns),
                    false => 0.0,
                };
                if !told_from_before.contains(&owner) && before_ns >= 1.0 {
                    silent.push((thread_of(book), cause, before_ns, book.wall_ns));
                }
                let known_ns = all_ns - before_ns;
                let told = told.get(&(owner, cause)).copied().unwrap_or_default();
                if told.suffices(known_ns) {
                    corrections.insert((owner, cause), known_ns / told.ns);
                } else {
                    pools.entry(cause).or_default().add(book, known_ns, told.ns);
                }
            }
        }
        for (key, weight) in &mut tally.samples {
            let stratum = (tid_of(key.thread), key.cause);
            let pooled = || pools.get(&key.cause).map_or(1.0, Pool::correction);
            let correction = corrections.get(&stratum).copied().unwrap_or_else(pooled);
            weight.count *= correction;
            weight.wait_ns *= correction;
        }
        for (cause, pool) in &pools {
            // What the stacks do not stand for, by whose it is.
            let part = pool.silent_share();
            for (book, known_ns) in pool.books.iter().filter(|(_, ns)| ns * part >= 1.0) {
                silent.push((thread_of(book), *cause, known_ns * part, book.wall_ns));
            }
        }
        for (key, before) in from_before {
            let weight = tally.samples.entry(key).or_default();
            weight.stacks += before.stacks;
            weight.count += before.count;
            weight.wait_ns += before.wait_ns;
        }
        for (thread, cause, wait_ns, wall_ns) in silent {
            let key = WaitKey {
                slice: (wall_ns / slice_ns.max(1)) as u32,
                thread,
                stack: StackIx::EMPTY,
                end: StackEnd::Truncated(Why::NotTaken),
                cause,
            };
            tally.samples.entry(key).or_default().wait_ns += wait_ns;
        }
        tally
    }
}

/// The part of a thread's first wait that had begun before its book was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FromBefore {
    pub cause: Cause,
    pub ns: u64,
}

/// Without what was waited before the recording began.
fn since(waited: Waited, mut before_ns: u64) -> Waited {
    let mut rest = |ns: u64| {
        let cut = ns.min(before_ns);
        before_ns -= cut;
        ns - cut
    };
    Waited {
        blocked_ns: rest(waited.blocked_ns),
        runnable_ns: rest(waited.runnable_ns),
        throttled_ns: rest(waited.throttled_ns),
        ..waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(thread: u32) -> TakenStack {
        TakenStack {
            thread: ThreadIx(thread),
            stack: StackIx::EMPTY,
            end: StackEnd::Root,
        }
    }

    fn futex(blocked_ns: u64, runnable_ns: u64) -> Waited {
        Waited {
            cause: Cause::Futex,
            blocked_ns,
            runnable_ns,
            throttled_ns: 0,
        }
    }

    fn book(futex_ns: u64, runnable_ns: u64) -> ThreadTime {
        let mut book = ThreadTime {
            pid: 1,
            tid: 2,
            wall_ns: 10_000,
            runnable_ns,
            ..ThreadTime::default()
        };
        book.blocked_ns[Cause::Futex as usize] = futex_ns;
        book
    }

    const NOTHING_BEFORE: FromBefore = FromBefore {
        cause: Cause::Other,
        ns: 0,
    };

    fn sum(tally: &WaitTally, cause: Cause, with_stack: bool) -> f64 {
        let not_taken = StackEnd::Truncated(Why::NotTaken);
        let samples = tally.samples.iter();
        let chosen =
            samples.filter(|(key, _)| key.cause == cause && (key.end != not_taken) == with_stack);
        chosen.map(|(_, weight)| weight.wait_ns).sum()
    }

    #[test]
    fn what_stacks_stand_for_is_brought_to_what_the_book_says() {
        let mut ledger = WaitLedger::new(0, 1000);
        ledger.began(1, (1, 2), Some(10.0), taken(0), 100);
        ledger.ended(1, futex(100, 20), 220);
        // 1000 ns are estimated, the book says 1200 and, of running late, 50 where 200 are estimated.
        let tally = ledger.settle(
            &[(book(1200, 50), NOTHING_BEFORE)],
            |_| ThreadIx(0),
            |_| (1, 2),
        );
        assert_eq!(sum(&tally, Cause::Futex, true), 1200.0);
        assert_eq!(sum(&tally, Cause::Runnable, true), 50.0);
        assert_eq!(sum(&tally, Cause::Futex, false), 0.0);
    }

    #[test]
    fn time_for_which_no_stack_speaks_is_kept_without_one() {
        let mut ledger = WaitLedger::new(0, 1000);
        ledger.began(1, (1, 2), Some(1.0), taken(0), 100);
        ledger.ended(1, futex(100, 0), 200);
        let before = FromBefore {
            cause: Cause::Futex,
            ns: 5000,
        };
        let tally = ledger.settle(&[(book(5100, 70), before)], |_| ThreadIx(0), |_| (1, 2));
        assert_eq!(sum(&tally, Cause::Futex, true), 100.0);
        assert_eq!(sum(&tally, Cause::Futex, false), 5000.0);
        assert_eq!(sum(&tally, Cause::Runnable, false), 70.0);
    }

    #[test]
    fn a_wait_that_had_begun_before_stands_for_itself() {
        let mut ledger = WaitLedger::new(1000, 1000);
        ledger.began(1, (1, 2), None, taken(0), 500);
        ledger.ended(1, futex(5500, 0), 6000);
        ledger.began(2, (1, 2), Some(2.0), taken(0), 6100);
        ledger.ended(2, futex(40, 0), 6140);
        let before = FromBefore {
            cause: Cause::Futex,
            ns: 5000,
        };
        let tally = ledger.settle(&[(book(5100, 0), before)], |_| ThreadIx(0), |_| (1, 2));
        assert_eq!(sum(&tally, Cause::Futex, true), 5100.0);
        assert_eq!(sum(&tally, Cause::Futex, false), 0.0);
    }

    #[test]
    fn a_wait_counts_from_the_recordings_beginning_to_its_end() {
        let mut ledger = WaitLedger::new(1000, 100);
        ledger.began(1, (1, 2), Some(1.0), taken(0), 400);
        ledger.ended(1, futex(700, 50), 1150);
        ledger.began(2, (1, 2), Some(1.0), taken(0), 1200);
        ledger.close(1500, |_| Some(Cause::Sleep));
        let mut book = book(100, 50);
        book.blocked_ns[Cause::Sleep as usize] = 300;
        let tally = ledger.settle(&[(book, NOTHING_BEFORE)], |_| ThreadIx(0), |_| (1, 2));
        assert_eq!(sum(&tally, Cause::Futex, true), 100.0);
        assert_eq!(sum(&tally, Cause::Runnable, true), 50.0);
        assert_eq!(sum(&tally, Cause::Sleep, true), 300.0);
        assert!(tally.samples.keys().any(|key| key.slice == 5));
    }

    #[test]
    fn who_ends_a_wait_is_charged_with_it() {
        let mut ledger = WaitLedger::new(0, 1000);
        ledger.began(1, (1, 2), Some(3.0), taken(0), 100);
        ledger.woken(1, taken(1));
        ledger.ended(1, futex(100, 0), 200);
        ledger.woken(7, taken(1));
        let wakers: Vec<_> = ledger.tally.wakers.into_iter().collect();
        assert_eq!(wakers.len(), 1);
        assert_eq!(
            (wakers[0].0.thread, wakers[0].1),
            (ThreadIx(1), (3.0, 300.0))
        );
    }
}
