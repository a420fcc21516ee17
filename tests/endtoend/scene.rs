//! What every story has: a lab, a server in each backend, load from the client, and nothing left at the end.

use std::fs;
use std::io::Read;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::agent::Agent;
use harness::http::{self, Connection};
use harness::privilege::{AGENT, LAB, Need, require};
use harness::process::Process;
use harness::reports::{HoldReport, LoadReport};
use harness::topology::{self, Lab, Options, backend_address};
use harness::{netns, wait};
use lb_common::names::PIN_ROOT;
use lb_userspace::health::Health;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use crate::config::{Config, HTTP};

/// A generous limit for whatever should take a moment.
pub const SOON: Duration = Duration::from_secs(30);
const WEIR_LAB: &str = env!("CARGO_BIN_EXE_weir-lab");

/// Labs share the machine's two cores: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A lab with its servers.
pub struct Scene {
    story: &'static str,
    servers: Vec<Option<Process>>,
    pub lab: Lab,
    turn: MutexGuard<'static, ()>,
}

/// Whether a story with an agent can run here. `more`: beyond the lab and the agent.
pub fn can_run(story: &str, more: &[Need]) -> bool {
    require(story, &[&LAB[..], &AGENT, more].concat())
}

impl Scene {
    /// A lab of three backends with a server in each.
    pub fn start(story: &'static str) -> Result<Self> {
        let mut scene = Self::empty(story)?;
        (1..=3).try_for_each(|number| scene.start_server(number, &[]))?;
        Ok(scene)
    }

    /// The same without servers.
    pub fn empty(story: &'static str) -> Result<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Lab::up(&format!("{story}-{}", std::process::id()), Options::default())?;
        Ok(Self { story, servers: (0..3).map(|_| None).collect(), lab, turn })
    }

    /// Starts an agent; returns once every backend of every service can be reached and is not known to be ill.
    pub fn agent(&self, config: &Config) -> Result<Agent> {
        let agent = Agent::start(&self.lab, &config.to_string(), self.story)?;
        agent.until("backends that are ready", SOON, |snapshot| {
            let mut backends = snapshot.services.iter().flat_map(|service| &service.backends);
            // Eligible: its next hop is known and its probes, if any, succeed. Weight 0 never is.
            backends
                .all(|backend| backend.next_hop.is_some() && (backend.eligible || backend.weight == 0))
                .then_some(())
        })?;
        Ok(agent)
    }

    /// Starts the server of a backend, from 1, with extra options; returns once it answers.
    pub fn start_server(&mut self, number: u8, extra: &[&str]) -> Result<()> {
        let name = format!("backend{number}");
        let mut command = Command::new(WEIR_LAB);
        command.args(["serve", "--udp", "--hold", "--listen", &format!("0.0.0.0:{HTTP}"), "--name", &name]).args(extra);
        let server = Process::spawn(&self.lab.backend(number), command.stdout(Stdio::null()))?;
        *self.server(number)? = Some(server);
        let answers = || Connection::open(&self.lab.backend(number), direct(number, HTTP));
        wait::succeeds(&format!("the server of {name}"), SOON, answers).map(drop)
    }

    /// Kills the server of a backend, from 1.
    pub fn kill_server(&mut self, number: u8) -> Result<()> {
        self.server(number)?.take().context("no server to kill")?.kill()
    }

    /// Sends load from the client to its end. `options`: `--requests` or `--duration`, and more.
    pub fn load(&self, target: SocketAddr, options: &[&str]) -> Result<LoadReport> {
        self.start_load(target, options)?.finish()
    }

    /// Sends requests, all of which must be answered.
    pub fn all_answered(&self, target: SocketAddr, requests: u64) -> Result<LoadReport> {
        self.all_answered_from(target, "/", requests)
    }

    /// Sends requests for a path, all of which must be answered.
    pub fn all_answered_from(&self, target: SocketAddr, path: &str, requests: u64) -> Result<LoadReport> {
        let options = ["--requests", &requests.to_string(), "--timeout", "10s", "--max-failures", "1", "--path", path];
        let report = self.load(target, &options)?;
        ensure!(report.ok == requests && report.failed == 0, "{target}: not all were answered: {report:?}");
        Ok(report)
    }

    /// Starts load from the client.
    pub fn start_load(&self, target: SocketAddr, options: &[&str]) -> Result<Running<LoadReport>> {
        self.start_tool("load", target, options)
    }

    /// Starts to hold connections from the client, until told to finish.
    pub fn start_hold(&self, target: SocketAddr, connections: u64) -> Result<Running<HoldReport>> {
        self.start_tool("hold", target, &["--connections", &connections.to_string(), "--duration", "5m"])
    }

