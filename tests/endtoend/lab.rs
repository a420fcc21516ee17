//! The lab and its tools themselves, without an agent: the stories lean on them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use harness::capture::Capture;
use harness::privilege::{LAB, Need, require};
use harness::topology::{self, BALANCER, CLIENT, Lab, Options, VIP, backend_address};
use harness::{bytes, http, netns, ping};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};

use crate::config::{HTTP, LINES};
use crate::scene::{Scene, direct};

const WEIR_LAB: &str = env!("CARGO_BIN_EXE_weir-lab");

#[test]
fn the_client_reaches_backends_through_the_balancer_alone() -> Result<()> {
    if !require("the_client_reaches_backends_through_the_balancer_alone", &LAB) {
        return Ok(());
    }
    let scene = Scene::start("router")?;
    for number in 1..=3 {
        let answer = http::get(&scene.lab.client(), direct(number, HTTP), "/")?;
        assert_eq!(answer.backend, format!("backend{number}"));
    }
    ping::ping(&scene.lab.client(), BALANCER.into(), "eth0", 1)?;
    ping::ping(&scene.lab.client(), VIP.into(), "eth0", 2)?;
    ping::ping(&scene.lab.backend(1), CLIENT.into(), "eth0", 3)?;
    let forwarding = |on: &str| netns::run(&scene.lab.balancer(), || fs::write("/proc/sys/net/ipv4/ip_forward", on));
    forwarding("0")??;
    let report = scene.load(direct(1, HTTP), &["--requests", "3", "--timeout", "300ms"])?;
    assert_eq!((report.ok, report.failed), (0, 3), "there is another way than through the balancer: {report:?}");
    forwarding("1")??;
    scene.all_answered(direct(1, HTTP), 3)?;
    scene.end()
}

#[test]
fn the_server_does_what_it_is_asked_for() -> Result<()> {
    if !require("the_server_does_what_it_is_asked_for", &LAB) {
        return Ok(());
    }
    let mut scene = Scene::empty("server")?;
    scene.start_server(1, &["--fail-every", "5"])?;
    scene.start_server(2, &["--close-every", "10"])?;
    scene.start_server(3, &["--delay", "50ms"])?;
    for (number, failed, why) in [(1, 20, "status 500 from backend1"), (2, 10, "closed without an answer")] {
        let report = scene.load(direct(number, HTTP), &["--requests", "100", "--samples"])?;
        assert_eq!((report.requests, report.failed), (100, failed), "{report:?}");
        assert!(report.failures.iter().all(|failure| failure.error.contains(why)), "{report:?}");
        let samples = report.samples.context("no samples")?;
        assert_eq!(samples.len() as u64, 100 - failed);
        assert!(samples.iter().all(|(at, _)| (report.started_ms..=report.ended_ms).contains(at)));
        let failures = report.failures.iter().map(|failure| failure.at_ms);
        assert_eq!(report.last_failure_ms, failures.max());
    }
    let report = scene.all_answered(direct(3, HTTP), 5)?;
    assert!(report.latency_us.p50 >= 50_000, "the delay is missing: {report:?}");
    let mut connection = http::Connection::open(&scene.lab.client(), direct(3, HTTP))?;
    assert_eq!(connection.get("/bytes/100001")?.body, bytes::prefix(100_001));
    assert_eq!(connection.post("/echo", &bytes::prefix(5_000))?.body, bytes::prefix(5_000));
    assert_eq!(connection.get("/nothing-here")?.status, 404);
    let slow = connection.begin("/slow/10000?rate=20000")?;
    connection.stream_body(&slow)?;
    let datagram = netns::run(&scene.lab.client(), || -> Result<Vec<u8>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.send_to(b"datagram", direct(3, HTTP))?;
        let mut buffer = [0; 100];
        let count = socket.recv(&mut buffer)?;
        Ok(buffer[..count].to_vec())
    })??;
    assert_eq!(datagram, b"backend3:datagram");
    scene.end()
}

