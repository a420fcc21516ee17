//! What the changing commands ask of the agent, and what they say about it.

use std::time::Duration;

use lb_common::abi::Policy;
use lb_common::addr::Protocol;
use lb_userspace::api::types::{Change, Changed, HealthSetting};
use lb_userspace::config::{AdminState, Backend, HealthCheck, Service, ServiceName, SourceMode};

use crate::fake::{Agent, Asked, probing, snapshot};

fn name(text: &str) -> ServiceName {
    ServiceName(text.into())
}

/// Runs a line that must do; what it asked for.
fn asked(line: &str) -> Change {
    let agent = Agent::start(snapshot());
    let outcome = agent.weir(line);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{line}");
    assert!(outcome.out.ends_with("revision 42, 3 steps\n"), "{}", outcome.out);
    match &agent.asked()[..] {
        [Asked::Change(change)] => change.clone(),
        other => panic!("{line}: one change expected, not {other:?}"),
    }
}

#[test]
fn service_add_sends_all_of_the_service() {
    let seconds = Duration::from_secs;
    let mut expected = Service {
        name: name("api"),
        vip: [192, 0, 2, 20].into(),
        port: 443,
        protocol: Protocol::Tcp,
        policy: Policy::Maglev,
        source: SourceMode::Balancer,
        health: Some(HealthCheck { interval: seconds(2), timeout: seconds(1), rise: 2, fall: 3, port: None }),
        backends: vec![],
        drain_timeout: seconds(300),
    };
    assert_eq!(asked("service add api --vip 192.0.2.20:443"), Change::ServiceAdd { service: expected.clone() });

    expected.policy = Policy::RoundRobin;
    expected.source = SourceMode::Preserve;
    expected.drain_timeout = seconds(30);
    let half = Duration::from_millis(500);
    expected.health = Some(HealthCheck { interval: half, timeout: half, rise: 1, fall: 9, port: Some(8081) });
    let line = "service add api --vip 192.0.2.20:443 --policy rr --source preserve --drain-timeout 30s --health tcp \
                --interval 500ms --rise 1 --fall 9 --probe-port 8081";
    assert_eq!(asked(line), Change::ServiceAdd { service: expected.clone() });

    let udp = Service {
        protocol: Protocol::Udp,
        policy: Policy::Random,
        source: SourceMode::Balancer,
        health: None,
        drain_timeout: seconds(300),
        ..expected
    };
    let line = "service add api --vip 192.0.2.20:443 --protocol udp --policy random";
    assert_eq!(asked(line), Change::ServiceAdd { service: udp });
}

#[test]
fn service_set_sends_only_what_was_named() {
    let set = |policy: Option<&str>, source, health| Change::ServiceSet {
        name: name("web"),
        policy: policy.map(Into::into),
        source,
        health,
    };
    assert_eq!(asked("service set web --policy wrr"), set(Some("round-robin"), None, None));
    assert_eq!(asked("service set web --source preserve"), set(None, Some(SourceMode::Preserve), None));
    assert_eq!(asked("service set web --health off"), set(None, None, Some(HealthSetting::Off)));
    let faster = HealthCheck { timeout: Duration::from_secs(1), ..probing() };
    assert_eq!(asked("service set web --timeout 1s"), set(None, None, Some(HealthSetting::Tcp(faster))));
    assert_eq!(asked("service remove web"), Change::ServiceRemove { name: name("web") });
}

#[test]
fn probing_can_be_turned_on() {
    let Change::ServiceSet { health: Some(HealthSetting::Tcp(health)), .. } =
        asked("service set dns --health tcp --interval 200ms --probe-port 8053")
    else {
        panic!("a health setting expected");
    };
    let short = Duration::from_millis(200);
    assert_eq!((health.interval, health.timeout, health.port), (short, short, Some(8053)));
}

