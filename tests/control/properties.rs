//! Random lives: whatever the config and the world do, with faults and restarts between, the maps come to what was
//! compiled, nothing dangles at any step, nobody inherits sessions, and at the end nothing is left.

use lb_common::abi::{BACKEND_DISABLED, BACKEND_LEAVING, Policy};
use lb_userspace::config::{AdminState, SourceMode};
use lb_userspace::health::Health;
use proptest::prelude::*;

use crate::story::{Story, backend, health_check, service};

#[derive(Clone, Debug)]
enum Event {
    Toggle(usize),
    Backend { service: usize, last: u8, weight: u16, state: u8 },
    Remove { service: usize, last: u8 },
    Policy(usize, u8),
    Preserve(usize, bool),
    Check(usize, bool),
    Probe { last: u8, health: u8 },
    Route { last: u8, is_known: bool },
    ForgetRoutes,
    Sessions { nth: usize, open: u64, closing: u64 },
    Cut(usize),
    Sweep,
    Fail(usize),
    Restart,
}

const NAMES: [&str; 3] = ["web", "mail", "dns"];

fn event() -> impl Strategy<Value = Event> {
    let last = 1u8..=6;
    prop_oneof![
        1 => (0usize..3).prop_map(Event::Toggle),
        6 => (0usize..3, last.clone(), 0u16..4, 0u8..3).prop_map(|(service, last, weight, state)| {
            Event::Backend { service, last, weight, state }
        }),
        4 => (0usize..3, last.clone()).prop_map(|(service, last)| Event::Remove { service, last }),
        1 => (0usize..3, 0u8..3).prop_map(|(service, policy)| Event::Policy(service, policy)),
        1 => (0usize..3, any::<bool>()).prop_map(|(service, on)| Event::Preserve(service, on)),
        1 => (0usize..3, any::<bool>()).prop_map(|(service, on)| Event::Check(service, on)),
        2 => (last.clone(), 0u8..3).prop_map(|(last, health)| Event::Probe { last, health }),
        2 => (last, any::<bool>()).prop_map(|(last, is_known)| Event::Route { last, is_known }),
        1 => Just(Event::ForgetRoutes),
        4 => (any::<usize>(), 0u64..3, 0u64..2).prop_map(|(nth, open, closing)| Event::Sessions { nth, open, closing }),
        1 => any::<usize>().prop_map(Event::Cut),
        4 => Just(Event::Sweep),
        3 => (0usize..8).prop_map(Event::Fail),
        1 => Just(Event::Restart),
    ]
}

fn pick<T: Copy>(from: &[T], nth: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[nth % from.len()])
}

fn edit(story: &mut Story, event: &Event) {
    let service_at =
        |story: &mut Story, nth: usize| story.config.services.iter().position(|service| service.name.0 == NAMES[nth]);
    match *event {
        Event::Toggle(nth) => match service_at(story, nth) {
            Some(at) => drop(story.config.services.remove(at)),
            None => story.config.services.push(service(NAMES[nth], 80 + u16::try_from(nth).unwrap(), &[1, 2])),
        },
        Event::Backend { service, last, weight, state } => {
            let Some(at) = service_at(story, service) else { return };
            let backends = &mut story.config.services[at].backends;
            let mut fresh = backend(last, weight);
            fresh.state = [AdminState::Active, AdminState::Draining, AdminState::Disabled][usize::from(state)];
            match backends.iter_mut().find(|known| known.address == fresh.address) {
                Some(known) => *known = fresh,
                None => backends.push(fresh),
            }
        }
        Event::Remove { service, last } => {
            let Some(at) = service_at(story, service) else { return };
            story.config.services[at].backends.retain(|backend| backend.address.ip().octets()[3] != last);
        }
        Event::Policy(service, policy) => {
            let Some(at) = service_at(story, service) else { return };
            story.config.services[at].policy = Policy::ALL[usize::from(policy)];
        }
        Event::Preserve(service, on) => {
            let Some(at) = service_at(story, service) else { return };
            story.config.services[at].source = if on { SourceMode::Preserve } else { SourceMode::Balancer };
        }
        Event::Check(service, on) => {
            let Some(at) = service_at(story, service) else { return };
            story.config.services[at].health = on.then(health_check);
        }
        Event::Probe { last, health } => {
            story.probe(last, [Health::Unknown, Health::Healthy, Health::Unhealthy][usize::from(health)]);
        }
        Event::Route { last, is_known } => story.route(last, is_known),
        Event::ForgetRoutes => story.observed.routes.clear(),
        Event::Sessions { nth, open, closing } => sessions(story, nth, open, closing),
        Event::Cut(nth) => {
            let ids: Vec<u16> = story.image().backends.keys().copied().collect();
            story.observed.cut = pick(&ids, nth).into_iter().collect();
        }
        Event::Sweep => story.sweep(),
        Event::Fail(steps) => story.memory().steps_until_failure = Some(steps),
        Event::Restart => story.restart(),
    }
}

