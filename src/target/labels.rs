//! Labels of a profile: which service, pod and machine it is of, as Prometheus and profile stores take them.
//!
//! In: names and values from anywhere, also from others' pods. Out: [`Labels`], in order, valid and bounded; and a name
//! for people. Where they come from: [`super::kubernetes`].

use std::collections::BTreeMap;

use super::container;

/// More labels than a pod with many of its own has.
const MAX_LABELS: usize = 64;
const MAX_NAME_BYTES: usize = 128;
/// Values of Kubernetes labels have 63, names of pods 253.
const MAX_VALUE_BYTES: usize = 256;

/// Names, each with a value that is not empty. Names fit `[a-zA-Z_][a-zA-Z0-9_]*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Sets one label. A character that may not be in a name becomes `_` (`app.kubernetes.io/name` becomes
    /// `app_kubernetes_io_name`), a control character in a value a space; what is too long is cut. An empty name or
    /// value sets nothing, and neither does a new name once there are 64.
    pub fn set(&mut self, name: &str, value: &str) {
        let (name, value) = (clean_name(name), clean_value(value));
        let is_full = self.0.len() >= MAX_LABELS && !self.0.contains_key(&name);
        if !name.is_empty() && !value.is_empty() && !is_full {
            self.0.insert(name, value);
        }
    }

    /// Adds what is not here yet.
    pub fn add_weaker(&mut self, other: &Labels) {
        for (name, value) in other.iter() {
            if !self.0.contains_key(name) {
                self.set(name, value);
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// In order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn clean_name(name: &str) -> String {
    let valid = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    // Names that begin with two underscores are Prometheus' own.
    let cleaned: String = name.chars().take(MAX_NAME_BYTES).map(valid).collect();
    let bare = cleaned.trim_start_matches('_');
    match bare.chars().next() {
        Some(first) if first.is_ascii_digit() => format!("_{bare}"),
        _ => bare.to_owned(),
    }
}

fn clean_value(value: &str) -> String {
    let mut end = value.len().min(MAX_VALUE_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let plain = value[..end].replace(char::is_control, " ");
    plain.trim().to_owned()
}

/// What a service is called: `NAMESPACE/POD/CONTAINER`, as much of it as is known, of a container; a container's ID
/// where it has no name; else the command name.
pub fn service_name(labels: &Labels, comm: &str) -> String {
    let known = ["namespace", "pod", "container"].map(|name| labels.get(name));
    let parts: Vec<&str> = match known {
        [_, None, container] => container.into_iter().collect(),
        all => all.into_iter().flatten().collect(),
    };
    match (parts.is_empty(), labels.get("container_id")) {
        (false, _) => parts.join("/"),
        (true, Some(id)) => container::short(id).to_owned(),
        (true, None) => clean_value(comm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let mut labels = Labels::default();
        for (name, value) in pairs {
            labels.set(name, value);
        }
        labels
    }

    #[test]
    fn names_and_values_are_made_valid() {
        let labels = labels(&[
            ("app.kubernetes.io/name", "api"),
            ("__name__", "x"),
            ("2fa", "yes"),
            ("é", "e"),
            ("", "nothing"),
            ("empty", " \n "),
            ("evil", "a\nb\u{1b}[31m\u{7f}"),
            ("wide", &"é".repeat(200)),
        ]);
        let pairs: Vec<(&str, &str)> = labels.iter().collect();
        let wide = "é".repeat(128);
        let expected = [
            ("_2fa", "yes"),
            ("app_kubernetes_io_name", "api"),
            ("evil", "a b [31m"),
            ("name__", "x"),
            ("wide", wide.as_str()),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn there_are_never_too_many_and_the_stronger_stays() {
        let mut many = labels(&[("namespace", "shop")]);
        for n in 0..200 {
            many.set(&format!("label{n}"), "x");
        }
        assert_eq!(many.len(), MAX_LABELS);
        many.set("namespace", "other");
        assert_eq!(many.get("namespace"), Some("other"));
        let mut strong = labels(&[("pod", "a")]);
        strong.add_weaker(&labels(&[("pod", "b"), ("node", "n")]));
        assert_eq!(strong, labels(&[("node", "n"), ("pod", "a")]));
    }

    #[test]
    fn a_service_is_called_by_what_is_known() {
        let pod = [("namespace", "shop"), ("pod", "api-1")];
        assert_eq!(service_name(&labels(&pod), "java"), "shop/api-1");
        let container = [
            pod[0],
            pod[1],
            ("container", "api"),
            ("container_id", "40c0"),
        ];
        assert_eq!(service_name(&labels(&container), "java"), "shop/api-1/api");
        let alone = [("container", "web"), ("namespace", "shop")];
        assert_eq!(service_name(&labels(&alone), "nginx"), "web");
        let unnamed = [("container_id", "40c03570b6f4c30b")];
        assert_eq!(service_name(&labels(&unnamed), "nginx"), "40c03570b6f4");
        assert_eq!(service_name(&labels(&[("node", "n1")]), "nginx\n"), "nginx");
    }
}
