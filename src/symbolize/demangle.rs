//! Symbols as people write them: C++ (Itanium), Rust (legacy and v0), Go's escapes, versions and marks of clones.
//!
//! In: a symbol of a binary that anyone may have made. Out: its name; the symbol unharmed where it is not mangled, or
//! not well. Time and size are bounded: a mangled name can stand for one exponentially longer, and take exponentially
//! long to reject. Only what begins like a mangled name is taken for one: in the C++ scheme `w` is `wchar_t` and `Pc`
//! is `char*`, and C programs have functions of such names.
//!
//! Swift and D symbols stay as they are: for D there is no kept crate, for Swift only the compiler's own demangler in
//! C++ behind a Rust face, which does not belong in a program that runs as root on other people's files.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

use crate::profile::{go_unescaped, without_version};

/// A longer symbol is shown as it is. The longest of LLVM's 42,000 C++ symbols has 583 bytes.
const MAX_MANGLED_BYTES: usize = 4096;
/// A symbol that stands for a longer name is shown as it is: nobody reads it.
const MAX_NAME_BYTES: usize = 64 << 10;
/// Nesting of what the C++ parser looks into. It tries alternatives at every level, so that time doubles every few
/// levels: with the crate's own limit of 96 a symbol of 128 bytes can take 0.6 s, with this 2 ms (longer ones up to
/// 0.1 s). All of LLVM's symbols need at most 40.
const MAX_DEPTH: u32 = 64;
/// The limit from when [`SLOW_IN_ALL`] has been spent.
const MAX_DEPTH_OF_SUSPECTS: u32 = 24;
/// A symbol that takes longer is one that somebody has made slow; others take microseconds.
const SLOW: Duration = Duration::from_millis(5);
/// What slow symbols may cost together.
const SLOW_IN_ALL: Duration = Duration::from_secs(1);

static SPENT_ON_SLOW_NS: AtomicU64 = AtomicU64::new(0);

/// What `rustc_demangle` writes into the middle of a name that it cannot read to its end.
const UNREADABLE: [&str; 3] = [
    "{invalid syntax}",
    "{recursion limit reached}",
    "{size limit reached}",
];

/// The demangled name; the symbol itself where it is not mangled. Marks that tell pieces and copies of a function apart
/// stand behind a demangled name as `[clone .cold]`; those that only rename it (`.llvm.123`) are left out.
pub(super) fn demangle(symbol: &str) -> String {
    if symbol.len() > MAX_MANGLED_BYTES {
        return symbol.to_owned();
    }
    let plain = without_version(symbol);
    if !plain.starts_with("_Z") && !plain.starts_with("_R") {
        return go_unescaped(plain).into_owned();
    }
    let (mangled, marks) = split_marks(plain);
    let name = rust(mangled).or_else(|| cpp(mangled));
    match name.zip(shown_marks(marks)) {
        Some((name, marks)) => name + &marks,
        None => plain.to_owned(),
    }
}

/// Legacy (`_ZN…17h<hash>E`, the hash left out) and v0 (`_R…`).
fn rust(symbol: &str) -> Option<String> {
    if !symbol.starts_with("_R") && !symbol.starts_with("_ZN") {
        return None;
    }
    let mut name = Bounded::default();
    write!(name, "{:#}", rustc_demangle::try_demangle(symbol).ok()?).ok()?;
    let readable = !UNREADABLE.iter().any(|mark| name.0.contains(mark));
    readable.then_some(name.0)
}

fn cpp(symbol: &str) -> Option<String> {
    if !symbol.starts_with("_Z") {
        return None;
    }
    let begun = Instant::now();
    let name = cpp_within(symbol, depth_limit());
    let took = begun.elapsed();
    if took > SLOW {
        SPENT_ON_SLOW_NS.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }
    name
}

fn depth_limit() -> u32 {
    let spent = Duration::from_nanos(SPENT_ON_SLOW_NS.load(Ordering::Relaxed));
    if spent > SLOW_IN_ALL {
        MAX_DEPTH_OF_SUSPECTS
    } else {
        MAX_DEPTH
    }
}

fn cpp_within(symbol: &str, depth: u32) -> Option<String> {
    let parsing = ParseOptions::default().recursion_limit(depth);
    let parsed = Symbol::new_with_options(symbol, &parsing).ok()?;
    let mut name = Bounded::default();
    let written = parsed.structured_demangle(&mut name, &DemangleOptions::default());
    let name = written.is_ok().then_some(name.0)?;
    Some(thunk(&name).unwrap_or(name).replace(EMPTY_PACK, ">"))
}

/// `cpp_demangle` writes entries into classes through another base in words of its own; other tools say it so.
fn thunk(name: &str) -> Option<String> {
    let inner = name.strip_prefix("{virtual override thunk(")?;
    let (offset, function) = inner.strip_suffix(")}")?.split_once("}, ")?;
    Some(match offset.starts_with("{virtual") {
        true => format!("virtual thunk to {function}"),
        false => format!("non-virtual thunk to {function}"),
    })
}

