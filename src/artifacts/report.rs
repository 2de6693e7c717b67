//! `profiling-report.md` with a section per service between markers, and an overview on top.
//!
//! A section runs from `<!-- perfprof:service:begin SLUG -->` to `<!-- perfprof:service:end SLUG -->`, each on a line of
//! its own. Text that people wrote between sections stays where it is.

use std::collections::BTreeSet;

const OVERVIEW_BEGIN: &str = "<!-- perfprof:overview:begin -->";
const OVERVIEW_END: &str = "<!-- perfprof:overview:end -->";
const MARKER: &str = "<!-- perfprof:";

/// A piece of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Regenerated each time.
    Overview,
    Service {
        slug: String,
        body: String,
    },
    /// Not ours.
    Text(String),
}

/// The parts of an existing report; `None` when its markers do not fit together.
pub(super) fn parse(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut seen = BTreeSet::new();
    let mut lines = text.lines();
    let mut loose = String::new();
    while let Some(line) = lines.next() {
        if !line.starts_with(MARKER) {
            loose.push_str(line);
            loose.push('\n');
            continue;
        }
        if !loose.trim().is_empty() {
            parts.push(Part::Text(loose.trim().to_owned()));
        }
        loose.clear();
        if line == OVERVIEW_BEGIN {
            until(&mut lines, OVERVIEW_END)?;
            parts.push(Part::Overview);
            continue;
        }
        let slug = line
            .strip_prefix("<!-- perfprof:service:begin ")?
            .strip_suffix(" -->")?;
        let body = until(&mut lines, &end_marker(slug))?;
        if !seen.insert(slug) {
            return None;
        }
        parts.push(Part::Service {
            slug: slug.to_owned(),
            body,
        });
    }
    if !loose.trim().is_empty() {
        parts.push(Part::Text(loose.trim().to_owned()));
    }
    // Exactly one overview: else the file is not ours, or was torn.
    let overviews = parts.iter().filter(|part| **part == Part::Overview).count();
    (overviews == 1).then_some(parts)
}

/// The section of a service in the report's text; the slug is its name's. `None` when it has none, or the report is torn.
pub fn section(text: &str, service_slug: &str) -> Option<String> {
    parse(text)?.into_iter().find_map(|part| match part {
        Part::Service { slug, body } if slug == service_slug => Some(body),
        _ => None,
    })
}

/// The lines before the one that is `end`; `None` when it does not come, or another marker comes first.
fn until<'a>(lines: &mut impl Iterator<Item = &'a str>, end: &str) -> Option<String> {
    let mut body = String::new();
    for line in lines {
        if line == end {
            return Some(body.trim().to_owned());
        }
        if line.starts_with(MARKER) {
            return None;
        }
        body.push_str(line);
        body.push('\n');
    }
    None
}

/// Replaces the section of `slug`, or adds it at the end.
pub(super) fn upsert(parts: &mut Vec<Part>, slug: &str, section: &str) {
    let new = Part::Service {
        slug: slug.to_owned(),
        body: defuse(section.trim()),
    };
    let old = parts
        .iter_mut()
        .find(|part| matches!(part, Part::Service { slug: s, .. } if s == slug));
    match old {
        Some(part) => *part = new,
        None => parts.push(new),
    }
}

/// No line of a section's text may pass for a marker. Sections escape what comes from outside; this is the second lock.
fn defuse(section: &str) -> String {
    let lines = section.lines().map(|line| match line.starts_with(MARKER) {
        true => format!("\\{line}"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The report as written, with `overview` in the place of the old one.
pub(super) fn to_text(parts: &[Part], overview: &str) -> String {
    let parts: Vec<String> = parts
        .iter()
        .map(|part| match part {
            Part::Overview => format!("{OVERVIEW_BEGIN}\n{}\n{OVERVIEW_END}", overview.trim()),
            Part::Text(text) => text.clone(),
            Part::Service { slug, body } => format!(
                "<!-- perfprof:service:begin {slug} -->\n<a id=\"{slug}\"></a>\n\n{}\n\n{}",
                body.strip_prefix(&format!("<a id=\"{slug}\"></a>"))
                    .unwrap_or(body)
                    .trim(),
                end_marker(slug)
            ),
        })
        .collect();
    format!("{}\n", parts.join("\n\n"))
}

/// Slugs of the sections, in order.
pub(super) fn slugs(parts: &[Part]) -> impl Iterator<Item = &str> {
    parts.iter().filter_map(|part| match part {
        Part::Service { slug, .. } => Some(slug.as_str()),
        _ => None,
    })
}

fn end_marker(slug: &str) -> String {
    format!("<!-- perfprof:service:end {slug} -->")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_replaced_or_added_and_notes_stay() {
        let mut parts = vec![Part::Overview];
        upsert(&mut parts, "a", "## a\n\nold");
        upsert(&mut parts, "b", "## b");
        let text = to_text(&parts, "# overview").replace(
            "<!-- perfprof:service:begin b",
            "my note\n\n<!-- perfprof:service:begin b",
        );
        let mut parts = parse(&text).expect("our own text");
        upsert(&mut parts, "a", "## a\n\nnew");
        let text = to_text(&parts, "# overview 2");
        assert!(text.contains("my note") && text.contains("new") && text.contains("## b"));
        assert!(text.contains("overview 2") && !text.contains("old"));
        assert_eq!(text.matches("<a id=\"a\"></a>").count(), 1);
        // Writing and reading again changes nothing.
        assert_eq!(to_text(&parse(&text).expect("ours"), "# overview 2"), text);
        assert_eq!(slugs(&parts).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_section_cannot_forge_markers() {
        let mut parts = vec![Part::Overview];
        upsert(
            &mut parts,
            "a",
            "## a\n<!-- perfprof:service:end a -->\n<!-- perfprof:service:begin b -->",
        );
        let parts = parse(&to_text(&parts, "")).expect("still one section");
        assert_eq!(slugs(&parts).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn torn_reports_are_not_read() {
        let whole = to_text(
            &[
                Part::Overview,
                Part::Service {
                    slug: "a".into(),
                    body: "x".into(),
                },
            ],
            "o",
        );
        for line in whole.lines().filter(|line| line.starts_with(MARKER)) {
            let torn = whole.replacen(line, "", 1);
            assert_eq!(parse(&torn), None, "without {line}");
        }
        assert_eq!(parse("# somebody's own report\n"), None);
        assert_eq!(parse(&format!("{whole}{whole}")), None);
        assert!(parse(&whole).is_some());
    }
}
