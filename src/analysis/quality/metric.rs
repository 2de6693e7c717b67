//! One answer to "how much was seen", with everything needed to check it and to do better.

use crate::profile::BuildId;

/// Part of what is missing, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// Stable identifier for files.
    pub id: String,
    pub explanation: String,
    /// Ticks, frames (weighted by ticks) or threads, as the metric counts.
    pub count: u64,
    /// Of the metric's denominator.
    pub share: f64,
}

/// A binary that is to blame for part of what is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleGap {
    /// Path, or `[kernel]` and its like.
    pub module: String,
    pub build_id: Option<BuildId>,
    pub reason: String,
    pub count: u64,
    /// Of the metric's denominator.
    pub share: f64,
    /// What would fix it.
    pub remedy: String,
}

/// A coverage metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// As in `coverage.json`.
    pub id: &'static str,
    /// `None` when it could not be measured; [`Metric::not_measured`] says why.
    pub value: Option<f64>,
    pub numerator: Option<f64>,
    pub denominator: Option<f64>,
    /// Of numerator and denominator.
    pub unit: &'static str,
    pub not_measured: Option<String>,
    /// Most first.
    pub reasons: Vec<Reason>,
    /// Worst first.
    pub modules: Vec<ModuleGap>,
    pub threshold: Option<f64>,
    /// How far beyond the threshold the value may lie by chance alone.
    pub tolerance: f64,
    /// Whether the verdict depends on it.
    pub gating: bool,
    /// `None` without a threshold, or where it was not measured.
    pub ok: Option<bool>,
    /// What to do, where it is not ok.
    pub remedy: Option<String>,
}

impl Metric {
    /// `numerator` over `denominator`, good from `threshold` on. A denominator of 0 is not measured.
    pub(super) fn ratio(
        id: &'static str,
        unit: &'static str,
        (numerator, denominator): (f64, f64),
        threshold: Option<f64>,
    ) -> Metric {
        if denominator.is_nan() || denominator <= 0.0 {
            return Metric::missing(id, unit, threshold, "there is nothing to measure it on");
        }
        let value = numerator / denominator;
        Metric {
            id,
            value: Some(value),
            numerator: Some(numerator),
            denominator: Some(denominator),
            unit,
            not_measured: None,
            reasons: Vec::new(),
            modules: Vec::new(),
            threshold,
            tolerance: 0.0,
            gating: threshold.is_some(),
            ok: threshold.map(|threshold| value >= threshold),
            remedy: None,
        }
    }

    /// A metric without a value, because of `why`.
    pub(super) fn missing(
        id: &'static str,
        unit: &'static str,
        threshold: Option<f64>,
        why: impl Into<String>,
    ) -> Metric {
        Metric {
            id,
            value: None,
            numerator: None,
            denominator: None,
            unit,
            not_measured: Some(why.into()),
            reasons: Vec::new(),
            modules: Vec::new(),
            threshold,
            tolerance: 0.0,
            gating: threshold.is_some(),
            ok: None,
            remedy: None,
        }
    }

    /// Keeps the reasons that count for something, most first.
    pub(super) fn with_reasons(mut self, mut reasons: Vec<Reason>) -> Metric {
        reasons.retain(|reason| reason.count > 0 || reason.share > 0.0);
        reasons.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.id.cmp(&b.id)));
        self.reasons = reasons;
        self
    }

    /// Judges with allowance for chance: good from `threshold - tolerance` on.
    pub(super) fn with_tolerance(mut self, tolerance: f64) -> Metric {
        self.tolerance = tolerance;
        if let (Some(value), Some(threshold)) = (self.value, self.threshold) {
            self.ok = Some(value >= threshold - tolerance);
        }
        self
    }

    /// Sets the remedy where one is needed.
    pub(super) fn or_remedy(mut self, remedy: impl FnOnce(&Metric) -> Option<String>) -> Metric {
        if self.ok != Some(true) && self.threshold.is_some() {
            self.remedy = remedy(&self);
        }
        self
    }

    /// Why the profile cannot be trusted because of this metric, in one sentence; `None` when it can, or when the
    /// metric does not count.
    pub(super) fn fault(&self) -> Option<String> {
        if !self.gating || self.ok == Some(true) {
            return None;
        }
        let mut text = match (self.value, &self.not_measured) {
            (Some(value), _) => {
                format!(
                    "`{}` is {:.1} %, {}",
                    self.id,
                    floor_pct(value),
                    self.bound(value)
                )
            }
            (None, Some(why)) => format!("`{}` was not measured: {why}", self.id),
            (None, None) => format!("`{}` was not measured", self.id),
        };
        if let Some(remedy) = &self.remedy {
            text.push_str("; ");
            text.push_str(remedy);
        }
        Some(text)
    }

    /// The bound that `value` is on the wrong side of, in words.
    fn bound(&self, value: f64) -> String {
        let threshold = self.threshold.unwrap_or_default();
        if value < threshold {
            return format!("below {:.1} %", threshold * 100.0);
        }
        match self.id {
            // The mirror of the threshold above 1.
            "cpu_time" => format!("above {:.1} %", (2.0 - threshold) * 100.0),
            _ => format!("above {:.1} %", threshold * 100.0),
        }
    }
}

/// Percent with one digit, rounded down: 94.96 must not read as 95.0 beside "below 95.0". The small addition keeps
/// whole tenths that binary fractions cannot hold.
fn floor_pct(share: f64) -> f64 {
    (share * 1000.0 + 1e-9).floor() / 10.0
}
