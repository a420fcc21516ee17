//! Sessions end with their connections, and a NAT port is not given away while its flow may live.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::agent::Agent;
use harness::http::Connection;
use harness::topology::{CLIENT, vip};
use harness::{command, netns};

use crate::config::{Config, HTTP, LINES, Service, Timeouts};
use crate::failover::open_sessions;
use crate::scene::{Peer, SOON, Scene, can_run};

const SHORT: Timeouts = Timeouts {
    half_open: "1s",
    established: "5s",
    half_closed: "1s",
    closing: "1s",
    udp_one_way: "1s",
    udp_both_ways: "1s",
};

#[test]
fn at_rest_there_are_no_sessions() -> Result<()> {
    if !can_run("at_rest_there_are_no_sessions", &[]) {
        return Ok(());
    }
    let scene = Scene::start("rest")?;
    let mut config = Config::of([
        Service::tcp("web", 80, HTTP),
        Service::tcp("lines", 81, LINES),
        Service::udp("dns", 53, HTTP),
        Service::tcp("refused", 82, 9_999),
        Service::tcp("unanswered", 83, HTTP).only(3).preserve(),
    ]);
    config.timeouts = SHORT;
    let agent = scene.agent(&config)?;
    let held = scene.start_hold(vip(81), 50)?;
    open_sessions(&agent, "lines", 50)?;
    scene.all_answered(vip(80), 1_000)?;
    netns::run(&scene.lab.client(), || send_datagrams(50))??;
    // This backend hears the client and cannot answer it: the SYN alone is all that such a session ever sees.
    command::ip_batch(Some(&scene.lab.backend(3)), &[format!("route add blackhole {CLIENT}/32")])?;
    for port in [82, 83] {
        let failed = scene.load(vip(port), &["--requests", "20", "--timeout", "500ms"])?;
        assert_eq!(failed.ok, 0, "port {port}: {failed:?}");
    }
    // Lines come every second: a connection that speaks outlives the timeout of those that do not.
    let held = held.finish_now()?;
    assert_eq!((held.broken, held.moved), (0, 0), "{held:?}");
    nothing_left(&agent)?;
    drop(agent);
    scene.end()
}

#[test]
fn a_silent_connection_ends_by_its_timeout() -> Result<()> {
    if !can_run("a_silent_connection_ends_by_its_timeout", &[]) {
        return Ok(());
    }
    let scene = Scene::start("idle")?;
    let mut config = Config::of([Service::tcp("web", 80, HTTP)]);
    config.timeouts = SHORT;
    let agent = scene.agent(&config)?;
    let mut connection = Connection::open(&scene.lab.client(), vip(80))?;
    connection.get("/")?;
    open_sessions(&agent, "web", 1)?;
    nothing_left(&agent)?;
    drop(connection);
    drop(agent);
    scene.end()
}

#[test]
fn a_port_is_nobody_elses_while_its_flow_may_live() -> Result<()> {
    if !can_run("a_port_is_nobody_elses_while_its_flow_may_live", &[]) {
        return Ok(());
    }
    let scene = Scene::start("ports")?;
    let mut config = Config::of([Service::tcp("web", 80, HTTP)]);
    // So few that chance alone would hand out the same twice many times over.
    config.nat_ports = "20000-23999";
    config.timeouts.closing = "120s";
    let agent = scene.agent(&config)?;
    let start = Instant::now();
    let mut open = Vec::new();
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        let mut connection = Connection::open(&scene.lab.client(), vip(80))?;
        let peer = Peer::seen_over(&mut connection)?;
        ensure!(seen.insert(peer.clone()), "two live connections have {peer:?}");
        open.push((connection, peer));
    }
    for number in 0..1_500 {
        let peer = Peer::seen_from(&scene.lab.client(), vip(80))?;
        // Nothing is free again before the quarantine is over, whatever ended meanwhile.
        let within = start.elapsed() < Duration::from_secs(100);
        ensure!(seen.insert(peer.clone()) || !within, "connection {number} has {peer:?}, which may live still");
    }
    for (connection, peer) in &mut open {
        let now = Peer::seen_over(connection).with_context(|| format!("{peer:?} was lost"))?;
        ensure!(now == *peer, "a live connection changed from {peer:?} to {now:?}");
    }
    drop(open);
    drop(agent);
    scene.end()
}

fn send_datagrams(count: usize) -> Result<()> {
    for _ in 0..count {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.send_to(b"question", vip(53))?;
        socket.recv(&mut [0; 100]).context("no answer to a datagram")?;
    }
    Ok(())
}

fn nothing_left(agent: &Agent) -> Result<()> {
    agent.until("no sessions at all", SOON, |snapshot| {
        let backends = snapshot.services.iter().flat_map(|service| &service.backends);
        let of_backends: u64 = backends.map(|backend| backend.sessions_open + backend.sessions_closing).sum();
        (snapshot.sessions.open + snapshot.sessions.closing + of_backends == 0).then_some(())
    })
}
