//! What goes from the middle of a name to make it canonical, in one walk from left to right: see [`super::canonical`]
//! for the rules.

use std::borrow::Cow;

use super::canonical::is_lower_hex;

/// A piece of the input that was recognised, and what stands for it.
struct Piece {
    bytes: usize,
    instead: Cow<'static, str>,
    /// The `::` in front goes too.
    joins: bool,
}

impl Piece {
    fn replaced(bytes: usize, instead: impl Into<Cow<'static, str>>) -> Option<Piece> {
        Some(Piece {
            bytes,
            instead: instead.into(),
            joins: false,
        })
    }
}

/// Spellings that are replaced wherever a word begins.
const SPELLINGS: [(&str, &str); 6] = [
    ("std::__cxx11::", "std::"),
    ("std::__1::", "std::"),
    ("std::__ndk1::", "std::"),
    ("{anonymous}", "(anonymous namespace)"),
    ("_GLOBAL__N_1::", "(anonymous namespace)::"),
    // Closing template arguments, as older standards had to write them.
    ("> >", ">>"),
];

/// Longer braces hold no part of a Rust path, and are not searched for their end.
const MAX_PART_BYTES: usize = 256;

/// First bytes of all pieces below.
const FIRST_BYTES: &[u8] = b"s{_>[#$:b";

/// `name` with every known piece replaced.
pub(super) fn rewritten(name: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while at < name.len() {
        if !FIRST_BYTES.contains(&name.as_bytes()[at]) {
            at += 1;
            continue;
        }
        match piece(name, at) {
            Some(piece) => {
                out.push_str(&name[copied..at]);
                if piece.joins && out.ends_with("::") {
                    out.truncate(out.len() - 2);
                }
                out.push_str(&piece.instead);
                at += piece.bytes;
                copied = at;
            }
            None => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(name);
    }
    out.push_str(&name[copied..]);
    Cow::Owned(out)
}

/// The piece that begins at `at`, which is the beginning of a character.
fn piece(name: &str, at: usize) -> Option<Piece> {
    let rest = &name[at..];
    let before = name[..at].bytes().next_back();
    let in_word = before.is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_');
    match rest.as_bytes()[0] {
        b'>' => closing_brackets(rest),
        b's' | b'_' if !in_word => spelling(rest),
        b'{' => spelling(rest).or_else(|| rust_part(rest)),
        b'#' => number_in_braces(rest),
        b'$' => lambda_class(rest).or_else(|| local_class(rest, before)),
        b'[' => abi_tag(rest).or_else(|| disambiguator(rest, in_word)),
        b':' if at > 0 => tier(name, at),
        b'b' if at == 0 => bpf_tag(rest),
        _ => None,
    }
}

fn spelling(rest: &str) -> Option<Piece> {
    let (from, to) = SPELLINGS.iter().find(|(from, _)| rest.starts_with(from))?;
    Piece::replaced(from.len(), *to)
}

/// `> > >` in one go: the last bracket may be the first of the next pair.
fn closing_brackets(rest: &str) -> Option<Piece> {
    let pairs = rest.as_bytes()[1..].chunks_exact(2);
    let more = pairs.take_while(|pair| pair == b" >").count();
    if more == 0 {
        return None;
    }
    Piece::replaced(1 + 2 * more, ">".repeat(1 + more))
}

/// `{closure#1}`, `{shim:vtable#0}` and others of Rust's v0 scheme, in the words of the legacy scheme.
fn rust_part(rest: &str) -> Option<Piece> {
    let end = rest.bytes().take(MAX_PART_BYTES).position(|c| c == b'}')?;
    let inner = &rest[1..end];
    let (part, number) = inner.rsplit_once('#')?;
    let (kind, name) = part.split_once(':').unwrap_or((part, ""));
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let known = !kind.is_empty() && kind.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
    if !known || kind == "lambda" || !name.bytes().all(word) || !is_number(number) {
        return None;
    }
    let is_shim = kind == "shim" && !name.is_empty();
    Some(Piece {
        bytes: inner.len() + 2,
        instead: Cow::Owned(match (is_shim, name) {
            (true, name) => format!("{{{{{name}.shim}}}}"),
            (false, "") => format!("{{{{{kind}}}}}"),
            (false, name) => format!("{{{{{kind}:{name}}}}}"),
        }),
        joins: is_shim,
    })
}

/// The number of a lambda or a type without a name: `#2}`.
fn number_in_braces(rest: &str) -> Option<Piece> {
    let digits = digits(&rest[1..]);
    let closes = rest[1 + digits..].starts_with('}');
    if digits == 0 || !closes {
        return None;
    }
    Piece::replaced(1 + digits, "")
}

/// Clang's lambdas in functions of one file only: `$_3`.
fn local_class(rest: &str, before: Option<u8>) -> Option<Piece> {
    let digits = digits(rest.strip_prefix("$_")?);
    let whole = matches!(before, None | Some(b':' | b'<' | b' ' | b'('));
    if digits == 0 || !whole {
        return None;
    }
    Piece::replaced(2 + digits, "$_")
}

/// Classes that a Java machine makes up while running: `$$Lambda$14/0x00007f0012345678`, since JDK 21 without the
/// first number. Source: JEP 371, hidden classes.
fn lambda_class(rest: &str) -> Option<Piece> {
    const MARK: &str = "$$Lambda";
    let mut end = MARK.len();
    let mut after = rest.strip_prefix(MARK)?;
    if let Some(number) = after.strip_prefix('$') {
        end += 1 + digits(number);
        after = &rest[end..];
    }
    let address = ["/0x", "+0x"]
        .iter()
        .find_map(|mark| after.strip_prefix(mark));
    if let Some(address) = address {
        end += 3 + address.bytes().take_while(u8::is_ascii_hexdigit).count();
    }
    if end == MARK.len() {
        return None;
    }
    Piece::replaced(end, MARK)
}

/// `[abi:cxx11]`. Source: Itanium C++ ABI §5.1.2, ABI tags.
fn abi_tag(rest: &str) -> Option<Piece> {
    let tag = rest.strip_prefix("[abi:")?;
    let length = tag
        .bytes()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == b'_')
        .count();
    if !tag[length..].starts_with(']') {
        return None;
    }
    Piece::replaced("[abi:".len() + length + 1, "")
}