#[test]
fn held_connections_that_break_or_move_are_told() -> Result<()> {
    if !require("held_connections_that_break_or_move_are_told", &LAB) {
        return Ok(());
    }
    let mut scene = Scene::start("hold")?;
    let held = scene.start_hold(direct(1, LINES), 20)?;
    let other = scene.start_hold(direct(2, LINES), 20)?;
    let inside = |number| netns::run(&scene.lab.backend(number), || fs::read_to_string("/proc/thread-self/net/tcp"));
    for number in [1, 2] {
        // State 01 of a line of the server's port: an established connection.
        let open = || inside(number).is_ok_and(|table| table.is_ok_and(|table| established(&table, LINES) == 20));
        harness::wait::holds("20 connections", crate::scene::SOON, open)?;
    }
    // One answer at least, so that each knows whose it is: the next tick comes a second after the first.
    std::thread::sleep(Duration::from_millis(1_500));
    scene.kill_server(1)?;
    std::thread::sleep(Duration::from_millis(1_500));
    let (held, other) = (held.finish_now()?, other.finish_now()?);
    assert_eq!((held.broken, held.moved, held.by_backend["backend1"]), (20, 0, 20), "{held:?}");
    assert_eq!(held.broken_by_backend["backend1"], 20, "{held:?}");
    assert_eq!((other.broken, other.moved), (0, 0), "{other:?}");
    assert!(other.answers >= 40, "{other:?}");

    let fickle = netns::run(&scene.lab.backend(1), || TcpListener::bind("0.0.0.0:9000"))??;
    std::thread::spawn(move || {
        let (stream, _) = fickle.accept()?;
        for (line, name) in BufReader::new(stream.try_clone()?).lines().zip(["one", "other", "other"]) {
            writeln!(&stream, "{name} {}", line?.trim_start_matches("hello "))?;
        }
        std::io::Result::Ok(())
    });
    let report = scene.start_hold(direct(1, 9_000), 1)?;
    std::thread::sleep(Duration::from_millis(1_500));
    let report = report.finish_now()?;
    assert_eq!((report.moved, report.broken), (1, 0), "{report:?}");
    scene.end()
}

fn established(table: &str, port: u16) -> usize {
    let port = format!(":{port:04X}");
    let open = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|local| local.ends_with(&port)) && words.get(3) == Some(&"01")
    };
    table.lines().filter(open).count()
}

#[test]
fn a_capture_sees_every_frame_and_finds_the_broken_one() -> Result<()> {
    if !require(
        "a_capture_sees_every_frame_and_finds_the_broken_one",
        &[&LAB[..], &[Need::Command("tcpdump")]].concat(),
    ) {
        return Ok(());
    }
    let scene = Scene::start("capture")?;
    let directory = tempfile::tempdir()?;
    let start = |namespace: &str| Capture::start(namespace, "eth0", &directory.path().join(namespace));
    let captures = [start(&scene.lab.client())?, start(&scene.lab.backend(1))?];
    let download = http::get(&scene.lab.client(), direct(1, HTTP), "/bytes/1000001")?;
    assert_eq!(download.body.len(), 1_000_001);
    for capture in captures {
        let report = capture.stop()?;
        assert_eq!((report.bad.len(), report.dropped), (0, 0), "{report}");
        // A million bytes in segments of at most 1,460 bytes, each a frame of its own.
        let data = report.count(|flow| flow.protocol == 6 && flow.source.port() == HTTP);
        assert!(data >= 685, "{report}");
    }
    let capture = start(&scene.lab.backend(2))?;
    netns::run(&scene.lab.client(), || send_broken_datagram(2))??;
    ping::ping(&scene.lab.client(), backend_address(2).into(), "eth0", 1)?;
    let report = capture.stop()?;
    assert_eq!(report.bad.len(), 1, "{report}");
    assert!(report.bad[0].1.contains("UDP checksum"), "{report}");
    assert_eq!(report.count(|flow| flow.protocol == 1), 2, "echo and answer: {report}");
    scene.end()
}

