//! Is a file a picture that somebody could look at?

/// Why bytes are no picture that somebody could look at. Not a validator: it tells a flame graph from anything else.
pub(super) fn fault(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("is empty");
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Some("is not SVG: it is no text");
    };
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    // The XML declaration, the document type, comments.
    while let Some((end, skip)) = [("<?", "?>"), ("<!--", "-->"), ("<!DOCTYPE", ">")]
        .iter()
        .find(|(begin, _)| rest.starts_with(begin))
        .map(|(_, end)| (rest.find(end), end.len()))
    {
        let end = end?;
        rest = rest[end + skip..].trim_start();
    }
    let is_svg = rest
        .strip_prefix("<svg")
        .is_some_and(|after| after.starts_with(|c: char| c.is_whitespace() || c == '>'));
    if !is_svg {
        return Some("is not SVG: no `<svg` element begins it");
    }
    if !rest.trim_end().ends_with("</svg>") {
        return Some("is not whole: it does not end in `</svg>`");
    }
    let drawn = ["<rect", "<path", "<polygon"]
        .iter()
        .any(|shape| rest.contains(shape));
    (!drawn).then_some("shows nothing: no shape is drawn in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_told_from_what_only_has_its_name() {
        let good = "<?xml version=\"1.0\"?>\n<!DOCTYPE svg PUBLIC \"x\">\n<!-- a -->\n<svg w=\"1\"><rect/></svg>\n";
        assert_eq!(fault(good.as_bytes()), None);
        assert_eq!(fault(b"<svg><path/></svg>"), None);
        for (bytes, words) in [
            (&b""[..], "is empty"),
            (b"<svg width=\"1\"><rect/>", "not whole"),
            (b"<html><svg></svg></html>", "not SVG"),
            (b"<svgx><rect/></svg>", "not SVG"),
            (b"<svg></svg>", "shows nothing"),
            (b"\xff\xd8\xff", "no text"),
            (b"<!-- never ends <svg><rect/></svg>", ""),
        ] {
            let fault = fault(bytes);
            assert!(
                words.is_empty() || fault.is_some_and(|f| f.contains(words)),
                "{words}: {fault:?}"
            );
        }
    }
}
