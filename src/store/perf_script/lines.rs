//! One line at a time: what begins a sample, a frame, a frame's place in the source.

use std::io::BufRead;

/// Of the line that begins a sample. What perf was not asked to print is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Header<'a> {
    /// May hold blanks, colons and digits; empty where not printed.
    pub(super) comm: &'a str,
    pub(super) pid: Option<u32>,
    pub(super) tid: Option<u32>,
    /// Whole seconds, and nanoseconds.
    pub(super) seconds: Option<(u64, u32)>,
    pub(super) period: Option<u64>,
    /// As perf prints it, without the colon that ends it.
    pub(super) event: Option<&'a str>,
    /// What follows: nothing, a tracepoint's text, or the frame of a sample without a call chain.
    pub(super) rest: &'a str,
}

/// A frame as printed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Frame<'a> {
    pub(super) address: Option<u64>,
    /// Empty where perf knows none.
    pub(super) name: &'a str,
    /// Between the parentheses at the end; empty where not printed or not known.
    pub(super) dso: &'a str,
    pub(super) inlined: bool,
}

/// All lines, numbered from 1, without their ends.
pub(super) fn numbered(content: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    lines.map(|(i, line)| (i + 1, line.strip_suffix(b"\r").unwrap_or(line)))
}

/// A sample's lines: the one that begins it, empty where perf printed none, and those of its stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    /// Number of the first line, and of the first of the stack.
    pub(super) line: usize,
    pub(super) header: &'a [u8],
    pub(super) stack_line: usize,
    pub(super) stack: &'a [u8],
}

/// All samples of a text, and other records, which have no stack.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn of(content: &'a [u8]) -> Blocks<'a> {
        Blocks {
            rest: content,
            line: 1,
        }
    }

    fn peek(&self) -> &'a [u8] {
        let length = (&mut &*self.rest).skip_until(b'\n');
        &self.rest[..length.expect("memory can be read")]
    }

    fn advance(&mut self, line: &[u8]) {
        self.rest = &self.rest[line.len()..];
        self.line += 1;
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        let first = loop {
            let line = self.peek();
            if line.is_empty() {
                return None;
            }
            if line[0] != b'#' && !line.trim_ascii().is_empty() {
                break line;
            }
            self.advance(line);
        };
        let line = self.line;
        let header = match first[0] {
            b'\t' => &[][..],
            _ => {
                self.advance(first);
                first.trim_ascii_end()
            }
        };
        let (stack_line, start) = (self.line, self.rest);
        loop {
            let line = self.peek();
            if !is_of_stack(line) {
                break;
            }
            self.advance(line);
        }
        Some(Block {
            line,
            header,
            stack_line,
            stack: &start[..start.len() - self.rest.len()],
        })
    }
}

/// Frames are indented, mostly by a tab; so are first lines of samples without stacks, by blanks. Source code, where it
/// was printed, begins with a bar.
fn is_of_stack(line: &[u8]) -> bool {
    if line.trim_ascii().is_empty() {
        return false;
    }
    match line[0] {
        b'\t' | b'|' => true,
        b' ' => {
            let line = String::from_utf8_lossy(line);
            !header(&line).is_some_and(|header| {
                header.seconds.is_some() || (header.tid.is_some() && header.event.is_some())
            })
        }
        _ => false,
    }
}

/// The line that begins a sample, if it is one. A command name may look like anything, so the first word counts from
/// which on all makes sense: a thread, then perhaps CPU, time, period and event.
pub(super) fn header(line: &str) -> Option<Header<'_>> {
    let start = line.len() - line.trim_start().len();
    let mut at = start;
    loop {
        let comm = line[start..at].trim_end();
        if let Some(header) = behind_comm(&line[at..]) {
            return Some(Header { comm, ..header });
        }
        let (_, rest) = word(&line[at..]);
        if rest.is_empty() {
            break;
        }
        at = line.len() - rest.len();
    }
    // Only the name was printed.
    let comm = line.trim();
    (!comm.is_empty() && !comm.contains(':')).then_some(Header {
        comm,
        ..Header::default()
    })
}

