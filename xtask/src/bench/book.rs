//! The figures of all rounds, and the table at the end that holds them against peers and targets.

use std::collections::BTreeMap;

use super::spread::{Spread, brief_number};

/// (figure, whose) -> one value per round; not a number where a round gave none.
#[derive(Debug, Default)]
pub(super) struct Book {
    series: BTreeMap<(String, String), Vec<f64>>,
    rows: Vec<Row>,
    /// What was not measured, and why.
    gaps: Vec<String>,
}

#[derive(Debug)]
struct Row {
    figure: String,
    ours: String,
    peer: String,
    theirs: String,
    ratio: String,
    target: String,
    met: String,
}

/// What the figure must not exceed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// So many times the peer's.
    Times(f64),
    AtLeast(f64),
    AtMost(f64),
    /// Printed only.
    None,
}

impl Book {
    pub(super) fn note(&mut self, figure: &str, whose: &str, value: f64) {
        let key = (figure.to_string(), whose.to_string());
        self.series.entry(key).or_default().push(value);
    }

    /// One round's figure, or the gap that it leaves.
    pub(super) fn note_or_gap(&mut self, figure: &str, whose: &str, value: anyhow::Result<f64>) {
        let value = value.unwrap_or_else(|error| {
            self.gap(format!("{figure}, {whose}: {error:#}"));
            f64::NAN
        });
        self.note(figure, whose, value);
    }

    /// Said once.
    pub(super) fn gap(&mut self, what: String) {
        if !self.gaps.contains(&what) {
            println!("  not measured: {what}");
            self.gaps.push(what);
        }
    }

    pub(super) fn series(&self, figure: &str, whose: &str) -> &[f64] {
        let key = (figure.to_string(), whose.to_string());
        self.series.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Prints a figure of all who have it.
    pub(super) fn print(&self, figure: &str) {
        println!("{figure}");
        for ((_, whose), values) in self.series.iter().filter(|(key, _)| key.0 == figure) {
            println!("  {whose:26} {}", Spread::of(values));
        }
    }

    /// A row of the last table: perfprof's figure beside a peer's of the same name.
    pub(super) fn row(&mut self, figure: &str, peer: &str, target: Target) {
        let ours = self.series(figure, "perfprof").to_vec();
        let theirs = self.series(figure, peer).to_vec();
        self.row_of(figure, &ours, peer, &theirs, target);
    }

    /// A row without a peer.
    pub(super) fn row_alone(&mut self, figure: &str, ours: &[f64], target: Target) {
        self.row_of(figure, ours, "–", &[], target);
    }

    pub(super) fn row_of(
        &mut self,
        figure: &str,
        ours: &[f64],
        peer: &str,
        theirs: &[f64],
        target: Target,
    ) {
        let ratio = Spread::of_ratios(ours, theirs);
        let median = Spread::of(ours).median;
        let (words, met) = match target {
            Target::Times(most) if is_noise(ours) || is_noise(theirs) => {
                (format!("≤ {most}x"), "lost in noise")
            }
            Target::Times(most) => (format!("≤ {most}x"), verdict(ratio.median, |x| x <= most)),
            Target::AtLeast(least) => (
                format!("≥ {}", brief_number(least)),
                verdict(median, |x| x >= least),
            ),
            Target::AtMost(most) => (
                format!("≤ {}", brief_number(most)),
                verdict(median, |x| x <= most),
            ),
            Target::None => ("–".into(), "–"),
        };
        self.rows.push(Row {
            figure: figure.into(),
            ours: Spread::of(ours).brief(),
            peer: peer.into(),
            theirs: Spread::of(theirs).brief(),
            ratio: ratio.brief(),
            target: words,
            met: met.into(),
        });
    }

    /// A row whose peer's figure was measured by somebody, some day, and not in this run.
    pub(super) fn row_of_old(&mut self, figure: &str, peer: &str, theirs: &str, target: &str) {
        let ours = Spread::of(self.series(figure, "perfprof")).brief();
        self.rows.push(Row {
            figure: figure.into(),
            ours,
            peer: peer.into(),
            theirs: format!("{theirs} (measured earlier, not in this run)"),
            ratio: "–".into(),
            target: target.into(),
            met: "not measured".into(),
        });
    }

    pub(super) fn print_table(&self) {
        let head = [
            "figure", "perfprof", "peer", "peer's", "ratio", "target", "met",
        ];
        let mut lines: Vec<[&str; 7]> = vec![head];
        lines.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<usize> = (0..7).map(|column| width(column).unwrap_or(0)).collect();
        for line in &lines {
            let cells = line.iter().zip(&widths);
            let text: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            println!("{}", text.join("  ").trim_end());
        }
        println!();
        self.gaps
            .iter()
            .for_each(|gap| println!("not measured: {gap}"));
    }
}

impl Row {
    fn cells(&self) -> [&str; 7] {
        [
            &self.figure,
            &self.ours,
            &self.peer,
            &self.theirs,
            &self.ratio,
            &self.target,
            &self.met,
        ]
    }
}

/// A cost is a difference of two measurements; where one of a series comes out as nothing or less, the noise is as large.
fn is_noise(costs: &[f64]) -> bool {
    costs.iter().any(|cost| *cost <= 0.0)
}

/// A figure that is no number was not measured, and meets nothing.
fn verdict(figure: f64, is_met: impl Fn(f64) -> bool) -> &'static str {
    match figure.is_finite() {
        false => "not measured",
        true if is_met(figure) => "met",
        true => "NOT MET",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_meets_nothing() {
        let mut book = Book::default();
        book.note("ns", "perfprof", 1.0);
        book.note("ns", "peer", 2.0);
        book.row("ns", "peer", Target::Times(0.6));
        book.row("ns", "peer", Target::Times(0.4));
        book.row("ns", "absent", Target::Times(0.6));
        book.row("nothing", "peer", Target::AtLeast(0.0));
        book.note("difference", "perfprof", -1.0);
        book.note("difference", "peer", 2.0);
        book.row("difference", "peer", Target::Times(1.0));
        book.row_alone("alarms", &[0.0], Target::AtMost(0.05));
        book.row_alone("alarms", &[0.06], Target::AtMost(0.05));
        let met: Vec<&str> = book.rows.iter().map(|row| row.met.as_str()).collect();
        let expected = [
            "met",
            "NOT MET",
            "not measured",
            "not measured",
            "lost in noise",
            "met",
            "NOT MET",
        ];
        assert_eq!(met, expected);
    }
}
