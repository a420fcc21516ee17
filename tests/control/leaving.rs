//! Stories of removal: who may go, when, and what becomes of ids and services meanwhile.

use std::time::Duration;

use lb_userspace::config::AdminState;
use lb_userspace::health::Health;

use crate::story::{Story, backend, health_check, service};

fn ids(story: &Story) -> Vec<u16> {
    story.image().backends.keys().copied().collect()
}

#[test]
fn a_backend_with_sessions_leaves_when_they_have_ended() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.memory().set_sessions(2, 3, 1);
    story.sweep();
    story.remove_backend(2);
    let leaving = "
        settings ports 61000+4536
        device 1 is 7
        backend 1 of 1 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 1
        backend 2 of 1 10.0.0.2:80 from 10.0.0.254 via 02@1 weight 1 leaving
        table 1 1x65537
        ring 1 [1]
        service 1 192.0.2.1:80/tcp maglev ring 1 slots 65537
    ";
    story.becomes(leaving);
    assert_eq!(story.names.backends[&2].0.0, "web");
    story.sweep();
    story.becomes(leaving);

    story.memory().set_sessions(2, 0, 4);
    story.sweep();
    story.settle();
    assert_eq!(ids(&story), [1]);
    // Closing sessions name it still: its id is nobody else's yet, and the next sweep purges them.
    story.service("web").backends.push(backend(3, 1));
    story.settle();
    assert_eq!(ids(&story), [1, 3]);
    story.sweep();
    story.service("web").backends.push(backend(4, 1));
    story.settle();
    assert_eq!(ids(&story), [1, 2, 3]);
}

#[test]
fn an_idle_backend_goes_with_the_next_sweep_but_not_with_the_last() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.sweep();
    story.remove_backend(2);
    story.settle();
    assert_eq!(ids(&story), [1, 2], "a flow may have come since the last sweep");
    assert_eq!(story.settle(), 0);
    story.sweep();
    story.settle();
    assert_eq!(ids(&story), [1]);
    // Freed after the last sweep began: not yet anybody's.
    story.service("web").backends.push(backend(3, 1));
    story.settle();
    assert_eq!(ids(&story), [1, 3]);
}

#[test]
fn a_backend_that_never_took_a_flow_goes_at_once() {
    let mut story = Story::new([service("web", 80, &[1])]);
    story.settle();
    story.route(2, false);
    story.service("web").backends.push(backend(2, 1));
    story.settle();
    assert_eq!(ids(&story), [1, 2]);
    story.remove_backend(2);
    story.settle();
    assert_eq!(ids(&story), [1]);
}

#[test]
fn a_disabled_backend_goes_at_once() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.memory().set_sessions(2, 3, 0);
    story.backend(2).state = AdminState::Disabled;
    story.settle();
    story.remove_backend(2);
    story.settle();
    assert_eq!(ids(&story), [1]);
    assert_eq!(story.ledger.purge(&story.image().clone()), [2].into());
}

#[test]
fn a_draining_backend_leaves_like_any_other() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.memory().set_sessions(2, 3, 0);
    story.backend(2).state = AdminState::Draining;
    story.settle();
    story.remove_backend(2);
    story.settle();
    story.sweep();
    story.settle();
    assert_eq!(ids(&story), [1, 2]);
}

#[test]
fn the_drain_timeout_ends_it() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.memory().set_sessions(2, 3, 0);
    story.remove_backend(2);
    story.settle();
    story.observed.now += Duration::from_secs(59);
    story.settle();
    assert_eq!(ids(&story), [1, 2]);
    story.observed.now += Duration::from_secs(1);
    story.settle();
    assert_eq!(ids(&story), [1]);
}

#[test]
fn a_cut_backend_goes_now_and_a_desired_one_is_never_cut() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.memory().set_sessions(2, 3, 0);
    story.observed.cut = [1, 2].into();
    story.remove_backend(2);
    story.settle();
    assert_eq!(ids(&story), [1]);
}

