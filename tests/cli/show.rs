//! What the showing commands show, as text and as JSON.

use lb_userspace::api::types::{BackendRow, ServiceView, Snapshot};
use lb_userspace::cli::Io;
use serde_json::Value;

use crate::fake::{Agent, Gone, backend, run, service, snapshot};

fn shown(agent: &Agent, line: &str) -> String {
    let outcome = agent.weir(line);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{line}: {outcome:?}");
    assert!(outcome.out.lines().all(|line| line.len() <= 100), "wider than 100 columns:\n{}", outcome.out);
    assert!(!outcome.out.contains('\x1b'), "colours without a terminal:\n{}", outcome.out);
    outcome.out
}

fn json(agent: &Agent, line: &str) -> Value {
    let outcome = agent.weir(&format!("{line} -o json"));
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{line}: {outcome:?}");
    serde_json::from_str(&outcome.out).unwrap()
}

#[test]
fn status_tells_on_one_screen_what_is_not_right() {
    let agent = Agent::start(snapshot());
    let page = shown(&agent, "status");
    for expected in [
        "instance edge   weir 0.1.0   up 3d 4h   revision 41",
        "eth0  program 17  xdp native",
        "eth1  program 17  xdp GENERIC",
        "SERVICES 2   healthy 1   degraded 1   down 0",
        "1/5 eligible",
        "! 10.0.0.2:8080  unhealthy 4m 10s: connect timeout after 1s",
        "! 10.0.0.3:8080  draining, 7 open sessions left",
        "! 10.0.0.4:8080  disabled",
        "! 10.0.0.5:8080  no next hop",
        "! 10.0.0.6:8080  leaving, 7 open sessions left",
        "SESSIONS open 1,234   closing 12   at most 262,144",
        "transmitted 3,840 (forward 1,920, return 1,920)   passed 45   dropped 17",
        "! dropped ttl-exceeded  14",
        "! dropped no-backend  3",
        "! warning: interface \"eth1\": generic mode",
    ] {
        assert!(page.contains(expected), "no {expected:?} in:\n{page}");
    }
    assert!(!page.contains("10.0.0.1:8080"), "a backend that is well needs no line:\n{page}");
    assert!(!page.contains("sessions-full"), "a reason that never was needs no line:\n{page}");
    assert!(page.lines().count() <= 24, "{page}");
}

#[test]
fn status_of_many_services_stays_on_one_screen_and_keeps_what_is_down() {
    let mut many = snapshot();
    many.services = (0..200).map(|n| service(&format!("s{n}"), 1000 + n, vec![backend("10.0.0.1:80")])).collect();
    many.services.push(service("lonely", 80, Vec::new()));
    let agent = Agent::start(many);
    let page = shown(&agent, "status");
    assert!(page.contains("SERVICES 201   healthy 200   degraded 0   down 1"), "{page}");
    assert!(page.contains("! DOWN: it has no backends"), "{page}");
    assert!(page.contains("and 200 more"), "{page}");
    assert!(page.lines().count() <= 24, "{page}");
}

#[test]
fn status_of_an_empty_agent_says_so() {
    let empty = Snapshot { services: vec![], interfaces: vec![], warnings: vec![], ..snapshot() };
    let agent = Agent::start(empty);
    let page = shown(&agent, "status");
    assert!(page.contains("INTERFACES none") && page.contains("SERVICES 0"), "{page}");
    assert!(shown(&agent, "service list").contains("no services"));
    assert!(shown(&agent, "backend list").contains("no backends"));
    assert_eq!(json(&agent, "service list"), serde_json::json!([]));
}

#[test]
fn status_is_loud_where_colours_may_be() {
    let agent = Agent::start(snapshot());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, colour: true };
    let line = format!("status --socket {}", agent.socket().display());
    assert_eq!(run(&line, &mut io, |_| Ok(())), 0);
    assert!(String::from_utf8(out).unwrap().contains("\x1b[1;31mGENERIC"));
}

