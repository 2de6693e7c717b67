//! Canonical names: the form in which two builds of one program agree, kept beside the name that is shown.
//!
//! In: a function's shown name and its source file. Out: the name without what the next build, or another compiler, may
//! number or mark differently. It is for comparison: what is one function in the source stays one, and never are two
//! functions with different names made one. In return several pieces of one function get the same canonical name.
//!
//! | rule | example |
//! |---|---|
//! | marks of clones and pieces (`.cold`, `.constprop`, `.isra`, `.part`, `.llvm`, …) go | `f(int) [clone .part.0] [clone .cold]` → `f(int)`; `f.isra.0.cold` → `f` |
//! | variants chosen while running are functions of their own and stay | `f.avx2`, `f.resolver`, `f.resume` |
//! | a number of the linker's goes | `f.123` → `f` |
//! | versions of symbols go | `memcpy@@GLIBC_2.14` → `memcpy` (but `memcpy@plt` stays) |
//! | Rust: hashes and crate disambiguators go | `core::fmt::write::h0123456789abcdef` → `core::fmt::write`; `std[8df42ad3d5e4d5c8]::io` → `std::io` |
//! | Rust: both mangling schemes name closures and shims alike | `f::{closure#1}` → `f::{{closure}}`; `f::{shim:vtable#0}` → `f{{vtable.shim}}` |
//! | C++: lambdas keep their signature and lose their number | `f()::{lambda(int)#2}` → `f()::{lambda(int)}`; `f()::$_3` → `f()::$_` |
//! | C++: ABI tags and namespaces of versions go | `std::__cxx11::to_string[abi:cxx11](int)` → `std::to_string(int)` |
//! | C++: one spelling | `{anonymous}::f`, `_GLOBAL__N_1::f` → `(anonymous namespace)::f`; `v<v<int> >` → `v<v<int>>` |
//! | Go: type arguments and ABI marks go, as stripped programs have it | `main.Map[go.shape.int]` → `main.Map[...]`; `runtime.memmove.abi0` → `runtime.memmove` |
//! | generated code: optimisation tier and numbers of hidden classes go | `JS:*f a.js:1:2` → `JS:f a.js:1:2`; `A$$Lambda$14/0x7f00.run` → `A$$Lambda.run` |
//! | BPF: the tag, a hash of the program's instructions, goes | `bpf_prog_6deef7357e7b4530_egress` → `bpf_prog_egress` |
//! | a kernel module stays | `f.isra.0 [ext4]` → `f [ext4]` |
//!
//! Closures lose their numbers because a closure added in front renumbers all that follow: with numbers a comparison
//! would pair each with its neighbour. Go's closures (`f.func2`) keep them: they are whole names there.
//! What the two Rust schemes know differently (types of generic functions) is not made alike.

use std::borrow::Cow;

use super::Function;
use super::canonical_scan::rewritten;

/// Words behind a dot by which GCC and LLVM mark pieces, copies and renamed symbols of one function; a number may follow.
///
/// Source: GCC `clone_function_name` and its callers; LLVM `HotColdSplitting`, `ThinLTO` promotion, `-funique-internal-linkage-names`.
const MARKS: [&str; 13] = [
    "cold",
    "warm",
    "constprop",
    "isra",
    "part",
    "lto_priv",
    "localalias",
    "clone",
    "llvm",
    "__uniq",
    "specialized",
    "memprof",
    "argprom",
];

/// How `c++filt` and `symbolize` show a mark behind a demangled name.
const CLONE: &str = " [clone ";

impl Function {
    /// The form of the name in which two builds of one program agree. See the file's head for the rules.
    pub fn canonical(&self) -> Cow<'_, str> {
        canonical_name(&self.name, &self.file)
    }
}

/// [`Function::canonical`] of a function with the shown name `name` in the source file `file` (empty if unknown).
pub fn canonical_name<'a>(name: &'a str, file: &str) -> Cow<'a, str> {
    let (symbol, module) = split_module(name);
    let base = without_version(symbol);
    let base = match is_go(base, file) {
        true => return joined(go(base), module, name),
        false => without_hash(without_marks(base)),
    };
    joined(rewritten(base), module, name)
}

