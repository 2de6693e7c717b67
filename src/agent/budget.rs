//! What the agent may cost, and how it keeps to that.
//!
//! In: what each window has cost. Out: the [`Effort`] of the next. CPU time is kept in a book: what was used beyond the
//! budget is a debt that idle windows repay. Starting up costs more than a window (programs are loaded, tables built, names
//! read), and is repaid; a rate that the budget cannot bear makes the debt grow, and is lowered. Memory has no such patience.

use super::Effort;

/// A debt may take so long to be repaid, seconds: with one percent of a CPU that is what three seconds of starting up take. A
/// rate that costs twice what it may is found out after this time, one that costs ten times as much after a ninth of it.
const PATIENCE_S: f64 = 300.0;
/// Windows within the budget before a lowered rate is raised; twice as many after each time that was too early.
const CALM_WINDOWS: u32 = 10;
const MOST_CALM_WINDOWS: u32 = 640;
/// Part of the memory budget from which memory is given back.
const NEARLY_FULL: f64 = 0.9;
/// Unwind tables get at most this part of the memory budget, and at least so much.
const UNWIND_PART: u64 = 4;
const LEAST_UNWIND_BYTES: u64 = 8 << 20;
const MOST_UNWIND_BYTES: u64 = 128 << 20;
/// And debug information, while it is read.
const SYMBOL_PART: u64 = 2;
const LEAST_SYMBOL_BYTES: u64 = 16 << 20;
const MOST_SYMBOL_BYTES: u64 = 512 << 20;

/// What may be used.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// CPU time over wall-clock time: 0.01 is ten millicores.
    pub cpu_cores: f64,
    pub memory_bytes: u64,
    pub frequency_hz: u32,
}

/// What a window has cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub wall_s: f64,
    pub cpu_s: f64,
    /// Resident memory of this process and its helpers, and of its maps in the kernel.
    pub memory_bytes: u64,
}

/// Why less is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    Cpu,
    Memory,
    /// Nothing is left that could be given up.
    Exhausted,
}

#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    effort: Effort,
    debt_s: f64,
    calm: u32,
    calm_needed: u32,
}

impl Budget {
    pub fn new(limits: Limits) -> Budget {
        let part =
            |part: u64, least: u64, most: u64| (limits.memory_bytes / part).clamp(least, most);
        Budget {
            limits,
            effort: Effort {
                frequency_hz: limits.frequency_hz,
                unwind_bytes: part(UNWIND_PART, LEAST_UNWIND_BYTES, MOST_UNWIND_BYTES),
                symbol_bytes: part(SYMBOL_PART, LEAST_SYMBOL_BYTES, MOST_SYMBOL_BYTES),
            },
            debt_s: 0.0,
            calm: 0,
            calm_needed: CALM_WINDOWS,
        }
    }

