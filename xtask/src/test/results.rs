//! What test binaries report, read from the lines that Rust's test harness ends with, and the summary of all of them.

use std::fmt;
use std::process::ExitStatus;

/// What one test binary came to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outcome {
    passed: u64,
    failed: u64,
    /// Set when the binary ended otherwise than its results say.
    trouble: Option<String>,
    has_result: bool,
}

impl Outcome {
    /// Takes in a line of what the binary prints.
    pub fn read(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let count = |what: &str| -> Option<u64> {
            let part = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(what))?;
            part.trim().parse().ok()
        };
        if let (Some(passed), Some(failed)) = (count(" passed"), count(" failed")) {
            self.passed += passed;
            self.failed += failed;
            self.has_result = true;
        }
    }

    /// Takes in how the binary ended. One that died before it could say what failed counts as one failure.
    pub fn end(&mut self, status: ExitStatus) {
        self.close(status.success(), &status.to_string());
    }

    fn close(&mut self, success: bool, status: &str) {
        if self.failed == 0 && (!success || !self.has_result) {
            self.failed = 1;
            self.trouble = Some(format!("ended with {status} and no result"));
        }
    }
}

/// All outcomes; displayed, a line for each binary and a last line for all.
#[derive(Default)]
pub struct Report {
    outcomes: Vec<(String, Outcome)>,
}

impl Report {
    /// Adds a binary's.
    pub fn add(&mut self, title: String, outcome: Outcome) {
        self.outcomes.push((title, outcome));
    }

    /// Tests that passed.
    pub fn passed(&self) -> u64 {
        self.outcomes.iter().map(|(_, outcome)| outcome.passed).sum()
    }

    /// Tests that failed.
    pub fn failed(&self) -> u64 {
        self.outcomes.iter().map(|(_, outcome)| outcome.failed).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let width = self.outcomes.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
        for (title, outcome) in &self.outcomes {
            let mark = if outcome.failed == 0 { "ok  " } else { "FAIL" };
            write!(f, "{mark} {title:width$} {:5} passed, {} failed", outcome.passed, outcome.failed)?;
            match &outcome.trouble {
                Some(trouble) => writeln!(f, " ({trouble})")?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "{} passed, {} failed", self.passed(), self.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &str, success: bool) -> Outcome {
        let mut outcome = Outcome::default();
        lines.lines().for_each(|line| outcome.read(line));
        outcome.close(success, "exit status: 101");
        outcome
    }

    #[test]
    fn results_are_read_and_summed() {
        let mut report = Report::default();
        let passed = "test a ... ok\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        report.add("a: units".into(), outcome(passed, true));
        let failed = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        report.add("b: units".into(), outcome(failed, false));
        assert_eq!((report.passed(), report.failed()), (4, 2));
        assert!(report.to_string().ends_with("\n4 passed, 2 failed\n"));
        assert!(report.to_string().contains("FAIL b: units"));
    }

    #[test]
    fn a_binary_that_dies_counts_as_a_failure() {
        assert_eq!(outcome("running 3 tests", false).failed, 1);
        assert_eq!(outcome("", true).failed, 1);
        assert_eq!(outcome("test result: ok. 3 passed; 0 failed; 0 ignored", false).failed, 1);
        assert_eq!(outcome("test result: ok. 0 passed; 0 failed; 0 ignored", true).failed, 0);
    }
}