/// Puts the module back; borrows `whole` where nothing has changed.
fn joined<'a>(base: Cow<'a, str>, module: &'a str, whole: &'a str) -> Cow<'a, str> {
    match base {
        _ if base.is_empty() => Cow::Borrowed(whole),
        base if module.is_empty() => base,
        // What is borrowed is a beginning of `whole`.
        Cow::Borrowed(base) if base.len() + module.len() == whole.len() => Cow::Borrowed(whole),
        base => Cow::Owned(format!("{base}{module}")),
    }
}

/// Takes ` [ext4]` off the end of a kernel function's name.
fn split_module(name: &str) -> (&str, &str) {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    let found = name.strip_suffix(']').and_then(|rest| rest.rfind(" ["));
    match found {
        Some(at) if at > 0 && name[at + 2..name.len() - 1].bytes().all(word) => name.split_at(at),
        _ => (name, ""),
    }
}

/// `foo` of `foo@@GLIBC_2.2.5` and `foo@GLIBC_2.2.5`; a stub (`foo@plt`) is not the function, and stays.
pub fn without_version(symbol: &str) -> &str {
    let Some((name, version)) = symbol.split_once('@') else {
        return symbol;
    };
    let version = version.strip_prefix('@').unwrap_or(version);
    let word = |c: u8| c.is_ascii_alphanumeric() || b"_.$".contains(&c);
    let is_stub = version == "plt" || version.starts_with("plt.") || version.ends_with(".plt");
    let plain = !name.is_empty() && name.bytes().all(word);
    match plain && !is_stub && !version.is_empty() && version.bytes().all(word) {
        true => name,
        false => symbol,
    }
}

fn without_marks(mut name: &str) -> &str {
    while let Some(shorter) = without_mark(name) {
        name = shorter;
    }
    name
}

/// Takes one mark off the end; `None` where there is none, or nothing else.
fn without_mark(name: &str) -> Option<&str> {
    if let Some(rest) = name.strip_suffix(']') {
        let at = rest.rfind(CLONE).filter(|at| *at > 0)?;
        let marks = &rest[at + CLONE.len()..];
        return without_marks(marks).is_empty().then_some(&name[..at]);
    }
    let (base, last) = name.rsplit_once('.')?;
    if MARKS.contains(&last) {
        return Some(base);
    }
    let number = |text: &str| {
        let digit = |c: u8| c.is_ascii_digit() || matches!(c, b'A'..=b'F');
        !text.is_empty() && text.bytes().all(digit)
    };
    if !number(last) {
        return None;
    }
    match base.rsplit_once('.') {
        Some((base, mark)) => MARKS.contains(&mark).then_some(base),
        // `foo.123`: renamed where two files were linked into one. Whatever has another dot may be somebody's name.
        None => (!base.is_empty() && last.bytes().all(|c| c.is_ascii_digit())).then_some(base),
    }
}

/// Takes the hash off a legacy Rust name, demangled (`a::b::h<16 hex>`) or not (`…17h<16 hex>E`).
fn without_hash(name: &str) -> &str {
    const HEX_DIGITS: usize = 16;
    let hash = |text: &str| text.len() == HEX_DIGITS && text.bytes().all(is_lower_hex);
    let demangled = name.rsplit_once("::h").filter(|(_, end)| hash(end));
    let mangled = || {
        let (base, end) = name.strip_prefix("_ZN")?.rsplit_once("17h")?;
        let base_end = "_ZN".len() + base.len();
        hash(end.strip_suffix('E')?).then(|| &name[..base_end])
    };
    demangled
        .map(|(base, _)| base)
        .or_else(mangled)
        .unwrap_or(name)
}

pub(super) fn is_lower_hex(c: u8) -> bool {
    matches!(c, b'0'..=b'9' | b'a'..=b'f')
}

/// Whether the dots in a name are Go's: `main.cold` is then a function named `cold`. Without a file only methods of
/// pointers and packages with a path show it.
fn is_go(name: &str, file: &str) -> bool {
    let by_shape = || {
        let path = name.split(['(', '[']).next().unwrap_or(name);
        name.contains(".(*")
            || (path.contains('/') && path.contains('.') && !path.contains([' ', '$']))
    };
    file.ends_with(".go") || (!name.contains("::") && by_shape())
}

