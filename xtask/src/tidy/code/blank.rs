//! Rust code with its comments and literals blanked out, so that what is left is code.

/// The same text, each character of a comment, string or character literal a blank, and every line where it was.
pub fn without_text(source: &str) -> String {
    let mut bare = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let length = text_length(rest, bare.chars().next_back());
        if length == 0 {
            bare.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            let (text, after) = rest.split_at(length);
            bare.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    bare
}

/// How many bytes of comment or literal `rest` begins with, after `previous`.
fn text_length(rest: &str, previous: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    // Not the last letter of a word.
    let starts_word = !previous.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if starts_word { raw_length(rest) } else { 0 }
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let tail = &rest[at..];
        let step = if tail.starts_with("/*") {
            depth += 1;
            2
        } else if tail.starts_with("*/") {
            depth -= 1;
            2
        } else {
            tail.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// A literal that `quote` begins and ends, with escapes.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character, unless it is a lifetime.
fn character_length(rest: &str) -> usize {
    let mut characters = rest.chars().skip(1);
    match (characters.next(), characters.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted_length(rest, '\''),
        _ => 0,
    }
}

/// `r"..."`, `r#"..."#` and their `b` and `c` kin.
fn raw_length(rest: &str) -> usize {
    let Some(hashes_on) = rest.trim_start_matches(['b', 'c']).strip_prefix('r') else { return 0 };
    let hashes = hashes_on.len() - hashes_on.trim_start_matches('#').len();
    let Some(body) = hashes_on[hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    let body_at = rest.len() - body.len();
    body.find(&end).map_or(rest.len(), |at| body_at + at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> String {
        without_text(source).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_become_blanks() {
        assert_eq!(code("a // b \"c\nd /* e /* f */ g */ h"), "a d h");
        assert_eq!(code(r#"f("x { \" y", '{', '\'', '"', b'}')"#), "f( , , , , b )");
        assert_eq!(code("g(r#\"a \" { b\"#, br\"}\", h)"), "g( , , h)");
        assert_eq!(code("fn f<'a>(x: &'a str) -> &'static str {}"), "fn f<'a>(x: &'a str) -> &'static str {}");
        assert_eq!(code("let r = r#fn; bar"), "let r = r#fn; bar");
    }

    #[test]
    fn lines_stay_where_they_are() {
        let source = "a\n\"b\nc\"\n/* d\n*/ e\n";
        let bare = without_text(source);
        assert_eq!(bare.lines().count(), source.lines().count());
        assert_eq!(bare.lines().nth(4).unwrap().trim(), "e");
    }

    #[test]
    fn unfinished_literals_end_with_the_text() {
        for source in ["\"abc", "r#\"abc\"", "/* abc", "'\\", "'"] {
            assert_eq!(without_text(source).chars().count(), source.chars().count());
        }
    }
}
