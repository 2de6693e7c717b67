//! How complete a document is: which of its parts say something.
//!
//! In: a document's text. Out: parts asked for, and those that are missing, empty, or still hold a placeholder. For
//! Markdown a part is a section, for JSON a key at the top; anything else is one part, which must not be empty.

use serde_json::Value;

use super::documents::{BadInput, Documents, to_json};

/// Left by people who meant to come back.
const PLACEHOLDERS: [&str; 6] = [
    "TODO",
    "TBD",
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    "LOREM IPSUM",
    "{{",
];

/// Whether a value says nothing.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim().trim_matches(['*', '_', '`']).trim();
    text.chars().all(|c| !c.is_alphanumeric())
        || text.eq_ignore_ascii_case("n/a")
        || has_placeholder(text)
}

/// Whether something is left to be written. Placeholders count as words, so that `methodology` is none.
fn has_placeholder(text: &str) -> bool {
    let upper = text.to_uppercase();
    PLACEHOLDERS.iter().any(|marker| {
        upper.match_indices(marker).any(|(at, _)| {
            let before = upper[..at].chars().next_back();
            let after = upper[at + marker.len()..].chars().next();
            let beside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            !beside(before) && !beside(after) || *marker == "{{"
        })
    })
}

/// What a document has of what it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Completeness {
    pub parts: usize,
    /// One sentence each.
    pub faults: Vec<String>,
}

impl Completeness {
    pub fn share(&self) -> f64 {
        let whole = self.parts.max(1);
        whole.saturating_sub(self.faults.len()) as f64 / whole as f64
    }
}

/// `None` when there is no such document.
pub(super) fn of(
    documents: &Documents,
    name: &str,
    sections: &[String],
) -> Result<Option<Completeness>, BadInput> {
    let path = documents.path(name);
    let lower = name.to_ascii_lowercase();
    if lower.ends_with(".json") {
        let Some(bytes) = documents.text(name)? else {
            return Ok(None);
        };
        return to_json(&path, bytes.as_bytes()).map(|value| Some(of_json(&value, sections)));
    }
    if lower.ends_with(".md") || lower.ends_with(".markdown") || !sections.is_empty() {
        let text = documents.text(name)?;
        return Ok(text.map(|text| of_markdown(&text, sections)));
    }
    let bytes = documents
        .bytes(name)
        .map_err(|error| super::documents::unreadable(&path, &error))?;
    let fault = |bytes: Vec<u8>| match bytes.iter().all(u8::is_ascii_whitespace) {
        true => vec!["it is empty".to_owned()],
        false => Vec::new(),
    };
    Ok(bytes.map(|bytes| Completeness {
        parts: 1,
        faults: fault(bytes),
    }))
}

fn of_json(value: &Value, keys: &[String]) -> Completeness {
    let Value::Object(object) = value else {
        return Completeness {
            parts: 1,
            faults: vec!["it is no object".into()],
        };
    };
    let own: Vec<String> = object.keys().cloned().collect();
    let keys = if keys.is_empty() { &own } else { keys };
    let fault = |key: &String| match object.get(key) {
        None => Some(format!("`{key}` is missing")),
        Some(value) => json_fault(value).map(|fault| format!("`{key}` {fault}")),
    };
    let mut faults: Vec<String> = keys.iter().filter_map(fault).collect();
    if keys.is_empty() {
        faults.push("it is empty".into());
    }
    Completeness {
        parts: keys.len().max(1),
        faults,
    }
}

fn json_fault(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => Some("is null"),
        Value::String(text) if text.trim().is_empty() => Some("is empty"),
        Value::String(text) if has_placeholder(text) => Some("holds a placeholder"),
        Value::Array(items) if items.is_empty() => Some("is empty"),
        Value::Object(items) if items.is_empty() => Some("is empty"),
        // Something within may well be unknown; what is left to be written may not.
        Value::Array(items) => items.iter().find_map(placeholder_within),
        Value::Object(items) => items.values().find_map(placeholder_within),
        _ => None,
    }
}

fn placeholder_within(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(text) if has_placeholder(text) => Some("holds a placeholder"),
        Value::Array(items) => items.iter().find_map(placeholder_within),
        Value::Object(items) => items.values().find_map(placeholder_within),
        _ => None,
    }
}

struct Section {
    level: usize,
    title: String,
    /// With that of its subsections.
    body: String,
}

