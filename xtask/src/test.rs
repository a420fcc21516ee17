//! `cargo xtask test`: builds every test as the user, then runs each binary with no more privilege than it needs.

mod results;

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use self::results::{Outcome, Report};
use crate::process::{as_root, can_be_root, cargo, describe, mount_bpffs, run};
use crate::setup::{self, Choice, Scope};

/// Test binaries that load programs into the kernel or make namespaces: they run last, as root.
const PRIVILEGED: [&str; 2] = ["datapath", "endtoend"];
/// Test binaries whose tests share the machine, so run one after another.
const SERIAL: [&str; 1] = ["endtoend"];
/// What a test may read from its environment, for sudo to let through.
const ENVIRONMENT: [&str; 7] = ["CI", "PATH", "HOME", "TMPDIR", "RUST_BACKTRACE", "RUST_LOG", "PROPTEST_CASES"];

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Take the machine as it is.
    #[arg(long)]
    no_setup: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Sets up, builds, runs everything; an error if anything failed or nothing ran.
pub fn main(args: &Args) -> Result<()> {
    if !args.no_setup {
        setup::ensure(Scope::Everything, Choice::Auto)?;
    }
    eprintln!("test: building");
    // The tests call these programs.
    run(cargo().args(["build", "--workspace", "--exclude", "xtask", "--bins"]))?;
    let mut binaries = build()?;
    binaries.sort_by_key(|binary| (binary.is_privileged(), binary.title.clone()));
    let privilege = can_be_root();
    if privilege {
        mount_bpffs()?;
    } else {
        eprintln!("test: no root and no sudo without a password: tests that need privilege will say so");
    }
    let mut report = Report::default();
    for binary in binaries {
        let outcome = binary.run(args.filter.as_deref(), privilege)?;
        report.add(binary.title, outcome);
    }
    print!("{report}");
    match (report.failed(), report.passed()) {
        (0, 0) => bail!("no test was run{}", args.filter.as_deref().map(no_match).unwrap_or_default()),
        (0, _) => Ok(()),
        (failed, _) => bail!("{failed} failed"),
    }
}

fn no_match(filter: &str) -> String {
    format!(": no test's name contains {filter:?}")
}

/// A test binary.
struct Binary {
    /// Package and target.
    title: String,
    /// The target's name.
    target: String,
    executable: PathBuf,
    /// Where cargo would run it.
    directory: PathBuf,
}

/// One line of what cargo says about its build.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    manifest_path: PathBuf,
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the tests of the whole workspace.
fn build() -> Result<Vec<Binary>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--tests", "--no-run", "--message-format=json-render-diagnostics"]);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {}", describe(&command)))?;
    let mut messages = String::new();
    child.stdout.take().context("cargo has no output")?.read_to_string(&mut messages)?;
    if !child.wait()?.success() {
        bail!("the tests do not compile");
    }
    messages.lines().filter_map(|line| Binary::from_message(line).transpose()).collect()
}

impl Binary {
    fn from_message(line: &str) -> Result<Option<Self>> {
        let message: Message = serde_json::from_str(line).context("cannot read what cargo says about its build")?;
        let (Some(executable), Some(target), Some(profile)) = (message.executable, message.target, message.profile)
        else {
            return Ok(None);
        };
        if !profile.test {
            return Ok(None);
        }
        let directory = message.manifest_path.parent().unwrap_or(Path::new(".")).to_owned();
        let package = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let what = if target.kind.iter().any(|kind| kind == "test") { target.name.as_str() } else { "units" };
        Ok(Some(Self { title: format!("{package}: {what}"), target: target.name, executable, directory }))
    }

    fn is_privileged(&self) -> bool {
        PRIVILEGED.contains(&self.target.as_str())
    }

    fn command(&self, filter: Option<&str>, privilege: bool) -> Command {
        let mut command = if privilege && self.is_privileged() { as_root("env") } else { Command::new("env") };
        let kept = ENVIRONMENT.iter().filter_map(|name| env::var(name).ok().map(|value| format!("{name}={value}")));
        command.args(kept).arg(format!("CARGO_MANIFEST_DIR={}", self.directory.display()));
        command.arg(&self.executable).args(filter).current_dir(&self.directory);
        if SERIAL.contains(&self.target.as_str()) {
            command.arg("--test-threads=1");
        }
        command
    }

    /// Runs the binary, showing what it prints as it prints it.
    fn run(&self, filter: Option<&str>, privilege: bool) -> Result<Outcome> {
        println!("\n{}", self.title);
        let mut command = self.command(filter, privilege);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut outcome = Outcome::default();
        let output = BufReader::new(child.stdout.take().context("the test has no output")?);
        for line in output.split(b'\n') {
            let line = line.context("cannot read what the test prints")?;
            let mut terminal = std::io::stdout().lock();
            terminal.write_all(&line)?;
            terminal.write_all(b"\n")?;
            outcome.read(&String::from_utf8_lossy(&line));
        }
        outcome.end(child.wait()?);
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, test: bool) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"/src/tests/Cargo.toml","executable":"/out/x",
               "target":{{"name":"endtoend","kind":["{kind}"]}},"profile":{{"test":{test}}}}}"#
        )
    }

    #[test]
    fn test_binaries_are_told_from_other_artefacts() {
        let binary = Binary::from_message(&message("test", true)).unwrap().unwrap();
        assert_eq!((binary.title.as_str(), binary.is_privileged()), ("tests: endtoend", true));
        assert!(Binary::from_message(&message("bin", false)).unwrap().is_none());
        assert!(Binary::from_message(r#"{"reason":"build-finished","success":true}"#).unwrap().is_none());
    }
}
