//! Do the books balance? On a CPU + runnable + throttled + blocked = wall-clock time, thread by thread and in all.
//!
//! In: a profile with waits. Out: the sums and what is left over. Time on a CPU is the scheduler's own count, which the
//! books do not use: the rest says how far two independent accounts agree.

use std::collections::HashMap;

use crate::profile::{Cause, Profile, ThreadTime};

/// One thread's time, or all threads'; nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balance {
    pub wall_ns: u64,
    pub on_cpu_ns: u64,
    pub runnable_ns: u64,
    pub throttled_ns: u64,
    pub blocked_ns: u64,
    /// Wall-clock time less all of the above; below 0 where they are more.
    pub residual_ns: i64,
    /// Time between coming to a CPU and leaving it that the scheduler did not count as used: interrupts, and what the
    /// hypervisor took. It explains as much of the residual.
    pub uncounted_ns: i64,
}

impl Balance {
    fn of(time: &ThreadTime, on_cpu_ns: u64) -> Balance {
        let blocked_ns = time.all_blocked_ns();
        let known = [on_cpu_ns, time.runnable_ns, time.throttled_ns, blocked_ns];
        let known: u64 = known.iter().fold(0, |sum, ns| sum.saturating_add(*ns));
        Balance {
            wall_ns: time.wall_ns,
            on_cpu_ns,
            runnable_ns: time.runnable_ns,
            throttled_ns: time.throttled_ns,
            blocked_ns,
            residual_ns: (time.wall_ns as i64).saturating_sub_unsigned(known),
            uncounted_ns: (time.on_cpu_ns as i64).saturating_sub_unsigned(on_cpu_ns),
        }
    }

    fn add(&mut self, other: &Balance) {
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut self.wall_ns, other.wall_ns);
        sum(&mut self.on_cpu_ns, other.on_cpu_ns);
        sum(&mut self.runnable_ns, other.runnable_ns);
        sum(&mut self.throttled_ns, other.throttled_ns);
        sum(&mut self.blocked_ns, other.blocked_ns);
        self.residual_ns = self.residual_ns.saturating_add(other.residual_ns);
        self.uncounted_ns = self.uncounted_ns.saturating_add(other.uncounted_ns);
    }

    /// Residual over wall-clock time, 0 to 1 where the books are about right.
    pub fn residual_share(&self) -> f64 {
        self.share(self.residual_ns)
    }

    /// Of the residual, what interrupts and the hypervisor explain, over wall-clock time.
    pub fn uncounted_share(&self) -> f64 {
        self.share(self.uncounted_ns)
    }

    fn share(&self, ns: i64) -> f64 {
        match self.wall_ns {
            0 => 0.0,
            wall_ns => ns as f64 / wall_ns as f64,
        }
    }
}

/// A thread's books.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadBalance {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
    pub balance: Balance,
    /// Blocked time by cause, the most first; without causes that never occurred.
    pub blocked_by: Vec<(Cause, u64)>,
}

/// All books.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Books {
    pub all: Balance,
    /// Those that did most besides being blocked first.
    pub threads: Vec<ThreadBalance>,
}

impl Books {
    /// `None` where no books were kept.
    pub fn of(profile: &Profile) -> Option<Books> {
        let facts = &profile.waits.as_ref()?.facts;
        let mut on_cpu: HashMap<(u32, u32), u64> = HashMap::new();
        for thread in &profile.accounting.threads {
            let sum = on_cpu.entry((thread.pid, thread.tid)).or_default();
            *sum = sum.saturating_add(thread.cpu_ns);
        }
        let is_counted = profile.accounting.cpu_ns().is_some();
        let mut books = Books::default();
        for time in &facts.threads {
            let counted = on_cpu.remove(&(time.pid, time.tid));
            // What the scheduler counts at all is left out of its list where it is nothing.
            let on_cpu_ns = match is_counted {
                true => counted.unwrap_or(0),
                false => time.on_cpu_ns,
            };
            let balance = Balance::of(time, on_cpu_ns);
            books.all.add(&balance);
            books.threads.push(ThreadBalance {
                pid: time.pid,
                tid: time.tid,
                name: time.name.clone(),
                balance,
                blocked_by: blocked_by(time),
            });
        }
        books.threads.sort_by_key(|thread| {
            let busy = thread
                .balance
                .wall_ns
                .saturating_sub(thread.balance.blocked_ns);
            (std::cmp::Reverse(busy), thread.pid, thread.tid)
        });
        Some(books)
    }
}

fn blocked_by(time: &ThreadTime) -> Vec<(Cause, u64)> {
    let causes = Cause::ALL.into_iter().filter(|cause| cause.is_blocked());
    let mut by: Vec<(Cause, u64)> = causes
        .map(|cause| (cause, time.of(cause)))
        .filter(|(_, ns)| *ns > 0)
        .collect();
    by.sort_by_key(|(cause, ns)| (std::cmp::Reverse(*ns), *cause));
    by
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::canned;

    #[test]
    fn the_canned_servers_books_balance_and_say_what_is_left() {
        let profile = canned::waiting_server();
        let books = Books::of(&profile).expect("it has books");
        assert_eq!(books.all.wall_ns, 2 * canned::WAITING_WALL_NS);
        for thread in &books.threads {
            let Balance {
                wall_ns,
                on_cpu_ns,
                runnable_ns,
                throttled_ns,
                blocked_ns,
                residual_ns,
                uncounted_ns: _,
            } = thread.balance;
            let known = (on_cpu_ns + runnable_ns + throttled_ns + blocked_ns) as i64;
            assert_eq!(known + residual_ns, wall_ns as i64, "{thread:?}");
        }
        assert!(books.all.residual_share().abs() < 0.02);
        assert!(Books::of(&canned::server()).is_none());
    }
}
