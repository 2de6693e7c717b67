//! Strings and lists cut to what a person reads. Full values are in the JSON documents.

/// At most `max` characters, cut in the middle: the ends of a name tell more than its template arguments.
pub(crate) fn middle(text: &str, max: usize) -> String {
    let length = text.chars().count();
    if length <= max {
        return text.to_owned();
    }
    let keep = max.saturating_sub(1);
    let (head, tail) = (keep.div_ceil(2), keep / 2);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{start}…{end}")
}

/// At most `max` characters, cut at the start: the end of a path tells most.
pub(crate) fn end(text: &str, max: usize) -> String {
    let length = text.chars().count();
    if length <= max {
        return text.to_owned();
    }
    let tail: String = text.chars().skip(length - max.saturating_sub(1)).collect();
    format!("…{tail}")
}

/// The first `head` and last `tail` items, and how many were left out between them.
pub(crate) fn ends<T>(items: &[T], head: usize, tail: usize) -> (&[T], usize, &[T]) {
    // Leaving out a single item would take as much room as showing it.
    if items.len() <= head + tail + 1 {
        return (items, 0, &[]);
    }
    let rest = items.len() - tail;
    (&items[..head], rest - head, &items[rest..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_keeps_its_telling_part() {
        assert_eq!(middle("abcdef", 6), "abcdef");
        assert_eq!(middle("abcdefg", 5), "ab…fg");
        assert_eq!(end("/usr/src/a.c", 5), "…/a.c");
        assert_eq!(middle("ééééé", 3), "é…é");
        assert_eq!(ends(&[1, 2, 3, 4], 1, 2), (&[1, 2, 3, 4][..], 0, &[][..]));
        assert_eq!(ends(&[1, 2, 3, 4, 5], 1, 2), (&[1][..], 2, &[4, 5][..]));
    }
}
