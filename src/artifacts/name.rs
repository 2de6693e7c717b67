//! Names of services made fit for file names and for the markers in the report.

/// Long enough to recognise a service, short enough for every file system with suffixes.
const MAX_CHARS: usize = 64;

/// Letters, digits, `.`, `_` and `-` of a service's name, not beginning with a dot or hyphen.
///
/// A name that had to be changed carries a hash of the original, so that two services never share a file.
pub fn slug(service: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let clean: String = service
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(MAX_CHARS)
        .collect();
    let clean = clean.trim_start_matches(['.', '-']);
    // Two hyphens would end an HTML comment in older readers.
    if clean == service && !clean.is_empty() && !clean.contains("--") {
        return clean.to_owned();
    }
    let clean = clean.replace("--", "-_");
    let base = if clean.is_empty() { "service" } else { &clean };
    format!("{base}-{:08x}", fnv1a(service.as_bytes()))
}

/// FNV-1a, 32 bits: the same on every machine and in every version, unlike the standard library's hash.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_stay_and_bad_ones_stay_apart() {
        assert_eq!(slug("postgres-15.main"), "postgres-15.main");
        let hostile = [
            "", "../x", "a/b", "a b", "a--b", "-rf", ".hidden", "a\nb", "a-->", "é", "è",
        ];
        let slugs: Vec<String> = hostile.iter().map(|name| slug(name)).collect();
        for (i, slug) in slugs.iter().enumerate() {
            let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            assert!(
                slug.chars().all(fine) && !slug.starts_with(['.', '-']),
                "{slug}"
            );
            assert!(!slug.contains("--"), "{slug}");
            assert!(!slugs[..i].contains(slug), "{slug} twice");
        }
        assert!(slug(&"x".repeat(1000)).len() < 80);
    }
}
