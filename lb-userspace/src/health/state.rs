//! What results of probes in a row say about one backend. Pure: no I/O, no clock.

use std::time::Instant;

use super::{Health, HealthStatus};

/// How many results in a row change a backend's health; 0 counts as 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Check {
    /// Successes that make it healthy.
    pub rise: u32,
    /// Failures that make it unhealthy.
    pub fall: u32,
}

/// The health of one backend, from the results of its probes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthState {
    check: Check,
    status: HealthStatus,
    /// Results in a row that are like the last one.
    streak: u32,
    succeeding: bool,
}

impl HealthState {
    /// Before the first probe; `initial` is what is known from elsewhere.
    pub fn new(check: Check, initial: Health, now: Instant) -> Self {
        let status = HealthStatus { health: initial, detail: None, since: now };
        Self { check, status, streak: 0, succeeding: false }
    }

    /// From now on, other numbers of results change the health. Results so far still count.
    pub fn set_check(&mut self, check: Check) {
        self.check = check;
    }

    /// Takes in a probe's result, a failure with its sentence. The new health, if this result changed it.
    ///
    /// A backend of unknown health becomes what its first result says; after that, it takes `rise` successes or `fall`
    /// failures in a row.
    pub fn observe(&mut self, result: Result<(), String>, now: Instant) -> Option<Health> {
        let success = result.is_ok();
        self.streak = if success == self.succeeding { self.streak.saturating_add(1) } else { 1 };
        self.succeeding = success;

        let (verdict, needed) =
            if success { (Health::Healthy, self.check.rise) } else { (Health::Unhealthy, self.check.fall) };
        let decided = self.status.health == Health::Unknown || self.streak >= needed;
        let changed = (decided && self.status.health != verdict).then_some(verdict);
        if let Some(health) = changed {
            self.status.health = health;
            self.status.since = now;
        }
        match result {
            Err(failure) => self.status.detail = Some(failure),
            // While unhealthy, the failure that made it so stays told.
            Ok(()) if self.status.health == Health::Healthy => self.status.detail = None,
            Ok(()) => {}
        }
        changed
    }

    /// Notes why a probe could not be made, which says nothing about the backend.
    pub fn note(&mut self, obstacle: String) {
        self.status.detail = Some(obstacle);
    }

    /// What is known.
    pub fn status(&self) -> &HealthStatus {
        &self.status
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn state(rise: u32, fall: u32, initial: Health) -> HealthState {
        HealthState::new(Check { rise, fall }, initial, Instant::now())
    }

    fn observe(state: &mut HealthState, success: bool) -> Option<Health> {
        state.observe(if success { Ok(()) } else { Err("connection refused".into()) }, Instant::now())
    }

    #[test]
    fn the_first_result_decides_when_nothing_is_known() {
        assert_eq!(observe(&mut state(3, 3, Health::Unknown), true), Some(Health::Healthy));
        assert_eq!(observe(&mut state(3, 3, Health::Unknown), false), Some(Health::Unhealthy));
    }

    #[test]
    fn a_restored_health_stands_until_results_in_a_row_refute_it() {
        let mut healthy = state(2, 2, Health::Healthy);
        assert_eq!(observe(&mut healthy, false), None);
        assert_eq!(observe(&mut healthy, false), Some(Health::Unhealthy));
        let mut unhealthy = state(2, 2, Health::Unhealthy);
        assert_eq!(observe(&mut unhealthy, true), None);
        assert_eq!(observe(&mut unhealthy, true), Some(Health::Healthy));
    }

    #[test]
    fn the_last_failure_is_told_until_the_backend_is_well() {
        let mut state = state(2, 2, Health::Healthy);
        observe(&mut state, false);
        assert_eq!(state.status().detail.as_deref(), Some("connection refused"), "a first sign");
        observe(&mut state, true);
        assert_eq!(state.status().detail, None);
        observe(&mut state, false);
        observe(&mut state, false);
        observe(&mut state, true);
        assert_eq!((state.status().health, state.status().detail.is_some()), (Health::Unhealthy, true));
        observe(&mut state, true);
        assert_eq!((state.status().health, state.status().detail.is_some()), (Health::Healthy, false));
    }

    #[test]
    fn since_is_the_time_of_the_last_change() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut state = HealthState::new(Check { rise: 1, fall: 2 }, Health::Healthy, start);
        for (second, success, since) in [(1, false, 0), (2, false, 2), (3, false, 2), (4, true, 4), (5, true, 4)] {
            state.observe(if success { Ok(()) } else { Err(String::new()) }, at(second));
            assert_eq!(state.status().since, at(since), "after second {second}");
        }
    }

    #[test]
    fn a_probe_that_could_not_be_made_counts_for_nothing() {
        let mut state = state(2, 2, Health::Healthy);
        observe(&mut state, false);
        state.note("too many open files".into());
        assert_eq!(state.status().health, Health::Healthy);
        assert_eq!(observe(&mut state, false), Some(Health::Unhealthy), "the second in a row");
    }

    #[test]
    fn new_numbers_hold_from_the_next_result_on() {
        let mut state = state(1, 5, Health::Healthy);
        observe(&mut state, false);
        state.set_check(Check { rise: 1, fall: 2 });
        assert_eq!(observe(&mut state, false), Some(Health::Unhealthy));
    }

    /// The rule said differently: look back over all results.
    fn expected(rise: u32, fall: u32, before: Health, results: &[bool]) -> Health {
        let last = *results.last().expect("after a result");
        let in_a_row = results.iter().rev().take_while(|r| **r == last).count();
        let (health, needed) = if last { (Health::Healthy, rise) } else { (Health::Unhealthy, fall) };
        if before == Health::Unknown || in_a_row >= needed as usize { health } else { before }
    }

    fn any_health() -> impl Strategy<Value = Health> {
        prop_oneof![Just(Health::Unknown), Just(Health::Healthy), Just(Health::Unhealthy)]
    }

    proptest! {
        #[test]
        fn only_results_in_a_row_count(
            rise in 0u32..5,
            fall in 0u32..5,
            initial in any_health(),
            results in proptest::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut state = state(rise, fall, initial);
            for end in 1..=results.len() {
                let before = state.status().health;
                let wanted = expected(rise, fall, before, &results[..end]);
                let changed = observe(&mut state, results[end - 1]);
                prop_assert_eq!(state.status().health, wanted);
                prop_assert_eq!(changed, (wanted != before).then_some(wanted));
            }
        }

        #[test]
        fn flaps_shorter_than_the_numbers_never_flip(
            rise in 2u32..6,
            fall in 2u32..6,
            healthy in any::<bool>(),
            flaps in proptest::collection::vec((1u32..6, 1u32..6), 1..20),
        ) {
            let initial = if healthy { Health::Healthy } else { Health::Unhealthy };
            let needed = if healthy { fall } else { rise };
            let mut state = state(rise, fall, initial);
            for (contrary, agreeing) in flaps {
                for _ in 0..contrary.min(needed - 1) {
                    prop_assert_eq!(observe(&mut state, !healthy), None);
                }
                for _ in 0..agreeing {
                    prop_assert_eq!(observe(&mut state, healthy), None);
                }
            }
            prop_assert_eq!(state.status().health, initial);
        }
    }
}
