//! The network watcher against a real kernel: a balancer's namespace, a peer's, and two cables between them.

use std::collections::BTreeSet;
use std::fs::File;
use std::future::Future;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lb_common::addr::Hop;
use lb_userspace::network::{Network, NetworkView, Route, find};
use nix::sched::{CloneFlags, setns};
use tokio::sync::watch;

const DEVICE: u16 = 4;
const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Nobody's address until a test gives it to the peer.
const LATECOMER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
/// Behind the second cable, which nothing is attached to.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 9);
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 2];

/// Long enough for the kernel to give a neighbour up and for the watcher to ask again, on a busy machine; too short for
/// the watcher's refresh, which would hide that a change was missed.
const PATIENCE: Duration = Duration::from_secs(25);

/// Two namespaces, removed on drop.
struct World {
    balancer: String,
    peer: String,
}

impl World {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("weir-net-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let world = Self { balancer: format!("{id}-lb"), peer: format!("{id}-peer") };
        for namespace in [&world.balancer, &world.peer] {
            run("ip", &["netns", "add", namespace]);
        }
        world.balancer("link set lo up");
        for (ours, theirs, subnet) in [("lb0", "peer0", "10.77.0"), ("lb1", "peer1", "10.78.0")] {
            world.balancer(&format!("link add {ours} type veth peer name {theirs} netns {}", world.peer));
            world.balancer(&format!("address add {subnet}.1/24 dev {ours}"));
            world.balancer(&format!("link set {ours} up"));
            world.peer(&format!("address add {subnet}.2/24 dev {theirs}"));
            world.peer(&format!("link set {theirs} up"));
        }
        world.peer("link set peer0 address 02:00:00:00:77:02");
        world
    }

    /// `ip` in the balancer's namespace.
    fn balancer(&self, arguments: &str) {
        ip(&self.balancer, arguments);
    }

    /// `ip` in the peer's namespace.
    fn peer(&self, arguments: &str) {
        ip(&self.peer, arguments);
    }

    /// Runs `story` on a thread of its own within the balancer's namespace.
    fn run<F: Future<Output = ()>>(&self, story: impl FnOnce() -> F + Send) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace =
                    File::open(format!("/run/netns/{}", self.balancer)).expect("the namespace was just made");
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(story());
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.balancer, &self.peer] {
            // Not checked: a second failure would hide the first.
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
    }
}

fn ip(namespace: &str, arguments: &str) {
    let mut all = vec!["-n", namespace];
    all.extend(arguments.split(' '));
    run("ip", &all);
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The watcher under test, attached to the first cable.
struct Watched {
    network: Network,
    view: watch::Receiver<Arc<NetworkView>>,
}

impl Watched {
    async fn start(targets: &[Ipv4Addr]) -> Self {
        let lb0 = find("lb0").await.expect("the world has it");
        let network = Network::start(vec![(DEVICE, lb0.ifindex)]).expect("root may open netlink sockets");
        network.set_targets(targets.iter().copied().collect());
        let view = network.subscribe();
        Self { network, view }
    }

    /// Waits until the route to `target` is as wanted.
    async fn until(&mut self, target: Ipv4Addr, wanted: impl Fn(&Route) -> bool) -> Route {
        let condition = |view: &Arc<NetworkView>| view.routes.get(&target).is_some_and(&wanted);
        let met = match tokio::time::timeout(PATIENCE, self.view.wait_for(condition)).await {
            Ok(view) => Some(view.expect("the watcher lives").routes[&target].clone()),
            Err(_) => None,
        };
        met.unwrap_or_else(|| panic!("{target} never became as wanted: {:?}", self.view.borrow().routes))
    }

    async fn until_hop(&mut self, target: Ipv4Addr, mac: [u8; 6]) -> Route {
        self.until(target, |route| route.hop == Hop::new(mac, DEVICE)).await
    }

    async fn until_problem(&mut self, target: Ipv4Addr, sentence: &str) {
        let route = self.until(target, |route| route.problem.as_deref() == Some(sentence)).await;
        assert_eq!(route.hop, Hop::UNKNOWN);
    }
}

/// Whether this test can run; where it must (CI), not being able to is a failure.
fn privileged() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var("CI").is_err(), "network tests need root, to make network namespaces");
    if !root {
        eprintln!("skipped: network tests need root, to make network namespaces");
    }
    root
}

#[test]
fn a_neighbour_is_resolved_and_its_new_mac_followed() {
    if !privileged() {
        return;
    }
    let world = World::new();
    world.run(async || {
        let mut watched = Watched::start(&[PEER]).await;
        let route = watched.until_hop(PEER, PEER_MAC).await;
        assert_eq!((route.source, route.problem), (Some(BALANCER), None));

        // A host that takes the address over announces itself.
        let notify = "echo 1 > /proc/sys/net/ipv4/conf/peer0/arp_notify";
        run("ip", &["netns", "exec", &world.peer, "sh", "-c", notify]);
        world.peer("link set peer0 address 02:00:00:00:77:03");
        watched.until_hop(PEER, [2, 0, 0, 0, 0x77, 3]).await;
    });
}

