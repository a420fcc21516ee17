//! An agent of straw: it answers from a snapshot in memory, and remembers what it was asked to change.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use lb_common::reason::{Direction, DropReason, PassReason};
use lb_userspace::agent::handle::{Handle, Request};
use lb_userspace::agent::options::RunOptions;
use lb_userspace::api::types::{
    BackendView, Change, Changed, InterfaceView, Origin, Refusal, RefusalCode, ServiceView, SessionsView, Snapshot,
    TrafficView, VerdictView,
};
use lb_userspace::cli::{self, ExitKind, Io, RunError};
use lb_userspace::config::{AdminState, AttachMode, HealthCheck, ServiceName, SourceMode};
use lb_userspace::health::Health;
use lb_userspace::{api, telemetry};
use tokio::sync::{mpsc, oneshot};

/// What the agent was asked for, beyond showing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    Change(Change),
    Detach,
}

/// An agent on a socket of its own, and its metrics on a loopback port.
pub struct Agent {
    directory: tempfile::TempDir,
    pub metrics: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Outcome {
    pub code: u8,
    pub out: String,
    pub err: String,
}

impl Agent {
    pub fn start(snapshot: Snapshot) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("edge.sock");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (shutdown, stop) = oneshot::channel::<()>();
        let (ready, wait) = std::sync::mpsc::channel();
        let memory = asked.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (handle, queue) = Handle::new();
                tokio::spawn(answer(queue, snapshot, memory));
                let listener = api::socket::bind(&socket).await.unwrap();
                let endpoint = telemetry::server::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
                ready.send(endpoint.local_addr().unwrap()).unwrap();
                tokio::spawn(telemetry::server::serve(endpoint, handle.clone(), std::future::pending()));
                api::server::serve(listener, handle, async move { drop(stop.await) }).await.unwrap();
            });
        });
        let metrics = wait.recv().unwrap();
        Self { directory, metrics, asked, shutdown: Some(shutdown), thread: Some(thread) }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("edge.sock")
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs a command line, split at blanks, against this agent.
    pub fn weir(&self, line: &str) -> Outcome {
        weir_on(&self.socket(), line)
    }

    /// Ends it, as its shutdown does.
    pub fn stop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// One HTTP request over the socket: status code, head and body.
    pub fn http(&self, request_line: &str, body: &[u8]) -> (u16, String, String) {
        exchange(UnixStream::connect(self.socket()).unwrap(), request_line, body)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn exchange(mut stream: impl Read + Write, request_line: &str, body: &[u8]) -> (u16, String, String) {
    let length = body.len();
    let head =
        format!("{request_line} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // The server may refuse a long body before it has read it.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.into())
}

pub fn weir_on(socket: &std::path::Path, line: &str) -> Outcome {
    let mut out = Vec::new();
    let mut err = Vec::new();
    let mut io = Io { out: &mut out, err: &mut err, colour: false };
    let line = format!("{line} --socket {}", socket.display());
    let code = run(&line, &mut io, |_| panic!("no command but run starts an agent"));
    Outcome { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

pub fn run(line: &str, io: &mut Io<'_>, run_agent: impl FnOnce(RunOptions) -> Result<(), RunError>) -> u8 {
    let args = std::iter::once("weir").chain(line.split_whitespace()).map(OsString::from);
    cli::run(args, io, run_agent)
}

/// A `run_agent` that fails so.
pub fn failing(exit: ExitKind, message: &str) -> impl FnOnce(RunOptions) -> Result<(), RunError> {
    move |_| Err(RunError { exit, message: message.into() })
}

/// A writer whose reader has gone.
pub struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn answer(mut queue: mpsc::Receiver<Request>, snapshot: Snapshot, asked: Arc<Mutex<Vec<Asked>>>) {
    while let Some(request) = queue.recv().await {
        match request {
            Request::Snapshot(answer) => drop(answer.send(Ok(Arc::new(snapshot.clone())))),
            Request::Change(change, answer) => {
                let judged = judge(&snapshot, &change);
                if judged.is_ok() {
                    asked.lock().unwrap().push(Asked::Change(change));
                }
                drop(answer.send(judged));
            }
            Request::Detach(answer) => {
                asked.lock().unwrap().push(Asked::Detach);
                drop(answer.send(Ok(())));
            }
        }
    }
}

fn judge(snapshot: &Snapshot, change: &Change) -> Result<Changed, Refusal> {
    let refuse = |code, message: &str| Err(Refusal { code, message: message.into(), hint: Some("look".into()) });
    match change {
        Change::ServiceAdd { service } if snapshot.service(&service.name.0).is_ok() => {
            return refuse(RefusalCode::Conflict, "service \"web\": it exists");
        }
        Change::ServiceAdd { .. } => {}
        Change::ServiceSet { name, .. } | Change::ServiceRemove { name } => drop(snapshot.service(&name.0)?),
        Change::BackendAdd { service, backend } => {
            snapshot.service(&service.0)?;
            if backend.weight == 666 {
                return refuse(RefusalCode::Invalid, "weight 666: no");
            }
            if backend.weight == 500 {
                return refuse(RefusalCode::Failed, "map BACKENDS: full");
            }
        }
        Change::BackendSet { service, address, .. } | Change::BackendRemove { service, address, .. } => {
            snapshot.service(&service.0)?.backend(*address)?;
        }
    }
    Ok(Changed { revision: snapshot.revision + 1, steps: 3 })
}

/// Two services: "web" with one backend of each kind, "dns" with one and no probes.
pub fn snapshot() -> Snapshot {
    let mut unhealthy = backend("10.0.0.2:8080");
    unhealthy.health = Health::Unhealthy;
    unhealthy.health_detail = Some("connect timeout after 1s".into());
    unhealthy.health_seconds = 250;
    unhealthy.eligible = false;
    let mut draining = backend("10.0.0.3:8080");
    draining.state = AdminState::Draining;
    draining.eligible = false;
    let mut disabled = backend("10.0.0.4:8080");
    disabled.state = AdminState::Disabled;
    disabled.eligible = false;
    let mut lost = backend("10.0.0.5:8080");
    lost.next_hop = None;
    lost.eligible = false;
    let mut leaving = backend("10.0.0.6:8080");
    leaving.leaving = true;
    leaving.eligible = false;
    let web = vec![backend("10.0.0.1:8080"), unhealthy, draining, disabled, lost, leaving];
    let mut dns = service("dns", 53, vec![backend("10.0.0.9:53")]);
    dns.protocol = "udp".into();
    dns.health = None;
    Snapshot {
        schema: 1,
        instance: "edge".into(),
        version: "0.1.0".into(),
        revision: 41,
        uptime_seconds: 273_600,
        interfaces: vec![interface("eth0", AttachMode::Native), interface("eth1", AttachMode::Generic)],
        services: vec![service("web", 80, web), dns],
        sessions: SessionsView { open: 1_234, closing: 12, capacity: 262_144 },
        verdicts: verdicts(),
        warnings: vec!["interface \"eth1\": generic mode".into()],
    }
}

fn interface(name: &str, mode: AttachMode) -> InterfaceView {
    InterfaceView { name: name.into(), ifindex: 2, mode, program_id: 17 }
}

fn verdicts() -> Vec<VerdictView> {
    let verdict =
        |verdict: &str, reason: &str, packets| VerdictView { verdict: verdict.into(), reason: reason.into(), packets };
    let passes = PassReason::ALL.map(|reason| verdict("pass", reason.name(), 5));
    let drops = DropReason::ALL.map(|reason| {
        let packets = match reason {
            DropReason::NoBackend => 3,
            DropReason::TtlExceeded => 14,
            _ => 0,
        };
        verdict("drop", reason.name(), packets)
    });
    let ways = Direction::ALL.map(|direction| verdict("transmit", direction.name(), 1_920));
    passes.into_iter().chain(drops).chain(ways).collect()
}

pub fn service(name: &str, port: u16, backends: Vec<BackendView>) -> ServiceView {
    ServiceView {
        name: ServiceName(name.into()),
        vip: [192, 0, 2, 10].into(),
        port,
        protocol: "tcp".into(),
        policy: "maglev".into(),
        mode: "nat".into(),
        source: SourceMode::Balancer,
        health: Some(probing()),
        origin: Origin::File,
        backends,
        traffic: traffic(),
    }
}

pub fn probing() -> HealthCheck {
    let seconds = std::time::Duration::from_secs;
    HealthCheck { interval: seconds(4), timeout: seconds(3), rise: 5, fall: 6, port: None }
}

pub fn backend(address: &str) -> BackendView {
    BackendView {
        address: address.parse().unwrap(),
        weight: 100,
        state: AdminState::Active,
        leaving: false,
        health: Health::Healthy,
        health_detail: None,
        health_seconds: 60,
        next_hop: Some("02:00:00:00:00:01".into()),
        source: Some([10, 0, 0, 254].into()),
        eligible: true,
        origin: Origin::File,
        sessions_open: 7,
        sessions_closing: 2,
        traffic: traffic(),
    }
}

fn traffic() -> TrafficView {
    TrafficView {
        flows: 1_000,
        forward_packets: 5_000,
        forward_bytes: 1_572_864,
        return_packets: 6_000,
        return_bytes: 3_145_728,
    }
}
