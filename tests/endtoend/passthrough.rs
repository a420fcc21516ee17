//! What is not ours passes as if there were no program: the host's own traffic, routed traffic, ARP, ICMP, IPv6.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::agent::packets;
use harness::topology::{BALANCER, CLIENT, INTERFACE, VIP, vip};
use harness::{command, http, netns, ping, wait};
use serde_json::Value;

use crate::config::{Config, HTTP, Service};
use crate::scene::{SOON, Scene, can_run, direct};

/// A port of the VIP on which the host itself listens.
const OWN: u16 = 2_222;

#[test]
fn the_hosts_own_and_routed_traffic_is_untouched() -> Result<()> {
    if !can_run("the_hosts_own_and_routed_traffic_is_untouched", &[]) {
        return Ok(());
    }
    let scene = Scene::start("passing")?;
    let agent = scene.agent(&Config::of([Service::tcp("web", 80, HTTP)]))?;
    scene.all_answered(vip(80), 50)?;
    let before = agent.snapshot()?;

    own_service(&scene).context("a service of the host itself")?;
    for number in 1..=3 {
        let answer = http::get(&scene.lab.balancer(), direct(number, HTTP), "/bytes/300000")?;
        assert_eq!(answer.body.len(), 300_000, "the host's own connection to backend {number}");
        let answer = http::get(&scene.lab.client(), direct(number, HTTP), "/bytes/300000")?;
        assert_eq!(answer.body.len(), 300_000, "the client's connection to backend {number} itself");
    }
    backend_reaches_client(&scene).context("a backend's own connection to the client")?;

    let after = agent.snapshot()?;
    let counted = packets(&after, "pass", "not-ours") - packets(&before, "pass", "not-ours");
    assert!(counted >= 100, "{counted} packets passed as not ours");
    let dropped = |snapshot| {
        let snapshot: &lb_userspace::api::types::Snapshot = snapshot;
        snapshot.verdicts.iter().filter(|view| view.verdict == "drop").map(|view| view.packets).sum::<u64>()
    };
    assert_eq!(dropped(&before), dropped(&after), "{:?}", after.verdicts);
    scene.all_answered(vip(80), 50)?;
    drop(agent);
    scene.end()
}

#[test]
fn arp_and_echo_work_over_both_protocols() -> Result<()> {
    if !can_run("arp_and_echo_work_over_both_protocols", &[]) {
        return Ok(());
    }
    let scene = Scene::start("echo")?;
    let agent = scene.agent(&Config::of([Service::tcp("web", 80, HTTP)]))?;
    let before = agent.snapshot()?;
    for namespace in [scene.lab.client(), scene.lab.balancer()] {
        command::run(Command::new("ip").args(["-n", &namespace, "neighbour", "flush", "all"]))?;
    }
    let link_local = wait_for_link_local(&scene.lab.balancer())?;
    let targets = [IpAddr::V4(VIP), IpAddr::V4(BALANCER), IpAddr::V6(link_local)];
    for (sequence, target) in (1..).zip(targets) {
        ping::ping(&scene.lab.client(), target, INTERFACE, sequence)?;
    }
    ping::ping(&scene.lab.balancer(), CLIENT.into(), INTERFACE, 9)?;
    // The backends' addresses were forgotten as well: the service finds them again.
    scene.all_answered(vip(80), 50)?;
    let after = agent.snapshot()?;
    for reason in ["not-ip", "not-tcp-udp", "ipv6"] {
        let (before, after) = (packets(&before, "pass", reason), packets(&after, "pass", reason));
        assert!(after > before, "{reason}: {before} packets, then {after}");
    }
    drop(agent);
    scene.end()
}

/// Something like sshd on another port of the VIP.
fn own_service(scene: &Scene) -> Result<()> {
    let listener = netns::run(&scene.lab.balancer(), || TcpListener::bind(vip(OWN)))??;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut asked = [0; 5];
        stream.read_exact(&mut asked)?;
        stream.write_all(&asked)
    });
    talk(&scene.lab.client(), vip(OWN))?;
    server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(())
}

fn backend_reaches_client(scene: &Scene) -> Result<()> {
    let listener = netns::run(&scene.lab.client(), || TcpListener::bind(SocketAddr::new(CLIENT.into(), OWN)))??;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut asked = [0; 5];
        stream.read_exact(&mut asked)?;
        stream.write_all(&asked)
    });
    talk(&scene.lab.backend(1), SocketAddr::new(CLIENT.into(), OWN))?;
    server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(())
}

fn talk(namespace: &str, target: SocketAddr) -> Result<()> {
    let mut stream = netns::run(namespace, || TcpStream::connect_timeout(&target, Duration::from_secs(10)))??;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

/// The link-local address, once the kernel has found that nobody else has it.
fn wait_for_link_local(namespace: &str) -> Result<Ipv6Addr> {
    wait::until("a link-local address", SOON, || {
        let mut show = Command::new("ip");
        show.args(["-n", namespace, "-json", "-6", "address", "show", "dev", INTERFACE, "scope", "link"]);
        let links: Value = serde_json::from_str(&command::run(&mut show).ok()?).ok()?;
        let address = links.as_array()?.iter().find_map(|link| link["addr_info"].as_array()?.first())?;
        let usable = address.get("tentative").is_none();
        address["local"].as_str()?.parse().ok().filter(|_| usable)
    })
}