fn of_markdown(text: &str, wanted: &[String]) -> Completeness {
    let sections = sections(text);
    let wanted_all: Vec<String>;
    let wanted = match wanted.is_empty() {
        false => wanted,
        true => {
            // The title alone has no text of its own in many documents; what is below it has.
            wanted_all = sections.iter().map(|s| s.title.clone()).collect();
            &wanted_all
        }
    };
    if wanted.is_empty() {
        let fault = is_placeholder(text) || has_placeholder(text);
        return Completeness {
            parts: 1,
            faults: fault
                .then(|| "it has no sections and no text".into())
                .into_iter()
                .collect(),
        };
    }
    let fault = |title: &String| {
        let found = sections.iter().find(|s| same_title(&s.title, title));
        match found {
            None => Some(format!("section `{title}` is missing")),
            Some(s) if has_placeholder(&s.body) => {
                Some(format!("section `{title}` holds a placeholder"))
            }
            Some(s) if is_placeholder(&s.body) => Some(format!("section `{title}` is empty")),
            Some(_) => None,
        }
    };
    Completeness {
        parts: wanted.len(),
        faults: wanted.iter().filter_map(fault).collect(),
    }
}

/// `## 3. Results` is the section `results`.
fn same_title(found: &str, wanted: &str) -> bool {
    let plain = |title: &str| {
        let title = title.replace(['*', '`', '_'], "").to_lowercase();
        let title = title.trim_start_matches(|c: char| c.is_ascii_digit() || ".) ".contains(c));
        title.trim_end_matches([':', '#', ' ']).trim().to_owned()
    };
    plain(found) == plain(wanted)
}

/// The headings of a document with what is below them; what stands in fenced code is no heading.
fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let marker = ["```", "~~~"].into_iter().find(|m| trimmed.starts_with(m));
        match (fence, marker) {
            (None, Some(marker)) => fence = Some(marker),
            (Some(open), Some(marker)) if open == marker => fence = None,
            _ => {}
        }
        let heading = if fence.is_none() && marker.is_none() {
            heading(line)
        } else {
            None
        };
        if let Some((level, title)) = heading {
            sections.push(Section {
                level,
                title: title.to_owned(),
                body: String::new(),
            });
            continue;
        }
        // A line belongs to the sections it is nested in.
        let mut above = usize::MAX;
        for section in sections.iter_mut().rev() {
            if section.level < above {
                section.body.push_str(line);
                section.body.push('\n');
                above = section.level;
            }
            if above == 1 {
                break;
            }
        }
    }
    sections
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let rest = line.trim_start();
    let level = rest.len() - rest.trim_start_matches('#').len();
    let title = &rest[level..];
    let is_heading = indent < 4
        && (1..=6).contains(&level)
        && (title.is_empty() || title.starts_with([' ', '\t']));
    is_heading.then(|| (level, title.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn placeholders_are_words_of_their_own() {
        for text in [
            "TODO",
            "tbd",
            "owner: TBD.",
            "-",
            "",
            "…",
            "n/a",
            "{{name}}",
            "a todo b",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in ["methodology", "todos los", "standby", "0", "Mastodon"] {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn sections_count_with_what_is_below_them() {
        let text = "# Report\n\n## 1. Summary\n\nFaster.\n\n## Results\n\n### Latency\n\n-20 %\n\n## Risks\n\nTBD\n\n## Next\n\n```\n# no heading\n```\n";
        let all = of_markdown(text, &[]);
        assert_eq!(all.parts, 6);
        let of = |wanted: &[&str]| of_markdown(text, &names(wanted));
        assert!(of(&["summary", "Results", "next"]).faults.is_empty());
        assert_eq!(
            of(&["Risks"]).faults,
            ["section `Risks` holds a placeholder"]
        );
        assert_eq!(of(&["Cost", "Summary"]).share(), 0.5);
        let empty = of_markdown("# A\n\n## B\n\n## C\n\ntext\n", &names(&["B"]));
        assert_eq!(empty.faults, ["section `B` is empty"]);
        assert_eq!(of_markdown("", &[]).share(), 0.0);
        assert_eq!(of_markdown("plain text", &[]).share(), 1.0);
    }

    #[test]
    fn keys_of_a_document_say_something() {
        let value = json!({"a": 1, "b": "", "c": [], "d": {"e": "TODO"}, "f": null, "g": false});
        let of = of_json(&value, &[]);
        assert_eq!((of.parts, of.faults.len()), (6, 4));
        assert_eq!(
            of_json(&value, &names(&["a", "z"])).faults,
            ["`z` is missing"]
        );
        assert_eq!(of_json(&json!({}), &[]).share(), 0.0);
        assert_eq!(of_json(&json!([1]), &[]).share(), 0.0);
    }
}