#[test]
fn backend_commands_send_what_they_say() {
    let address = "10.0.0.1:8080".parse().unwrap();
    let set = |weight, state| Change::BackendSet { service: name("web"), address, weight, state };
    let state = |state| set(None, Some(state));
    let remove = |now| Change::BackendRemove { service: name("web"), address, now };
    assert_eq!(asked("backend set web 10.0.0.1:8080 --weight 0"), set(Some(0), None));
    assert_eq!(asked("backend drain web 10.0.0.1:8080"), state(AdminState::Draining));
    assert_eq!(asked("backend undrain web 10.0.0.1:8080"), state(AdminState::Active));
    assert_eq!(asked("backend disable web 10.0.0.1:8080"), state(AdminState::Disabled));
    assert_eq!(asked("backend enable web 10.0.0.1:8080"), state(AdminState::Active));
    assert_eq!(asked("backend remove web 10.0.0.1:8080"), remove(false));
    assert_eq!(asked("backend remove web 10.0.0.1:8080 --now"), remove(true));
    for (line, weight) in [("", 100), (" --weight 1000", 1_000)] {
        let backend = Backend { address: "10.0.0.7:80".parse().unwrap(), weight, state: AdminState::Active };
        let expected = Change::BackendAdd { service: name("dns"), backend };
        assert_eq!(asked(&format!("backend add dns 10.0.0.7:80{line}")), expected);
    }
}

#[test]
fn a_change_is_told_in_words_and_in_json() {
    let agent = Agent::start(snapshot());
    let text = agent.weir("backend drain web 10.0.0.1:8080").out;
    assert_eq!(text, "backend 10.0.0.1:8080 of service \"web\" draining: revision 42, 3 steps\n");
    let json = agent.weir("-o json backend drain web 10.0.0.1:8080").out;
    assert_eq!(serde_json::from_str::<Changed>(&json).unwrap(), Changed { revision: 42, steps: 3 });
    let detached = agent.weir("detach");
    assert_eq!((detached.code, detached.err.as_str()), (0, ""));
    assert_eq!(agent.weir("detach -o json").out.replace(char::is_whitespace, ""), "{\"detached\":true}");
    assert_eq!(agent.asked().iter().filter(|asked| **asked == Asked::Detach).count(), 2);
}

#[test]
fn one_state_is_not_ended_by_the_other_s_command() {
    let agent = Agent::start(snapshot());
    for (line, hint) in [
        ("backend undrain web 10.0.0.4:8080", "weir backend enable web 10.0.0.4:8080"),
        ("backend enable web 10.0.0.3:8080", "weir backend undrain web 10.0.0.3:8080"),
        ("service set dns --interval 1s", "weir service set dns --health tcp"),
    ] {
        let outcome = agent.weir(line);
        assert_eq!((outcome.code, outcome.out.as_str()), (1, ""), "{line}");
        assert!(outcome.err.contains(hint), "{line}: {}", outcome.err);
    }
    assert_eq!(agent.asked(), []);
}

#[test]
fn the_agent_s_refusals_are_passed_on() {
    let agent = Agent::start(snapshot());
    for (line, code, message) in [
        ("service add web --vip 192.0.2.20:443", "conflict", "service \"web\": it exists"),
        ("service remove mail", "not-found", "service \"mail\": there is none of that name"),
        ("backend add web 10.0.0.7:80 --weight 666", "invalid", "weight 666: no"),
        ("backend add web 10.0.0.7:80 --weight 500", "failed", "map BACKENDS: full"),
    ] {
        let text = agent.weir(line);
        assert_eq!((text.code, text.out.as_str()), (1, ""), "{line}");
        assert!(text.err.starts_with(&format!("error: {message}\nhint: ")), "{}", text.err);
        let json = agent.weir(&format!("{line} -o json"));
        let error: serde_json::Value = serde_json::from_str(&json.err).unwrap();
        assert_eq!((json.code, json.out.as_str()), (1, ""));
        assert_eq!(error["error"]["code"], code);
        assert_eq!(error["error"]["message"], message);
        assert!(error["error"]["hint"].is_string());
    }
    assert_eq!(agent.asked(), []);
}