/// A Rust crate's `[8df42ad3d5e4d5c8]`, directly behind its name. Source: Rust RFC 2603; printed without leading zeros,
/// and as it is a hash, hardly ever with fewer than 8 digits.
fn disambiguator(rest: &str, behind_name: bool) -> Option<Piece> {
    let digits = rest[1..].bytes().take_while(|c| is_lower_hex(*c)).count();
    let closes = rest[1 + digits..].starts_with("]::");
    if !behind_name || !closes || !(8..=16).contains(&digits) {
        return None;
    }
    Piece::replaced(digits + 2, "")
}

/// V8's mark of how well a function is optimised, behind the kind of code: `JS:*`, `LazyCompile:~`.
fn tier(name: &str, at: usize) -> Option<Piece> {
    let kinds = ["JS", "LazyCompile", "Function", "Script", "Eval"];
    let marked = name[at + 1..].starts_with(['~', '^', '+', '*']);
    if !marked || !kinds.contains(&&name[..at]) {
        return None;
    }
    Piece::replaced(2, ":")
}

/// `bpf_prog_<16 hex>_`: without a name the tag is all there is. Source: Linux `bpf_get_prog_name`.
fn bpf_tag(rest: &str) -> Option<Piece> {
    const PREFIX: &str = "bpf_prog_";
    const TAG_DIGITS: usize = 16;
    let tag = rest.strip_prefix(PREFIX)?;
    let digits = tag.bytes().take_while(|c| is_lower_hex(*c)).count();
    let name = tag.get(TAG_DIGITS..)?.strip_prefix('_')?;
    if digits != TAG_DIGITS || name.is_empty() {
        return None;
    }
    Piece::replaced(PREFIX.len() + TAG_DIGITS + 1, PREFIX)
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && digits(text) == text.len()
}