/// Refuses what would make it longer than [`MAX_NAME_BYTES`].
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_NAME_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The mangled name, and what compilers and linkers have put behind it from a dot on. Only legacy Rust names have dots
/// within; they end with their hash.
fn split_marks(symbol: &str) -> (&str, &str) {
    const HASH: &str = "17h";
    const HASH_DIGITS: usize = 16;
    let legacy = symbol.match_indices(HASH).find_map(|(at, _)| {
        let end = at + HASH.len() + HASH_DIGITS;
        let hash = symbol.get(at + HASH.len()..end)?;
        let ends = symbol[end..].starts_with('E') && hash.bytes().all(|c| c.is_ascii_hexdigit());
        let rest = symbol.get(end + 1..).filter(|_| ends)?;
        (rest.is_empty() || rest.starts_with('.')).then_some(end + 1)
    });
    let end = legacy
        .or_else(|| symbol.find(['.', '@']))
        .unwrap_or(symbol.len());
    symbol.split_at(end)
}

/// `.constprop.0.llvm.7` as ` [clone .constprop.0]`; `None` for what is no list of marks. A stub stays `@plt`.
fn shown_marks(marks: &str) -> Option<String> {
    let (marks, stub) = marks.split_at(marks.find('@').unwrap_or(marks.len()));
    let mut shown = String::new();
    let mut parts = marks
        .strip_prefix('.')
        .map_or("", |rest| rest)
        .split('.')
        .peekable();
    while let Some(word) = parts.next().filter(|_| !marks.is_empty()) {
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        if word.is_empty() || !word.bytes().all(plain) {
            return None;
        }
        let mut mark = format!(".{word}");
        while let Some(number) = parts.next_if(|part| is_number(part)) {
            let _ = write!(mark, ".{number}");
        }
        if !RENAMES.contains(&word) && !is_number(word) {
            let _ = write!(shown, " [clone {mark}]");
        }
    }
    Some(shown + stub)
}

/// Marks of symbols that were only renamed so that two files can be linked: they tell nothing of the code.
const RENAMES: [&str; 4] = ["llvm", "__uniq", "lto_priv", "localalias"];

/// How `cpp_demangle` ends template arguments whose last ones are none at all.
const EMPTY_PACK: &str = ", >";

/// Decimal, or hexadecimal as older LLVM wrote it.
fn is_number(part: &str) -> bool {
    let digit = |c: u8| c.is_ascii_digit() || matches!(c, b'A'..=b'F');
    !part.is_empty() && part.bytes().all(digit)
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
            "w",
            "i",
            "Pc",
            "St",
            "Sa",
            "h",
            "Dn",
            "main",
            "_start",
            "_Zfoo",
            "_R",
            "main.cold",
            "f.constprop.0",
            "f.llvm.123",
            "_Z3fooi.$x",
            "memcpy@plt",
            "a%zz",
            "_Z",
            "_ZN",
        ] {
            assert_eq!(demangle(name), name);
        }
    }

    #[test]
    fn pieces_and_versions_of_mangled_functions_are_demangled_too() {
        for (symbol, name) in [
            ("_Z3fooi.cold", "foo(int) [clone .cold]"),
            ("_Z3fooi.cold.5", "foo(int) [clone .cold.5]"),
            (
                "_Z3fooi.part.0.constprop.1",
                "foo(int) [clone .part.0] [clone .constprop.1]",
            ),
            ("_Z3fooi.llvm.1234", "foo(int)"),
            ("_Z3fooi.5.__uniq.12.llvm.1234", "foo(int)"),
            (
                "_ZN12_GLOBAL__N_13fooEv.isra.0",
                "(anonymous namespace)::foo() [clone .isra.0]",
            ),
            (
                "_ZN3foo3bar17h0123456789abcdefE.cold",
                "foo::bar [clone .cold]",
            ),
            ("_ZN3foo3bar17h0123456789abcdefE.llvm.A5310EB9", "foo::bar"),
            (
                "_ZN26_$LT$A$u20$as$u20$m..T$GT$3bar17h0123456789abcdefE",
                "<A as m::T>::bar",
            ),
            ("_RNvC6_123foo3bar.llvm.99", "123foo::bar"),
            ("_ZNSt6thread4joinEv@@GLIBCXX_3.4.11", "std::thread::join()"),
            ("_ZNSt6thread4joinEv@plt", "std::thread::join()@plt"),
            ("memcpy@@GLIBC_2.14", "memcpy"),
            (
                "gopkg.in/yaml%2ev3.(*Decoder).Decode",
                "gopkg.in/yaml.v3.(*Decoder).Decode",
            ),
            (
                "_ZZ4mainENKUliE0_clEi",
                "main::{lambda(int)#2}::operator()(int) const",
            ),
        ] {
            assert_eq!(demangle(symbol), name);
        }
    }

    #[test]
    fn names_that_would_be_endless_come_back_unharmed() {
        // Each parameter holds the one before twice.
        let doubling = |levels: usize| {
            let digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars().take(levels);
            let parameters: String = digits.map(|n| format!("S_IS{n}_S{n}_E")).collect();
            format!("_Z1f1AIiiE{parameters}")
        };
        assert_eq!(
            demangle(&doubling(1)),
            "f(A<int, int>, A<A<int, int>, A<int, int> >)"
        );
        assert_eq!(demangle(&doubling(30)), doubling(30));
        let deep = format!("_Z1f{}i", "P".repeat(4000));
        assert_eq!(demangle(&deep), deep);
        let long = format!("_Z{}{}v", 5000, "x".repeat(5000));
        assert_eq!(demangle(&long), long);
        let backwards = "_RNvB1_3foo";
        assert_eq!(demangle(backwards), backwards);
        for depth in [8, 14, 20] {
            let slow = format!("_ZSbIwSt11charK_traitsIwE{}EaSEPKw", "SaIIwE".repeat(depth));
            assert_eq!(demangle(&slow), slow);
        }
    }
}
