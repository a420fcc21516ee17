//! Probing on the loopback. Every test has a loopback address of its own, so that no test takes another's port.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;

const CHECK: HealthCheck =
    HealthCheck { interval: Duration::from_millis(20), timeout: Duration::from_secs(10), rise: 2, fall: 2, port: None };
/// Longer than any test.
const NEVER: Duration = Duration::from_hours(1);

fn key(address: SocketAddrV4) -> Key {
    (ServiceName("web".into()), address)
}

fn target(address: SocketAddrV4) -> Target {
    let (service, address) = key(address);
    Target { service, address, probe_address: address, check: CHECK, initial: Health::Unknown }
}

async fn listen(on: SocketAddrV4) -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind(on).await.expect("the loopback is ours");
    let SocketAddr::V4(address) = listener.local_addr().expect("bound") else { panic!("asked for IPv4") };
    (listener, address)
}

/// An address that nobody listens on.
async fn closed(ip: Ipv4Addr) -> SocketAddrV4 {
    listen(SocketAddrV4::new(ip, 0)).await.1
}

async fn until(view: &mut watch::Receiver<Arc<HealthView>>, address: SocketAddrV4, health: Health) -> HealthStatus {
    let condition = |view: &Arc<HealthView>| view.get(&key(address)).is_some_and(|status| status.health == health);
    view.wait_for(condition).await.expect("the prober lives")[&key(address)].clone()
}

#[tokio::test]
async fn a_backend_that_refuses_is_unhealthy_and_says_why() {
    let address = closed(Ipv4Addr::new(127, 9, 0, 1)).await;
    let prober = Prober::start();
    prober.set_targets(vec![target(address)]);
    let status = until(&mut prober.subscribe(), address, Health::Unhealthy).await;
    assert_eq!(status.detail.as_deref(), Some("connection refused"));
    assert!(prober.probes_total()[&(key(address).0, ProbeResult::Refused)] > 0);
    assert_eq!(prober.probes_total()[&(key(address).0, ProbeResult::Success)], 0);
}

#[tokio::test]
async fn a_backend_that_accepts_is_healthy_and_sees_a_reset() {
    let (listener, address) = listen(SocketAddrV4::new(Ipv4Addr::new(127, 9, 0, 2), 0)).await;
    let prober = Prober::start();
    prober.set_targets(vec![target(address)]);
    assert_eq!(until(&mut prober.subscribe(), address, Health::Healthy).await.detail, None);
    let (mut connection, _) = listener.accept().await.expect("a probe came");
    let error = connection.read(&mut [0]).await.expect_err("the probe's end is a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_backend_is_followed_down_and_up() {
    let (listener, address) = listen(SocketAddrV4::new(Ipv4Addr::new(127, 9, 0, 3), 0)).await;
    let prober = Prober::start();
    let mut view = prober.subscribe();
    prober.set_targets(vec![target(address)]);
    let first = until(&mut view, address, Health::Healthy).await;
    drop(listener);
    let second = until(&mut view, address, Health::Unhealthy).await;
    assert!(second.since > first.since);
    let _listener = listen(address).await;
    until(&mut view, address, Health::Healthy).await;
    let succeeded = prober.probes_total()[&(key(address).0, ProbeResult::Success)];
    assert!(succeeded > u64::from(CHECK.rise), "{succeeded} successes");
}

#[tokio::test]
async fn a_backend_whose_backlog_is_full_times_out() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.9.0.4:0".parse().expect("an address")).expect("the loopback is ours");
    let listener = socket.listen(0).expect("a backlog of next to nothing");
    let SocketAddr::V4(address) = listener.local_addr().expect("bound") else { panic!("asked for IPv4") };
    let mut waiting = Vec::new();
    while let Ok(connection) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(connection.expect("a place in the backlog"));
    }
    let timeout = Duration::from_millis(50);
    let prober = Prober::start();
    prober.set_targets(vec![Target { check: HealthCheck { timeout, ..CHECK }, ..target(address) }]);
    let status = until(&mut prober.subscribe(), address, Health::Unhealthy).await;
    assert_eq!(status.detail.as_deref(), Some("no answer within 50ms"));
}

