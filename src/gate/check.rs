//! One question of a gate, with what was expected, what was found, where, and what helps.

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Pass,
    Fail,
    Warn,
    /// Failed, and excused by a waiver.
    Waived,
    /// The data does not suffice to tell.
    Inconclusive,
    NotApplicable,
}

impl Status {
    /// As in the document.
    pub fn id(self) -> &'static str {
        match self {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::Warn => "warn",
            Status::Waived => "waived",
            Status::Inconclusive => "inconclusive",
            Status::NotApplicable => "not-applicable",
        }
    }
}

/// One line of the verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Stable, e.g. `profiling:cart`.
    pub id: String,
    pub title: String,
    pub status: Status,
    /// Whether the verdict follows from it directly. Others enter a score, which is a check of its own.
    pub decides: bool,
    pub expected: String,
    pub actual: String,
    /// Where it was found, or was looked for.
    pub evidence: Option<String>,
    /// A command or an edit that helps; none where nothing is to be done.
    pub remedy: Option<String>,
}

impl Check {
    pub fn new(id: impl Into<String>, title: impl Into<String>) -> Check {
        Check {
            id: id.into(),
            title: title.into(),
            status: Status::Pass,
            decides: true,
            expected: String::new(),
            actual: String::new(),
            evidence: None,
            remedy: None,
        }
    }

    /// Its status enters a score.
    pub fn of_score(mut self) -> Check {
        self.decides = false;
        self
    }

    pub fn expected(mut self, text: impl Into<String>) -> Check {
        self.expected = text.into();
        self
    }

    pub fn evidence(mut self, path: impl Into<String>) -> Check {
        self.evidence = Some(path.into());
        self
    }

    pub fn pass(self, actual: impl Into<String>) -> Check {
        self.found(Status::Pass, actual)
    }

    pub fn fail(self, actual: impl Into<String>, remedy: impl Into<String>) -> Check {
        self.found(Status::Fail, actual).remedy(remedy)
    }

    pub fn found(mut self, status: Status, actual: impl Into<String>) -> Check {
        self.status = status;
        self.actual = actual.into();
        self
    }

    pub fn remedy(mut self, remedy: impl Into<String>) -> Check {
        self.remedy = Some(remedy.into());
        self
    }
}

/// `97.5 %`, never rounded up to a bound that was missed.
pub(super) fn percent(share: f64) -> String {
    let tenths = (share * 1000.0 + 1e-9).floor() / 10.0;
    if tenths.fract() == 0.0 {
        return format!("{tenths:.0} %");
    }
    format!("{tenths:.1} %")
}

/// `+12.3 %`
pub(super) fn signed_percent(change: f64) -> String {
    format!("{:+.1} %", change * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_below_a_bound_never_looks_like_the_bound() {
        assert_eq!(percent(0.8999), "89.9 %");
        assert_eq!(percent(0.9), "90 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.29), "29 %");
        assert_eq!(signed_percent(-0.2), "-20.0 %");
    }
}