#[test]
fn a_neighbour_that_is_silent_at_first_is_asked_again() {
    if !privileged() {
        return;
    }
    let world = World::new();
    world.run(async || {
        let mut watched = Watched::start(&[LATECOMER]).await;
        watched.until_problem(LATECOMER, "10.77.0.9 does not answer ARP on lb0").await;
        world.peer("address add 10.77.0.9/24 dev peer0");
        watched.until_hop(LATECOMER, PEER_MAC).await;
    });
}

#[test]
fn routes_are_followed_to_a_gateway_and_away() {
    if !privileged() {
        return;
    }
    let world = World::new();
    world.run(async || {
        let mut watched = Watched::start(&[FAR]).await;
        watched.until_problem(FAR, "no route to 10.99.0.9").await;
        world.balancer("route add 10.99.0.0/24 dev lb0");
        watched.until_problem(FAR, "10.99.0.9 does not answer ARP on lb0").await;
        world.balancer("route replace 10.99.0.0/24 via 10.77.0.2");
        assert_eq!(watched.until_hop(FAR, PEER_MAC).await.source, Some(BALANCER));
        world.balancer("route replace 10.99.0.0/24 via 10.78.0.2");
        watched.until_problem(FAR, "10.99.0.9 leaves through lb1, which weir is not attached to").await;
        world.balancer("route replace prohibit 10.99.0.0/24");
        watched.until_problem(FAR, "no route to 10.99.0.9: the routing table prohibits it").await;
        world.balancer("route replace blackhole 10.99.0.0/24");
        watched.until_problem(FAR, "no route to 10.99.0.9: the routing table discards it").await;
        world.balancer("route delete 10.99.0.0/24");
        watched.until_problem(FAR, "no route to 10.99.0.9").await;
        world.balancer("route add default via 10.77.0.2");
        watched.until_hop(FAR, PEER_MAC).await;
    });
}

#[test]
fn links_are_followed_down_and_up() {
    if !privileged() {
        return;
    }
    let world = World::new();
    world.run(async || {
        let mut watched = Watched::start(&[PEER]).await;
        watched.until_hop(PEER, PEER_MAC).await;
        world.peer("link set peer0 down");
        watched.until_problem(PEER, "10.77.0.2 leaves through lb0, which is down").await;
        world.peer("link set peer0 up");
        watched.until_hop(PEER, PEER_MAC).await;
        world.balancer("link set lb0 down");
        watched.until_problem(PEER, "no route to 10.77.0.2").await;
        world.balancer("link set lb0 up");
        watched.until_hop(PEER, PEER_MAC).await;
    });
}

#[test]
fn targets_come_and_go_and_impossible_ones_are_named() {
    if !privileged() {
        return;
    }
    let world = World::new();
    world.run(async || {
        let mut watched = Watched::start(&[BALANCER, ELSEWHERE]).await;
        watched.until_problem(BALANCER, "10.77.0.1 is this host's own address").await;
        watched.until_problem(ELSEWHERE, "10.78.0.2 leaves through lb1, which weir is not attached to").await;
        watched.network.set_targets(BTreeSet::from([PEER]));
        watched.until_hop(PEER, PEER_MAC).await;
        assert_eq!(watched.view.borrow().routes.len(), 1, "only the target there is");
    });
}

#[test]
fn a_permanent_entry_is_used_and_stays_permanent() {
    if !privileged() {
        return;
    }
    let world = World::new();
    world.balancer("neighbour add 10.77.0.9 lladdr 02:00:00:00:00:99 dev lb0 nud permanent");
    world.run(async || {
        let mut watched = Watched::start(&[LATECOMER]).await;
        watched.until_hop(LATECOMER, [2, 0, 0, 0, 0, 0x99]).await;
        world.balancer("neighbour replace 10.77.0.9 lladdr 02:00:00:00:00:98 dev lb0 nud permanent");
        watched.until_hop(LATECOMER, [2, 0, 0, 0, 0, 0x98]).await;
        let listed = Command::new("ip").args(["-n", &world.balancer, "neighbour", "show", "10.77.0.9"]).output();
        let listed = String::from_utf8(listed.expect("ip runs").stdout).expect("text");
        assert!(listed.contains("PERMANENT"), "{listed}");
    });
}

#[test]
fn lost_notifications_are_made_good() {
    if !privileged() {
        return;
    }
    let world = World::new();
    world.run(async || {
        let mut watched = Watched::start(&[FAR]).await;
        watched.until_problem(FAR, "no route to 10.99.0.9").await;
        // This thread is the watcher's too: while it waits for `ip`, nobody empties the watcher's socket.
        let mut batch: String = (0..5_000u32).fold(String::new(), |batch, i| {
            batch + &format!("route add {}/32 via 10.77.0.2\n", Ipv4Addr::from(0x0a64_0000 + i))
        });
        batch += "route add 10.99.0.0/24 via 10.77.0.2\n";
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(&file, batch).expect("room for it");
        run("ip", &["-n", &world.balancer, "-batch", file.path().to_str().expect("plain letters")]);
        watched.until_hop(FAR, PEER_MAC).await;
    });
}
