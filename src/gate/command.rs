//! Commands in remedies, fit to be pasted: what comes from a config stays one word.

use std::path::Path;

/// `text` as one word of a POSIX shell, quoted only where it must be.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:=+@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The command that profiles a service into the artifact root.
pub(super) fn record(service: &str, root: &Path) -> String {
    format!(
        "perfprof record --pid PID --tree --duration 30 --service {} --artifacts {}",
        word(service),
        path(root)
    )
}

/// The command that measures a service's capacity.
pub(super) fn capacity(service: &str, root: &Path) -> String {
    format!(
        "perfprof capacity --pid PID --duration 60 --service {} --artifacts {}",
        word(service),
        path(root)
    )
}

pub(super) fn path(path: &Path) -> String {
    word(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_whatever_it_holds() {
        assert_eq!(word("cart-1.2"), "cart-1.2");
        assert_eq!(word("a b"), "'a b'");
        assert_eq!(word("x; rm -rf ~"), "'x; rm -rf ~'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word("-rf"), "'-rf'");
        assert_eq!(word(""), "''");
    }
}
