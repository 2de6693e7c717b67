//! Outside strings made harmless. Function, thread, file and service names come from whoever built or named the target;
//! they may hold escape codes, line breaks, table bars, HTML or text that runs backwards.
//!
//! In: any string. Out: one that shows the same to the reader and does nothing else, for a terminal ([`visible`]) or
//! for one of the places in a Markdown document.

/// Control and invisible characters as visible escapes (`\n`, `\x1b`, `\u{202e}`), everything else as it is.
///
/// Covers C0, DEL, C1, line and paragraph separators, bidirectional overrides and isolates, and zero-width characters.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            _ if is_invisible(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            _ => out.push(c),
        }
    }
    out
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// For running Markdown text: shows as written, never as markup.
pub fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '&' | '!' | '$'
        ) {
            out.push('\\');
        }
        out.push(c);
    }
    // Some renderers turn bare addresses into links.
    out.replace("://", "\\://").replace("www.", "www\\.")
}

/// A Markdown code span, outside of tables.
pub fn code(text: &str) -> String {
    let text = visible(text);
    if text.trim().is_empty() {
        return "–".to_owned();
    }
    let longest = longest_run_of_backticks(&text);
    let fence = "`".repeat(longest + 1);
    // A space at each end is stripped by the reader; it keeps outer backticks (and spaces) apart from the fence.
    let pad = match text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) {
        true => " ",
        false => "",
    };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A code span within a table cell. A bar would end the cell, and renderers disagree on how to escape one within code,
/// so a text with a bar becomes an HTML element in which everything that could be markup is an entity.
pub fn code_cell(text: &str) -> String {
    if !text.contains('|') {
        return code(text);
    }
    let mut out = String::from("<code>");
    for c in visible(text).chars() {
        if c.is_ascii_punctuation() && !matches!(c, '(' | ')' | ',' | ';' | '=' | '+' | '-' | '/') {
            out.push_str(&format!("&#{};", c as u32));
        } else {
            out.push(c);
        }
    }
    out.push_str("</code>");
    out
}

/// Our own sentences, in which outside names stand between backticks: names become code spans, the rest plain text.
/// A name with a backtick in it may be cut differently, but nothing of it is ever markup.
pub fn prose(text: &str) -> String {
    prose_with(text, code)
}

/// The same within a table cell.
pub fn prose_cell(text: &str) -> String {
    prose_with(text, code_cell)
}

fn prose_with(text: &str, code: impl Fn(&str) -> String) -> String {
    if text.matches('`').count() % 2 == 1 {
        return inline(text);
    }
    text.split('`')
        .enumerate()
        .map(|(i, piece)| {
            if i % 2 == 0 {
                inline(piece)
            } else {
                code(piece)
            }
        })
        .collect()
}

fn longest_run_of_backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_act_on() {
        let hostile = "a\x1b[2J\u{9b}31m\r\n\u{202e}txt\u{200b}\u{2028}\0\x7f";
        let shown = visible(hostile);
        assert_eq!(
            shown,
            "a\\x1b[2J\\x9b31m\\r\\n\\u{202e}txt\\u{200b}\\u{2028}\\x00\\x7f"
        );
        assert_eq!(
            visible("std::vec<T>::naïve 漢字"),
            "std::vec<T>::naïve 漢字"
        );
    }

    #[test]
    fn code_spans_cannot_be_left() {
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`x"), "`` `x ``");
        assert_eq!(code(""), "–");
        assert_eq!(code_cell("a|<b>"), "<code>a&#124;&#60;b&#62;</code>");
        assert_eq!(code_cell("operator<<"), "`operator<<`");
        assert_eq!(code_cell("a\nb"), "`a\\nb`");
    }

    #[test]
    fn prose_keeps_its_code_spans_and_escapes_everything_else() {
        assert_eq!(prose("run `a*b` <now>"), "run `a*b` \\<now\\>");
        assert_eq!(prose("odd ` one"), "odd \\` one");
        assert_eq!(prose_cell("in `a|b` | c"), "in <code>a&#124;b</code> \\| c");
        assert_eq!(inline("[x](http://e)"), "\\[x\\](http\\://e)");
        assert_eq!(
            inline("![i](j) <script> a|b"),
            "\\!\\[i\\](j) \\<script\\> a\\|b"
        );
    }
}
