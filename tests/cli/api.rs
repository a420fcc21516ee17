//! The socket API as any HTTP client sees it.

use lb_userspace::api::server::BODY_MAX;
use lb_userspace::api::types::{Change, HealthSetting, Refusal, RefusalCode};
use lb_userspace::config::ServiceName;
use serde_json::{Value, json};

use crate::fake::{Agent, Asked, snapshot};

fn refusal(agent: &Agent, request_line: &str, body: &[u8]) -> (u16, Refusal) {
    let (status, head, answer) = agent.http(request_line, body);
    assert!(head.contains("content-type: application/json"), "{request_line}: {head}");
    (status, serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{request_line}: {error}: {answer}")))
}

#[test]
fn every_refusal_is_json_with_its_status() {
    let agent = Agent::start(snapshot());
    let add = |weight: u32| {
        let backend = json!({"address": "10.0.0.7:80", "weight": weight, "state": "active"});
        json!({"change": "backend-add", "service": "web", "backend": backend}).to_string()
    };
    let gone = json!({"change": "service-remove", "name": "mail"}).to_string();
    let twice = r#"{"change":"service-add","service":{"name":"web","vip":"192.0.2.1","port":80,"protocol":"tcp",
        "policy":"maglev","source":"balancer","health":null,"backends":[],"drain-timeout":1000}}"#;
    for (request_line, body, status, code) in [
        ("GET /", "", 404, RefusalCode::NotFound),
        ("GET /v2/snapshot", "", 404, RefusalCode::NotFound),
        ("GET /v1/services/mail", "", 404, RefusalCode::NotFound),
        ("GET /v1/services/mail/backends", "", 404, RefusalCode::NotFound),
        ("GET /v1/services/%ff", "", 404, RefusalCode::NotFound),
        ("DELETE /v1/snapshot", "", 405, RefusalCode::Invalid),
        ("GET /v1/detach", "", 405, RefusalCode::Invalid),
        ("POST /v1/changes", "", 422, RefusalCode::Invalid),
        ("POST /v1/changes", "{", 422, RefusalCode::Invalid),
        ("POST /v1/changes", "{\"change\":\"backend-paint\"}", 422, RefusalCode::Invalid),
        ("POST /v1/changes", "{\"change\":\"service-remove\",\"name\":\"web\",\"now\":1}", 422, RefusalCode::Invalid),
        ("POST /v1/changes", &add(70_000), 422, RefusalCode::Invalid),
        ("POST /v1/changes", &add(666), 422, RefusalCode::Invalid),
        ("POST /v1/changes", &add(500), 500, RefusalCode::Failed),
        ("POST /v1/changes", &gone, 404, RefusalCode::NotFound),
        ("POST /v1/changes", twice, 409, RefusalCode::Conflict),
    ] {
        let (seen, refusal) = refusal(&agent, request_line, body.as_bytes());
        assert_eq!((seen, refusal.code), (status, code), "{request_line} {body}: {refusal}");
        assert!(!refusal.message.is_empty());
    }
    assert_eq!(agent.asked(), []);
}

#[test]
fn a_body_may_have_its_limit_and_no_more() {
    let agent = Agent::start(snapshot());
    let mut body = json!({"change": "service-remove", "name": "web"}).to_string();
    body.push_str(&" ".repeat(BODY_MAX - body.len()));
    let (status, ..) = agent.http("POST /v1/changes", body.as_bytes());
    assert_eq!(status, 200);
    assert_eq!(agent.asked(), [Asked::Change(Change::ServiceRemove { name: ServiceName("web".into()) })]);
    body.push(' ');
    let (status, refusal) = refusal(&agent, "POST /v1/changes", body.as_bytes());
    assert_eq!((status, refusal.code), (413, RefusalCode::Invalid));
    assert_eq!(agent.asked().len(), 1);
}

#[test]
fn answers_have_the_documented_shape() {
    let agent = Agent::start(snapshot());
    let get = |path: &str| serde_json::from_str::<Value>(&agent.http(&format!("GET {path}"), b"").2).unwrap();
    assert_eq!(get("/v1/snapshot")["schema"], 1);
    assert_eq!(get("/v1/services")[1]["name"], "dns");
    assert_eq!(get("/v1/services/web")["backends"][1]["health"], "unhealthy");
    let row = &get("/v1/services/web/backends")[0];
    assert_eq!((&row["service"], &row["address"]), (&json!("web"), &json!("10.0.0.1:8080")));
    let (status, head, text) = agent.http("GET /v1/metrics", b"");
    assert!(status == 200 && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(text.starts_with("# HELP weir_build_info "));
    let (status, _, body) = agent.http("POST /v1/detach", b"");
    assert_eq!((status, body.as_str()), (200, "{\"detached\":true}"));
    assert_eq!(agent.asked(), [Asked::Detach]);
}

#[test]
fn probing_has_a_word_for_off_and_absence_for_as_it_is() {
    let agent = Agent::start(snapshot());
    for health in [json!("off"), json!({"tcp": {"interval": 1000, "timeout": 500, "rise": 1, "fall": 1, "port": null}})]
    {
        let body = json!({"change": "service-set", "name": "web", "health": health}).to_string();
        assert_eq!(agent.http("POST /v1/changes", body.as_bytes()).0, 200, "{body}");
    }
    let health = agent.asked().into_iter().map(|asked| match asked {
        Asked::Change(Change::ServiceSet { policy: None, source: None, health, .. }) => health,
        other => panic!("a service-set expected, not {other:?}"),
    });
    assert!(matches!(health.collect::<Vec<_>>()[..], [Some(HealthSetting::Off), Some(HealthSetting::Tcp(_))]));
}

#[test]
fn the_socket_goes_with_the_agent() {
    let mut agent = Agent::start(snapshot());
    let idle = std::os::unix::net::UnixStream::connect(agent.socket()).unwrap();
    assert!(agent.socket().exists());
    agent.stop();
    assert!(!agent.socket().exists());
    drop(idle);
    assert_eq!(agent.weir("status").code, 4);
}