#[tokio::test]
async fn a_restored_health_is_shown_at_once_and_stands_until_refuted() {
    let address = closed(Ipv4Addr::new(127, 9, 0, 5)).await;
    let prober = Prober::start();
    let mut view = prober.subscribe();
    prober.set_targets(vec![Target { initial: Health::Healthy, ..target(address) }]);
    assert_eq!(view.borrow()[&key(address)].health, Health::Healthy);
    until(&mut view, address, Health::Unhealthy).await;
    let refused = prober.probes_total()[&(key(address).0, ProbeResult::Refused)];
    assert!(refused >= u64::from(CHECK.fall), "{refused} failures");
}

#[tokio::test]
async fn targets_that_stay_keep_their_health_and_take_new_checks() {
    let (listener, address) = listen(SocketAddrV4::new(Ipv4Addr::new(127, 9, 0, 6), 0)).await;
    let (_other_listener, other) = listen(SocketAddrV4::new(Ipv4Addr::new(127, 9, 0, 6), 0)).await;
    let prober = Prober::start();
    let mut view = prober.subscribe();
    let rarely = HealthCheck { interval: NEVER, ..CHECK };
    prober.set_targets(vec![Target { check: rarely, ..target(address) }]);
    let status = until(&mut view, address, Health::Healthy).await;
    drop(listener);

    prober.set_targets(vec![Target { check: rarely, ..target(address) }, target(other)]);
    until(&mut view, other, Health::Healthy).await;
    assert_eq!(view.borrow()[&key(address)], status, "as it was");
    assert_eq!(prober.probes_total()[&(key(address).0, ProbeResult::Refused)], 0, "not due for long");

    prober.set_targets(vec![target(address), target(other)]);
    assert_eq!(view.borrow_and_update()[&key(address)], status, "new check, old health");
    until(&mut view, address, Health::Unhealthy).await;

    let moved = Target { probe_address: other, ..target(address) };
    prober.set_targets(vec![moved]);
    until(&mut view, address, Health::Healthy).await;
}

#[tokio::test]
async fn removed_targets_are_probed_no_more() {
    let address = closed(Ipv4Addr::new(127, 9, 0, 7)).await;
    let prober = Prober::start();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let without_targets = tasks();
    prober.set_targets(vec![target(address)]);
    until(&mut prober.subscribe(), address, Health::Unhealthy).await;
    prober.set_targets(Vec::new());
    assert!(prober.subscribe().borrow().is_empty() && prober.probes_total().is_empty());
    while tasks() > without_targets {
        tokio::task::yield_now().await;
    }
    drop(prober);
    while tasks() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn more_targets_than_probes_at_once_all_get_their_turn() {
    let ip = Ipv4Addr::new(127, 9, 0, 8);
    let (listener, probe_address) = listen(SocketAddrV4::new(ip, 0)).await;
    let _acceptor = Task(tokio::spawn(async move { while listener.accept().await.is_ok() {} }).abort_handle());
    let prober = Prober::start();
    let backends = 1..=u16::try_from(CONCURRENT).expect("a small number") + 100;
    let check = HealthCheck { interval: NEVER, ..CHECK };
    let to_target = |port| Target { probe_address, check, ..target(SocketAddrV4::new(ip, port)) };
    prober.set_targets(backends.map(to_target).collect());
    let all_healthy = |view: &Arc<HealthView>| view.values().all(|status| status.health == Health::Healthy);
    prober.subscribe().wait_for(all_healthy).await.expect("the prober lives");
    let failed = prober.probes_total().iter().any(|((_, result), n)| *result != ProbeResult::Success && *n > 0);
    assert!(!failed, "{:?}", prober.probes_total());
}

#[test]
fn jitter_stays_within_its_bounds_and_varies() {
    let most = Duration::from_millis(100);
    let mut jitter = Jitter(1);
    let drawn: BTreeSet<_> = (0..1000).map(|_| jitter.up_to(most)).collect();
    assert!(drawn.len() > 900 && drawn.iter().all(|d| *d <= most));
    assert!(drawn.first() < Some(&(most / 10)) && drawn.last() > Some(&(most * 9 / 10)));
}
