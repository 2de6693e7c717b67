//! Weights of paths by block of time, the evidence that everything else is computed from.
//!
//! In: a run, and for each sample the paths its stack counts for. Out: [`Evidence`]. A run with time slices is cut into at
//! most `MAX_BLOCKS` contiguous blocks, long enough to be unlike each other; one without (another tool's) is a single
//! block, of which only the number of ticks says how sure it is.

/// As for intervals of shares within one profile (`analysis/stats.rs`).
const MAX_BLOCKS: usize = 30;

/// The weights of one run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Evidence {
    /// Weight of everything, per block.
    pub(super) whole: Vec<f64>,
    /// Weight of each path per block: path by path, `whole.len()` each.
    pub(super) parts: Vec<f64>,
    pub(super) ticks: u64,
    /// CPU seconds, or ticks, of the run; and what they are divided by: units of work, seconds, or nothing (1).
    pub(super) amount: f64,
    pub(super) per: f64,
}

impl Evidence {
    pub(super) fn blocks(&self) -> usize {
        self.whole.len()
    }

    pub(super) fn part(&self, path: usize) -> &[f64] {
        let blocks = self.blocks();
        &self.parts[path * blocks..(path + 1) * blocks]
    }

    pub(super) fn weight(&self) -> f64 {
        self.whole.iter().sum()
    }

    /// Share of one path in the run; 0 in an empty one.
    pub(super) fn share(&self, path: usize) -> f64 {
        let whole = self.weight();
        match whole > 0.0 {
            true => self.part(path).iter().sum::<f64>() / whole,
            false => 0.0,
        }
    }

    /// Some of the blocks as a run of their own, which has that part of the amount and of the time.
    pub(super) fn subset(&self, blocks: &[usize]) -> Evidence {
        let paths = self.parts.len().checked_div(self.blocks()).unwrap_or(0);
        let whole: Vec<f64> = blocks.iter().map(|block| self.whole[*block]).collect();
        let parts = (0..paths).flat_map(|path| {
            let part = self.part(path);
            blocks.iter().map(|block| part[*block])
        });
        let weight: f64 = whole.iter().sum();
        let share = if self.weight() > 0.0 {
            weight / self.weight()
        } else {
            0.0
        };
        Evidence {
            parts: parts.collect(),
            ticks: (self.ticks as f64 * share).round() as u64,
            amount: self.amount * share,
            per: self.per * blocks.len() as f64 / self.blocks() as f64,
            whole,
        }
    }
}

/// Adds up samples: (slice, weight, ticks, paths counted).
pub(super) struct Blocks {
    evidence: Evidence,
    slices: usize,
}

impl Blocks {
    /// `slices` is 0 for a run without time slices.
    pub(super) fn new(slices: u32, paths: usize) -> Blocks {
        let blocks = (slices as usize).clamp(1, MAX_BLOCKS);
        Blocks {
            evidence: Evidence {
                whole: vec![0.0; blocks],
                parts: vec![0.0; blocks * paths],
                ticks: 0,
                amount: 0.0,
                per: 1.0,
            },
            slices: (slices as usize).max(1),
        }
    }

    pub(super) fn add(&mut self, slice: u32, weight: f64, ticks: u64, paths: &[u32]) {
        let blocks = self.evidence.blocks();
        let slice = (slice as usize).min(self.slices - 1);
        // The widest slice number times 30 stays far below 2^64.
        let block = slice * blocks / self.slices;
        self.evidence.whole[block] += weight;
        self.evidence.ticks += ticks;
        for path in paths {
            self.evidence.parts[*path as usize * blocks + block] += weight;
        }
    }

    /// The amount is the weight, until it is known better.
    pub(super) fn finish(self) -> Evidence {
        let mut evidence = self.evidence;
        evidence.amount = evidence.weight();
        evidence.per = evidence.amount;
        evidence
    }
}
