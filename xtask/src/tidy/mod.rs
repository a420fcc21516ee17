//! `cargo xtask tidy`: the house rules that neither the compiler nor clippy knows.
//!
//! Each rule is a pure function from a file's text to findings; this file says which rule is for which file.

mod code;
mod documents;
mod text;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{output, workspace};

/// Where every reason's name is defined, and where each has a sentence.
const REASONS: &str = "lb-common/src/reason.rs";
const OPERATING: &str = "docs/operating.md";
/// Where the maps' names are.
const NAMES: &str = "lb-common/src/names.rs";

/// A rule broken at one place.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Finding {
    /// Relative to the workspace.
    file: String,
    /// From 1.
    line: usize,
    sentence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.sentence)
    }
}

/// What a rule finds: a line, from 1, and what is wrong there.
type Faults = Vec<(usize, String)>;

/// Prints every finding; an error if there is one.
pub fn main() -> Result<()> {
    let mut findings = Vec::new();
    for (name, text) in sources()? {
        findings.extend(check(&name, &text).into_iter().map(|(line, sentence)| Finding {
            file: name.clone(),
            line,
            sentence,
        }));
    }
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() { Ok(()) } else { bail!("tidy: {} findings", findings.len()) }
}

/// Every text file that git tracks, or would after `git add --all`.
fn sources() -> Result<Vec<(String, String)>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(workspace());
    let names = output(&mut command)?;
    let read = |name: &str| Some((name.to_owned(), fs::read_to_string(workspace().join(name)).ok()?));
    // What cannot be read is gone from the work tree, or is no text.
    Ok(names.split('\0').filter(|name| !name.is_empty()).filter_map(read).collect())
}

/// All rules that are for this file.
fn check(name: &str, text: &str) -> Faults {
    // Fixtures may be wrong on purpose.
    let is_fixture = name.starts_with("tests/fixtures/");
    let mut faults = if is_fixture { Faults::new() } else { text::trailing_whitespace(text) };
    faults.extend(text::local_paths(text));
    faults.extend(text::unfinished(text));
    if Path::new(name).extension().is_some_and(|extension| extension == "rs") {
        let bare = code::without_text(text);
        faults.extend(code::module_docs(text));
        faults.extend(code::lengths(text, &bare));
        faults.extend(code::forbidden(&bare));
        faults.extend(code::unsafety(name, &bare));
    }
    if name == REASONS {
        let operating = fs::read_to_string(workspace().join(OPERATING)).unwrap_or_default();
        faults.extend(documents::undocumented_reasons(text, &operating));
    }
    if name == NAMES {
        faults.extend(documents::long_map_names(text));
    }
    faults
}
