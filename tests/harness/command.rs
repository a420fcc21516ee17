//! Runs other programs and turns their failures into errors that name the command and what it said.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A command as one would type it, for messages.
pub fn shown(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// Runs a command to its end and returns what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{}: cannot be run", shown(command)))?;
    check(&shown(command), &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `ip` on many lines at once. `namespace`: where, the current one when `None`.
pub fn ip_batch(namespace: Option<&str>, lines: &[String]) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}: cannot be run (is iproute2 installed?)", shown(&command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that gave up at an early line closes the pipe; its exit status and words say why.
        let _ = stdin.write_all((lines.join("\n") + "\n").as_bytes());
    }
    let output = child.wait_with_output()?;
    let failed = failed_line(&String::from_utf8_lossy(&output.stderr)).and_then(|number| lines.get(number - 1));
    match failed {
        Some(line) => check(&format!("{}: {line}", shown(&command)), &output),
        None => check(&shown(&command), &output),
    }
}

/// The number in `Command failed -:3`, from 1.
fn failed_line(stderr: &str) -> Option<usize> {
    stderr
        .lines()
        .find_map(|line| line.strip_prefix("Command failed -:")?.trim().parse().ok())
        .filter(|&number| number > 0)
}

fn check(what: &str, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    bail!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo no luck >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("no luck"), "{error}");
        assert!(error.contains('3'), "{error}");
    }

    #[test]
    fn the_failed_line_of_a_batch_is_found() {
        assert_eq!(failed_line("RTNETLINK answers: File exists\nCommand failed -:12\n"), Some(12));
        assert_eq!(failed_line("Object \"x\" is unknown\n"), None);
    }
}