/// A datagram whose checksum is wrong, though not absent.
fn send_broken_datagram(number: u8) -> Result<()> {
    let target = backend_address(number);
    let mut datagram = Vec::new();
    PacketBuilder::ipv4(CLIENT.octets(), target.octets(), 64).udp(4_000, 4_000).write(&mut datagram, b"broken")?;
    datagram[26] ^= 0x55;
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(target, 0));
    sendto(socket.as_raw_fd(), &datagram, &to, MsgFlags::empty())?;
    Ok(())
}

#[test]
fn a_lab_replaces_its_leftovers_and_leaves_none() -> Result<()> {
    if !require("a_lab_replaces_its_leftovers_and_leaves_none", &LAB) {
        return Ok(());
    }
    let scene = Scene::empty("turn")?;
    let name = format!("twice-{}", std::process::id());
    let options = Options { backends: 1, client_addresses: 4 };
    Lab::up(&name, Options { backends: 2, ..options })?.keep();
    assert_eq!(topology::status(&name)?.len(), 5);
    let lab = Lab::up(&name, options)?;
    let hosts = topology::status(&name)?;
    assert_eq!(hosts.len(), 4, "the second backend of the first lab is left: {hosts:?}");
    assert!(hosts.iter().all(|host| host.up), "{hosts:?}");
    let client = hosts.iter().find(|host| host.namespace.ends_with("-client")).context("no client")?;
    assert_eq!(client.addresses.len(), 4, "{client:?}");
    drop(lab);
    assert!(topology::status(&name)?.is_empty());
    assert!(Lab::up("Not A Name", options).is_err());
    scene.end()
}

#[test]
fn exec_becomes_the_command_in_the_namespace() -> Result<()> {
    if !require("exec_becomes_the_command_in_the_namespace", &LAB) {
        return Ok(());
    }
    let scene = Scene::empty("exec")?;
    let client = scene.lab.client();
    let exec = |words: &[&str]| Command::new(WEIR_LAB).args(["exec", &client, "--"]).args(words).output();
    let addresses = exec(&["ip", "-4", "address", "show", "eth0"])?;
    assert!(String::from_utf8_lossy(&addresses.stdout).contains("10.10.0.10/24"), "{addresses:?}");
    let mut shell = Command::new(WEIR_LAB);
    let child = shell.args(["exec", &client, "--", "sh", "-c", "echo $$"]).stdout(Stdio::piped()).spawn()?;
    let id = child.id();
    assert_eq!(String::from_utf8_lossy(&child.wait_with_output()?.stdout).trim(), id.to_string());
    for (words, code) in [(&["no-such-command"][..], 127), (&["/etc/passwd"], 126), (&["sh", "-c", "exit 7"], 7)] {
        let output = exec(words)?;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
    let nowhere = Command::new(WEIR_LAB).args(["exec", "no-such-namespace", "--", "true"]).output()?;
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("no namespace no-such-namespace"), "{nowhere:?}");
    assert!(!nowhere.status.success());
    scene.end()
}

#[test]
fn load_is_refused_without_a_length_and_to_strangers() -> Result<()> {
    let refused = |words: &[&str], because: &str| -> Result<()> {
        let output = Command::new(WEIR_LAB).args(words).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && stderr.contains(because), "{words:?}: {output:?}");
        Ok(())
    };
    // A port of this machine, and an address that nobody has (RFC 5737), in case the refusal is broken.
    refused(&["load", "--target", "127.0.0.1:1"], "--requests")?;
    refused(&["load", "--target", "127.0.0.1:1", "--requests", "1", "--duration", "1s"], "cannot be used with")?;
    refused(&["load", "--target", "203.0.113.1:1", "--requests", "0"], "neither loopback nor private")?;
    refused(&["hold", "--target", "203.0.113.1:1", "--connections", "0", "--duration", "0s"], "neither loopback")
}
