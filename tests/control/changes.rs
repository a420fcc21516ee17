//! Stories of edits: what each change of config or world does to the maps.

use std::net::Ipv4Addr;

use lb_common::abi::{BACKEND_DRAINING, BACKEND_LEAVING, BACKEND_PRESENT, Policy};
use lb_common::addr::Protocol;
use lb_common::limits::SLOTS;
use lb_common::session::Phase;
use lb_userspace::config::{AdminState, SourceMode};
use lb_userspace::health::Health;

use crate::story::{Story, backend, health_check, service};

const WEB: &str = "
    settings ports 61000+4536
    device 1 is 7
    backend 1 of 1 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 1
    backend 2 of 1 10.0.0.2:80 from 10.0.0.254 via 02@1 weight 1
    table 1 1x32768 2x32769
    ring 1 [1, 2]
    service 1 192.0.2.1:80/tcp maglev ring 2 slots 65537
";

#[test]
fn a_config_becomes_maps_and_an_unchanged_one_no_step() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.becomes(WEB);
    assert_eq!(story.settle(), 0);
    assert_eq!(story.names.services[&1].0, "web");
    assert_eq!(story.names.backends[&2].1.to_string(), "10.0.0.2:80");
    assert_eq!(story.memory().emptied, ([1].into(), [1, 2].into()));
}

#[test]
fn settings_are_in_ticks() {
    let mut story = Story::new([]);
    story.settle();
    let settings = story.image().settings.unwrap();
    // 250 jiffies a second, 64 to a tick, rounded up.
    assert_eq!(settings.timeouts[..10], [0, 235, 40, 14_063, 469, 469, 235, 235, 118, 704]);
    assert_eq!(settings.timeouts[Phase::Reset as usize], settings.timeouts[Phase::Closing as usize]);
    assert_eq!((settings.bucket_mask, settings.nat_port_count), (511, 0));
}

#[test]
fn services_share_nothing() {
    let mut dns = service("dns", 53, &[1]);
    (dns.protocol, dns.policy) = (Protocol::Udp, Policy::RoundRobin);
    let mut story = Story::new([service("web", 80, &[1]), dns]);
    story.becomes(
        "
        settings ports 61000+4536
        device 1 is 7
        backend 1 of 1 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 1
        backend 2 of 2 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 1
        table 1 1x65537
        table 2 2x65537
        ring 1 [1]
        ring 2 [2]
        service 2 192.0.2.1:53/udp round-robin ring 1 slots 65537
        service 1 192.0.2.1:80/tcp maglev ring 1 slots 65537
        ",
    );
}

#[test]
fn a_new_weight_builds_table_and_ring() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.backend(2).weight = 3;
    story.becomes(
        "
        settings ports 61000+4536
        device 1 is 7
        backend 1 of 1 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 1
        backend 2 of 1 10.0.0.2:80 from 10.0.0.254 via 02@1 weight 3
        table 1 1x16384 2x49153
        ring 1 [2, 1, 2, 2]
        service 1 192.0.2.1:80/tcp maglev ring 4 slots 65537
        ",
    );
    story.backend(2).weight = 1;
    story.becomes(WEB);
}

#[test]
fn draining_and_disabling_leave_the_table_as_it_is() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    for (state, word) in [(AdminState::Draining, "draining"), (AdminState::Disabled, "disabled")] {
        story.backend(2).state = state;
        story.becomes(&format!(
            "
            settings ports 61000+4536
            device 1 is 7
            backend 1 of 1 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 1
            backend 2 of 1 10.0.0.2:80 from 10.0.0.254 via 02@1 weight 1 {word}
            table 1 1x32768 2x32769
            ring 1 [1]
            service 1 192.0.2.1:80/tcp maglev ring 1 slots 65537
            ",
        ));
    }
    story.backend(2).state = AdminState::Active;
    story.becomes(WEB);
}

#[test]
fn weight_zero_takes_no_new_flows_and_stays() {
    let mut story = Story::new([service("web", 80, &[1])]);
    story.settle();
    story.backend(1).weight = 0;
    story.becomes(
        "
        settings ports 61000+4536
        device 1 is 7
        backend 1 of 1 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 0 draining
        service 1 192.0.2.1:80/tcp maglev ring 0 slots 0
        ",
    );
    story.backend(1).weight = 5;
    story.settle();
    assert_eq!(story.image().rings[&1][..], [1]);
    assert_eq!(story.image().tables[&1].len(), SLOTS as usize);
}

#[test]
fn health_flips_bits_and_rings_only() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.service("web").health = Some(health_check());
    story.settle();
    assert!(story.image().rings.is_empty(), "nobody was probed yet");

    for (health, steps) in [(Health::Healthy, 4), (Health::Unknown, 0), (Health::Unhealthy, 4), (Health::Unknown, 0)] {
        let table = story.image().tables[&1].clone();
        story.probe(1, health);
        story.probe(2, health);
        // Two backends, the ring, and the service, which knows the ring's length.
        assert_eq!(story.settle(), steps, "{health:?}");
        assert_eq!(story.image().tables[&1], table);
    }
    assert!(story.image().rings.is_empty());
    story.probe(2, Health::Healthy);
    story.settle();
    assert_eq!(story.image().rings[&1][..], [2]);
}

