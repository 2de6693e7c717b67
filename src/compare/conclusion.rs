//! From the verdicts of paths to one for the whole, in a sentence: what moved is decided by its callers, what is doubtful
//! is not concluded, and what explains others stands first.

use std::collections::{HashMap, HashSet};

use super::comparison::{Comparison, Figure, Path};
use super::decide::Verdict;

/// Where more than this share of the profile is in functions too small to be tested, shares show no equality.
const MOSTLY_UNTESTED: f64 = 0.5;

impl Comparison {
    /// Code that only moved has the verdict of the caller whose sum decides.
    pub(super) fn settle_shifts(&mut self) {
        let decided: HashMap<String, (Verdict, Option<String>)> = self
            .paths
            .iter()
            .map(|path| {
                let caller = path.shift.as_ref().map(|shift| shift.caller().to_owned());
                (path.name.clone(), (path.verdict, caller))
            })
            .collect();
        for path in &mut self.paths {
            let Some(shift) = &path.shift else { continue };
            let caller = shift.caller().to_owned();
            // Only a change of the caller's sum is one; of a caller that was not tested nothing is known.
            path.verdict = deciding(&decided, &caller).unwrap_or(Verdict::Inconclusive);
            path.explained_by = path.verdict.is_change().then_some(caller);
        }
        self.break_circles();
    }

    /// A caller is not explained by code whose verdict is the caller's.
    fn break_circles(&mut self) {
        let moved: HashSet<String> = self
            .paths
            .iter()
            .filter(|path| path.shift.is_some())
            .map(|path| path.name.clone())
            .collect();
        for path in self.paths.iter_mut().filter(|path| path.shift.is_none()) {
            path.explained_by.take_if(|callee| moved.contains(callee));
        }
    }

    /// Both sides are the same recordings, with the same work: equal beyond doubt.
    pub(super) fn all_unchanged(&mut self) {
        let open = |figure: &Figure, verdict: Verdict| match figure.before == figure.after {
            true => Verdict::Unchanged,
            false => verdict,
        };
        if let Some((figure, verdict)) = &mut self.total {
            *verdict = open(figure, *verdict);
        }
        for path in &mut self.paths {
            path.verdict = open(&path.figure, path.verdict);
        }
        self.warnings
            .push("both sides are the same recordings".to_owned());
    }

    pub(super) fn conclude(&mut self) {
        if let Some(check) = self.self_check.as_ref().filter(|check| !check.passed()) {
            self.doubts.push(format!(
                "the before side is told from itself in {} of {} comparisons ({:.0} %): on this machine, with this service, false \
                 alarms are more frequent than 5 %",
                check.false_alarms,
                check.comparisons,
                check.rate() * 100.0
            ));
        }
        let (verdict, reason) = self.overall();
        let doubted = !self.doubts.is_empty();
        self.reason = match (doubted, verdict) {
            (false, _) => reason,
            (true, _) => format!("{}. What was seen nevertheless: {reason}", self.doubts[0]),
        };
        self.verdict = match doubted {
            true => Verdict::Inconclusive,
            false => verdict,
        };
    }

    /// The verdict, were there no doubts.
    fn overall(&self) -> (Verdict, String) {
        let told = |verdict: Verdict| {
            let whole = self
                .total
                .iter()
                .filter(|(_, v)| *v == verdict)
                .map(|_| "the whole".to_owned());
            let paths = self
                .paths
                .iter()
                .filter(|path| path.verdict == verdict && path.explained_by.is_none());
            whole
                .chain(paths.map(|path| quoted(&path.name)))
                .collect::<Vec<String>>()
        };
        let (regressed, improved) = (told(Verdict::Regressed), told(Verdict::Improved));
        if !regressed.is_empty() {
            let besides = match improved.is_empty() {
                true => String::new(),
                false => format!("; improved: {}", listed(&improved)),
            };
            return (
                Verdict::Regressed,
                format!("regressed: {}{besides}", listed(&regressed)),
            );
        }
        if !improved.is_empty() {
            return (
                Verdict::Improved,
                format!("improved: {}; nothing regressed", listed(&improved)),
            );
        }
        if let Some(why) = self.too_little_tested() {
            return (Verdict::Inconclusive, why);
        }
        let open: Vec<String> = self.open_questions();
        match open.is_empty() {
            true => (
                Verdict::Unchanged,
                match self.total.is_some() {
                    true => format!(
                        "all that matters is equal within {:.0} %",
                        self.options.tolerance * 100.0
                    ),
                    false => format!(
                        "all shares that matter are equal within {:.0} %; whether the whole costs what it did, shares cannot say",
                        self.options.tolerance * 100.0
                    ),
                },
            ),
            false => (
                Verdict::Inconclusive,
                format!(
                    "nothing is told as changed, but not enough was recorded to show {} unchanged",
                    listed(&open)
                ),
            ),
        }
    }

    /// Why "nothing changed" would say nothing.
    fn too_little_tested(&self) -> Option<String> {
        let untested = self.untested.self_share;
        let mostly = self.total.is_none() && untested[0].max(untested[1]) > MOSTLY_UNTESTED;
        (self.paths.is_empty() || mostly).then(|| {
            format!(
                "too few samples, or too many small functions: {} paths could be tested, {} functions could not",
                self.paths.len(),
                self.untested.functions
            )
        })
    }

    /// What would have to be shown unchanged, and was not.
    fn open_questions(&self) -> Vec<String> {
        let is_open = |verdict: Verdict| verdict == Verdict::Inconclusive;
        let whole = self
            .total
            .iter()
            .filter(|(_, v)| is_open(*v))
            .map(|_| "the whole".to_owned());
        let hot = self.paths.iter().filter(|path| {
            let share = path.figures.share.before.max(path.figures.share.after);
            share >= self.options.hot_share && is_open(path.verdict)
        });
        whole.chain(hot.map(|path| quoted(&path.name))).collect()
    }

    /// Changes first, those that explain others before those explained; then by size.
    pub(super) fn sort(&mut self) {
        let size = |path: &Path| (path.figure.after - path.figure.before).abs();
        let weight = |path: &Path| path.figure.before.max(path.figure.after);
        self.paths.sort_by(|a, b| {
            let rank = |path: &Path| (!path.verdict.is_change(), path.explained_by.is_some());
            rank(a)
                .cmp(&rank(b))
                .then_with(|| match a.verdict.is_change() {
                    true => size(b).total_cmp(&size(a)),
                    false => weight(b).total_cmp(&weight(a)),
                })
        });
    }
}

/// The verdict of the nearest caller that did not move itself.
fn deciding(decided: &HashMap<String, (Verdict, Option<String>)>, caller: &str) -> Option<Verdict> {
    let mut at = caller;
    for _ in 0..=decided.len() {
        match decided.get(at)? {
            (verdict, None) => return Some(*verdict),
            (_, Some(above)) => at = above,
        }
    }
    None
}

/// A name in a sentence, between backticks that nothing in it ends.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "'"))
}

/// Names for a sentence: the first three.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0..=3 => shown,
        more => format!("{shown} and {} more", more - 3),
    }
}
