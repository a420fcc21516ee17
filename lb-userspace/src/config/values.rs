//! Single values of the config: from what stands in the file to what it means, or why it means nothing.

use std::net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use lb_common::abi::Policy;
use toml::de::DeValue;

use super::model::policy_by_name;

/// Why a value could not be read: the end of a sentence that starts with the key, and the fix if it is a special one.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Problem {
    pub message: String,
    pub hint: Option<String>,
}

impl From<Problem> for String {
    fn from(Problem { message, hint }: Problem) -> Self {
        hint.map_or_else(|| message.clone(), |hint| format!("{message}; {hint}"))
    }
}

impl Problem {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// A value of another type than `wanted`.
    pub fn wrong_type(value: &DeValue<'_>, wanted: &str) -> Self {
        Self::new(format!("is {}, and must be {wanted}", type_name(value)))
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Any text.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, Problem> {
    text_of(value).map(str::to_owned)
}

fn text_of<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Problem> {
    value.as_str().ok_or_else(|| Problem::wrong_type(value, "a string"))
}

/// A whole number.
pub(super) fn integer(value: &DeValue<'_>) -> Result<i64, Problem> {
    let number = value.as_integer().ok_or_else(|| Problem::wrong_type(value, "an integer"))?;
    i64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| Problem::new(format!("{number} is far outside of every range")))
}

/// One of a few words.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Problem> {
    let given = text_of(value)?;
    let found = choices.iter().find(|(name, _)| *name == given);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        Problem::new(format!("{given:?} is not one that weir knows")).hint(one_of(given, &names))
    })
}

/// A placement policy, by our name or another that operators know.
pub(super) fn policy(value: &DeValue<'_>) -> Result<Policy, Problem> {
    policy_named(text_of(value)?)
}

/// See [`policy`].
pub(super) fn policy_named(given: &str) -> Result<Policy, Problem> {
    policy_by_name(given).ok_or_else(|| {
        let names = Policy::ALL.map(Policy::name);
        Problem::new(format!("{given:?} is not one that weir knows")).hint(one_of(given, &names))
    })
}

/// Forwarding mode: only `nat` so far.
pub(super) fn forwarding_mode(value: &DeValue<'_>) -> Result<(), Problem> {
    match text_of(value)? {
        "nat" => Ok(()),
        planned @ ("l2" | "ipip" | "gue") => {
            Err(Problem::new(format!("{planned:?} is a forwarding mode that is not in this version"))
                .hint("write mode = \"nat\", or leave it out"))
        }
        other => Err(Problem::new(format!("{other:?} is not a forwarding mode that weir knows"))
            .hint("write mode = \"nat\", or leave it out")),
    }
}

/// The kind of probe: only `tcp` so far.
pub(super) fn probe_kind(value: &DeValue<'_>) -> Result<(), Problem> {
    match text_of(value)? {
        "tcp" => Ok(()),
        other => Err(Problem::new(format!("{other:?} is a kind of probe that is not in this version"))
            .hint("write kind = \"tcp\", or leave it out")),
    }
}

/// An IPv4 address.
pub(super) fn ipv4(value: &DeValue<'_>) -> Result<Ipv4Addr, Problem> {
    let given = text_of(value)?;
    match given.parse() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err(ipv6(given)),
        Err(_) => Err(not_an_address(given)),
    }
}

/// An IPv4 address and a port.
pub(super) fn ipv4_and_port(value: &DeValue<'_>) -> Result<SocketAddrV4, Problem> {
    let given = text_of(value)?;
    match given.parse() {
        Ok(SocketAddr::V4(address)) => Ok(address),
        Ok(SocketAddr::V6(_)) => Err(ipv6(given)),
        Err(_) => Err(match given.parse() {
            Ok(IpAddr::V4(address)) => {
                Problem::new(format!("{given:?} has no port")).hint(format!("write the port too: \"{address}:8080\""))
            }
            Ok(IpAddr::V6(_)) => ipv6(given),
            Err(_) => Problem::new(format!("{given:?} is not an IPv4 address and port"))
                .hint("write numbers, as in \"10.0.0.11:8080\": names are not resolved, ports are 1 to 65535"),
        }),
    }
}