#[test]
fn a_check_on_a_running_service_stops_nothing_until_it_fails() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.service("web").health = Some(health_check());
    assert_eq!(story.settle(), 0);
    story.service("web").backends.push(backend(3, 1));
    story.settle();
    assert_eq!(story.image().rings[&1][..], [1, 2], "the newcomer has to prove itself");
    story.probe(1, Health::Unhealthy);
    story.settle();
    assert_eq!(story.image().rings[&1][..], [2]);
}

#[test]
fn a_lost_next_hop_stops_new_flows_and_an_unanswered_question_does_not() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.observed.routes.clear();
    assert_eq!(story.settle(), 0);
    story.route(1, false);
    story.settle();
    assert!(!story.image().backends[&1].hop.is_known());
    assert_eq!(story.image().rings[&1][..], [2]);
    story.route(1, true);
    story.becomes(WEB);
}

#[test]
fn a_kept_next_hop_does_not_outlive_its_device() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.settle();
    story.observed.routes.clear();
    story.observed.devices.get_mut(&1).unwrap().ifindex = 9;
    story.settle();
    assert!(story.image().backends.values().all(|backend| !backend.hop.is_known()));
}

#[test]
fn a_backend_without_a_source_waits_and_keeps_its_id() {
    let mut story = Story::new([service("web", 80, &[1, 2])]);
    story.observed.routes.clear();
    story.becomes(
        "
        settings ports 61000+4536
        device 1 is 7
        backend 1 of 1 10.0.0.1:80 from client via ? weight 1 draining
        backend 2 of 1 10.0.0.2:80 from client via ? weight 1 draining
        table 1 1x32768 2x32769
        service 1 192.0.2.1:80/tcp maglev ring 0 slots 65537
        ",
    );
    story.route(1, true);
    story.route(2, true);
    story.becomes(WEB);
}

#[test]
fn another_source_makes_another_backend_and_the_old_one_leaves() {
    let mut story = Story::new([service("web", 80, &[1])]);
    story.settle();
    story.memory().set_sessions(1, 5, 0);
    story.config.nat.source = Some(Ipv4Addr::new(10, 0, 0, 253));
    story.becomes(
        "
        settings ports 61000+4536
        device 1 is 7
        backend 1 of 1 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 1 leaving
        backend 2 of 1 10.0.0.1:80 from 10.0.0.253 via 01@1 weight 1
        table 1 2x65537
        ring 1 [2]
        service 1 192.0.2.1:80/tcp maglev ring 1 slots 65537
        ",
    );
    story.memory().set_sessions(1, 0, 0);
    story.sweep();
    story.settle();
    assert_eq!(story.image().backends.keys().collect::<Vec<_>>(), [&2]);
}

#[test]
fn preserving_needs_no_source_and_no_ports_once_the_last_own_one_has_left() {
    let mut story = Story::new([service("web", 80, &[1])]);
    story.settle();
    story.memory().set_sessions(1, 1, 0);
    story.service("web").source = SourceMode::Preserve;
    story.becomes(
        "
        settings ports 61000+4536 preserve
        device 1 is 7
        backend 1 of 1 10.0.0.1:80 from 10.0.0.254 via 01@1 weight 1 leaving
        backend 2 of 1 10.0.0.1:80 from client via 01@1 weight 1
        table 1 2x65537
        ring 1 [2]
        service 1 192.0.2.1:80/tcp maglev preserve ring 1 slots 65537
        ",
    );
    story.memory().set_sessions(1, 0, 0);
    story.sweep();
    story.becomes(
        "
        settings ports 61000+0 preserve
        device 1 is 7
        backend 2 of 1 10.0.0.1:80 from client via 01@1 weight 1
        table 1 2x65537
        ring 1 [2]
        service 1 192.0.2.1:80/tcp maglev preserve ring 1 slots 65537
        ",
    );
    // Back: the answers of those that leave must still be known for such.
    story.memory().set_sessions(2, 1, 0);
    story.service("web").source = SourceMode::Balancer;
    story.settle();
    assert_eq!(story.image().settings.unwrap().flags, 1);
}

#[test]
fn preserved_flows_outlive_the_wait_for_a_source() {
    let mut story = Story::new([service("web", 80, &[1])]);
    story.service("web").source = SourceMode::Preserve;
    story.settle();
    story.memory().set_sessions(1, 1, 0);
    story.service("web").source = SourceMode::Balancer;
    story.restart();
    story.becomes(
        "
        settings ports 61000+4536 preserve
        device 1 is 7
        backend 1 of 1 10.0.0.1:80 from client via 01@1 weight 1 draining
        table 1 1x65537
        service 1 192.0.2.1:80/tcp maglev ring 0 slots 65537
        ",
    );
    story.route(1, true);
    story.settle();
    let flags: Vec<u32> = story.image().backends.values().map(|record| record.flags).collect();
    assert_eq!(flags, [BACKEND_PRESENT | BACKEND_DRAINING | BACKEND_LEAVING, BACKEND_PRESENT]);
}

#[test]
fn the_order_of_the_config_does_not_matter() {
    let mut story = Story::new([service("web", 80, &[1, 2, 3])]);
    story.settle();
    story.service("web").backends.reverse();
    let steps = story.memory().steps.len();
    story.settle();
    let steps = story.memory().steps[steps..].to_vec();
    assert!(steps.iter().all(|step| step.contains("ring")), "{steps:?}");
}