#[test]
fn a_backend_that_comes_back_is_the_same_one() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    let before = story.image().clone();
    story.memory().set_sessions(2, 3, 0);
    story.remove_backend(2);
    story.settle();
    story.observed.now += Duration::from_secs(59);
    story.service("web").backends.push(backend(2, 1));
    story.settle();
    assert_eq!(*story.image(), before);
    // And has all its time when it leaves again.
    story.remove_backend(2);
    story.settle();
    story.observed.now += Duration::from_secs(59);
    story.settle();
    assert_eq!(ids(&story), [1, 2]);
}

#[test]
fn a_leaving_backend_follows_its_next_hop() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.memory().set_sessions(2, 3, 0);
    story.remove_backend(2);
    story.settle();
    let hop = story.observed.routes[&std::net::Ipv4Addr::new(10, 0, 0, 9)].clone();
    story.observed.routes.insert(std::net::Ipv4Addr::new(10, 0, 0, 2), hop);
    assert_eq!(story.settle(), 1);
    assert_eq!(story.image().backends[&2].hop.mac()[5], 9);
}

#[test]
fn a_service_outlives_its_removal_until_its_connections_have_ended() {
    let mut story = Story::new([service("web", 80, &[1, 2]), service("mail", 25, &[3])]);
    story.settle();
    story.memory().set_sessions(1, 1, 0);
    story.config.services.remove(0);
    story.settle();
    story.sweep();
    story.becomes(
        "
        settings ports 61000+4536
        device 1 is 7
        backend 1 of 1 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 1 leaving
        backend 3 of 2 10.0.0.3:80 from 10.0.0.254 via 03@1 weight 1
        table 2 3x65537
        ring 2 [3]
        service 2 192.0.2.1:25/tcp maglev ring 1 slots 65537
        service 1 192.0.2.1:80/tcp maglev ring 0 slots 0
        ",
    );
    assert_eq!(story.names.services[&1].0, "web");
    story.memory().set_sessions(1, 0, 0);
    story.sweep();
    story.becomes(
        "
        settings ports 61000+4536
        device 1 is 7
        backend 3 of 2 10.0.0.3:80 from 10.0.0.254 via 03@1 weight 1
        table 2 3x65537
        ring 2 [3]
        service 2 192.0.2.1:25/tcp maglev ring 1 slots 65537
        ",
    );
}

#[test]
fn a_service_that_moves_to_another_port_leaves_the_old_one_to_its_connections() {
    let mut story = Story::new([service("web", 80, &[1])]);
    story.settle();
    story.memory().set_sessions(1, 1, 0);
    story.service("web").port = 8_080;
    story.settle();
    assert_eq!(story.names.services.values().map(|name| name.0.as_str()).collect::<Vec<_>>(), ["web", "web"]);
    assert_eq!(ids(&story), [1, 2]);
    story.memory().set_sessions(1, 0, 0);
    story.sweep();
    story.settle();
    assert_eq!(ids(&story), [2]);
}

#[test]
fn a_restart_stops_no_traffic_and_forgets_no_drain() {
    let mut story = Story::new([service("web", 80, &[1, 2, 3]), service("mail", 25, &[4])]);
    story.service("web").health = Some(health_check());
    for (last, health) in [(1, Health::Healthy), (2, Health::Unhealthy), (3, Health::Healthy)] {
        story.probe(last, health);
    }
    story.settle();
    story.memory().set_sessions(3, 1, 0);
    story.memory().set_sessions(4, 1, 0);
    story.remove_backend(3);
    story.config.services.remove(1);
    story.settle();

    let before = story.image().clone();
    story.restart();
    assert_eq!(story.settle(), 0);
    assert_eq!(*story.image(), before);
    assert_eq!(story.names.services[&2].0, "192.0.2.1-25-tcp", "its name went with the agent that knew it");

    story.memory().sessions.clear();
    story.sweep();
    story.settle();
    assert_eq!(ids(&story), [1, 2]);
}

#[test]
fn ids_that_sessions_of_an_earlier_agent_name_are_not_given_away() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.memory().set_sessions(2, 3, 0);
    story.observed.cut = [2].into();
    story.remove_backend(2);
    story.settle();
    story.restart();
    (1..=9).for_each(|last| story.route(last, true));
    story.service("web").backends.push(backend(3, 1));
    story.settle();
    assert_eq!(ids(&story), [1, 3]);
}
