//! Rust source with comments and literals blanked out, so that a rule about code does not stumble over prose.
//!
//! In: the text of a file. Out: a text of as many lines, in which only code is left. A lexer of a few states and no
//! more: it knows nothing of grammar.

/// Blanks comments, strings and character literals with spaces; newlines stay.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).filter(|_| !inside_identifier(&chars, at));
        match end {
            Some(end) => {
                let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
                code.extend(chars[at..end].iter().map(blank));
                at = end;
            }
            None => {
                code.push(chars[at]);
                at += 1;
            }
        }
    }
    code
}

/// One past the comment or literal that begins at `at`; `None` when code stands there.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    match (chars[at], chars.get(at + 1)) {
        ('/', Some('/')) => Some(find(chars, at, |c| c == '\n')),
        ('/', Some('*')) => Some(block_comment_end(chars, at)),
        ('"', _) => Some(quoted_end(chars, at, '"')),
        ('b' | 'c', Some('"')) => Some(quoted_end(chars, at + 1, '"')),
        ('b', Some('\'')) => Some(quoted_end(chars, at + 1, '\'')),
        ('r', Some('"' | '#')) => raw_string_end(chars, at + 1),
        ('b' | 'c', Some('r')) => raw_string_end(chars, at + 2),
        // A lifetime has no closing quote two places on.
        ('\'', Some('\\')) => Some(quoted_end(chars, at, '\'')),
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => Some(at + 3),
        _ => None,
    }
}

fn inside_identifier(chars: &[char], at: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    at > 0 && is_word(chars[at]) && is_word(chars[at - 1])
}

fn find(chars: &[char], from: usize, test: impl Fn(char) -> bool) -> usize {
    let found = chars[from..].iter().position(|c| test(*c));
    found.map_or(chars.len(), |offset| from + offset)
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

/// `open` is the place of the opening quote.
fn quoted_end(chars: &[char], open: usize, quote: char) -> usize {
    let mut at = open + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `at` is the place after the `r`: hashes or a quote. `None` for a raw identifier such as `r#type`.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let open = find(chars, at, |c| c != '#');
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let hashes = open - at;
    let closes = |place: usize| {
        chars[place] == '"'
            && chars[place + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    let close = (open + 1..chars.len()).find(|place| closes(*place));
    Some(close.map_or(chars.len(), |close| close + 1 + hashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_goes_and_code_stays() {
        for (text, code) in [
            ("a // b\nc", "a\nc"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"f("unsafe \" x", y)"#, "f( , y)"),
            ("f(r#\"a \" b\"#, z)", "f( , z)"),
            ("f(br\"a\\\", z)", "f( , z)"),
            (
                "let c = 'x'; let q = '\\''; fn f<'a>(x: &'a str)",
                "let c = ; let q = ; fn f<'a>(x: &'a str)",
            ),
            ("r#type var\"x\"", "r#type var"),
            ("\"never closed", ""),
            ("/* never closed", ""),
        ] {
            let squeeze = |text: &str| -> String {
                let lines = text
                    .lines()
                    .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
                lines.collect::<Vec<_>>().join("\n")
            };
            assert_eq!(squeeze(&code_only(text)), squeeze(code), "{text}");
        }
    }

    #[test]
    fn lines_keep_their_numbers() {
        let text = "a\n\"b\nc\"\n/*\n*/ d\n";
        assert_eq!(code_only(text).lines().count(), text.lines().count());
    }
}
