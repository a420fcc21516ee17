//! Rules for Rust code. They look at code whose comments and literals are blanked out, so that words in those mean nothing.

mod blank;

pub use self::blank::without_text;

use super::Faults;

/// Longest file and longest function, in lines.
const FILE_MAX: usize = 450;
const FUNCTION_MAX: usize = 75;

/// The only files that may contain `unsafe`, each for a reason that its first lines give.
const UNSAFE: [&str; 7] = [
    "lb-common/src/abi.rs",
    "lb-ebpf/src/context.rs",
    "lb-ebpf/src/frame.rs",
    "lb-ebpf/src/main.rs",
    "lb-ebpf/src/maps.rs",
    "lb-ebpf/src/word.rs",
    "lb-userspace/src/datapath/lines.rs",
];

/// What must not occur in code, and what to do instead. Blanks do not count.
const FORBIDDEN: [(&str, &str); 6] = [
    ("#[allow(", "allows a lint: expect it, with a reason"),
    ("#![allow(", "allows a lint: expect it, with a reason"),
    ("#[ignore", "ignores a test: mend it, or remove it"),
    ("todo!", "is not finished"),
    ("unimplemented!", "is not finished"),
    ("dbg!(", "prints for debugging"),
];

/// A module that does not say at its very beginning what it is for.
pub fn module_docs(text: &str) -> Faults {
    if text.starts_with("//!") { vec![] } else { vec![(1, "the module does not begin with //!".to_owned())] }
}

/// Files and functions that are too long.
pub fn lengths(text: &str, bare: &str) -> Faults {
    let lines = text.lines().count();
    let mut faults = Faults::new();
    if lines > FILE_MAX {
        faults.push((
            FILE_MAX + 1,
            format!("the file has {lines} lines, {FILE_MAX} are the most: give a part its own file"),
        ));
    }
    for function in functions(bare) {
        if function.lines > FUNCTION_MAX {
            let Function { name, line, lines } = function;
            faults.push((
                line,
                format!("the function {name} has {lines} lines, {FUNCTION_MAX} are the most: split its story"),
            ));
        }
    }
    faults
}

/// What must not occur.
pub fn forbidden(bare: &str) -> Faults {
    let mut faults = Faults::new();
    for (index, line) in bare.lines().enumerate() {
        let dense: String = line.split_whitespace().collect();
        for (what, instead) in FORBIDDEN {
            if dense.match_indices(what).any(|(at, _)| !continues_word(&dense, at)) {
                faults.push((index + 1, instead.to_owned()));
            }
        }
    }
    faults
}

/// `unsafe` where it may not be.
pub fn unsafety(name: &str, bare: &str) -> Faults {
    if UNSAFE.contains(&name) {
        return vec![];
    }
    let has_unsafe = |line: &str| words(line).any(|(_, word)| word == "unsafe");
    let lines = bare.lines().enumerate().filter(|(_, line)| has_unsafe(line));
    lines.map(|(index, _)| (index + 1, "has unsafe, which only the files listed in xtask may".to_owned())).collect()
}

/// A function with a body.
#[derive(PartialEq, Eq, Debug)]
struct Function {
    name: String,
    /// Where it begins, from 1.
    line: usize,
    /// From its `fn` to its closing brace.
    lines: usize,
}

/// Every function that has a body, in the order in which they begin.
fn functions(bare: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    let mut words = words(bare).peekable();
    while let Some((at, word)) = words.next() {
        if word != "fn" {
            continue;
        }
        // A function pointer's type has no name.
        let Some((name_at, name)) = words.peek().filter(|(name_at, _)| bare[at + 2..*name_at].trim().is_empty()) else {
            continue;
        };
        if let Some(end) = end_of_body(bare, name_at + name.len()) {
            let line_of = |at: usize| bare[..at].matches('\n').count() + 1;
            let (line, last) = (line_of(at), line_of(end));
            functions.push(Function { name: (*name).to_owned(), line, lines: last - line + 1 });
        }
    }
    functions
}

/// Where the body that follows `from` ends; `None` if a semicolon comes first.
fn end_of_body(bare: &str, from: usize) -> Option<usize> {
    let (mut brackets, mut braces) = (0_usize, 0_usize);
    for (offset, c) in bare[from..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            '{' if braces > 0 || brackets == 0 => braces += 1,
            '}' if braces > 1 => braces -= 1,
            '}' if braces == 1 => return Some(from + offset),
            ';' if braces == 0 && brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Words with where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.split(move |c| !is_part(c))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word))
}

/// Whether what stands at `at` is the tail of a longer word.
fn continues_word(text: &str, at: usize) -> bool {
    text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(faults: &Faults) -> Vec<usize> {
        faults.iter().map(|(line, _)| *line).collect()
    }

    #[test]
    fn a_module_begins_with_its_purpose() {
        assert!(module_docs("//! Says it.\n").is_empty());
        assert_eq!(lines(&module_docs("#![no_std]\n//! Says it.\n")), [1]);
    }

    #[test]
    fn functions_are_measured_with_their_signature() {
        let code = "fn one() {}\ntrait T {\n    fn no_body(&self);\n    fn two(x: [u8; { 1 + 1 }])\n    {\n        if x { y }\n    }\n}\nlet p: fn(u8);\n";
        let found: Vec<_> = functions(code).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("one".to_owned(), 1, 1), ("two".to_owned(), 4, 4)]);
    }

    #[test]
    fn lengths_are_found_one_past_the_limit_and_not_at_it() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
        let at = |text: &str| lines(&lengths(text, text));
        assert!(at(&function(FUNCTION_MAX)).is_empty());
        assert_eq!(at(&function(FUNCTION_MAX + 1)), [1]);
        assert!(at(&"\n".repeat(FILE_MAX)).is_empty());
        assert_eq!(at(&"\n".repeat(FILE_MAX + 1)), [FILE_MAX + 1]);
    }

    #[test]
    fn forbidden_code_is_found_however_it_is_spaced() {
        let code = "#[allow(dead_code)]\n#![ allow (x)]\n#[ignore]\nfn f() { todo!() }\nnot_todo!();\n#[expect(x)]\n";
        assert_eq!(lines(&forbidden(code)), [1, 2, 3, 4]);
    }

    #[test]
    fn unsafe_is_for_the_listed_files() {
        let code = "#![forbid(unsafe_code)]\nunsafe { x() }\n";
        assert_eq!(lines(&unsafety("lb-common/src/hash.rs", code)), [2]);
        assert!(unsafety(UNSAFE[0], code).is_empty());
    }
}
