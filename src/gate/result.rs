//! The verdict of a gate as a document: `gate-results/<gate>.json`, schema `perfprof.gate-result`.
//!
//! In: checks and scores. Out: the outcome, and JSON. What failed first, and what to do about it, stand in the document
//! as they are printed.

use serde_json::{Value, json};

use super::check::{Check, Status};
use super::waiver::WaiverUse;
use super::{BadInput, Gate, Setting};

pub const SCHEMA: &str = "perfprof.gate-result";
pub const SCHEMA_VERSION: u64 = 1;

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Fail,
    Inconclusive,
    /// An input could not be read: there is no verdict.
    Error,
}

impl Outcome {
    pub fn id(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Inconclusive => "inconclusive",
            Outcome::Error => "error",
        }
    }
}

/// What a score is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub id: &'static str,
    /// `None`: nothing to score, so it has no weight.
    pub score: Option<f64>,
    pub weight: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub value: f64,
    pub threshold: f64,
    pub parts: Vec<Part>,
}

impl Score {
    /// The weighted mean of what can be scored; `None` when nothing can.
    pub(super) fn of(parts: Vec<Part>, threshold: f64) -> Option<Score> {
        let weighed = || parts.iter().filter_map(|p| Some((p.score?, p.weight)));
        let weight: f64 = weighed().map(|(_, weight)| weight).sum();
        let sum: f64 = weighed().map(|(score, weight)| score * weight).sum();
        (weight > 0.0).then(|| Score {
            value: sum / weight,
            threshold,
            parts,
        })
    }

    /// Sums of thirds must not fail by the last bit.
    pub(super) fn is_reached(&self) -> bool {
        self.value >= self.threshold - 1e-9
    }
}

/// A gate's answer.
#[derive(Clone, Debug)]
pub struct GateResult {
    pub gate: Gate,
    pub edition: u32,
    pub protocol_id: String,
    pub config: Option<String>,
    pub artifacts: String,
    pub generated_at: String,
    pub score: Option<Score>,
    pub checks: Vec<Check>,
    pub waivers: Vec<WaiverUse>,
    /// What the reader must know of how it was asked.
    pub notes: Vec<String>,
    /// Figures that the workflow asks for.
    pub figures: Vec<(&'static str, Value)>,
    pub(super) error: Option<BadInput>,
}

impl GateResult {
    pub(super) fn new(gate: Gate, setting: &Setting, checks: Vec<Check>) -> GateResult {
        GateResult {
            gate,
            edition: setting.edition.number(),
            protocol_id: setting.protocol_id(),
            config: setting.config.file.clone(),
            artifacts: setting.documents.root().display().to_string(),
            generated_at: setting.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            score: None,
            checks,
            waivers: Vec::new(),
            notes: Vec::new(),
            figures: Vec::new(),
            error: None,
        }
    }

    /// The answer when an input could not be read: an older verdict must not stay.
    pub fn unreadable(gate: Gate, setting: &Setting, error: BadInput) -> GateResult {
        let check = Check::new("input", "documents can be read")
            .expected("every document that is there can be read")
            .evidence(&error.file)
            .fail(
                error.to_string(),
                "make the file anew with the command that wrote it, or take it away",
            );
        GateResult {
            error: Some(error),
            ..GateResult::new(gate, setting, vec![check])
        }
    }

    pub fn outcome(&self) -> Outcome {
        let any = |status| self.checks.iter().any(|c| c.decides && c.status == status);
        match () {
            () if self.error.is_some() => Outcome::Error,
            () if any(Status::Fail) => Outcome::Fail,
            () if any(Status::Inconclusive) => Outcome::Inconclusive,
            () => Outcome::Pass,
        }
    }

    /// What stands in the way, first to last: what a score was lost by before the score itself.
    pub fn obstacles(&self) -> Vec<&Check> {
        let of = |statuses: &[Status]| {
            let bad = self.checks.iter().filter(|c| statuses.contains(&c.status));
            bad.collect::<Vec<&Check>>()
        };
        match self.outcome() {
            Outcome::Pass => Vec::new(),
            Outcome::Inconclusive => of(&[Status::Inconclusive]),
            Outcome::Fail | Outcome::Error => {
                let mut failed = of(&[Status::Fail]);
                // A score may be lost by profiles that only are inconclusive.
                failed.extend(of(&[Status::Inconclusive]));
                failed
            }
        }
    }

    pub fn to_json(&self) -> Value {
        let parts = |score: &Score| -> Value {
            let part =
                |p: &Part| json!({"id": p.id, "score": rounded(p.score), "weight": p.weight});
            score.parts.iter().map(part).collect()
        };
        let obstacles = self.obstacles();
        let first = obstacles.first();
        let figures: serde_json::Map<String, Value> = self
            .figures
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        json!({
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "gate": self.gate.id(),
            "gate_number": self.gate.number(),
            "edition": self.edition,
            "protocol_id": self.protocol_id,
            "verdict": self.outcome().id(),
            "score": rounded(self.score.as_ref().map(|s| s.value)),
            "threshold": self.score.as_ref().map(|s| s.threshold),
            "parts": self.score.as_ref().map(parts),
            "generated_at": self.generated_at,
            "verified_by": concat!("perfprof ", env!("CARGO_PKG_VERSION")),
            "config": self.config,
            "artifacts": self.artifacts,
            "first_failure": first.map(|c| c.actual.clone()),
            "next_step": first.and_then(|c| c.remedy.clone()),
            "checks": self.checks,
            "waivers": self.waivers,
            "figures": figures,
            "notes": self.notes,
        })
    }
}

/// Six digits: what a score can carry, and the same bytes everywhere.
fn rounded(value: Option<f64>) -> Option<f64> {
    value.map(|v| (v * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_the_weighted_mean_of_what_can_be_scored() {
        let part = |score, weight| Part {
            id: "p",
            score,
            weight,
        };
        let of = |parts| Score::of(parts, 0.9);
        let thirds = of(vec![
            part(Some(1.0), 1.0),
            part(Some(0.7), 1.0),
            part(Some(1.0), 1.0),
        ]);
        let thirds = thirds.expect("a score");
        assert!((thirds.value - 0.9).abs() < 1e-12 && thirds.is_reached());
        let waived = of(vec![part(Some(0.5), 1.0), part(None, 5.0)]).expect("a score");
        assert!(waived.value == 0.5 && !waived.is_reached());
        assert_eq!(of(vec![part(None, 1.0)]), None);
        assert_eq!(of(vec![part(Some(1.0), 0.0)]), None);
    }
}