/// All behind the command name, unless that does not end here.
fn behind_comm(text: &str) -> Option<Header<'_>> {
    let mut header = Header::default();
    let mut rest = text;
    let (first, behind) = word(rest);
    if let Some((pid, tid)) = thread(first) {
        (header.pid, header.tid) = (pid, Some(tid));
        rest = behind;
    }
    let (cpu, behind) = word(rest);
    let cpu = cpu.strip_prefix('[').and_then(|cpu| cpu.strip_suffix(']'));
    if cpu.and_then(number).is_some() {
        rest = behind;
    }
    let (first, behind) = word(rest);
    if let Some(seconds) = time(first) {
        header.seconds = Some(seconds);
        rest = behind;
    }
    let (first, behind) = word(rest);
    let then = word(behind).0;
    if let Some(period) = number(first).filter(|_| then.is_empty() || event(then).is_some()) {
        header.period = Some(period);
        rest = behind;
    }
    let (first, behind) = word(rest);
    if let Some(event) = event(first) {
        header.event = Some(event);
        rest = behind;
    }
    header.rest = rest;
    let event = header.event.is_some();
    let of_thread = header.tid.is_some() && (event || rest.is_empty());
    (header.seconds.is_some() || of_thread || (event && rest.is_empty())).then_some(header)
}

/// The first word, and what stands behind it and its blanks.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `12`, `12/13`, or perf's `-1`.
fn thread(text: &str) -> Option<(Option<u32>, u32)> {
    let id = |text: &str| match text {
        "-1" => Some(0),
        _ => number(text)?.try_into().ok(),
    };
    match text.split_once('/') {
        Some((pid, tid)) => Some((Some(id(pid)?), id(tid)?)),
        None => Some((None, id(text)?)),
    }
}

/// `1344.003393:`, with six digits or nine.
fn time(text: &str) -> Option<(u64, u32)> {
    let (seconds, fraction) = text.strip_suffix(':')?.split_once('.')?;
    let digits = number(fraction).filter(|_| fraction.len() <= 9)?;
    let ns = digits * 10u64.pow(9 - fraction.len() as u32);
    Some((number(seconds)?, ns as u32))
}

/// `cpu-clock:pppH:`
fn event(text: &str) -> Option<&str> {
    let event = text.strip_suffix(':')?;
    let letter = event.bytes().any(|b| b.is_ascii_alphabetic());
    (letter && !event.ends_with(':')).then_some(event)
}

/// A line of a stack: address, name with the offset in it, file.
pub(super) fn frame(line: &str) -> Option<Frame<'_>> {
    let line = line.trim();
    let (text, dso) = split_dso(line);
    let inlined = dso == "inlined";
    let (first, behind) = word(text);
    let hexadecimal = first.bytes().all(|b| b.is_ascii_hexdigit());
    let address = match hexadecimal && !(behind.is_empty() && inlined) {
        true => u64::from_str_radix(first, 16).ok(),
        false => None,
    };
    let name = match address {
        Some(_) => behind,
        None if inlined => text,
        None => return None,
    };
    let name = without_offset(name.trim());
    Some(Frame {
        address,
        name: if name == "[unknown]" { "" } else { name },
        dso: match without_offset(dso) {
            "[unknown]" | "inlined" => "",
            dso => dso,
        },
        inlined,
    })
}

/// The last parentheses that a blank stands before, and what stands before it. Files' names may hold parentheses, as in
/// `(/memfd:x (deleted))`; those of C++ types have no blank before them.
fn split_dso(line: &str) -> (&str, &str) {
    let mut open = 0i64;
    for (i, byte) in line.bytes().enumerate().rev() {
        match byte {
            b')' => open += 1,
            b'(' => open -= 1,
            _ => {}
        }
        if open == 0 {
            let text = line
                .get(..i)
                .and_then(|text| text.strip_suffix([' ', '\t']));
            let dso = line.get(i + 1..line.len() - 1);
            let both = text.zip(dso).filter(|_| byte == b'(');
            return both.unwrap_or((line, ""));
        }
    }
    (line, "")
}

fn without_offset(name: &str) -> &str {
    match name.rsplit_once("+0x") {
        Some((name, offset)) if offset.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => name,
    }
}

/// `  dl-reloc.c:170` below a frame; `None` where perf does not know either and prints `??:0`, or the address again.
pub(super) fn place(line: &str) -> Option<(&str, u32)> {
    let (file, number) = line.trim().rsplit_once(':')?;
    let number = number.split_whitespace().next()?; // a discriminator may follow
    let known = file != "??" && !file.is_empty();
    Some((file, number.parse().ok()?)).filter(|_| known)
}
