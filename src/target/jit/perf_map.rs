//! A line of a perf map: where generated code begins, how long it is, what it is called.
//!
//! In: bytes of one line. Out: the [`Code`] it tells of; `None` for anything else, which the caller counts.
//!
//! Source: Linux, `tools/perf/Documentation/jit-interface.txt`: `START SIZE symbolname`, both numbers hexadecimal. HotSpot
//! writes `0x` before them.

/// What a line says. Units: bytes of the process's address space. Never empty, never past the end of user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code<'a> {
    pub start: u64,
    pub size: u64,
    pub name: &'a [u8],
}

/// One past the last address any user code can have (five-level page tables).
const USER_END: u64 = 1 << 56;

pub fn parse(line: &[u8]) -> Option<Code<'_>> {
    let (start, rest) = number(line)?;
    let (size, rest) = number(rest)?;
    let name = rest.trim_ascii();
    let end = start.checked_add(size)?;
    (size > 0 && end <= USER_END && !name.is_empty()).then_some(Code { start, size, name })
}

/// A hexadecimal number and what follows it, which is set apart by white space.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace)?;
    let (digits, rest) = text.split_at(end);
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    Some((u64::from_str_radix(digits, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_runtimes_are_read_and_nonsense_is_not() {
        let code = |start, size, name: &'static str| {
            let name = name.as_bytes();
            Some(Code { start, size, name })
        };
        for (line, expected) in [
            (
                "7f91956be7bc b py::outer:/tmp/spin.py",
                code(0x7f91956be7bc, 0xb, "py::outer:/tmp/spin.py"),
            ),
            (
                "0x00007fd07cec7620 0x00000000000000b8 long Spin.work(long)\r",
                code(0x7fd07cec7620, 0xb8, "long Spin.work(long)"),
            ),
            (
                "18C4000 300 Builtin:A  b ",
                code(0x18c4000, 0x300, "Builtin:A  b"),
            ),
            ("", None),
            ("1000", None),
            ("1000 10", None),
            ("1000 10 ", None),
            ("1000 0 empty", None),
            ("+1000 10 signed", None),
            ("0x 10 nothing", None),
            ("10000000000000000 1 too large", None),
            ("ffffffffffffffff 2 wraps", None),
            ("ffffffff81000000 2 kernel", None),
            ("root:x:0:0:root:/root:/bin/bash", None),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
        assert_eq!(
            parse(b"10 1 \xff\xfe").map(|code| code.name),
            Some(&b"\xff\xfe"[..])
        );
    }
}
