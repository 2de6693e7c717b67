//! `hypothesis-log.md`: what is thought to be slow, who looks after it, and what it risks.
//!
//! In: Markdown, as people write it: a table with a column each, or a heading or list item per hypothesis with
//! `owner: …` and `risk: …`. Out: the hypotheses, with what each lacks.

use super::completeness::is_placeholder;

/// Longer logs are no logs.
const MAX_HYPOTHESES: usize = 10_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hypothesis {
    pub id: String,
    pub owner: String,
    pub risk: String,
}

impl Hypothesis {
    /// What is not filled in.
    pub fn lacks(&self) -> Vec<&'static str> {
        [
            ("id", &self.id),
            ("owner", &self.owner),
            ("risk", &self.risk),
        ]
        .into_iter()
        .filter_map(|(name, value)| is_placeholder(value).then_some(name))
        .collect()
    }
}

/// All hypotheses, complete or not, each id once.
pub(super) fn read(text: &str) -> Vec<Hypothesis> {
    let mut found: Vec<Hypothesis> = Vec::new();
    let mut columns: Option<Columns> = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('|') {
            let cells = cells(line);
            match (&columns, Columns::of(&cells)) {
                (_, Some(header)) => columns = Some(header),
                (Some(columns), None) => found.extend(columns.row(&cells)),
                (None, None) => {}
            }
        } else {
            columns = None;
            read_line(line, &mut found);
        }
        if found.len() >= MAX_HYPOTHESES {
            break;
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|one| seen.insert(one.id.to_lowercase()) || one.id.is_empty());
    found
}

/// A line outside of tables: the beginning of a hypothesis, or a field of the last one.
fn read_line(line: &str, found: &mut Vec<Hypothesis>) {
    let plain = line.replace(['*', '`', '_'], "");
    let plain = plain.trim_start_matches(['#', '-', '+', '>', ' ', '\t']);
    let id = field(plain, "id").or_else(|| leading_id(plain));
    if let Some(id) = id {
        found.push(Hypothesis {
            id,
            ..Hypothesis::default()
        });
    }
    let Some(last) = found.last_mut() else { return };
    if let Some(owner) = field(plain, "owner") {
        last.owner = owner;
    }
    if let Some(risk) = field(plain, "risk rating").or_else(|| field(plain, "risk")) {
        last.risk = risk;
    }
}

/// What follows `key:` up to the next separator. The key is a word of its own.
fn field(line: &str, key: &str) -> Option<String> {
    let lower = line.to_ascii_lowercase();
    let at = lower.match_indices(key).find_map(|(at, _)| {
        let before = lower[..at].chars().next_back();
        let rest = lower[at + key.len()..].trim_start();
        let is_word = !before.is_some_and(char::is_alphanumeric);
        (is_word && rest.starts_with(':')).then(|| line.len() - rest.len() + 1)
    })?;
    let value = line[at..].split([',', ';', '|', ')', '(']).next()?;
    Some(value.trim().to_owned())
}

/// `H1`, `HYP-03` at the beginning of a heading or item.
fn leading_id(line: &str) -> Option<String> {
    let word = line.split([' ', ':', '.', ')', '–', '—']).next()?;
    let digits = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let letters = word.len() - digits.len();
    let digits = digits.trim_start_matches('-');
    let is_id = (1..=12).contains(&letters)
        && !digits.is_empty()
        && digits.chars().all(|c| c.is_ascii_digit())
        && word.starts_with(['H', 'h']);
    is_id.then(|| word.to_owned())
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim_start_matches('|').trim_end_matches('|');
    let clean = |cell: &str| cell.replace(['*', '`'], "").trim().to_owned();
    inner.split('|').map(clean).collect()
}

/// Where a table has what.
struct Columns {
    id: usize,
    owner: usize,
    risk: usize,
}

impl Columns {
    fn of(header: &[String]) -> Option<Columns> {
        let find = |names: &[&str]| {
            header.iter().position(|cell| {
                let cell = cell.to_ascii_lowercase();
                names
                    .iter()
                    .any(|name| cell == *name || cell.starts_with(&format!("{name} ")))
            })
        };
        Some(Columns {
            id: find(&["id", "#", "hypothesis id"])?,
            owner: find(&["owner"])?,
            risk: find(&["risk"])?,
        })
    }

    fn row(&self, cells: &[String]) -> Option<Hypothesis> {
        let is_rule = cells
            .iter()
            .all(|cell| cell.chars().all(|c| "-: ".contains(c)));
        let cell = |at: usize| cells.get(at).cloned().unwrap_or_default();
        (!is_rule).then(|| Hypothesis {
            id: cell(self.id),
            owner: cell(self.owner),
            risk: cell(self.risk),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Vec<String> {
        let all = read(text).into_iter().filter(|h| h.lacks().is_empty());
        all.map(|h| h.id).collect()
    }

    #[test]
    fn tables_lists_and_headings_are_understood() {
        let table = "# Log\n\n| ID | Hypothesis | Owner | Risk rating |\n|:--|---|---|---|\n\
                     | H1 | cache misses | ann | high |\n| H2 | locks | - | low |\n| H3 | GC | bob | TBD |\n";
        assert_eq!(whole(table), ["H1"]);
        assert_eq!(read(table)[1].lacks(), ["owner"]);
        let items =
            "- **H1** (owner: ann, risk: high): cache misses\n- H2: locks; Owner: bob; Risk: low\n";
        assert_eq!(whole(items), ["H1", "H2"]);
        let headings = "## H-01 Cache\n\nText.\n\n- Owner: ann\n- **Risk:** medium\n\n## H-02: Locks\nowner: bob\nrisk:\n";
        assert_eq!(whole(headings), ["H-01"]);
        let keys =
            "- ID: cache\n  Owner: ann\n  Risk: high\n- ID: locks\n  Owner: bob\n  Risk: low\n";
        assert_eq!(whole(keys), ["cache", "locks"]);
    }

    #[test]
    fn an_id_counts_once_and_prose_is_no_hypothesis() {
        assert_eq!(
            whole("- H1 owner: a, risk: b\n- h1 owner: a, risk: b\n").len(),
            1
        );
        assert!(
            read("The valid: owner: nobody\n# HTTP server\n- However: it is slow\n| a | b |\n")
                .is_empty()
        );
        assert!(
            read("é: id é: ñ owner：x\n|").len() <= 1,
            "no panic within letters"
        );
    }
}
