//! Every frame that leaves the balancer is right: lengths and checksums, seen by the client and by a backend.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::capture::{Capture, Report};
use harness::frames::touches;
use harness::http::Connection;
use harness::privilege::Need;
use harness::topology::{BALANCER_INSIDE, CLIENT, INTERFACE, VIP, backend_address, vip};
use harness::{bytes, netns};

use crate::config::{Config, HTTP, Service};
use crate::scene::{Scene, can_run};

#[test]
fn no_frame_on_the_wire_is_wrong() -> Result<()> {
    if !can_run("no_frame_on_the_wire_is_wrong", &[Need::Command("tcpdump")]) {
        return Ok(());
    }
    let scene = Scene::start("wire")?;
    let agent = scene.agent(&Config::of([
        Service::tcp("web", 80, HTTP).policy("round-robin"),
        Service::udp("dns", 80, HTTP).policy("round-robin"),
        Service::tcp("preserve", 81, HTTP).policy("round-robin").preserve(),
        Service::udp("dns-preserve", 81, HTTP).policy("round-robin").preserve(),
    ]))?;
    let directory = tempfile::tempdir()?;
    let start = |namespace: &str| Capture::start(namespace, INTERFACE, &directory.path().join(namespace));
    let (at_client, at_backend) = (start(&scene.lab.client())?, start(&scene.lab.backend(1))?);
    for port in [80, 81] {
        traffic(&scene, port).with_context(|| format!("port {port}"))?;
    }
    let (at_client, at_backend) = (at_client.stop()?, at_backend.stop()?);
    for report in [&at_client, &at_backend] {
        assert_eq!((report.bad.len(), report.dropped), (0, 0), "{report}");
    }
    for protocol in [6, 17] {
        let seen = |report: &Report, source, destination| {
            report.count(|flow| {
                flow.protocol == protocol && *flow.source.ip() == source && *flow.destination.ip() == destination
            })
        };
        let backend = backend_address(1);
        assert!(seen(&at_client, CLIENT, VIP) > 100 && seen(&at_client, VIP, CLIENT) > 100, "{at_client}");
        for source in [BALANCER_INSIDE, CLIENT] {
            let (there, back) = (seen(&at_backend, source, backend), seen(&at_backend, backend, source));
            assert!(there > 30 && back > 30, "protocol {protocol} of {source}: {at_backend}");
        }
    }
    // The client talks to the VIP alone, and no backend's address leaks to it.
    let leaked = at_client.count(|flow| (1..=3).any(|number| touches(flow, backend_address(number))));
    assert_eq!(leaked, 0, "{at_client}");
    drop(agent);
    scene.end()
}

/// TCP with bodies and UDP with datagrams of many sizes, odd ones among them.
fn traffic(scene: &Scene, port: u16) -> Result<()> {
    let client = scene.lab.client();
    scene.all_answered(vip(port), 100)?;
    for size in [1, 2, 3, 1_447, 1_448, 1_449, 2_897, 65_535, 300_001] {
        let mut connection = Connection::open(&client, vip(port))?;
        let head = connection.begin(&format!("/bytes/{size}"))?;
        connection.stream_body(&head)?;
        let sent = bytes::prefix(size);
        assert!(connection.post("/echo", &sent)?.body == sent, "{size} bytes came back changed");
    }
    // A socket for each, so that every backend gets many.
    netns::run(&client, || {
        (1..=1_400).step_by(7).try_for_each(|size| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            socket.connect(vip(port))?;
            socket.send(&bytes::prefix(size))?;
            socket.recv(&mut [0; 2_048]).with_context(|| format!("no answer to {size} bytes"))?;
            Ok(())
        })
    })?
}
