//! Labels of a batch as Prometheus, Pyroscope and Parca have them.
//!
//! In: names and values of anybody's choice. Out: pairs in order of their names, each name once and of the allowed form
//! `[a-zA-Z_][a-zA-Z0-9_]*`. Values are kept, but for their length.

use std::collections::BTreeMap;

/// The usual name of CPU profiles in both.
pub(super) const PROFILE_NAME: &str = "process_cpu";
/// Pyroscope allows 1024 and 2048 bytes.
const MAX_NAME_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 1024;

/// `own` as it is, and at most `limit` of `others` besides, those with the names that the agent itself gives first. Of two
/// names that become the same, the first in order counts; empty values are no labels.
pub(super) fn prometheus(
    own: &BTreeMap<&str, &str>,
    others: &BTreeMap<String, String>,
    limit: usize,
) -> Vec<(String, String)> {
    let mut labels: BTreeMap<String, String> = own
        .iter()
        .map(|(name, value)| ((*name).to_owned(), cut(value, MAX_VALUE_BYTES).to_owned()))
        .collect();
    let mut others: Vec<(&String, &String)> = others.iter().collect();
    others.sort_by_key(|(name, _)| !KNOWN.contains(&name.as_str()));
    for (name, value) in others {
        let name = valid_name(name);
        let full = labels.len() >= own.len() + limit;
        if !full && !value.is_empty() && !name.is_empty() {
            labels
                .entry(name)
                .or_insert_with(|| cut(value, MAX_VALUE_BYTES).to_owned());
        }
    }
    labels.into_iter().collect()
}

/// Names that the agent gives.
const KNOWN: [&str; 8] = [
    "namespace",
    "pod",
    "container",
    "node",
    "pod_uid",
    "container_id",
    "image",
    "host",
];

/// Names that begin with `__` mean something to the backends, so none of ours does.
fn valid_name(name: &str) -> String {
    let name: String = cut(name, MAX_NAME_BYTES)
        .chars()
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c,
            false => '_',
        })
        .collect();
    let name = match name.starts_with("__") {
        true => name.trim_start_matches('_'),
        false => &name,
    };
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{name}"),
        false => name.to_owned(),
    }
}

/// The longest beginning of whole characters within so many bytes.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(others: &[(&str, &str)], limit: usize) -> Vec<(String, String)> {
        let others = others.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let own = BTreeMap::from([("__name__", "process_cpu"), ("service_name", "shop")]);
        prometheus(&own, &others.collect(), limit)
    }

    #[test]
    fn names_are_made_valid_and_nothing_replaces_our_own() {
        let labels = made(
            &[
                ("app.kubernetes.io/name", "a\"b\n\u{202e}"),
                ("__name__", "evil"),
                ("service.name", "evil"),
                ("0day", "x"),
                ("___", "x"),
                ("é", "x"),
                ("empty", ""),
            ],
            9,
        );
        let names: Vec<&str> = labels.iter().map(|(name, _)| &**name).collect();
        let expected = [
            "_",
            "_0day",
            "__name__",
            "app_kubernetes_io_name",
            "name__",
            "service_name",
        ];
        assert_eq!(names, expected);
        assert_eq!(labels[2].1, "process_cpu");
        assert_eq!(labels[3].1, "a\"b\n\u{202e}");
        assert_eq!(labels[5].1, "shop");
    }

    #[test]
    fn what_the_agent_knows_goes_before_what_users_add() {
        let many: Vec<(String, String)> = (0..50).map(|i| (format!("a{i}"), "x".into())).collect();
        let mut many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (&**n, &**v)).collect();
        many.push(("pod", "p"));
        let labels = made(&many, 3);
        assert_eq!(labels.len(), 5);
        assert!(labels.iter().any(|(name, _)| name == "pod"));
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "é".repeat(1000);
        let labels = made(&[("x", &long)], 9);
        assert_eq!(labels[2].1.len(), 1024);
        assert_eq!(cut("aé", 2), "a");
    }
}
