//! Durations as people type them: `10ms`, `6s`, `2m`.

use std::time::Duration;

/// Reads a whole number with a unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let fault = || format!("{text:?} is no duration: a whole number and one of us, ms, s, m are expected, as in 10ms");
    let number: u64 = number.parse().map_err(|_| fault())?;
    match unit {
        "us" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(fault),
        _ => Err(fault()),
    }
}
