//! Names without template and type arguments, for people: `std::vector<int, std::allocator<int> >::push_back(int&&)` is
//! shown as `std::vector<…>::push_back(int&&)`.
//!
//! In: a profile. Out: one to be shown; functions that differ only in those arguments look alike in it, and are ranked as
//! one. The profile on disk and the documents for machines keep full names.

use crate::profile::Profile;

/// What stands for arguments.
const ARGUMENTS: &str = "<…>";
const TYPE_ARGUMENTS: &str = "[…]";

/// The same profile with short names.
pub fn shortened(profile: &Profile) -> Profile {
    let mut shown = profile.clone();
    for function in &mut shown.functions {
        if let Some(short) = short(&function.name) {
            function.name = short;
        }
    }
    shown
}

/// The name without its arguments; `None` where it has none, or its brackets do not fit together.
fn short(name: &str) -> Option<String> {
    if !name.contains(['<', '[']) {
        return None;
    }
    let mut scan = Scan {
        name,
        out: String::new(),
        open: Vec::new(),
        hidden_from: None,
    };
    let mut at = 0;
    while at < name.len() {
        at += scan.step(at)?;
    }
    (scan.open.is_empty() && scan.out != name).then_some(scan.out)
}

struct Scan<'a> {
    name: &'a str,
    out: String,
    /// Brackets that are open, innermost last.
    open: Vec<u8>,
    /// How many were open when the outermost argument list began, within which nothing is written.
    hidden_from: Option<usize>,
}

impl Scan<'_> {
    /// Takes the piece at `at` and returns its length; `None` where a bracket closes that was not opened.
    fn step(&mut self, at: usize) -> Option<usize> {
        let rest = &self.name[at..];
        let length = match rest.as_bytes()[0] {
            b'o' => operator(self.name, at).unwrap_or(1),
            b'-' if rest.starts_with("->") => 2,
            b'<' => return self.open_arguments(at, ARGUMENTS),
            // Go's are behind a name; an array's length or a slice is not, and an ABI tag or a clone is no argument.
            b'[' if rest.starts_with("[abi:") || rest.starts_with("[clone ") => 1 + self.nest(b'['),
            b'[' => return self.open_arguments(at, TYPE_ARGUMENTS),
            open @ (b'(' | b'{') => 1 + self.nest(open),
            close @ (b')' | b'}' | b']') => {
                self.close(close)?;
                if self.hidden_from == Some(self.open.len()) {
                    self.hidden_from = None;
                    return Some(1);
                }
                1
            }
            b'>' => return self.close_arguments(),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        self.write(&self.name[at..at + length]);
        Some(length)
    }

    fn write(&mut self, text: &str) {
        if self.hidden_from.is_none() {
            self.out.push_str(text);
        }
    }

    fn nest(&mut self, open: u8) -> usize {
        self.open.push(open);
        0
    }

    /// Arguments stand behind a name, or behind the `::` of Rust's; elsewhere brackets hold a type to be seen.
    fn open_arguments(&mut self, at: usize, instead: &str) -> Option<usize> {
        let bracket = self.name.as_bytes()[at];
        let before = &self.name[..at];
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let behind_name = before.ends_with(word) || before.ends_with("operator");
        let turbofish = bracket == b'<' && before.ends_with("::") && !is_name(&self.name[at..]);
        let behind_operator = bracket == b'<' && behind_operator(before);
        if self.hidden_from.is_none() && (behind_name || turbofish || behind_operator) {
            self.write(instead);
            self.hidden_from = Some(self.open.len());
        } else {
            self.write(&self.name[at..at + 1]);
        }
        self.open.push(bracket);
        Some(1)
    }

    fn close_arguments(&mut self) -> Option<usize> {
        // Within parentheses a lone `>` compares.
        if self.open.last() == Some(&b'<') {
            self.open.pop();
            if self.hidden_from == Some(self.open.len()) {
                self.hidden_from = None;
                return Some(1);
            }
        }
        self.write(">");
        Some(1)
    }

    /// Closes a bracket; what was taken for `<` within was a comparison.
    fn close(&mut self, close: u8) -> Option<()> {
        let open = match close {
            b')' => b'(',
            b'}' => b'{',
            _ => b'[',
        };
        let at = self.open.iter().rposition(|o| *o == open)?;
        let compares = self.open[at + 1..].iter().all(|o| *o == b'<');
        let outside = self.hidden_from.is_some_and(|from| at < from);
        if !compares || outside {
            return None;
        }
        self.open.truncate(at);
        Some(())
    }
}

/// Names that other languages put in brackets: Java's constructors, Python's pieces of code without a name.
fn is_name(rest: &str) -> bool {
    const NAMES: [&str; 9] = [
        "<init>",
        "<clinit>",
        "<module>",
        "<lambda>",
        "<genexpr>",
        "<listcomp>",
        "<dictcomp>",
        "<setcomp>",
        "<anonymous>",
    ];
    NAMES.iter().any(|name| rest.starts_with(name))
}

