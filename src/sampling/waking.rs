//! When to ask who wakes threads.
//!
//! A program at every wake-up costs the target some 0.1 µs a switch. That is nothing for a service that switches ten thousand
//! times a second, and would be half of what is allowed at a hundred thousand. So where wake-ups are many, wakers are asked
//! in one tenth of the time: who holds a lock does not change with it.

/// From so many wake-ups a second on.
const MANY_A_SECOND: f64 = 30_000.0;

/// Looks, about ten a second, at which wakers are not asked after one at which they were.
const PAUSE: u32 = 9;

/// Decides at each look.
#[derive(Debug, Default)]
pub(super) struct WakingPace {
    last: Option<(u64, u64)>,
    pause: u32,
}

impl WakingPace {
    /// Whether wakers are to be asked until the next look; `wakings` is how many have been asked for so far.
    pub(super) fn look(&mut self, now_ns: u64, wakings: u64) -> bool {
        if self.pause > 0 {
            self.pause -= 1;
            self.last = Some((now_ns, wakings));
            return self.pause == 0;
        }
        let rate = self.last.map_or(0.0, |(then_ns, then)| {
            let seconds = now_ns.saturating_sub(then_ns).max(1) as f64 / 1e9;
            wakings.saturating_sub(then) as f64 / seconds
        });
        self.last = Some((now_ns, wakings));
        if rate > MANY_A_SECOND {
            self.pause = PAUSE;
        }
        self.pause == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_wakers_are_always_asked_and_many_in_a_tenth_of_the_time() {
        let asked = |per_look: u64| {
            let mut pace = WakingPace::default();
            let (mut wakings, mut asking, mut asked) = (0, true, 0);
            for look in 0..1000u64 {
                wakings += if asking { per_look } else { 0 };
                asked += u64::from(asking);
                asking = pace.look(look * 100_000_000, wakings);
            }
            asked
        };
        assert_eq!(asked(100), 1000);
        assert!((90..=120).contains(&asked(20_000)), "{}", asked(20_000));
    }
}
