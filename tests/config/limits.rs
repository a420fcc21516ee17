//! Every limit of the file, at it and one past it.

use std::fmt::Write as _;

use lb_common::limits::{BACKENDS_MAX, DEVICES_MAX, SERVICE_BACKENDS_MAX, SERVICES_MAX, WEIGHT_MAX};
use lb_userspace::config::parse;

const MINIMAL: &str = "version = 1\n[[interface]]\nname = \"eth0\"\n";

/// What is said about `text`.
fn told(text: &str) -> Vec<String> {
    parse("weir.toml", text)
        .map_or_else(|faults| faults.into_iter().map(|fault| fault.message).collect(), |_| Vec::new())
}

/// A file with services that have so many backends each.
fn services(backends: impl IntoIterator<Item = usize>) -> String {
    let mut text = MINIMAL.to_owned();
    for (service, count) in backends.into_iter().enumerate() {
        let (high, low) = (service / 256, service % 256);
        write!(text, "[[service]]\nname = \"s{service}\"\nvip = \"192.0.{high}.{low}\"\nport = 80\nbackend = [")
            .unwrap();
        for backend in 0..count {
            let (high, low) = (backend / 256, backend % 256);
            write!(text, "{{ address = \"10.0.{high}.{low}:80\" }},").unwrap();
        }
        text.push_str("]\n");
    }
    text
}

#[test]
fn services_of_an_instance() {
    let most = SERVICES_MAX as usize;
    assert_eq!(told(&services(vec![0; most])), [""; 0]);
    assert_eq!(told(&services(vec![0; most + 1])), ["service \"s1023\": there are 1024 services, and 1023 at most"]);
}

#[test]
fn backends_of_a_service() {
    assert_eq!(told(&services([SERVICE_BACKENDS_MAX])), [""; 0]);
    assert_eq!(
        told(&services([SERVICE_BACKENDS_MAX + 1])),
        ["service \"s0\", backend 10.0.3.232:80: the service has 1001 backends, and 1000 at most"]
    );
}

#[test]
fn backends_of_an_instance() {
    let full = BACKENDS_MAX as usize / SERVICE_BACKENDS_MAX;
    let rest = BACKENDS_MAX as usize % SERVICE_BACKENDS_MAX;
    let with_rest = |rest| std::iter::repeat_n(SERVICE_BACKENDS_MAX, full).chain([rest]);
    assert_eq!(told(&services(with_rest(rest))), [""; 0]);
    assert_eq!(
        told(&services(with_rest(rest + 1))),
        [
            "service \"s16\", backend 10.0.1.127:80: this is backend 16384 of all services together, and they have 16383 at most"
        ]
    );
}

#[test]
fn interfaces_of_an_instance() {
    let file = |count: u32| {
        (0..count).fold("version = 1\n".to_owned(), |text, n| format!("{text}[[interface]]\nname = \"eth{n}\"\n"))
    };
    assert_eq!(told(&file(DEVICES_MAX)), [""; 0]);
    assert_eq!(told(&file(DEVICES_MAX + 1)), ["interface \"eth63\": there are 64 interfaces, and 63 at most"]);
}

#[test]
fn numbers_at_their_ends() {
    let service = |keys: &str| format!("{MINIMAL}[[service]]\nname = \"web\"\nvip = \"192.0.2.10\"\n{keys}");
    let backend =
        |keys: String| service(&format!("port = 80\nbackend = [{{ address = \"10.0.0.1:65535\", {keys} }}]\n"));
    for right in [
        service("port = 1\n"),
        service("port = 65535\n"),
        backend("weight = 0".into()),
        backend(format!("weight = {WEIGHT_MAX}")),
        service("port = 80\nhealth = { rise = 1, fall = 100, port = 1 }\n"),
        service("port = 80\nhealth = { interval = \"100ms\", timeout = \"100ms\" }\n"),
        service("port = 80\nhealth = { interval = \"1h\", timeout = \"1m\" }\n"),
        service("port = 80\nhealth = { timeout = \"10ms\" }\n"),
        service("port = 80\ndrain-timeout = \"168h\"\n"),
        format!("sessions = 1024\n{MINIMAL}"),
        format!("sessions = 16777216\n{MINIMAL}"),
        format!("{MINIMAL}[nat]\nports = \"1-65535\"\n"),
        format!("{MINIMAL}[nat]\nports = \"5000-5000\"\n"),
        format!("{MINIMAL}[timeouts]\nclosing = \"1s\"\nestablished = \"168h\"\n"),
        MINIMAL.replace("eth0", "a-name-of-15-ch"),
        service("port = 80\n").replace("web", &"a".repeat(63)),
    ] {
        assert_eq!(told(&right), [""; 0], "{right}");
    }
    for wrong in [
        service("port = 80\nhealth = { interval = \"99ms\", timeout = \"10ms\" }\n"),
        service("port = 80\nhealth = { interval = \"2h\" }\n"),
        service("port = 80\nhealth = { interval = \"2m\", timeout = \"61s\" }\n"),
        service("port = 80\nhealth = { timeout = \"9ms\" }\n"),
        service("port = 80\nhealth = { port = 65536 }\n"),
        service("port = 80\nhealth = { rise = 101 }\n"),
        service("port = 80\ndrain-timeout = \"604801s\"\n"),
        format!("sessions = 33554432\n{MINIMAL}"),
    ] {
        assert_eq!(told(&wrong).len(), 1, "{wrong}\n{:?}", told(&wrong));
    }
}