    /// Starts a download that the client checks byte by byte. `backend`: from that one alone.
    pub fn download(&self, target: SocketAddr, path: &str, backend: Option<&str>) -> Result<Download> {
        for _ in 0..200 {
            let mut connection = Connection::open(&self.lab.client(), target)?;
            let head = connection.begin(path)?;
            ensure!(head.status == 200, "{target}{path}: status {}", head.status);
            let from = head.backend.clone().unwrap_or_default();
            if backend.is_none_or(|backend| backend == from) {
                let thread = std::thread::spawn(move || connection.stream_body(&head));
                return Ok(Download { backend: from, thread });
            }
        }
        bail!("{target}: of 200 connections none came to {backend:?}")
    }

    /// Ends the scene; an error when something of this process's making is left.
    pub fn end(self) -> Result<()> {
        let Self { servers, lab, turn, .. } = self;
        drop(servers);
        let mut left = Vec::new();
        // Those of a child that died before its own children are nobody's: here they can still be found.
        for host in topology::status(lab.name())? {
            left.extend(host.processes.iter().map(|id| format!("process {id} in {}", host.namespace)));
        }
        drop(lab);
        left.extend(leftovers()?);
        drop(turn);
        ensure!(left.is_empty(), "left behind: {}", left.join(", "));
        Ok(())
    }

    fn server(&mut self, number: u8) -> Result<&mut Option<Process>> {
        let index = usize::from(number).checked_sub(1).context("backends count from 1")?;
        self.servers.get_mut(index).with_context(|| format!("there is no backend {number}"))
    }

    fn start_tool<T>(&self, tool: &str, target: SocketAddr, options: &[&str]) -> Result<Running<T>> {
        let mut command = Command::new(WEIR_LAB);
        command.args([tool, "--json", "--target", &target.to_string()]).args(options).stdout(Stdio::piped());
        Ok(Running { process: Process::spawn(&self.lab.client(), &mut command)?, report: PhantomData })
    }
}

/// A tool of the lab that prints a report at its end.
pub struct Running<T> {
    process: Process,
    report: PhantomData<T>,
}

impl<T: DeserializeOwned> Running<T> {
    /// Waits for the end, and the report.
    pub fn finish(mut self) -> Result<T> {
        let mut printed = String::new();
        self.process.child().stdout.take().context("no standard output")?.read_to_string(&mut printed)?;
        let status = self.process.ended(SOON)?;
        ensure!(status.success(), "weir-lab: {status}: {printed}");
        serde_json::from_str(&printed).with_context(|| format!("weir-lab printed no report: {printed}"))
    }

    /// Asks for the end now.
    pub fn finish_now(self) -> Result<T> {
        self.process.signal(Signal::SIGTERM)?;
        self.finish()
    }
}

/// A download on its way.
pub struct Download {
    /// Where it comes from.
    pub backend: String,
    thread: JoinHandle<Result<()>>,
}

impl Download {
    /// Whether bytes are missing still.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits for the last byte; an error when one was wrong or missing.
    pub fn finish(self) -> Result<()> {
        let from = self.backend;
        let result = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.with_context(|| format!("download from {from}"))
    }
}

/// A backend itself, past the balancer's services.
pub fn direct(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new(backend_address(number).into(), port)
}

/// Whom a server sees as its client.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Peer {
    pub backend: String,
    pub address: String,
    pub port: u16,
}

impl Peer {
    /// Asks over a connection of its own.
    pub fn seen_from(namespace: &str, target: SocketAddr) -> Result<Self> {
        Self::read(http::get(namespace, target, "/peer")?)
    }

    /// Asks over a connection that stays open.
    pub fn seen_over(connection: &mut Connection) -> Result<Self> {
        Self::read(connection.get("/peer")?)
    }

    fn read(answer: http::Answer) -> Result<Self> {
        let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
        let port = body["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("no port")?;
        let address = body["address"].as_str().context("no address")?.to_owned();
        Ok(Self { backend: answer.backend, address, port })
    }
}

/// What this process has made and not removed: namespaces, pins, sockets, processes.
pub fn leftovers() -> Result<Vec<String>> {
    let pid = std::process::id();
    let mut left = Vec::new();
    let namespaces = netns::list()?.into_iter().filter(|name| name.contains(&format!("-{pid}-")));
    left.extend(namespaces.map(|name| format!("namespace {name}")));
    for directory in [PIN_ROOT, "/run/weir"] {
        let names = names(Path::new(directory))?.into_iter();
        let ours = names.filter(|name| name.ends_with(&format!("-{pid}")) || name.contains(&format!("-{pid}.")));
        left.extend(ours.map(|name| format!("{directory}/{name}")));
    }
    for task in fs::read_dir("/proc/self/task")? {
        // A thread that ends meanwhile has no children left.
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        left.extend(children.split_whitespace().map(|child| format!("process {child}")));
    }
    Ok(left)
}

fn names(directory: &Path) -> Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an agent holds a backend to be well or ill.
pub fn has_health(agent: &Agent, service: &str, backend: &str, health: Health) -> Result<()> {
    let what = format!("{backend} of {service} to be {}", health.name());
    agent.until(&what, SOON, |snapshot| {
        harness::agent::backend(snapshot, service, backend).filter(|view| view.health == health).map(|_| ())
    })
}