/// Length of `operator<<` and the like at `at`, so that their signs are not taken for brackets.
fn operator(name: &str, at: usize) -> Option<usize> {
    const WORD: &str = "operator";
    let signs = name[at..].strip_prefix(WORD)?;
    let in_word = name[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let known = [
        "<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", "<", ">", "()", "[]",
    ];
    // `operator<<int>` is `operator<` of `int`: after `<<` there is an argument list or the parameters.
    let sign = known.iter().find(|sign| {
        let after = signs.strip_prefix(**sign);
        after.is_some_and(|after| after.is_empty() || after.starts_with(['<', '(', ' ', '[']))
    });
    let sign = sign.or_else(|| {
        known
            .iter()
            .find(|sign| sign.len() == 1 && signs.starts_with(**sign))
    });
    (!in_word).then_some(WORD.len() + sign?.len())
}

/// Whether the text ends with an operator's name, as `operator<` or `operator< `.
fn behind_operator(before: &str) -> bool {
    let before = before.trim_end_matches(' ');
    let signs = before.trim_end_matches(|c: char| c.is_ascii_punctuation() && c != '_');
    signs.len() < before.len() && signs.ends_with("operator")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_left_out_and_everything_else_stays() {
        for (name, expected) in [
            (
                "std::vector<int, A<int> >::push_back(int&&)",
                "std::vector<…>::push_back(int&&)",
            ),
            (
                "void f<int>(std::map<int, B<C>> const&)",
                "void f<…>(std::map<…> const&)",
            ),
            (
                "A<(B)1>::f()::{lambda(C<int>)#1}::g()",
                "A<…>::f()::{lambda(C<…>)#1}::g()",
            ),
            ("A<(x>y)>::f()", "A<…>::f()"),
            (
                "std::ostream& operator<< <char>(std::ostream&)",
                "std::ostream& operator<< <…>(std::ostream&)",
            ),
            ("bool operator<<int>(A<int>)", "bool operator<<…>(A<…>)"),
            ("bool operator<(A const&)", "bool operator<(A const&)"),
            ("bool operator< <int>(A)", "bool operator< <…>(A)"),
            ("A::operator->() const", "A::operator->() const"),
            ("A<int>::operator()(int)", "A<…>::operator()(int)"),
            ("A<int>::operator[](int)", "A<…>::operator[](int)"),
            (
                "<alloc::vec::Vec<u8> as core::ops::Drop>::drop",
                "<alloc::vec::Vec<…> as core::ops::Drop>::drop",
            ),
            ("a::f::<fn(u8) -> [u8; 4], B<C>>::g", "a::f::<…>::g"),
            ("<[u8; 4] as a::T<u8>>::f", "<[u8; 4] as a::T<…>>::f"),
            ("py::<module>:/srv/a.py", "py::<module>:/srv/a.py"),
            ("LA;::<init>", "LA;::<init>"),
            ("f.<locals>.g", "f.<locals>.g"),
            ("main.Map[go.shape.int,main.P[int]].f", "main.Map[…].f"),
            ("main.(*Set[...]).Add", "main.(*Set[…]).Add"),
            (
                "f[abi:cxx11](A<B>) [clone .cold]",
                "f[abi:cxx11](A<…>) [clone .cold]",
            ),
        ] {
            assert_eq!(short(name).as_deref().unwrap_or(name), expected, "{name}");
        }
    }

    #[test]
    fn names_that_make_no_sense_stay_and_any_text_is_taken() {
        for name in [
            "a<b",
            "a<(b>",
            "f)",
            "a]b<c>",
            "[libz.so.1: no-symbol]",
            "é<",
        ] {
            assert_eq!(short(name), None, "{name}");
        }
        let pieces = [
            "a", "<", ">", "(", ")", "[", "]", "{", "}", "operator", "::", "->", " ", "é",
        ];
        let mut seed = 3u64;
        for _ in 0..20_000 {
            let mut name = String::new();
            for _ in 0..10 {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                name.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            short(&name);
        }
        assert_eq!(short(&"a<".repeat(100_000)), None);
    }

    #[test]
    fn functions_that_differ_in_arguments_are_one_and_no_weight_is_lost() {
        use crate::analysis::HotPaths;
        let mut profile = crate::profile::canned();
        let functions = profile.functions.iter_mut();
        for function in functions.filter(|f| f.name == "mix" || f.name == "hash") {
            function.name = format!("hash<{}>", function.name);
        }
        let shown = shortened(&profile);
        assert_eq!(shown.total_count(), profile.total_count());
        let hot = HotPaths::of(&shown, 10);
        assert_eq!(
            (
                hot.by_self[0].name.as_str(),
                hot.by_self[0].self_weight.ticks
            ),
            ("hash<…>", 60)
        );
    }
}