/// Sessions come where new flows may go, and go anywhere.
fn sessions(story: &mut Story, nth: usize, open: u64, closing: u64) {
    let known: Vec<u16> = story.memory().sessions.keys().copied().collect();
    let takers: Vec<u16> =
        story.image().backends.iter().filter(|(_, record)| record.is_eligible()).map(|(id, _)| *id).collect();
    if let Some(id) = pick(&takers, nth).filter(|_| open > 0) {
        story.memory().set_sessions(id, open, closing);
    } else if let Some(id) = pick(&known, nth) {
        let (count, _) = story.memory().sessions.get_mut(&id).unwrap();
        (count.open, count.closing) = (0, closing);
    }
}

/// What a desired, applied state must be, besides what every step is checked for.
fn check(story: &Story) {
    let image = story.image();
    for service in &story.config.services {
        let record = image.services[&service.key()];
        let desired = image.backends.values().filter(|b| b.service == record.id && b.flags & BACKEND_LEAVING == 0);
        assert_eq!(desired.count(), service.backends.len(), "{}", service.name);
        let takers = image.backends.iter().filter(|(_, b)| b.service == record.id && b.is_eligible());
        let takers: Vec<u16> = takers.map(|(id, _)| *id).collect();
        let mut in_ring = image.rings.get(&record.id).map_or_else(Vec::new, |ring| ring.to_vec());
        in_ring.sort_unstable();
        in_ring.dedup();
        assert_eq!(in_ring, takers, "{}", service.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_life_ends_in_the_desired_state_and_then_in_nothing(events in prop::collection::vec(event(), 1..30)) {
        let mut story = Story::new([service("web", 80, &[1, 2, 3]), service("mail", 81, &[3])]);
        story.settle();
        for event in &events {
            story.observed.now += std::time::Duration::from_millis(10);
            edit(&mut story, event);
            if story.publish().is_err() {
                story.memory().steps_until_failure = None;
                let known = story.image().clone();
                prop_assert_eq!(&known, &story.memory().image);
            }
            story.memory().steps_until_failure = None;
            story.settle();
            check(&story);
            // No drain timeout passes in so short a life: whoever has open sessions stays, unless the operator said so.
            let cut = story.observed.cut.clone();
            for (id, flags) in story.memory().torn.drain(..) {
                prop_assert!(cut.contains(&id) || flags & BACKEND_DISABLED != 0, "backend {} was torn away", id);
            }
            prop_assert_eq!(story.settle(), 0, "compiling twice makes no step");
        }

        story.config.services.clear();
        story.settle();
        story.memory().sessions.values_mut().for_each(|(count, _)| count.open = 0);
        for _ in 0..2 {
            story.sweep();
            story.settle();
        }
        let image = story.image();
        prop_assert!(image.services.is_empty() && image.backends.is_empty(), "{:?}", image);
        prop_assert!(image.tables.is_empty() && image.rings.is_empty());
    }
}