#[test]
fn lists_have_a_row_for_each_object() {
    let agent = Agent::start(snapshot());
    let services = shown(&agent, "service list");
    let rows: Vec<Vec<&str>> = services.lines().map(|line| line.split_whitespace().collect()).collect();
    let headings = ["NAME", "VIP", "POLICY", "MODE", "SOURCE", "ELIGIBLE", "SESSIONS", "FLOWS", "ORIGIN"];
    assert_eq!(rows[0], headings);
    assert_eq!(rows[1], ["web", "192.0.2.10:80/tcp", "maglev", "nat", "balancer", "1/5", "42", "1,000", "file"]);
    assert_eq!(rows[2][..2], ["dns", "192.0.2.10:53/udp"]);

    let backends = shown(&agent, "backend list");
    assert_eq!(backends.lines().count(), 8, "{backends}");
    let web = shown(&agent, "backend list web");
    let rows: Vec<Vec<&str>> = web.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["web", "10.0.0.1:8080", "100", "active", "healthy", "1m", "yes", "7", "1,000"]);
    assert_eq!(rows[2][3..7], ["active", "unhealthy", "4m", "10s"]);
    assert_eq!(rows[6][3], "leaving");
}

#[test]
fn show_tells_all_of_one_object() {
    let agent = Agent::start(snapshot());
    let web = shown(&agent, "service show web");
    for expected in ["service web   192.0.2.10:80/tcp", "tcp every 4s, timeout 3s, rise 5, fall 6", "10.0.0.6:8080"] {
        assert!(web.contains(expected), "no {expected:?} in:\n{web}");
    }
    assert!(shown(&agent, "service show dns").contains("not probed"));
    let backend = shown(&agent, "backend show web 10.0.0.1:8080");
    for expected in ["02:00:00:00:00:01", "10.0.0.254", "5,000 packets, 1.5 MiB", "7 open, 2 closing"] {
        assert!(backend.contains(expected), "no {expected:?} in:\n{backend}");
    }
    assert!(shown(&agent, "backend show web 10.0.0.5:8080").contains("no next hop"));
}

#[test]
fn json_is_the_api_s_own() {
    let agent = Agent::start(snapshot());
    let all: Snapshot = serde_json::from_value(json(&agent, "status")).unwrap();
    assert_eq!(all, snapshot());
    for (line, path) in [
        ("status", "/v1/snapshot"),
        ("service list", "/v1/services"),
        ("service show web", "/v1/services/web"),
        ("backend list web", "/v1/services/web/backends"),
    ] {
        let (status, _, body) = agent.http(&format!("GET {path}"), b"");
        assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, json(&agent, line)), "{line}");
    }
    let services: Vec<ServiceView> = serde_json::from_value(json(&agent, "service list")).unwrap();
    assert_eq!(services, snapshot().services);
    let rows: Vec<BackendRow> = serde_json::from_value(json(&agent, "backend list")).unwrap();
    assert_eq!(rows.len(), 7);
    let row = json(&agent, "backend show dns 10.0.0.9:53");
    assert_eq!((row["service"].as_str(), row["address"].as_str()), (Some("dns"), Some("10.0.0.9:53")));
}

#[test]
fn what_is_not_there_is_named() {
    let agent = Agent::start(snapshot());
    for (line, error) in [
        ("service show mail", "error: service \"mail\": there is none of that name\nhint: see: weir service list\n"),
        ("backend list mail", "error: service \"mail\": there is none of that name\nhint: see: weir service list\n"),
        (
            "backend show web 10.9.9.9:1",
            "error: service \"web\": it has no backend 10.9.9.9:1\nhint: see: weir backend list web\n",
        ),
    ] {
        let outcome = agent.weir(line);
        assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (1, "", error));
    }
}

#[test]
fn metrics_prints_the_endpoint_s_text() {
    let agent = Agent::start(snapshot());
    let text = agent.weir("metrics");
    assert_eq!(text.code, 0);
    assert!(text.out.contains("weir_build_info{version=\"0.1.0\"} 1"));
    let refused = agent.weir("metrics -o json");
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let agent = Agent::start(snapshot());
    for command in ["status", "service list -o json", "metrics", "--help"] {
        let mut err = Vec::new();
        let mut io = Io { out: &mut Gone, err: &mut err, colour: false };
        let code = run(&format!("{command} --socket {}", agent.socket().display()), &mut io, |_| Ok(()));
        assert_eq!((code, String::from_utf8(err).unwrap().as_str()), (0, ""), "{command}");
    }
}