fn go(name: &str) -> Cow<'_, str> {
    let name = [".abi0", ".abiinternal"]
        .iter()
        .find_map(|mark| name.strip_suffix(mark))
        .unwrap_or(name);
    let name = go_unescaped(name);
    // The same cut as the Go linker makes for the table that stripped programs keep.
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close && &name[open..=close] != "[...]" => {
            Cow::Owned(format!("{}[...]{}", &name[..open], &name[close + 1..]))
        }
        _ => name,
    }
}

/// A Go name without its escapes: `gopkg.in/yaml%2ev3.Decode` is `gopkg.in/yaml.v3.Decode`. Anything that does not come
/// out as printable text stays escaped.
///
/// Source: Go `cmd/internal/objabi/path.go`, `PathToPrefix`.
pub fn go_unescaped(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.get(..2).filter(|_| *first == b'%');
        let byte = escaped.and_then(|hex| {
            let hex = std::str::from_utf8(hex).ok()?;
            let plain = hex.bytes().all(|c| c.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(hex, 16).ok()).flatten()
        });
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => Cow::Owned(text),
        _ => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_adds_to_a_name_goes_and_the_rest_stays() {
        for (name, canonical) in [
            ("main", "main"),
            ("f.cold", "f"),
            ("f.cold.5", "f"),
            ("f.constprop.0.isra.12.cold", "f"),
            ("f.lto_priv.0.lto_priv.3", "f"),
            ("f.__uniq.26391764.llvm.1520377", "f"),
            ("f.5.llvm.A5310EB9", "f"),
            ("f.123", "f"),
            ("f.avx2", "f.avx2"),
            ("f.resume", "f.resume"),
            ("f._omp_fn.0", "f._omp_fn.0"),
            (".cold", ".cold"),
            ("f(int) [clone .part.0] [clone .cold]", "f(int)"),
            ("f(int) [clone .cold.7]", "f(int)"),
            ("f(int) [clone .resume]", "f(int) [clone .resume]"),
            ("memcpy@@GLIBC_2.14", "memcpy"),
            ("memcpy@GLIBC_2.2.5", "memcpy"),
            ("memcpy@plt", "memcpy@plt"),
            ("f [ext4]", "f [ext4]"),
            ("f.isra.0 [ext4]", "f [ext4]"),
            ("libz.so.1+0x4f2", "libz.so.1+0x4f2"),
            ("[libz.so.1: no-symbol]", "[libz.so.1: no-symbol]"),
            ("", ""),
            ("bpf_prog_6deef7357e7b4530_egress", "bpf_prog_egress"),
            ("bpf_prog_6deef7357e7b4530", "bpf_prog_6deef7357e7b4530"),
        ] {
            assert_eq!(canonical_name(name, ""), canonical, "{name}");
        }
    }

    #[test]
    fn rust_names_agree_between_builds_and_mangling_schemes() {
        for (name, canonical) in [
            ("core::fmt::write::h0123456789abcdef", "core::fmt::write"),
            ("a::b::hello", "a::b::hello"),
            ("a::b.llvm.123", "a::b"),
            ("a::b [clone .cold]", "a::b"),
            ("_ZN1a1b17h0123456789abcdefE", "_ZN1a1b"),
            ("_ZN1a1b17h0123456789abcdefE.cold", "_ZN1a1b"),
            ("a::{closure#3}::{closure#0}", "a::{{closure}}::{{closure}}"),
            ("a::{{closure}}::{{closure}}", "a::{{closure}}::{{closure}}"),
            (
                "<F as FnOnce<()>>::call_once::{shim:vtable#0}",
                "<F as FnOnce<()>>::call_once{{vtable.shim}}",
            ),
            (
                "<std[8df42ad3d5e4d5c8]::A<[u8; 16]> as b[1f]::C>::d",
                "<std::A<[u8; 16]> as b[1f]::C>::d",
            ),
            ("a::f::<[abcdefab]>", "a::f::<[abcdefab]>"),
        ] {
            assert_eq!(canonical_name(name, "src/a.rs"), canonical, "{name}");
        }
    }

    #[test]
    fn cpp_names_agree_between_builds_and_demanglers() {
        for (name, canonical) in [
            (
                "f()::{lambda(int)#2}::operator()(int) const",
                "f()::{lambda(int)}::operator()(int) const",
            ),
            (
                "void g<f()::{lambda({lambda()#1})#2}>()",
                "void g<f()::{lambda({lambda()})}>()",
            ),
            (
                "f()::$_12::operator()() const",
                "f()::$_::operator()() const",
            ),
            ("f()::{unnamed type#1}::g()", "f()::{unnamed type}::g()"),
            (
                "std::__cxx11::to_string[abi:cxx11](int)",
                "std::to_string(int)",
            ),
            (
                "std::__1::vector<int>::f[abi:ne180100]()",
                "std::vector<int>::f()",
            ),
            ("mystd::__1::f()", "mystd::__1::f()"),
            ("{anonymous}::f()", "(anonymous namespace)::f()"),
            ("a::_GLOBAL__N_1::f()", "a::(anonymous namespace)::f()"),
            ("(anonymous namespace)::f()", "(anonymous namespace)::f()"),
            ("v<v<v<int> > >::f()", "v<v<v<int>>>::f()"),
            (
                "bool operator> <int>(A<int>)",
                "bool operator> <int>(A<int>)",
            ),
        ] {
            assert_eq!(canonical_name(name, "a.cc"), canonical, "{name}");
        }
    }

    #[test]
    fn go_and_generated_names_agree_with_those_of_stripped_programs_and_other_runs() {
        for (name, file, canonical) in [
            ("main.cold", "/x/main.go", "main.cold"),
            ("main.cold", "", "main"),
            ("a/b.cold", "", "a/b.cold"),
            ("main.(*T).part", "", "main.(*T).part"),
            ("main.run.func1.2", "/x/main.go", "main.run.func1.2"),
            ("main.Map[go.shape.int,a[b]].f", "m.go", "main.Map[...].f"),
            ("main.Map[...]", "m.go", "main.Map[...]"),
            (
                "runtime.memmove.abi0",
                "memmove_amd64.go",
                "runtime.memmove",
            ),
            ("gopkg.in/yaml%2ev3.(*T).f", "", "gopkg.in/yaml.v3.(*T).f"),
            (
                "JS:*render /srv/app.js:10:7",
                "",
                "JS:render /srv/app.js:10:7",
            ),
            (
                "JS:~render /srv/app.js:10:7",
                "",
                "JS:render /srv/app.js:10:7",
            ),
            ("A$$Lambda$14/0x00007f0012345678.run", "", "A$$Lambda.run"),
            ("A$$Lambda+0x00007f0012345678::run", "", "A$$Lambda::run"),
        ] {
            assert_eq!(canonical_name(name, file), canonical, "{name}");
        }
        assert_eq!(go_unescaped("a%2eb%zz%2"), "a.b%zz%2");
        assert_eq!(go_unescaped("a%0ab"), "a%0ab");
        assert_eq!(go_unescaped("a%ffb"), "a%ffb");
    }

    #[test]
    fn any_text_has_a_canonical_name_within_bounded_time() {
        let pieces = [
            "f",
            ".",
            "cold",
            "::",
            "{",
            "}",
            "closure",
            "#1",
            "[",
            "]",
            "<",
            "> ",
            "@",
            " [clone ",
            "é",
            "h0123456789abcdef",
            "$_1",
            "std::__1::",
            "0123456789abcdef",
            "%2e",
            "$$Lambda",
            "/0x12345678",
        ];
        let mut seed = 7u64;
        for _ in 0..20_000 {
            let mut name = String::new();
            for _ in 0..(seed >> 33) % 9 {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                name.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let _ = canonical_name(&name, ["", "a.go"][(seed >> 40) as usize % 2]);
        }
        let long = "{lambda(".repeat(100_000);
        assert_eq!(canonical_name(&long, "").len(), long.len());
    }
}
