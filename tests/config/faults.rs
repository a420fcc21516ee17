//! Wrong files: `tests/fixtures/config/NAME.toml` and, beside it, all that must be said about it in `NAME.expected`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lb_userspace::config::{ConfigError, Diagnostic, load, parse, render};

/// Rewrites the expected files from what is said now; the run fails all the same, so that nobody leaves it on.
const REWRITE: &str = "WEIR_REWRITE_EXPECTED";

fn fixtures() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

/// `line:column: message`, then the related place and the fix, indented.
fn listing(diagnostics: &[Diagnostic]) -> String {
    let mut listing = String::new();
    for diagnostic in diagnostics {
        writeln!(listing, "{}:{}: {}", diagnostic.line, diagnostic.column, diagnostic.message).unwrap();
        if let Some(related) = &diagnostic.related {
            writeln!(listing, "    {}:{}: {}", related.line, related.column, related.message).unwrap();
        }
        if let Some(hint) = &diagnostic.hint {
            writeln!(listing, "    help: {hint}").unwrap();
        }
    }
    listing
}

#[test]
fn every_fault_of_every_wrong_file_is_told_with_its_place() {
    let files = fixtures();
    assert!(files.len() >= 45, "{} files", files.len());
    let mut mismatches = String::new();
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(path).unwrap();
        let told = match parse(&name, &text) {
            Ok(config) => format!("valid: {config:#?}\n"),
            Err(diagnostics) => listing(&diagnostics),
        };
        let expected_path = path.with_extension("expected");
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if told != expected {
            write!(mismatches, "=== {name}\n--- expected\n{expected}--- told\n{told}").unwrap();
            if std::env::var_os(REWRITE).is_some() {
                std::fs::write(&expected_path, told).unwrap();
            }
        }
    }
    assert!(mismatches.is_empty(), "{mismatches}");
    assert!(std::env::var_os(REWRITE).is_none(), "{REWRITE} is set: nothing was checked");
}

#[test]
fn every_expected_file_belongs_to_a_wrong_file() {
    let directory = fixtures()[0].parent().unwrap().to_owned();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("toml").exists() && path.with_extension("expected").exists(), "{}", path.display());
    }
}

#[test]
fn every_fault_has_a_way_out_and_its_text_underlined() {
    for path in fixtures() {
        let text = std::fs::read_to_string(&path).unwrap();
        for diagnostic in parse("weir.toml", &text).unwrap_err() {
            let rendered = render(std::slice::from_ref(&diagnostic), "weir.toml", &text, false);
            let whole = format!("{}: {diagnostic:?}\n{rendered}", path.display());
            assert!(diagnostic.hint.is_some(), "{whole}");
            assert!(rendered.contains(&diagnostic.message), "{whole}");
            assert!(rendered.contains(&format!("weir.toml:{}:{}", diagnostic.line, diagnostic.column)), "{whole}");
            assert!(rendered.lines().any(|line| line.contains('^')), "{whole}");
            assert!(!rendered.contains('\u{1b}'), "{whole}");
        }
    }
}

const WRONG: &str = "version = 1\n[[interface]]\nname = \"eth0\"\nmode = \"drv\"\n[nat]\nports = \"5\"\n";

#[test]
fn faults_are_shown_as_a_compiler_would() {
    let diagnostics = parse("weir.toml", WRONG).unwrap_err();
    let expected = "\
error: interface \"eth0\": mode \"drv\" is not one that weir knows
 --> weir.toml:4:8
  |
4 | mode = \"drv\"
  |        ^^^^^
  |
  = help: it is one of: native, generic, auto

error: [nat]: ports \"5\" is not a range of ports
 --> weir.toml:6:9
  |
6 | ports = \"5\"
  |         ^^^
  |
  = help: write the first and the last port, as in \"1024-32767\"";
    assert_eq!(render(&diagnostics, "weir.toml", WRONG, false), expected);
    let coloured = render(&diagnostics, "weir.toml", WRONG, true);
    assert!(coloured.contains('\u{1b}'), "{coloured}");
}

#[test]
fn faults_are_json_for_editors() {
    let diagnostics = parse("weir.toml", WRONG).unwrap_err();
    let json = serde_json::to_value(&diagnostics).unwrap();
    assert_eq!(
        json[0],
        serde_json::json!({
            "file": "weir.toml",
            "line": 4,
            "column": 8,
            "start": 47,
            "end": 52,
            "message": "interface \"eth0\": mode \"drv\" is not one that weir knows",
            "hint": "it is one of: native, generic, auto",
        })
    );
    assert_eq!(&WRONG[47..52], "\"drv\"");
}

#[test]
fn a_loaded_file_tells_its_name_and_its_faults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.toml");
    std::fs::write(&path, WRONG).unwrap();
    let error = load(&path).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("config file {}: 2 faults\nerror: interface", path.display())), "{text}");
    assert!(text.contains(&format!("{}:6:9", path.display())), "{text}");
    assert!(matches!(&error, ConfigError::Invalid { diagnostics, .. } if diagnostics.len() == 2));
    assert!(error.render(true).contains('\u{1b}'));
}

#[test]
fn files_that_cannot_be_read_say_why_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("weir.toml");
    let text = load(&missing).unwrap_err().to_string();
    assert!(text.contains(&missing.display().to_string()) && text.contains("No such file"), "{text}");
    assert!(text.contains("examples/weir.toml"), "{text}");
    let text = load(directory.path()).unwrap_err().to_string();
    assert!(text.contains("name the file in it"), "{text}");
    std::fs::write(&missing, b"version = 1 # \xff\n").unwrap();
    let text = load(&missing).unwrap_err().to_string();
    assert!(text.contains("save it as UTF-8"), "{text}");
}
