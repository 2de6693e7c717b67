//! The books of all threads, from the beginning of a recording to its end.
//!
//! In: books as BPF keeps them, at the beginning, as threads end, and at the end. Out: each thread's time within the
//! recording, by state. A state that lasts at a moment counts up to it.

use std::collections::HashMap;

use crate::profile::{BLOCKED_CAUSES, Cause, ThreadTime};
use crate::sys::abi::{STATE_BLOCKED, STATE_ENDED, STATE_ON_CPU, ThreadBook};
use crate::sys::books::BookMaps;

use super::waits::FromBefore;

/// The books of one recording.
#[derive(Debug)]
pub(super) struct Books {
    maps: BookMaps,
    begun_ns: u64,
    /// By place, as they stood at the beginning.
    before: HashMap<u32, ThreadBook>,
    closed: Vec<(ThreadTime, FromBefore)>,
    /// By place, as they stood at the end.
    after: HashMap<u32, ThreadBook>,
}

impl Books {
    /// Notes how the books stand at the beginning of the recording.
    pub fn begin(maps: BookMaps, begun_ns: u64) -> Books {
        Books {
            before: maps.all().into_iter().collect(),
            maps,
            begun_ns,
            closed: Vec::new(),
            after: HashMap::new(),
        }
    }

    /// The recording ends now.
    pub fn end(&mut self) {
        self.after = self.maps.all().into_iter().collect();
    }

    /// The thread with its book at `place` is gone.
    pub fn close(&mut self, place: u32, name_of: impl Fn(u32, u32) -> String) {
        let Some(book) = self.maps.read(place) else {
            return;
        };
        let until_ns = book.since_ns.max(self.begun_ns);
        self.closed
            .push(self.within(place, &book, until_ns, name_of));
        self.before.remove(&place);
        self.maps.give_back(place);
    }

    /// Whether the thread has been in the wait of this number ever since it began.
    pub fn is_waiting(&self, wait: u64) -> bool {
        let book = self.maps.read((wait >> 32) as u32);
        book.is_some_and(|book| book.waits == wait as u32 && book.state == STATE_BLOCKED)
    }

    /// What the wait of this number is for, if it is the one that its thread was in at the end.
    pub fn cause_of(&self, wait: u64) -> Option<Cause> {
        let book = self.after.get(&((wait >> 32) as u32))?;
        if book.waits != wait as u32 || matches!(book.state, STATE_ON_CPU | STATE_ENDED) {
            return None;
        }
        match book.state {
            STATE_BLOCKED => Cause::from_code(book.cause.into()),
            _ => Some(Cause::Runnable),
        }
    }

    /// Every thread's time up to the end, `ended_ns`.
    pub fn times(
        &self,
        ended_ns: u64,
        name_of: impl Fn(u32, u32) -> String,
    ) -> Vec<(ThreadTime, FromBefore)> {
        let after = self.after.iter();
        let open = after.map(|(place, book)| self.within(*place, book, ended_ns, &name_of));
        let mut times: Vec<_> = self.closed.iter().cloned().chain(open).collect();
        times.retain(|(time, _)| time.wall_ns > 0);
        times.sort_by_key(|(time, _)| (time.pid, time.tid, time.wall_ns));
        times
    }

