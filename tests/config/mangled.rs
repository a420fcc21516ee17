//! Whatever the file says, there is a config or there are faults with places in the text, and never a panic.

use lb_userspace::config::{parse, render};
use proptest::prelude::*;

const FULL: &str = include_str!("../../examples/weir-full.toml");

/// The full example after some edits: stretches cut out, pieces of TOML put in.
fn mangled() -> impl Strategy<Value = String> {
    let pieces = [
        "",
        "0",
        "-1",
        "99999999999999999999",
        "\"",
        "''",
        "[[service]]\n",
        "[service]\n",
        "= ",
        "\n",
        "{",
        "}",
        "true",
        "é",
        "\r",
        "[x]\n",
        "name = \"a\"\n",
        "1979-05-27",
        "nan",
        "\u{1b}[31m",
        "\t",
        "a.b.c = 1\n",
        "\"\"\"\n\"\"\"",
    ];
    let edit = (any::<prop::sample::Index>(), 0_usize..12, proptest::sample::select(pieces.to_vec()));
    proptest::collection::vec(edit, 1..6).prop_map(|edits| {
        edits.into_iter().fold(FULL.to_owned(), |mut text, (at, length, piece)| {
            let start = text.floor_char_boundary(at.index(text.len()));
            let end = text.floor_char_boundary((start + length).min(text.len())).max(start);
            text.replace_range(start..end, piece);
            text
        })
    })
}

proptest! {
    #[test]
    fn a_mangled_file_is_right_or_has_faults(text in mangled()) {
        if let Err(faults) = parse("weir.toml", &text) {
            prop_assert!(!faults.is_empty());
            let lines: Vec<&str> = text.split('\n').collect();
            for fault in &faults {
                prop_assert!(fault.hint.is_some() && fault.start <= fault.end && fault.end <= text.len());
                prop_assert!(fault.line <= lines.len() && fault.column <= lines[fault.line - 1].chars().count() + 1);
            }
            prop_assert!(faults.is_sorted_by_key(|fault| fault.start));
            let rendered = render(&faults, "weir.toml", &text, false);
            prop_assert!(!rendered.contains('\u{1b}'), "{}", rendered);
        }
    }
}
