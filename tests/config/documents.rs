//! The examples and the reference page: everything in them parses, and they have every key that the reader knows.

use std::path::{Path, PathBuf};

use lb_userspace::config::{load, parse, render};

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn reference() -> String {
    std::fs::read_to_string(at_root("docs/configuration.md")).unwrap()
}

/// The text of every ```` ```toml ```` block.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_example_is_valid() {
    let entries = std::fs::read_dir(at_root("examples")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    assert!(files.len() >= 2);
    for file in files {
        load(&file).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_block_of_the_reference_is_valid() {
    let page = reference();
    let blocks = blocks(&page);
    assert!(blocks.len() >= 9, "{}", blocks.len());
    for block in blocks {
        // Blocks that show one table are completed to a whole file.
        let version = if block.contains("version =") { "" } else { "version = 1\n" };
        let interface = if block.contains("[[interface]]") { "" } else { "\n[[interface]]\nname = \"eth0\"\n" };
        let text = format!("{version}{block}{interface}");
        if let Err(diagnostics) = parse("block", &text) {
            panic!("{}", render(&diagnostics, "block", &text, false));
        }
    }
}

#[test]
fn the_reference_shows_the_minimal_example_as_it_is() {
    let page = reference();
    let example = std::fs::read_to_string(at_root("examples/weir.toml")).unwrap();
    let (_, without_comment) = example.split_once('\n').unwrap();
    assert_eq!(blocks(&page)[0], without_comment);
}

/// The keys that the reader knows in every table, from its own mouth.
fn known_keys() -> Vec<String> {
    let text = "version = 1\nqqqqqq = 1\n[[interface]]\nname = \"eth0\"\nqqqqqq = 1\n[nat]\nqqqqqq = 1\n[timeouts]\n\
                qqqqqq = 1\n[metrics]\nqqqqqq = 1\n[[service]]\nname = \"a\"\nvip = \"192.0.2.1\"\nport = 1\n\
                qqqqqq = 1\n[service.health]\nqqqqqq = 1\n[[service.backend]]\naddress = \"10.0.0.1:1\"\nqqqqqq = 1\n";
    let diagnostics = parse("keys", text).unwrap_err();
    assert_eq!(diagnostics.len(), 8, "{}", render(&diagnostics, "keys", text, false));
    let hints = diagnostics.iter().map(|diagnostic| diagnostic.hint.clone().unwrap());
    hints
        .flat_map(|hint| {
            hint.strip_prefix("it is one of: ").unwrap().split(", ").map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_key_is_in_the_reference_and_in_both_full_examples() {
    let page = reference();
    let full = std::fs::read_to_string(at_root("examples/weir-full.toml")).unwrap();
    let last = *blocks(&page).last().unwrap();
    let keys = known_keys();
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        assert!(page.contains(&format!("| `{key}` |")), "docs/configuration.md has no row for {key}");
        for (name, example) in [("examples/weir-full.toml", &*full), ("the full example of the reference", last)] {
            let forms = [format!("{key} ="), format!("[{key}]"), format!(".{key}]")];
            assert!(forms.iter().any(|form| example.contains(form.as_str())), "{name} has no {key}");
        }
    }
}

#[test]
fn limits_and_defaults_in_the_reference_are_the_real_ones() {
    use lb_common::limits;
    let page = reference();
    for limit in [
        limits::SESSIONS_DEFAULT.to_string(),
        format!("{} to {}", limits::SESSIONS_MIN, limits::SESSIONS_MAX),
        format!("1 to {}", limits::DEVICES_MAX),
        format!("at most {}", limits::SERVICES_MAX),
        format!("at most {}; {} in all", limits::SERVICE_BACKENDS_MAX, limits::BACKENDS_MAX),
        format!("0 to {}", limits::WEIGHT_MAX),
    ] {
        assert!(page.contains(&limit), "docs/configuration.md does not say {limit:?}");
    }
}
