//! Every byte arrives as it was sent, both ways, over TCP and UDP, with servers that know nothing of us.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::http::{self, Connection};
use harness::privilege::Need;
use harness::process::Process;
use harness::topology::{Lab, vip};
use harness::{bytes, command, netns, wait};
use serde_json::Value;

use crate::config::{Config, HTTP, Service};
use crate::scene::{SOON, Scene, can_run, direct};

/// Twenty megabytes, and not a whole number of anything.
const LARGE: usize = 20_000_003;
const IPERF: u16 = 5_201;
const NGINX: u16 = 8_088;

#[test]
fn twenty_megabytes_arrive_unchanged_both_ways() -> Result<()> {
    if !can_run("twenty_megabytes_arrive_unchanged_both_ways", &[]) {
        return Ok(());
    }
    let scene = Scene::start("large")?;
    let agent =
        scene.agent(&Config::of([Service::tcp("web", 80, HTTP), Service::tcp("preserve", 81, HTTP).preserve()]))?;
    for port in [80, 81] {
        let mut connection = Connection::open(&scene.lab.client(), vip(port))?;
        let head = connection.begin(&format!("/bytes/{LARGE}"))?;
        ensure!(head.content_length == LARGE as u64, "port {port}: {head:?}");
        connection.stream_body(&head)?;
        let sent = bytes::prefix(LARGE);
        let returned = connection.post("/echo", &sent)?.body;
        assert!(returned == sent, "port {port}: {} bytes came back, not the same", returned.len());
    }
    drop(agent);
    scene.end()
}

#[test]
fn nginx_serves_a_file_through_a_service() -> Result<()> {
    if !can_run("nginx_serves_a_file_through_a_service", &[Need::Command("nginx")]) {
        return Ok(());
    }
    let scene = Scene::start("nginx")?;
    let directory = tempfile::tempdir()?;
    let content = bytes::prefix(3_000_001);
    fs::write(directory.path().join("file.bin"), &content)?;
    let mut nginx = start_nginx(&scene.lab, directory.path())?;
    let agent = scene.agent(&Config::of([Service::tcp("web", 80, NGINX).only(1)]))?;
    for _ in 0..5 {
        let answer = http::get(&scene.lab.client(), vip(80), "/file.bin")?;
        assert!(answer.status == 200 && answer.body == content, "status {}, or other bytes", answer.status);
    }
    assert_eq!(http::get(&scene.lab.client(), vip(80), "/nothing-here")?.status, 404);
    let report = scene.all_answered_from(vip(80), "/file.bin", 20)?;
    assert_eq!(report.ok, 20);
    nginx.stop(SOON)?;
    drop(agent);
    scene.end()
}

/// An nginx of our own in the first backend, one process: its config, pid and logs lie in `directory`.
fn start_nginx(lab: &Lab, directory: &Path) -> Result<Process> {
    let at = directory.display();
    let config = format!(
        "daemon off;\nmaster_process off;\nuser root;\nworker_processes 1;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {at}/body;\n  proxy_temp_path {at}/proxy;\n  \
         fastcgi_temp_path {at}/fastcgi;\n  uwsgi_temp_path {at}/uwsgi;\n  scgi_temp_path {at}/scgi;\n  \
         server {{ listen {NGINX}; root {at}; }}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).arg("-p").arg(directory).arg("-e").arg(directory.join("error.log"));
    let nginx = Process::spawn(&lab.backend(1), &mut command)?;
    wait::succeeds("nginx", SOON, || http::get(&lab.backend(1), direct(1, NGINX), "/file.bin"))?;
    Ok(nginx)
}

#[test]
fn iperf_runs_through_services_both_ways() -> Result<()> {
    if !can_run("iperf_runs_through_services_both_ways", &[Need::Command("iperf3")]) {
        return Ok(());
    }
    let scene = Scene::start("iperf")?;
    // Control over TCP and data over UDP have one port: two services, one backend.
    let agent = scene.agent(&Config::of([
        Service::tcp("iperf-tcp", IPERF, IPERF).only(1),
        Service::udp("iperf-udp", IPERF, IPERF).only(1),
    ]))?;
    let port = IPERF.to_string();
    let mut listening = Command::new("iperf3");
    let server = Process::spawn(&scene.lab.backend(1), listening.args(["-s", "-p", &port]).stdout(Stdio::null()))?;
    let to_service = ["-J", "-t", "2", "-p", &port, "-c", "10.10.0.100"];
    for options in [&[][..], &["-R"], &["-u", "-b", "20M", "-l", "1200"], &["-u", "-b", "20M", "-l", "1200", "-R"]] {
        // Its server is not there at once, takes one client at a time, and listens anew after each; and a client that
        // was refused may say so in its report alone.
        let printed = wait::succeeds("iperf3", SOON, || {
            let mut client = Command::new("iperf3");
            client.args(to_service).args(options);
            let printed = netns::run(&scene.lab.client(), || command::run(&mut client))??;
            let report: Value = serde_json::from_str(&printed)?;
            ensure!(report.get("error").is_none(), "{}", report["error"]);
            Ok(printed)
        })?;
        let report: Value = serde_json::from_str(&printed)?;
        let udp = options.contains(&"-u");
        let sum = &report["end"][if udp { "sum" } else { "sum_received" }];
        let transferred = sum["bytes"].as_u64().with_context(|| format!("{options:?}: {printed}"))?;
        assert!(transferred > 1_000_000, "{options:?}: {transferred} bytes in 2 s");
        if udp {
            let lost = sum["lost_percent"].as_f64().with_context(|| format!("{options:?}: {printed}"))?;
            assert!(lost < 1.0, "{options:?}: {lost} % lost");
        }
    }
    drop(agent);
    drop(server);
    scene.end()
}

#[test]
fn datagrams_of_every_size_are_echoed() -> Result<()> {
    if !can_run("datagrams_of_every_size_are_echoed", &[]) {
        return Ok(());
    }
    let scene = Scene::start("datagrams")?;
    let agent = scene.agent(&Config::of([
        Service::udp("dns", 53, HTTP),
        Service::udp("preserve", 54, HTTP).policy("round-robin").preserve(),
    ]))?;
    for port in [53, 54] {
        let mut backends = Vec::new();
        for from in (1..=1_400).step_by(100) {
            backends.push(netns::run(&scene.lab.client(), || echo_sizes(vip(port), from..from + 100))??);
        }
        backends.sort_unstable();
        backends.dedup();
        assert!(backends.len() > 1, "port {port}: all flows went to {backends:?}");
    }
    drop(agent);
    scene.end()
}

/// One flow with a datagram of each size; who answered it.
fn echo_sizes(target: SocketAddr, sizes: std::ops::Range<usize>) -> Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.connect(target)?;
    let mut backend = None;
    for size in sizes {
        let sent = bytes::prefix(size);
        socket.send(&sent)?;
        let mut buffer = [0; 2_048];
        let count = socket.recv(&mut buffer).with_context(|| format!("{target}: no answer to {size} bytes"))?;
        let at = buffer[..count].iter().position(|&byte| byte == b':').context("no name in the answer")?;
        ensure!(buffer[at + 1..count] == sent, "{target}: other bytes came back than the {size} sent");
        let name = String::from_utf8_lossy(&buffer[..at]).into_owned();
        let first = backend.get_or_insert_with(|| name.clone());
        ensure!(*first == name, "{target}: a flow moved from {first} to {name}");
    }
    backend.context("no sizes")
}
