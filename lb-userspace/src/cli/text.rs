//! Numbers, times and sizes as people read them.

use std::fmt::Write;
use std::time::Duration;

/// With commas between thousands: `1,234,567`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts: `1 step`, `2 steps`.
pub(super) fn count(value: u64, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", number(value))
}

/// The two largest units: `3d 4h`, `4m 10s`, `45s`.
pub(super) fn age(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|&(size, _)| seconds >= size).unwrap_or(units.len() - 1);
    let mut text = format!("{}{}", seconds / units[first].0, units[first].1);
    if let Some(&(size, unit)) = units.get(first + 1) {
        let rest = seconds % units[first].0 / size;
        if rest > 0 {
            let _ = write!(text, " {rest}{unit}");
        }
    }
    text
}

/// As it is written on the command line: `500ms`, `2s`, `5m`.
pub(super) fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match [(3_600_000, "h"), (60_000, "m"), (1_000, "s")]
        .into_iter()
        .find(|&(size, _)| ms > 0 && ms.is_multiple_of(size))
    {
        Some((size, unit)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

/// In binary units with one digit after the point: `1.5 MiB`.
pub(super) fn bytes(value: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (value.checked_ilog2().unwrap_or(0) / 10) as usize;
    if power == 0 {
        return format!("{value} B");
    }
    let unit = 1_u128 << (10 * power);
    let tenths = u128::from(value) * 10 / unit;
    format!("{}.{} {}", tenths / 10, tenths % 10, units[power - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_numbers_in_their_units() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 45, 250, 3_600, 273_600].map(age), ["0s", "45s", "4m 10s", "1h", "3d 4h"]);
        assert_eq!(
            [0, 500, 1_500, 2_000, 300_000].map(|ms| duration(Duration::from_millis(ms))),
            ["0ms", "500ms", "1500ms", "2s", "5m"]
        );
        assert_eq!([0, 1_023, 1_024, 1_572_864].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }
}
