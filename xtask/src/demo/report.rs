//! What the demo saw, held against what must be true: pure functions over reports, and the table of all.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::Deserialize;

/// What `weir-lab load --json` prints. Times are milliseconds since the epoch.
#[derive(Clone, Default, Deserialize)]
pub struct Load {
    /// Requests that were started.
    pub requests: u64,
    /// Those without a whole answer.
    pub failed: u64,
    /// Answers by backend.
    pub by_backend: BTreeMap<String, u64>,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// When the failed request that was started last was started.
    pub last_failure_ms: Option<u64>,
}

/// A request that failed.
#[derive(Clone, Deserialize)]
pub struct Failure {
    /// When it had failed.
    pub failed_at_ms: u64,
    /// What happened.
    pub error: String,
}

/// What the demo needs of what `weir -o json status` prints.
#[derive(Deserialize)]
pub struct Snapshot {
    interfaces: Vec<Interface>,
    services: Vec<Service>,
    verdicts: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Interface {
    mode: String,
}

#[derive(Deserialize)]
struct Service {
    backends: Vec<Backend>,
}

#[derive(Deserialize)]
struct Backend {
    eligible: bool,
}

#[derive(Deserialize)]
struct Verdict {
    verdict: String,
    packets: u64,
}

impl Snapshot {
    /// Backends that take new flows.
    pub fn eligible(&self) -> usize {
        self.services.iter().flat_map(|service| &service.backends).filter(|backend| backend.eligible).count()
    }

    /// Whether the program is attached in the driver, everywhere.
    pub fn is_native(&self) -> bool {
        !self.interfaces.is_empty() && self.interfaces.iter().all(|interface| interface.mode == "native")
    }

    /// Packets that the datapath rewrote and sent on.
    pub fn transmitted(&self) -> u64 {
        self.verdicts.iter().filter(|verdict| verdict.verdict == "transmit").map(|verdict| verdict.packets).sum()
    }
}

/// How far a backend's answers are from an equal share at most, in per mille of that share.
pub fn deviation(by_backend: &BTreeMap<String, u64>, backends: &[String]) -> u64 {
    let answers = |name: &String| by_backend.get(name).copied().unwrap_or(0);
    let share = by_backend.values().sum::<u64>() / (backends.len() as u64).max(1);
    let far = |name: &String| (answers(name).abs_diff(share) * 1_000).checked_div(share).unwrap_or(1_000);
    backends.iter().map(far).max().unwrap_or(0)
}

/// How long after the kill requests still failed; `None` when none did.
pub fn failover(load: &Load, killed_ms: u64) -> Option<Duration> {
    load.last_failure_ms.map(|last| Duration::from_millis(last.saturating_sub(killed_ms)))
}

/// Whether a request failed while nothing was wrong yet.
pub fn failed_before(load: &Load, killed_ms: u64) -> bool {
    load.failures.iter().any(|failure| failure.failed_at_ms < killed_ms)
}

/// Everything that the demo saw.
#[derive(Default)]
pub struct Report {
    rows: Vec<(String, Load)>,
    expectations: Vec<(String, bool)>,
}

impl Report {
    /// Adds what a load found.
    pub fn saw(&mut self, title: &str, load: Load) {
        self.rows.push((title.to_owned(), load));
    }

    /// Adds what must be true, and whether it is.
    pub fn expect(&mut self, holds: bool, what: String) {
        self.expectations.push((what, holds));
    }

    /// What must be true and is not.
    pub fn broken(&self) -> Vec<&str> {
        self.expectations.iter().filter(|(_, holds)| !holds).map(|(what, _)| what.as_str()).collect()
    }