    fn within(
        &self,
        place: u32,
        book: &ThreadBook,
        until_ns: u64,
        name_of: impl Fn(u32, u32) -> String,
    ) -> (ThreadTime, FromBefore) {
        let before = self.before.get(&place).filter(|b| b.tid == book.tid);
        let at_begin = before.map(|b| times_at(b, self.begun_ns));
        let (begin, before_of_first) = at_begin.unwrap_or_default();
        let (end, from_before_ns) = times_at(book, until_ns);
        let less = |a: u64, b: u64| a.saturating_sub(b);
        let mut blocked_ns = [0; BLOCKED_CAUSES];
        let mut blocked_count = [0; BLOCKED_CAUSES];
        for ix in 0..BLOCKED_CAUSES {
            blocked_ns[ix] = less(end.blocked_ns[ix], begin.blocked_ns[ix]);
            blocked_count[ix] = less(end.blocked_count[ix], begin.blocked_count[ix]);
        }
        let time = ThreadTime {
            pid: book.pid,
            tid: book.tid,
            name: name_of(book.pid, book.tid),
            wall_ns: less(end.wall_ns, begin.wall_ns),
            on_cpu_ns: less(end.on_cpu_ns, begin.on_cpu_ns),
            runnable_ns: less(end.runnable_ns, begin.runnable_ns),
            throttled_ns: less(end.throttled_ns, begin.throttled_ns),
            blocked_ns,
            blocked_count,
            switches: less(end.switches, begin.switches),
        };
        let cause = before.and_then(|b| Cause::from_code(b.cause.into()));
        let from_before = FromBefore {
            cause: cause.unwrap_or(Cause::Other),
            ns: less(from_before_ns, before_of_first),
        };
        (time, from_before)
    }
}

/// How a book stands at a moment; and what of it was waited since before it was opened.
fn times_at(book: &ThreadBook, now_ns: u64) -> (ThreadTime, u64) {
    // What was entered while the books were read belongs to a moment later.
    let now_ns = now_ns.max(book.since_ns);
    let mut times = ThreadTime {
        wall_ns: now_ns.saturating_sub(book.began_ns),
        on_cpu_ns: book.on_cpu_ns,
        runnable_ns: book.runnable_ns,
        throttled_ns: book.throttled_ns,
        blocked_ns: book.blocked_ns,
        blocked_count: book.blocked_count.map(u64::from),
        switches: book.runnable_count.into(),
        ..ThreadTime::default()
    };
    let mut from_before_ns = book.from_before_ns;
    let lasting_ns = now_ns.saturating_sub(book.since_ns);
    match book.state {
        STATE_ON_CPU => times.on_cpu_ns += lasting_ns,
        STATE_ENDED => times.wall_ns = book.since_ns.min(now_ns).saturating_sub(book.began_ns),
        STATE_BLOCKED => {
            let woken = book.woken_ns >= book.since_ns;
            let blocked_ns = match woken {
                true => (book.woken_ns - book.since_ns).min(lasting_ns),
                false => lasting_ns,
            };
            if let Some(ns) = times.blocked_ns.get_mut(usize::from(book.cause)) {
                *ns += blocked_ns;
            }
            times.runnable_ns += lasting_ns - blocked_ns;
            if book.from_before != 0 {
                from_before_ns += blocked_ns;
            }
        }
        _ => times.runnable_ns += lasting_ns,
    }
    (times, from_before_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn book(state: u32, since_ns: u64) -> ThreadBook {
        ThreadBook {
            state,
            since_ns,
            began_ns: 100,
            on_cpu_ns: 50,
            cause: Cause::Pipe as u8,
            ..ThreadBook::new_zeroed()
        }
    }

    #[test]
    fn a_state_that_lasts_counts_up_to_the_moment() {
        let (on_cpu, _) = times_at(&book(STATE_ON_CPU, 150), 400);
        assert_eq!((on_cpu.wall_ns, on_cpu.on_cpu_ns), (300, 300));
        let (ended, _) = times_at(&book(STATE_ENDED, 150), 400);
        assert_eq!((ended.wall_ns, ended.on_cpu_ns), (50, 50));
    }

    #[test]
    fn a_thread_that_was_woken_waits_for_a_cpu_from_then_on() {
        let blocked = ThreadBook {
            from_before: 1,
            ..book(STATE_BLOCKED, 150)
        };
        let (times, from_before) = times_at(&blocked, 400);
        assert_eq!((times.of(Cause::Pipe), from_before), (250, 250));
        let woken = ThreadBook {
            woken_ns: 350,
            ..blocked
        };
        let (times, from_before) = times_at(&woken, 400);
        assert_eq!((times.of(Cause::Pipe), times.runnable_ns), (200, 50));
        assert_eq!(from_before, 200);
    }
}
