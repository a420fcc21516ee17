//! Waits for conditions instead of sleeping and hoping.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks at a condition.
const STEP: Duration = Duration::from_millis(20);

/// Asks until there is an answer; an error that names `what` once `limit` is over.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() >= limit {
            bail!("waited {limit:?} in vain for {what}");
        }
        thread::sleep(STEP);
    }
}

/// Waits until a condition holds.
pub fn holds(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || condition().then_some(()))
}

/// Like [`until`], and the last error is part of the message when the time is over.
pub fn succeeds<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    until(what, limit, || attempt().map_err(|error| last = Some(error)).ok()).map_err(|error| match last {
        Some(last) => last.context(error),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_the_wait_and_none_names_what_was_missing() {
        let mut left = 3;
        let ask = || {
            left -= 1;
            (left == 0).then_some("here")
        };
        assert_eq!(until("it", Duration::from_secs(10), ask).unwrap(), "here");
        let error = holds("godot", Duration::ZERO, || false).unwrap_err();
        assert!(error.to_string().contains("godot"), "{error}");
    }

    #[test]
    fn the_last_failure_is_told() {
        let error = succeeds::<()>("it", Duration::ZERO, || bail!("refused")).unwrap_err();
        assert!(format!("{error:#}").contains("refused"), "{error:#}");
    }
}