    pub fn effort(&self) -> Effort {
        self.effort
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// CPU time that was used beyond the budget and not made up for, seconds.
    pub fn debt_s(&self) -> f64 {
        self.debt_s
    }

    /// A window has ended. Answers why the effort was lowered; a raised one is only to be seen in [`Budget::effort`].
    pub fn window(&mut self, cost: Cost) -> Option<Reduction> {
        let allowed_s = self.limits.cpu_cores * cost.wall_s;
        self.debt_s = (self.debt_s + cost.cpu_s - allowed_s).max(0.0);
        let over_memory = cost.memory_bytes as f64 > NEARLY_FULL * self.limits.memory_bytes as f64;
        let over_cpu = self.debt_s > PATIENCE_S * self.limits.cpu_cores && cost.cpu_s > allowed_s;
        let saved = [
            over_cpu.then(|| self.save_cpu(allowed_s / cost.cpu_s)),
            over_memory.then(|| self.save_memory()),
        ];
        let saved = saved.into_iter().flatten();
        // What helped is worth more telling than what is exhausted.
        let saved = saved.min_by_key(|reduction| *reduction == Reduction::Exhausted);
        if saved.is_none() {
            self.recover();
        }
        saved
    }

    /// After some calm windows a little more is done.
    fn recover(&mut self) {
        self.calm = if self.debt_s > 0.0 { 0 } else { self.calm + 1 };
        let (asked, first) = (self.limits.frequency_hz, Budget::new(self.limits).effort);
        if self.calm < self.calm_needed || self.effort == first {
            return;
        }
        self.calm = 0;
        let effort = &mut self.effort;
        effort.frequency_hz = (effort.frequency_hz * 3).div_ceil(2).min(asked);
        effort.unwind_bytes = (effort.unwind_bytes * 2).min(first.unwind_bytes);
        effort.symbol_bytes = (effort.symbol_bytes * 2).min(first.symbol_bytes);
    }

    /// A rate that would have cost what is allowed.
    fn save_cpu(&mut self, affordable: f64) -> Reduction {
        // What was used cannot be given back; the new rate is judged by what it costs itself.
        self.debt_s = 0.0;
        match self.lower_rate(affordable) {
            true => Reduction::Cpu,
            false => Reduction::Exhausted,
        }
    }

    /// What is kept of a window grows with its samples; tables and debug information give way with them.
    fn save_memory(&mut self) -> Reduction {
        let before = self.effort;
        self.effort.unwind_bytes = (before.unwind_bytes / 2).max(LEAST_UNWIND_BYTES);
        self.effort.symbol_bytes = (before.symbol_bytes / 2).max(LEAST_SYMBOL_BYTES);
        self.lower_rate(0.5);
        match self.effort == before {
            true => Reduction::Exhausted,
            false => Reduction::Memory,
        }
    }

    /// False: it is as low as it can be.
    fn lower_rate(&mut self, factor: f64) -> bool {
        let before = self.effort.frequency_hz;
        let lower = (f64::from(before) * factor).floor() as u32;
        self.effort.frequency_hz = lower.clamp(1, before.saturating_sub(1).max(1));
        self.calm = 0;
        self.calm_needed = (2 * self.calm_needed).min(MOST_CALM_WINDOWS);
        self.effort.frequency_hz < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        cpu_cores: 0.01,
        memory_bytes: 256 << 20,
        frequency_hz: 19,
    };

    fn cost(cpu_s: f64) -> Cost {
        Cost {
            wall_s: 60.0,
            cpu_s,
            memory_bytes: 50 << 20,
        }
    }

    #[test]
    fn a_costly_start_is_repaid_and_lowers_nothing() {
        let mut budget = Budget::new(LIMITS);
        assert_eq!(budget.window(cost(3.5)), None);
        for _ in 0..30 {
            assert_eq!(budget.window(cost(0.4)), None);
        }
        assert_eq!(budget.effort().frequency_hz, 19);
        assert!(budget.debt_s() < 1e-9, "{}", budget.debt_s());
    }

    #[test]
    fn a_rate_that_costs_too_much_is_lowered_and_comes_back_when_it_is_cheap() {
        let mut budget = Budget::new(LIMITS);
        let costs = |budget: &Budget| cost(0.08 * f64::from(budget.effort().frequency_hz));
        let lowered = (0..50).filter(|_| {
            let cost = costs(&budget);
            budget.window(cost) == Some(Reduction::Cpu)
        });
        assert!(lowered.count() >= 1);
        assert!(costs(&budget).cpu_s <= 0.6, "{:?}", budget.effort());
        for _ in 0..500 {
            budget.window(cost(0.1));
        }
        assert_eq!(budget.effort().frequency_hz, 19);
    }

    #[test]
    fn at_one_a_second_nothing_is_left_to_lower() {
        let mut budget = Budget::new(LIMITS);
        let told: Vec<_> = (0..80).filter_map(|_| budget.window(cost(3.0))).collect();
        assert_eq!(budget.effort().frequency_hz, 1);
        assert_eq!(told.last(), Some(&Reduction::Exhausted));
        assert!(told.contains(&Reduction::Cpu));
    }

    #[test]
    fn memory_is_given_back_at_once() {
        let mut budget = Budget::new(LIMITS);
        let before = budget.effort();
        let full = Cost {
            memory_bytes: 250 << 20,
            ..cost(0.1)
        };
        assert_eq!(budget.window(full), Some(Reduction::Memory));
        assert!(budget.effort().unwind_bytes < before.unwind_bytes);
        let last = (0..10).filter_map(|_| budget.window(full)).last();
        assert_eq!(last, Some(Reduction::Exhausted));
        for _ in 0..6000 {
            assert_eq!(budget.window(cost(0.1)), None);
        }
        assert_eq!(budget.effort(), before);
    }

    #[test]
    fn one_budget_does_not_hide_the_other() {
        let mut budget = Budget::new(LIMITS);
        let both = Cost {
            memory_bytes: 250 << 20,
            ..cost(3.0)
        };
        for _ in 0..40 {
            budget.window(both);
        }
        assert_eq!(budget.effort().frequency_hz, 1);
    }
}
