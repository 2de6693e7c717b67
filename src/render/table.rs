//! Markdown tables whose columns also align as plain text.
//!
//! In: cells that are already escaped. Out: a GFM table. It does not cut: that is [`super::fit`]'s business.

/// Side on which a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

#[derive(Debug)]
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[(&str, Align)]) -> Table {
        Table {
            align: head.iter().map(|(_, align)| *align).collect(),
            rows: vec![head.iter().map(|(name, _)| (*name).to_owned()).collect()],
        }
    }

    /// Adds a row; it has one cell per column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.align.len(), "one cell per column");
        self.rows.push(cells.into());
    }

    /// Whether it has no rows but its head.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The table, every line ended.
    pub(crate) fn to_markdown(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        let mut out = String::new();
        for (i, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).zip(&self.align);
            let cells: Vec<String> = cells
                .map(|((cell, width), align)| padded(cell, *width, *align))
                .collect();
            out.push_str(&format!("| {} |\n", cells.join(" | ")));
            if i == 0 {
                out.push_str(&format!("|{}|\n", self.rule(&widths).join("|")));
            }
        }
        out
    }

    fn rule(&self, widths: &[usize]) -> Vec<String> {
        let columns = widths.iter().zip(&self.align);
        columns
            .map(|(width, align)| match align {
                Align::Left => "-".repeat(width + 2),
                Align::Right => format!("{}:", "-".repeat(width + 1)),
            })
            .collect()
    }
}

/// By hand: `format!` panics at a width above 65,535.
fn padded(cell: &str, width: usize, align: Align) -> String {
    let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
    match align {
        Align::Left => format!("{cell}{pad}"),
        Align::Right => format!("{pad}{cell}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_any_width_is_written() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(["x".repeat(100_000), "1".into()]);
        table.row(["y".into(), "2".repeat(70_000)]);
        let lines = table.to_markdown();
        assert!(
            lines.lines().all(|line| line.len() == 170_007),
            "columns align"
        );
    }

    #[test]
    fn columns_align_as_text() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        assert!(table.is_empty());
        table.row(["`é`".into(), "1,000".into()]);
        let expected = "| name |     n |\n|------|------:|\n| `é`  | 1,000 |\n";
        assert_eq!(table.to_markdown(), expected);
    }
}
