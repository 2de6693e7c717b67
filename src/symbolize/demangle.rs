//! Symbols as people write them.
//!
//! Only what begins like a mangled name is taken for one: in the C++ scheme `w` is `wchar_t` and `Pc` is `char*`, and
//! C programs have functions of such names.

use cpp_demangle::{DemangleOptions, Symbol};

/// A longer symbol is shown as it is: a demangled one can be exponentially longer.
const MAX_MANGLED_BYTES: usize = 4096;

/// The demangled name; the symbol itself where it is not mangled.
pub(super) fn demangle(symbol: &str) -> String {
    if symbol.len() > MAX_MANGLED_BYTES {
        return symbol.to_owned();
    }
    rust(symbol)
        .or_else(|| cpp(symbol))
        .unwrap_or_else(|| symbol.to_owned())
}

/// Legacy (`_ZN…17h<hash>E`, the hash left out) and v0 (`_R…`).
fn rust(symbol: &str) -> Option<String> {
    if !symbol.starts_with("_R") && !symbol.starts_with("_ZN") {
        return None;
    }
    Some(format!("{:#}", rustc_demangle::try_demangle(symbol).ok()?))
}

fn cpp(symbol: &str) -> Option<String> {
    if !symbol.starts_with("_Z") {
        return None;
    }
    Symbol::new(symbol)
        .ok()?
        .demangle_with_options(&DemangleOptions::default())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mangled_names_are_demangled_and_short_c_names_stay() {
        assert_eq!(demangle("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(
            demangle("_ZN4core3fmt5write17h0123456789abcdefE"),
            "core::fmt::write"
        );
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        for name in [
            "w", "i", "Pc", "St", "Sa", "h", "Dn", "main", "_start", "_Zfoo", "_R",
        ] {
            assert_eq!(demangle(name), name);
        }
    }
}