    fn line(&self, first: &str, rest: &[String]) -> String {
        let width = self.rows.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
        let mut line = format!("{first:width$}");
        for cell in rest {
            // Writing to a string cannot fail.
            let _ = write!(line, "  {cell:>9}");
        }
        line
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut backends: Vec<&String> = self.rows.iter().flat_map(|(_, load)| load.by_backend.keys()).collect();
        backends.sort_unstable();
        backends.dedup();
        let headings =
            ["requests", "failed"].into_iter().map(str::to_owned).chain(backends.iter().map(|&name| name.clone()));
        writeln!(f, "{}", self.line("", &headings.collect::<Vec<_>>()))?;
        for (title, load) in &self.rows {
            let answers = backends.iter().map(|&name| load.by_backend.get(name).copied().unwrap_or(0));
            let numbers = [load.requests, load.failed].into_iter().chain(answers).map(grouped);
            writeln!(f, "{}", self.line(title, &numbers.collect::<Vec<_>>()))?;
        }
        writeln!(f)?;
        for (_, load) in &self.rows {
            if let Some(failure) = load.failures.first() {
                writeln!(f, "first failure: {}", failure.error)?;
            }
        }
        for (what, holds) in &self.expectations {
            writeln!(f, "{}  {what}", if *holds { "ok    " } else { "BROKEN" })?;
        }
        Ok(())
    }
}

/// With a comma between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(answers: &[(&str, u64)]) -> Load {
        let by_backend: BTreeMap<String, u64> =
            answers.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Load { requests: by_backend.values().sum(), by_backend, ..Load::default() }
    }

    #[test]
    fn the_worst_backend_decides_the_deviation() {
        let backends = ["a", "b", "c"].map(str::to_owned);
        let of = |answers: &[(&str, u64)]| deviation(&load(answers).by_backend, &backends);
        assert_eq!(of(&[("a", 4_000), ("b", 4_000), ("c", 4_000)]), 0);
        assert_eq!(of(&[("a", 4_400), ("b", 3_900), ("c", 3_700)]), 100);
        assert_eq!(of(&[("a", 6_000), ("b", 6_000)]), 1_000);
        assert_eq!(of(&[]), 1_000);
    }

    #[test]
    fn the_last_failure_ends_the_failover() {
        let mut seen = load(&[("a", 10)]);
        assert_eq!(failover(&seen, 1_000), None);
        seen.failures = vec![Failure { failed_at_ms: 1_010, error: "reset".into() }];
        seen.last_failure_ms = Some(1_312);
        assert_eq!(failover(&seen, 1_000), Some(Duration::from_millis(312)));
        assert!(!failed_before(&seen, 1_000));
        assert!(failed_before(&seen, 1_011));
    }

    #[test]
    fn the_report_lists_every_backend_and_what_is_broken() {
        let mut report = Report::default();
        report.saw("spread", load(&[("backend1", 4_012), ("backend2", 3_988)]));
        report.saw("drain", load(&[("backend1", 12_000)]));
        report.expect(true, "nothing failed".into());
        report.expect(false, "backend2 is idle".into());
        let lines: Vec<String> = report.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "         requests     failed   backend1   backend2");
        assert_eq!(lines[1], "spread      8,000          0      4,012      3,988");
        assert_eq!(lines[2], "drain      12,000          0     12,000          0");
        assert_eq!(lines[4..], ["ok      nothing failed", "BROKEN  backend2 is idle"]);
        assert_eq!(report.broken(), ["backend2 is idle"]);
    }

    #[test]
    fn the_snapshot_says_what_is_attached_and_who_takes_flows() {
        let text = r#"{"interfaces":[{"name":"eth0","mode":"native"}],"verdicts":[
            {"verdict":"pass","reason":"not-ours","packets":5},{"verdict":"transmit","reason":"forward","packets":7},
            {"verdict":"transmit","reason":"return","packets":6}],
            "services":[{"name":"web","backends":[{"eligible":true},{"eligible":false}]}]}"#;
        let snapshot: Snapshot = serde_json::from_str(text).unwrap();
        assert_eq!((snapshot.is_native(), snapshot.transmitted(), snapshot.eligible()), (true, 13, 1));
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