fn ipv6(given: &str) -> Problem {
    Problem::new(format!("{given:?} is IPv6, and this version forwards IPv4 only")).hint("write an IPv4 address")
}

fn not_an_address(given: &str) -> Problem {
    match given.parse::<SocketAddr>() {
        Ok(address) => Problem::new(format!("{given:?} has a port, and must be an address alone"))
            .hint(format!("write \"{}\"", address.ip())),
        Err(_) => Problem::new(format!("{given:?} is not an IPv4 address"))
            .hint("write numbers, as in \"192.0.2.10\": names are not resolved"),
    }
}

/// Where to listen, or `"off"`.
pub(super) fn listener(value: &DeValue<'_>) -> Result<Option<SocketAddr>, Problem> {
    let given = text_of(value)?;
    if given == "off" {
        return Ok(None);
    }
    given.parse().map(Some).map_err(|_: AddrParseError| {
        Problem::new(format!("{given:?} is not an address and port"))
            .hint("write an address and port, as in \"127.0.0.1:9850\", or \"off\"")
    })
}

/// Two ports with a dash between.
pub(super) fn port_range(value: &DeValue<'_>) -> Result<(u16, u16), Problem> {
    let given = text_of(value)?;
    let ports = given.split_once('-').and_then(|(first, last)| {
        let port = |text: &str| text.trim().parse::<u16>().ok();
        Some((port(first)?, port(last)?))
    });
    ports.ok_or_else(|| {
        Problem::new(format!("{given:?} is not a range of ports"))
            .hint("write the first and the last port, as in \"1024-32767\"")
    })
}

/// Units of durations, in milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// A whole number and its unit.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, Problem> {
    parse_duration(text_of(value)?)
}

/// A whole number and its unit, as text.
pub(super) fn parse_duration(given: &str) -> Result<Duration, Problem> {
    let wrong = || {
        Problem::new(format!("{given:?} is not a duration"))
            .hint("write a whole number and its unit, ms, s, m or h: \"250ms\", \"30s\", \"5m\", \"2h\"")
    };
    let digits = given.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = given.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    if unit.is_empty() {
        return Err(Problem::new(format!("{given:?} has no unit"))
            .hint(format!("write the unit too, ms, s, m or h: \"{number}s\"")));
    }
    let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(scale).map(Duration::from_millis).ok_or_else(wrong)
}

/// A duration as one would type it.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let largest = UNITS.iter().rev().find(|(_, scale)| millis > 0 && millis.is_multiple_of(u128::from(*scale)));
    match largest {
        Some((unit, scale)) => format!("{}{unit}", millis / u128::from(*scale)),
        None => "0s".to_owned(),
    }
}

/// The fix for a word that is none of `names`.
pub(super) fn one_of(given: &str, names: &[&str]) -> String {
    match nearest(given, names) {
        Some(name) => format!("did you mean {name:?}?"),
        None => format!("it is one of: {}", list(names)),
    }
}

/// Names in a sentence; only so many that one can read them.
pub(super) fn list(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

/// The name that `given` was probably meant to be.
fn nearest<'n>(given: &str, names: &[&'n str]) -> Option<&'n str> {
    let given = given.to_lowercase().replace('_', "-");
    if given.len() >= 3
        && let Some(longer) = names.iter().find(|name| name.starts_with(&given))
    {
        return Some(longer);
    }
    let (distance, name) = names.iter().map(|name| (edits(&given, name), *name)).min()?;
    // One slip is likely in any word, a second one only in a longer word that starts alike.
    let allowed = if given.len() >= 5 && given.get(..1) == name.get(..1) { given.len() / 3 } else { 1 };
    (distance <= allowed && distance < given.chars().count()).then_some(name)
}

/// Edits between two words: insertions, deletions, replacements (Levenshtein).
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
