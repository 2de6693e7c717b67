//! When a counter had the value that was read.
//!
//! In: a clock, and what reads the counter. Out: the value and its time. A rate is a difference of values over a
//! difference of times, and whoever reads can lose its CPU between looking at the clock and reading: on a busy machine
//! for tens of milliseconds, which would make an interval of 500 ms wrong by as many percent. So the clock is looked at
//! before and after; the middle counts, and a reading that took too long is taken again.

/// As good as at once: a fifth of a percent of the shortest interval that conclusions are drawn from.
const AT_ONCE_NS: u64 = 1_000_000;

/// Readings taken before the closest is made do. A thread that has just got its CPU back keeps it for milliseconds.
const MAX_READINGS: u32 = 5;

/// A value, and the middle of the time that reading it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading<T> {
    pub(super) at_ns: u64,
    pub(super) value: T,
}

/// Reads until a reading was at once, at most [`MAX_READINGS`] times; the one that took least.
pub(super) fn read_at_once<T>(
    mut now_ns: impl FnMut() -> u64,
    mut read: impl FnMut() -> T,
) -> Reading<T> {
    let mut take = || {
        let before_ns = now_ns();
        let value = read();
        let took_ns = now_ns().saturating_sub(before_ns);
        let at_ns = before_ns + took_ns / 2;
        (took_ns, Reading { at_ns, value })
    };
    let (mut least_ns, mut closest) = take();
    for _ in 1..MAX_READINGS {
        if least_ns <= AT_ONCE_NS {
            break;
        }
        let (took_ns, reading) = take();
        if took_ns < least_ns {
            (least_ns, closest) = (took_ns, reading);
        }
    }
    closest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that shows these times, one a look; and the readings, numbered.
    fn readings(times_us: &[u64]) -> (Reading<u32>, usize) {
        let mut times = times_us.iter();
        let mut number = 0;
        let reading = read_at_once(
            || times.next().expect("no further look") * 1000,
            || {
                number += 1;
                number
            },
        );
        (reading, times_us.len() - times.len())
    }

    #[test]
    fn a_quick_reading_counts_at_its_middle() {
        let (reading, looks) = readings(&[1000, 1020]);
        assert_eq!((reading.at_ns, reading.value, looks), (1_010_000, 1, 2));
    }

    #[test]
    fn a_reading_that_lost_its_cpu_is_taken_again() {
        let (reading, looks) = readings(&[1000, 51_000, 51_010, 51_020]);
        assert_eq!((reading.at_ns, reading.value, looks), (51_015_000, 2, 4));
    }

    #[test]
    fn on_a_machine_without_a_quiet_moment_the_closest_is_kept() {
        let slow = [
            0, 9000, 10_000, 14_000, 20_000, 22_000, 30_000, 33_000, 40_000, 49_000,
        ];
        let (reading, looks) = readings(&slow);
        assert_eq!((reading.at_ns, reading.value, looks), (21_000_000, 3, 10));
    }
}
